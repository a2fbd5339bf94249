"""Environments as seen by pieces: the spec that pieces are built from, and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from gymnasium.spaces import Dict, Space

from wmplay.errors import SpaceError
from wmplay.system.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor

PROVENANCE = "wmplay_origin"  # the attribute of an env that was built from a config

Provenance: TypeAlias = Mapping[str, Any]  # "_piece_": "env/<name>", and the settings that define the world


@runtime_checkable
class HasReward(Protocol):
    """A task that computes the reward of any step, real or predicted."""

    def reward_and_terminated(
        self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Return reward [...] and terminated [...] bool of a step between two observations."""


@runtime_checkable
class HasDistance(Protocol):
    """A task that computes the distance to its goal."""

    def distance(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the distance [...] of observations {key: [..., *shape]}, goals included; 0 at the goal."""


@runtime_checkable
class Reachable(Protocol):
    """A task whose goal is reached below a distance, of arrays as of tensors.

    Attributes:
        threshold: the distance.
        ends: whether reaching the goal ends an episode; an evaluation may change it, so that episodes go on.
    """

    threshold: float
    ends: bool

    def distance(self, observation: Mapping[str, Any]) -> Any:
        """Return the distance [...] of observations {key: [..., *shape]}, goals included; 0 at the goal."""


@runtime_checkable
class HasHazard(Protocol):
    """A task with a region that is not to be entered; ``hazard`` is None without one."""

    hazard: Any

    def depth(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return how deep in the region observations {key: [..., *shape]} are, [...], negative outside."""


class Task(HasReward, HasDistance, Protocol):
    """An env's task, as ``env.unwrapped.task``; an env's task may have either method alone."""


@runtime_checkable
class Simulator(Protocol):
    """The true dynamics of an env, for n states [n, S] at once: ``env.unwrapped.simulator``, None without it.

    A state has the goal in it, and no clock: time limits do not belong to the dynamics.
    """

    def states(self, observation: Mapping[str, Array]) -> Array:
        """Return the states that frames {key: [n, ...]} show.

        Raises:
            SpaceError: for a partially observed world, whose frames do not show the state.
        """

    def advance(
        self, state: Array, action: Array, generators: Sequence[np.random.Generator]
    ) -> tuple[Array, Array, Array]:
        """Return the next states, the rewards [n] and terminated [n] under actions within their bounds.

        Args:
            state: left as it is.
            action: [n, A], or [n] int64.
            generators: of the draws of each row, in a world of chance.
        """

    def observe(self, state: Array) -> Mapping[str, Array]:
        """Return the observations {key: [n, ...]} of states, each computed at its first use if that costs."""


# Takes a step of some rows [m]: (action [m, A] or [m] int64, rows) -> (state, reward, terminated) of these.
Run: TypeAlias = Callable[[Array, Array], tuple[Array, Array, Array]]


@runtime_checkable
class Remembering(Simulator, Protocol):
    """A simulator of a world whose frames show a part of the state alone, such as poses without velocities.

    ``states`` returns the states in which episodes begin with these frames; later states follow from the
    actions.
    """

    def follow(self, state: Array, action: Array, observation: Mapping[str, Array]) -> Array:
        """Return the states [n, S] after actions that led to frames {key: [n, ...]}."""

    def begin(self, state: Array) -> Run:
        """Return a run of n rows from their states."""


@dataclass(frozen=True)
class EnvSpec:
    """The facts about an env that pieces are built from.

    Recorded data and exported runs have a spec without being an env.
    """

    observation_space: Space[Any]  # of a single env, also for a vector env
    action_space: Space[Any]
    task: Any = None  # a Task, or None
    max_steps: int | None = None  # of an episode; None = unlimited
    provenance: Provenance | None = None  # None for an env that was not built from a config


def env_spec(env: Any) -> EnvSpec:
    """Return the spec of an env, single or vector; a spec is returned unchanged."""
    if isinstance(env, EnvSpec):
        return env
    inner, registered = getattr(env, "unwrapped", env), getattr(env, "spec", None)
    limits = getattr(inner, "max_steps", None), None if registered is None else registered.max_episode_steps
    batched = hasattr(env, "single_observation_space")
    return EnvSpec(
        env.single_observation_space if batched else env.observation_space,
        env.single_action_space if batched else env.action_space,
        getattr(inner, "task", None),
        min((limit for limit in limits if limit is not None), default=None),
        provenance_of(env),
    )


def provenance_of(env: Any) -> Provenance | None:
    """Return the provenance of an env, or of a spec; None where it was not built from a config."""
    return env.provenance if isinstance(env, EnvSpec) else getattr(env, PROVENANCE, None)


def observation_spaces(space: Space[Any]) -> dict[str, Space[Any]]:
    """Return the observation's spaces by key (``observation`` if it is not a dict), each with shape and
    dtype.

    Raises:
        SpaceError: for an observation that is not made of arrays.
    """
    spaces = dict(space.spaces) if isinstance(space, Dict) else {"observation": space}
    for key, each in spaces.items():
        if each.shape is None or each.dtype is None:
            raise SpaceError(
                f"observation '{key}' has the space {each}: expected arrays (Box, Discrete, MultiBinary "
                "or MultiDiscrete); wrap the env (gymnasium.wrappers.FlattenObservation)",
                got=each,
            )
    return spaces
