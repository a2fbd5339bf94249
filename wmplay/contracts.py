"""The contracts: what flows between the pieces, and what each piece must do.

Shapes: B batch, T steps observed, H steps predicted (the horizon), A action size, ``...`` the
observation's own shape. Observations are always a dict of named arrays.

**The time rule** holds everywhere, on disk and in memory: ``action[t]`` leads from ``observation[t]``
to ``observation[t + 1]``, with ``reward[t]``. T steps have T actions and T + 1 observations.

Discrete actions are int64 without the A axis.

**Observation keys that start with ``goal_`` belong to the task.** Policies and objectives are given them; a
world model is given what ``modelled`` leaves of an observation, wherever it is asked for something: in
``initial``, ``observe``, ``loss`` and ``surprise``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.errors import ShapeError
from wmplay.system.arrays import Array as Array

Belief: TypeAlias = Any  # any pytree of tensors, batch first
Carry: TypeAlias = Any  # what a policy remembers between steps: any pytree, batch first
Latent: TypeAlias = Tensor | dict[str, Tensor]
Decoded: TypeAlias = Mapping[str, Distribution | Tensor]

GOAL_PREFIX = "goal_"

V = TypeVar("V")


class LazyMapping(Mapping[str, V]):
    """A mapping with known keys, whose values are worked out on first use and then kept."""

    def __init__(self, keys: Iterable[str], compute: Callable[[str], V]) -> None:
        self._keys = tuple(keys)
        self._compute = compute
        self._values: dict[str, V] = {}

    def __getitem__(self, key: str) -> V:
        if key not in self._keys:
            raise KeyError(key)
        if key not in self._values:
            self._values[key] = self._compute(key)
        return self._values[key]

    def __contains__(self, key: object) -> bool:
        return key in self._keys  # Mapping's own would work the value out

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


@dataclass(frozen=True)
class Trajectory:
    """One episode, or a part of one, of T steps, as numpy arrays.

    Raises:
        ShapeError: where the arrays do not agree on T.
    """

    observation: dict[str, Array]  # [T+1, ...]
    action: Array  # [T, A], or [T] int64 for discrete actions
    reward: Array  # [T] float32
    terminated: Array  # [T] bool: the world ended
    truncated: Array  # [T] bool: the clock ended

    def __post_init__(self) -> None:
        steps = len(self.action)
        for name in ("reward", "terminated", "truncated"):
            if getattr(self, name).shape != (steps,):
                raise ShapeError(f"trajectory {name}", getattr(self, name).shape, (steps,))
        for key, value in self.observation.items():
            if len(value) != steps + 1:
                raise ShapeError(
                    f"trajectory observation '{key}'",
                    value.shape,
                    (steps + 1, *value.shape[1:]),
                    hint="T actions go with T + 1 observations: keep the reset's frame",
                )

    def __len__(self) -> int:
        """T, the number of steps."""
        return len(self.action)


@dataclass(frozen=True)
class Segment:
    """A batch of fixed-length slices of trajectories, never across an episode's end, as tensors."""

    observation: dict[str, Tensor]  # [B, T+1, ...]
    action: Tensor  # [B, T, A], or [B, T] int64
    reward: Tensor  # [B, T] float32
    terminated: Tensor  # [B, T] bool
    mask: Tensor  # [B, T] bool: False where a short episode was padded
    first: Tensor | None = None  # [B] bool: True where the slice begins with its episode; None = not known

    def to(self, device: torch.device | str) -> Segment:
        """The same segment on another device."""
        tensors = (self.action, self.reward, self.terminated, self.mask, self.first)
        return Segment(
            {k: v.to(device, non_blocking=True) for k, v in self.observation.items()},
            *(x if x is None else x.to(device, non_blocking=True) for x in tensors),  # type: ignore[arg-type]
        )

    def modelled(self) -> Segment:
        """What a world model is fitted on: the same without the task's goals."""
        return replace(self, observation=modelled(self.observation))

    def rows(self, which: slice) -> Segment:
        """Some of the batch's rows."""
        return Segment(
            {k: v[which] for k, v in self.observation.items()},
            self.action[which],
            self.reward[which],
            self.terminated[which],
            self.mask[which],
            None if self.first is None else self.first[which],
        )

    def steps(self, start: int, stop: int) -> Segment:
        """Steps start..stop-1, with the stop - start + 1 observations around them."""
        return Segment(
            {k: v[:, start : stop + 1] for k, v in self.observation.items()},
            self.action[:, start:stop],
            self.reward[:, start:stop],
            self.terminated[:, start:stop],
            self.mask[:, start:stop],
            self.first if start == 0 else None,
        )


