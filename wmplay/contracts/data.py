"""The data that flows between the pieces: trajectories, batches of them, predictions, plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor
from torch.distributions import Distribution

from wmplay.errors import ShapeError
from wmplay.system.arrays import Array
from wmplay.system.lazy import LazyMapping

Belief: TypeAlias = Any  # any pytree of tensors, batch first
Carry: TypeAlias = Any  # all that a policy keeps between steps: any pytree, batch first
Latent: TypeAlias = Tensor | dict[str, Tensor]
Decoded: TypeAlias = Mapping[str, Distribution | Tensor]

GOAL_PREFIX = "goal_"

V = TypeVar("V")


@dataclass(frozen=True)
class Trajectory:
    """One episode, or a part of one, of T steps, as numpy arrays.

    Raises:
        ShapeError: if the arrays do not agree on T.
    """

    observation: dict[str, Array]  # [T+1, ...]
    action: Array  # [T, A], or [T] int64 for discrete actions
    reward: Array  # [T] float32
    terminated: Array  # [T] bool: ended by the rules of the world
    truncated: Array  # [T] bool: cut by a time limit
    # {name: [T] float32}: an env's info["cost"], and each of info["factors"] as "factors.<name>"
    info: dict[str, Array] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        steps = len(self.action)
        for name, array in {**self.per_step, **self.info}.items():
            if name != "action" and array.shape != (steps,):
                raise ShapeError(f"trajectory {name}", array.shape, (steps,))
        for key, value in self.observation.items():
            if len(value) != steps + 1:
                raise ShapeError(
                    f"trajectory observation '{key}'",
                    value.shape,
                    (steps + 1, *value.shape[1:]),
                    advice="T actions go with T + 1 observations: keep the reset's frame",
                )

    def __len__(self) -> int:
        """Return T, the number of steps."""
        return len(self.action)

    @property
    def per_step(self) -> dict[str, Array]:
        """The arrays with an entry for each step, by name: all but the observations and the infos."""
        return {
            "action": self.action,
            "reward": self.reward,
            "terminated": self.terminated,
            "truncated": self.truncated,
        }

    def steps(self, start: int, stop: int) -> Trajectory:
        """Return steps start..stop-1, with the stop - start + 1 observations around them."""
        frames = {key: value[start : stop + 1] for key, value in self.observation.items()}
        infos = {name: array[start:stop] for name, array in self.info.items()}
        parts = {name: array[start:stop] for name, array in self.per_step.items()}
        return Trajectory(frames, **parts, info=infos)


@dataclass(frozen=True)
class Segment:
    """A batch of slices of trajectories, as tensors; all have T steps and lie within one episode."""

    observation: dict[str, Tensor]  # [B, T+1, ...]
    action: Tensor  # [B, T, A], or [B, T] int64
    reward: Tensor  # [B, T] float32
    terminated: Tensor  # [B, T] bool
    mask: Tensor  # [B, T] bool: False where a short episode was padded
    first: Tensor | None = None  # [B] bool: True if the slice begins with its episode; None = unknown

    def to(self, device: torch.device | str) -> Segment:
        """Return the segment on another device."""
        tensors = (self.action, self.reward, self.terminated, self.mask, self.first)
        return Segment(
            {k: v.to(device, non_blocking=True) for k, v in self.observation.items()},
            *(x if x is None else x.to(device, non_blocking=True) for x in tensors),  # type: ignore[arg-type]
        )

    def modelled(self) -> Segment:
        """Return the segment without the task's goals; see ``seen_by``."""
        return replace(self, observation=modelled(self.observation))

    def rows(self, which: slice) -> Segment:
        """Return some of the batch's rows."""
        return Segment(
            {k: v[which] for k, v in self.observation.items()},
            self.action[which],
            self.reward[which],
            self.terminated[which],
            self.mask[which],
            None if self.first is None else self.first[which],
        )

    def steps(self, start: int, stop: int) -> Segment:
        """Return steps start..stop-1, with the stop - start + 1 observations around them."""
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
    """The next H steps that a model predicts under given actions."""

    latent: Latent  # [B, H, ...]: the features of each predicted step
    reward: Tensor | None  # [B, H]
    discount: Tensor | None  # [B, H]: the probability that the episode continues
    belief: Belief  # after the last step, from which predictions can be continued
    decode: Callable[[Any], Decoded]  # of latents

    @cached_property
    def observation(self) -> Mapping[str, Tensor]:
        """The expected observations {key: [B, H, ...]}, each key computed at its first use.

        For a binary screen the expectation is the probability of a lit pixel. Planning on rewards or joint
        positions does not pay for pixels.
        """
        decoded = self.decode(self.latent)

        def expectation(key: str) -> Tensor:
            value = decoded[key]
            return value.mean if isinstance(value, Distribution) else value

        return LazyMapping(decoded, expectation)


class LazyPrediction(Prediction):
    """A prediction whose reward and discount are computed at their first use.

    Planning on joint positions does not pay for the heads of a model.

    Args:
        latent: as in ``Prediction``, and so are belief and decode.
        outcomes: "reward" and "discount" -> [B, H], or None if the model has no such head. Each is read at
            most once, with gradients only if they were enabled when the prediction was made.
    """

    def __init__(
        self,
        latent: Latent,
        outcomes: Mapping[str, Tensor | None],
        belief: Belief,
        decode: Callable[[Any], Decoded],
    ) -> None:
        fields = {"latent": latent, "belief": belief, "decode": decode, "_outcomes": outcomes}
        self.__dict__.update(fields, _gradients=torch.is_grad_enabled())  # a Prediction is frozen

    @cached_property
    def reward(self) -> Tensor | None:
        """The expected rewards [B, H]."""
        return self._read("reward")

    @cached_property
    def discount(self) -> Tensor | None:
        """The probabilities [B, H] that the episode continues."""
        return self._read("discount")

    def _read(self, name: str) -> Tensor | None:
        with torch.set_grad_enabled(self.__dict__["_gradients"]):
            value: Tensor | None = self.__dict__["_outcomes"][name]
        return value


@dataclass(frozen=True)
class Plan:
    """The best action sequence that a planner found for each row."""

    action: Tensor  # [B, H, A], or [B, H] int64
    score: Tensor  # [B]: the objective's value of the plan; higher is better
    # Of the first action: [B, C] probabilities, or [B, A] widths; exploration draws from it. None = unknown.
    spread: Tensor | None = None


Score: TypeAlias = Callable[[Prediction], Tensor]  # Prediction of [R, H] rows -> [R]


@runtime_checkable
class ConstrainedScore(Protocol):
    """A score of an objective that has constraints."""

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the scores [R]."""

    def constraints(self, prediction: Prediction) -> Tensor:
        """Return the constraints [R, C] of each future, kept where they are <= 0."""


@dataclass(frozen=True)
class Surprise:
    """The negative log-likelihood of a segment's binary screens, each given all frames before it."""

    nats: Tensor  # [B, T]: -log p(screen[t + 1] | ...), or an upper bound of it
    kind: Literal["exact", "bound"]


def model_keys(observation: Mapping[str, Any]) -> list[str]:
    """Return the observation keys that world models model, in order: all but the task's ``goal_`` keys."""
    return [key for key in observation if not key.startswith(GOAL_PREFIX)]


def modelled(observation: Mapping[str, V]) -> dict[str, V]:
    """Return an observation without the task's goals: its ``model_keys``. See ``seen_by``."""
    return {key: observation[key] for key in model_keys(observation)}
