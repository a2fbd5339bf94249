"""What the other pieces must do: objectives, planners, policies, loggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from wmplay.contracts.data import Belief, Carry, Plan, Prediction, Score, Segment
from wmplay.contracts.models import WorldModel


class Objective(Protocol):
    """What a plan is worth."""

    def __call__(self, prediction: Prediction, observation: dict[str, Tensor]) -> Tensor:
        """Scores [R], higher is better, of R predicted futures; observation {key: [R, ...]} is now,
        with the goal in it."""


class StoreView(Protocol):
    """Trajectories to learn from, as ``wmplay.load_trajectories`` gives them."""

    @property
    def steps(self) -> int:
        """The number of steps in all episodes."""

    def sample(self, batch_size: int, length: int, generator: np.random.Generator | int) -> Segment:
        """Random windows, as ``Store.sample``."""


class Planner(Protocol):
    """Searches for good action sequences, for a whole batch of envs at once."""

    def plan(
        self,
        model: WorldModel,
        belief: Belief,
        score: Score,
        *,
        warm_start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """The best plan found for each row of the belief.

        Args:
            model: what predicts.
            belief: of B rows.
            score: an objective bound to the present; it takes predictions of B x N rows, in which
                row b * N + n is candidate n of env b, and returns [B x N].
            warm_start: [B, H, A], where to begin the search (usually the last plan, shifted).
            generator: all random draws come from it.
        """


class Policy(Protocol):
    """Chooses actions for a batch of envs.

    A policy that learns is a ``Learner`` as well.
    """

    def initial(self, batch_size: int) -> Carry:
        """What to carry before any step, for a batch."""

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
        """The next action of each row.

        Args:
            carry: from ``initial`` or the last ``act``.
            observation: {key: [B, ...]}, now.
            last_action: [B, A] (or [B] int64), what was *executed*: noise and clipping included.
                Zero in rows where ``first`` is True.
            first: [B] bool, rows in which a new episode has just begun.
            explore: whether to add exploration.
            generator: all random draws come from it.

        Returns:
            action [B, A] (or [B] int64) and the new carry.
        """


@dataclass(frozen=True)
class Practice:
    """What a policy that learns is given to learn from, in each iteration of the loop."""

    env: VectorEnv[Any, Any, Any]  # real or learned; resets itself in the same step
    steps: int  # transitions to take in it, over all its slots: at least these, by less than one round more
    seed: int  # all random draws of this practice follow from it
    device: torch.device  # where the policy is
    store: StoreView | None = None  # the real experience so far
    model: WorldModel | None = None
    advance: Callable[[int, Mapping[str, float]], None] = lambda steps, metrics: None
    # to be called after each round of learning, with the transitions taken so far and metrics; may raise


@runtime_checkable
class Learner(Protocol):
    """A policy that learns by itself. It is an ``nn.Module``, too: its weights, and the statistics of a
    normaliser, are what a checkpoint keeps of it to act with."""

    def improve(self, practice: Practice) -> dict[str, float]:
        """Learns from some practice; returns metrics."""

    def learner_state(self) -> dict[str, Any]:
        """What else it needs to go on learning: tensors, numbers and containers of them."""

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Takes over from ``learner_state``."""


class Logger(Protocol):
    """Takes flat metrics: names to numbers."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Record metrics; ``step`` counts model updates and collected episodes, and never goes back."""

    def close(self) -> None:
        """Flush what was recorded, and let go."""
