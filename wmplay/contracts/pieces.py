"""The contracts of the other pieces: objectives, planners, policies, loggers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from wmplay.contracts.data import Belief, Carry, Plan, Prediction, Score, Segment
from wmplay.contracts.models import Actions, WorldModel


class Objective(Protocol):
    """A function from predicted futures to scores."""

    def __call__(self, prediction: Prediction, observation: dict[str, Tensor]) -> Tensor:
        """Return the scores [R] of R predicted futures; higher is better.

        ``observation`` {key: [R, ...]} is the present, with the goal in it.
        """


@runtime_checkable
class Constrained(Objective, Protocol):
    """An objective that only some futures are allowed for, for planners that keep constraints."""

    def constraints(self, prediction: Prediction, observation: dict[str, Tensor]) -> Tensor:
        """Return the C constraints of R predicted futures, [R, C], kept where they are <= 0."""


@runtime_checkable
class Bootstraps(Objective, Protocol):
    """An objective that may add a model's value of the state after the last step."""

    bootstrap: bool  # whether it does


class StoreView(Protocol):
    """Trajectories to learn from, as ``wmplay.load_trajectories`` returns them."""

    @property
    def steps(self) -> int:
        """The number of steps in all episodes."""

    def sample(
        self, batch_size: int, length: int, generator: np.random.Generator | int, *, ends: bool = False
    ) -> Segment:
        """Return random windows, as ``Store.sample``."""


class Planner(Protocol):
    """A search for good action sequences, for a whole batch of envs at once."""

    def plan(
        self,
        model: WorldModel,
        belief: Belief,
        score: Score,
        *,
        warm_start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Return the best plan found for each row of the belief.

        Args:
            model: predicts the futures.
            belief: of B rows.
            score: an objective bound to the present; it takes predictions of B x N rows, in which row b * N +
                n is candidate n of env b, and returns [B x N]. It is a ``ConstrainedScore`` if the objective
                has constraints.
            warm_start: [B, H, A], the start of the search (usually the last plan, shifted).
            generator: of all random draws.
        """


@runtime_checkable
class HasHorizon(Protocol):
    """A planner whose plans all have the same number of steps."""

    horizon: int


@runtime_checkable
class KeepsConstraints(Protocol):
    """A planner that keeps the constraints of a ``ConstrainedScore``."""

    keeps_constraints: Literal[True]


@runtime_checkable
class AddsValues(Protocol):
    """A planner that adds the values of a ``Valued`` model to what a score says."""

    adds_values: Literal[True]


class Policy(Protocol):
    """A choice of actions for a batch of envs.

    A policy that learns is a ``Learner`` as well.

    A policy that needs the run's model to act (to keep a belief, to plan, to act on features) has the
    constructor parameter ``model`` and keeps the model as an attribute. The weights remain the model's: a run
    saves them with the model alone, and refuses a policy that changes them.
    """

    def initial(self, batch_size: int) -> Carry:
        """Return the carry before the first observation, for a batch.

        It may be None if the carry is made from observations (a belief): the first ``act`` then receives
        None, with ``first`` True in all rows.
        """

    def act(
        self,
        carry: Carry,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Carry]:
        """Return the next action of each row.

        Args:
            carry: from ``initial`` or the last ``act``; rows where ``first`` is True begin anew, whatever is
                in them.
            observation: {key: [B, ...]}, now.
            last_action: [B, A] (or [B] int64), as it was *executed*, with noise and clipping. Zero in rows
                where ``first`` is True.
            first: [B] bool, rows in which a new episode has just begun.
            explore: whether to add exploration.
            generator: of all random draws.

        Returns:
            action [B, A] (or [B] int64) and the new carry.
        """


@dataclass(frozen=True)
class Practice:
    """The env, steps and data that a learner trains with in one iteration of the loop."""

    # By ``improve.world``: real, or learned (the model as an env), in same-step mode. With none it has spaces
    # only, for learners that imagine with ``model``, or learn from ``store``, by themselves.
    env: VectorEnv[Any, Any, Any]
    # Transitions to take, over all slots: at least these, and less than one round more. R imagined rows of H
    # steps are R * H transitions, however often a learner learns from them.
    steps: int
    seed: int  # of all random draws of this practice
    device: torch.device  # of the policy
    store: StoreView | None = None  # the real experience so far
    model: WorldModel | None = None  # the very model that the policy was built with, in evaluation mode
    advance: Callable[[int, Mapping[str, float]], None] = lambda steps, metrics: None
    # called after each round with the transitions taken so far and metrics; may raise


@runtime_checkable
class Learner(Protocol):
    """A policy that trains itself. It is also an ``nn.Module``.

    A checkpoint keeps its weights and the buffers of a normaliser to act with, without those of a model that
    it holds. Optimisers, and ``train()``, are for the learner's own parts: ``self.parameters()`` has the held
    model's weights in it.
    """

    def improve(self, practice: Practice) -> dict[str, float]:
        """Train with a practice and return metrics."""

    def learner_state(self) -> dict[str, Any]:
        """Return all other state that training depends on: tensors, numbers and containers of them."""

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restore the result of ``learner_state``."""


@runtime_checkable
class Advises(Learner, Protocol):
    """A learner whose proposals and values a planner can use: ``policy.prior`` of ``mpc``.

    Both are functions of a model's features [B, F] and of the goals {goal_key: [B, ...]}, if any.
    """

    gamma: float  # discount per step of the values

    def proposals(self, features: Tensor, goals: Mapping[str, Tensor]) -> Actions:
        """Return the actions that it proposes in each row."""

    def values(self, features: Tensor, goals: Mapping[str, Tensor]) -> Tensor:
        """Return the expected discounted returns [B] from here on."""


def learner_of(policy: Any) -> Learner | None:
    """Return the part of a policy that trains itself: the policy, or its ``prior``; None if neither does."""
    for part in (policy, getattr(policy, "prior", None)):
        if isinstance(part, Learner):
            return part
    return None


class Logger(Protocol):
    """A sink of flat metrics: names to numbers."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log metrics; ``step`` counts model updates and collected episodes, and never decreases.

        A line is in its file soon after, not only after ``close``: a run that is killed keeps it.
        """

    def close(self) -> None:
        """Flush and close the sink."""


@runtime_checkable
class NeedsPackage(Protocol):
    """A class of loggers that need an optional package."""

    def check(self) -> None:
        """Raise ConfigError where the package is not installed."""


def missing_methods(piece: Any, names: Iterable[str]) -> list[str]:
    """Return the methods that a piece, or a class of pieces, does not have."""
    return [name for name in names if not callable(getattr(piece, name, None))]
