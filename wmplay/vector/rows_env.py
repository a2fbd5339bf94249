"""Vector envs whose N slots are computed together, with Gymnasium's three ways to begin the next episode."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay.errors import ConfigError
from wmplay.system.arrays import Array
from wmplay.vector.actions import checked_action
from wmplay.vector.autoreset import Autoreset, autoreset_mode

Rows: TypeAlias = Mapping[str, Array]  # {key: [n, ...]}, the observations of n slots


class RowsVectorEnv(VectorEnv[dict[str, Array], Array, Array]):
    """N slots that are reset, stepped and observed together.

    ``autoreset`` is the mode in which the next episode begins, in Gymnasium's terms: "same_step" (the
    observation is the new episode's first, the last one is ``info["final_obs"]``), "next_step" (the next
    ``step`` ignores the action and resets) or "disabled" (``reset(options={"reset_mask": mask})``).

    ``reset`` takes a seed for each slot, or one seed s that gives slot i the seed s + i; ``options={"state":
    states}`` takes a state for each slot.

    Args:
        num_envs: N.
        autoreset: see above.
        observation_space: of one slot, a Dict.
        action_space: of one slot.
        metadata: as of a single env.

    Raises:
        ConfigError: for less than one slot.
    """

    def __init__(
        self,
        num_envs: int,
        autoreset: Autoreset,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        metadata: Mapping[str, Any],
    ) -> None:
        if num_envs < 1:
            raise ConfigError(f"num_envs is {num_envs}", got=num_envs, expected="at least 1")
        self.num_envs = num_envs
        self.autoreset = autoreset_mode(autoreset)
        self.metadata = {**metadata, "autoreset_mode": self.autoreset}
        self.single_observation_space, self.single_action_space = observation_space, action_space
        self.observation_space = batch_space(observation_space, num_envs)
        self.action_space = batch_space(action_space, num_envs)
        self._generators: list[np.random.Generator] = []
        self._ended = np.zeros(num_envs, np.bool_)
        self._observation: dict[str, Array] = {}

    # ---- what a subclass computes --------------------------------------------------------------------

    @abstractmethod
    def begin_rows(
        self, rows: Array, generators: Sequence[np.random.Generator], states: Sequence[Any] | None
    ) -> None:
        """Begin episodes in some slots, at random or in the given states."""

    @abstractmethod
    def step_rows(
        self, action: Array, rows: Array | None, generators: Sequence[np.random.Generator]
    ) -> tuple[Rows, Array, Array, Array]:
        """Step the given slots (None = all); return observation, reward, terminated and truncated of all."""

    @abstractmethod
    def observe_rows(self, rows: Array | None = None) -> Rows:
        """Return new arrays with the observations of the given slots (None = all)."""

    def infos(self, observation: Rows, terminated: Array, mask: Array) -> dict[str, Any]:
        """Return infos of the slots in a mask, in Gymnasium's form: values and a mask of each."""
        return {}

    # ---- as Gymnasium calls it -----------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin new episodes in all slots, or in those of ``options["reset_mask"]`` [N] bool."""
        options = options or {}
        rows = self._reset_rows(options.get("reset_mask"))
        self._seed(seed, rows)
        states = options.get("state")
        if states is not None and len(states) != self.num_envs:
            raise ConfigError(
                f"reset option 'state' has {len(states)} rows",
                got=len(states),
                expected=f"one for each of {self.num_envs} envs",
            )
        self._begin(rows, None if states is None else [states[row] for row in rows])
        self._ended[rows] = False
        self._observation = dict(self.observe_rows())
        mask = np.zeros(self.num_envs, np.bool_)
        mask[rows] = True
        return self._copies(), self.infos(self._observation, np.zeros(self.num_envs, np.bool_), mask)

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """Take one step of every slot: observations, rewards, terminated, truncated [N] and infos.

        Raises:
            ActionError: for actions of the wrong shape, or with NaN.
        """
        action = checked_action(actions, self.single_action_space, range(self.num_envs))
        resetting = self._begin_step()
        stepping = None if resetting is None else np.flatnonzero(~resetting)
        observation, reward, terminated, truncated = self.step_rows(action, stepping, self._generators)
        if resetting is not None:
            reward, terminated, truncated = (
                np.where(resetting, 0, each).astype(each.dtype) for each in (reward, terminated, truncated)
            )
        self._observation = dict(observation)
        self._ended = terminated | truncated
        info = self.infos(self._observation, terminated, np.ones(self.num_envs, np.bool_))
        if self.autoreset is AutoresetMode.SAME_STEP and self._ended.any():
            info = self._reset_ended(info)
        return self._copies(), reward, terminated, truncated, info

    def _begin(self, rows: Array, states: Sequence[Any] | None = None) -> None:
        self.begin_rows(rows, [self._generators[row] for row in rows], states)

    def _reset_rows(self, mask: Any) -> Array:
        if mask is None:
            return np.arange(self.num_envs)
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            raise ConfigError(f"reset option 'reset_mask' must be [{self.num_envs}] bool with a True in it")
        return np.flatnonzero(mask)

    def _seed(self, seed: int | Sequence[int | None] | None, rows: Array) -> None:
        if seed is not None and not isinstance(seed, (int, np.integer)) and len(seed) != self.num_envs:
            raise ConfigError(
                f"{len(seed)} seeds for {self.num_envs} envs",
                got=len(seed),
                advice="pass one for each, or one int",
            )
        fresh = not self._generators
        if fresh:
            self._generators = [np.random.default_rng(0)] * self.num_envs  # each is replaced below
        for row in range(self.num_envs) if fresh else rows:
            if isinstance(seed, (int, np.integer)):
                own: int | None = int(seed) + int(row)
            else:
                own = seed[row] if seed is not None else None
            if own is not None or fresh:
                self._generators[row], _ = seeding.np_random(own)

    def _begin_step(self) -> Array | None:
        """Reset ended slots in next-step mode; return the mask of slots that do not step, if any."""
        if not self._ended.any() or self.autoreset is AutoresetMode.SAME_STEP:
            return None
        if self.autoreset is AutoresetMode.DISABLED:
            ended = np.flatnonzero(self._ended).tolist()
            raise gymnasium.error.ResetNeeded(
                f"episodes of envs {ended} have ended: reset(options={{'reset_mask': mask}}) before step()"
            )
        resetting = self._ended
        self._begin(np.flatnonzero(resetting))
        return resetting

    def _reset_ended(self, info: dict[str, Any]) -> dict[str, Any]:
        """Begin the next episodes; return the step's infos with the last frames of the ended ones."""
        rows, ended = np.flatnonzero(self._ended), self._ended.copy()
        last = {key: values[rows] for key, values in self._observation.items()}
        final_obs = np.full(self.num_envs, None, object)
        for i, row in enumerate(rows):
            final_obs[row] = {key: values[i] for key, values in last.items()}
        self._begin(rows)
        for key, values in self.observe_rows(rows).items():
            self._observation[key][rows] = values
        final_info = _of_rows(info, ended)
        going = np.where(ended, False, info.get("success", False))
        finals = {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": final_info,
            "_final_info": ended.copy(),
        }
        self._ended = np.zeros(self.num_envs, np.bool_)
        return {**self.infos(self._observation, going, np.ones(self.num_envs, np.bool_)), **finals}

    def _copies(self) -> dict[str, Array]:
        return {key: values.copy() for key, values in self._observation.items()}


def _of_rows(info: Mapping[str, Any], rows: Array) -> dict[str, Any]:
    """Return infos, in Gymnasium's form, of the slots in a mask [N] alone."""
    found: dict[str, Any] = {}
    for key, values in info.items():
        if isinstance(values, Mapping):
            found[key] = _of_rows(values, rows)
        else:
            found[key] = (
                rows.copy() if key.startswith("_") else np.where(rows, values, 0).astype(values.dtype)
            )
    return found
