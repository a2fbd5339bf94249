"""Environments as pieces know them: what a piece is built from, which needs nothing that steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

from gymnasium.spaces import Space
from torch import Tensor

PROVENANCE = "wmplay_origin"  # the attribute of an env that was built from a config

Provenance: TypeAlias = Mapping[str, Any]  # "_piece_": "env/<name>", and settings that make another world


@runtime_checkable
class HasReward(Protocol):
    """A task that can say the reward of any step, also of a predicted one."""

    def reward_and_terminated(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return reward [...] and terminated [...] bool of a step between two observations."""


@runtime_checkable
class HasDistance(Protocol):
    """A task that can say how far its goal is."""

    def distance(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the distance [...] of observations {key: [..., *shape]}, goals included; 0 at the goal."""


class Task(HasReward, HasDistance, Protocol):
    """An env's task, as ``env.unwrapped.task``; an env may have one with either method alone."""


@dataclass(frozen=True)
class EnvSpec:
    """What pieces are built from. Recorded data and exported runs have one without being an env."""

    observation_space: Space[Any]  # of one env, also where there is a batch
    action_space: Space[Any]
    task: Any = None  # a Task; None where the env has none
    max_steps: int | None = None  # of an episode; None where nothing limits it
    provenance: Provenance | None = None  # None where the env was not built from a config


def env_spec(env: Any) -> EnvSpec:
    """Return what pieces know of an env, single or vector; a spec is returned as it is."""
    if isinstance(env, EnvSpec):
        return env
    inner, registered = getattr(env, "unwrapped", env), getattr(env, "spec", None)
    limits = getattr(inner, "max_steps", None), getattr(registered, "max_episode_steps", None)
    batched = hasattr(env, "single_observation_space")
    return EnvSpec(
        env.single_observation_space if batched else env.observation_space,
        env.single_action_space if batched else env.action_space,
        getattr(inner, "task", None),
        min((limit for limit in limits if limit is not None), default=None),
        getattr(env, PROVENANCE, None),
    )