@dataclass(frozen=True)
class Prediction:
    """What a model says will happen in the next H steps, given their actions."""

    latent: Latent  # [B, H, ...]: the features of each predicted step
    reward: Tensor | None  # [B, H]
    discount: Tensor | None  # [B, H]: the probability that the episode goes on
    belief: Belief  # after the last step: predictions can be continued
    decode: Callable[[Any], Decoded]  # of latents

    @cached_property
    def observation(self) -> Mapping[str, Tensor]:
        """Expected observations {key: [B, H, ...]}, each key worked out on its first use.

        For a binary screen the expectation is the probability of a lit pixel. Planning on rewards
        or on joint positions never pays for pixels.
        """
        decoded = self.decode(self.latent)

        def expectation(key: str) -> Tensor:
            value = decoded[key]
            return value.mean if isinstance(value, Distribution) else value

        return LazyMapping(decoded, expectation)


class LazyPrediction(Prediction):
    """A prediction whose reward and discount are worked out when first read: planning on joint positions
    never pays for the heads of a model, either.

    Args:
        latent: as in ``Prediction``, and so are belief and decode.
        outcomes: "reward" and "discount" -> [B, H], or None where the model has no such head. Each is read
            at most once, with gradients only if there were gradients where the prediction was made.
    """

    def __init__(
        self,
        latent: Latent,
        outcomes: Mapping[str, Tensor | None],
        belief: Belief,
        decode: Callable[[Any], Decoded],
    ) -> None:
        fields = {"latent": latent, "belief": belief, "decode": decode, "_outcomes": outcomes}
        self.__dict__.update(fields, _gradients=torch.is_grad_enabled())  # as every Prediction, it is frozen

    @cached_property
    def reward(self) -> Tensor | None:
        """The expected rewards [B, H]."""
        return self._read("reward")

    @cached_property
    def discount(self) -> Tensor | None:
        """The probabilities [B, H] that the episode goes on."""
        return self._read("discount")

    def _read(self, name: str) -> Tensor | None:
        with torch.set_grad_enabled(self.__dict__["_gradients"]):
            value: Tensor | None = self.__dict__["_outcomes"][name]
        return value


@dataclass(frozen=True)
class Plan:
    """The best action sequence a planner found for each row."""

    action: Tensor  # [B, H, A], or [B, H] int64
    score: Tensor  # [B]: what the objective gives this plan; higher is better


Score: TypeAlias = Callable[[Prediction], Tensor]  # Prediction of [R, H] rows -> [R]


@runtime_checkable
class WorldModel(Protocol):
    """Predicts observations, rewards and endings. Every world model is also an ``nn.Module``.

    It is given observations without the task's goals (``modelled``). State goes in and comes out:
    no call may leave anything behind in the module.

    Three more methods are optional. ``stages() -> Sequence[Stage]`` is for a model that is fitted in
    stages. ``predict`` may take ``temperature``: the spread of what is sampled, 1 as fitted, towards 0 the
    most likely future. ``surprise(segment) -> Surprise`` is for a model with a likelihood of screens.

    Two attributes are optional claims, which ``wmplay check`` goes by: ``predicted``, the observation keys
    that it predicts, where these are not all; ``compiles``, those of ("loss", "predict") that
    ``torch.compile`` captures whole. A third one, ``least_length``, is how many steps a segment must have for
    all of the model to be fitted on it: the loop gives it no shorter ones.
    """

    def initial(self, observation: dict[str, Tensor]) -> Belief:
        """The belief after an episode's first frame, {key: [B, ...]}."""

    def observe(self, belief: Belief, action: Tensor, observation: dict[str, Tensor]) -> Belief:
        """The belief after T more steps: action [B, T, A] and what they led to, {key: [B, T, ...]}."""

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """The future under action [B, H, A].

        With a generator: one sampled future per row. Without one there is nothing to draw from,
        and each row is the model's most likely future.
        """

    def decode(self, latent: Any) -> Decoded:
        """Distributions (or plain expectations) of each observation key; only when somebody wants to look."""

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """(scalar to minimise, metrics by name). Random draws come from torch's global generator,
        which the training loop seeds anew for each step."""


@dataclass(frozen=True)
class Stage:
    """A part of a model's fit: what is trained, by which loss; all other weights are frozen meanwhile."""

    name: str
    share: float  # of the updates of the first iteration; later iterations fit the last stage only
    module: nn.Module  # the model itself, or a part of it
    loss: Callable[[Segment], tuple[Tensor, dict[str, Tensor]]]  # as WorldModel.loss


@dataclass(frozen=True)
class Surprise:
    """How unlikely a model finds the binary screens of a segment, each given all frames before it."""

    nats: Tensor  # [B, T]: -log p(screen[t + 1] | ...), or an upper bound of it
    kind: Literal["exact", "bound"]


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


def model_keys(observation: Mapping[str, Any]) -> list[str]:
    """The observation keys that world models model: all but the task's ``goal_`` keys, in order."""
    return [key for key in observation if not key.startswith(GOAL_PREFIX)]


def modelled(observation: Mapping[str, V]) -> dict[str, V]:
    """What a world model is given of an observation: its ``model_keys``."""
    return {key: observation[key] for key in model_keys(observation)}
