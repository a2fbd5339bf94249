"""A policy step by step, on numpy arrays: of a batch, and of one env, for a robot's loop or a notebook's."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.contracts import Array, Policy
from wmplay.errors import LARGEST_SEED, ActionError, ShapeError, SpaceError, check_range
from wmplay.vector.answers import BatchOfOne
from wmplay.vector.frames import Frames, frame_spaces, frames_of


class BatchActor:
    """The policy's side: tensors in, checked and clipped numpy actions out."""

    def __init__(
        self, batch: Any, policy: Policy | None, seed: int, explore: bool, device: torch.device
    ) -> None:
        space = batch.single_action_space
        if isinstance(space, Box) and len(space.shape) == 1 and np.issubdtype(space.dtype, np.floating):
            self.zeros: Array = np.zeros((batch.num_envs, *space.shape), np.float32)
            self.low, self.high = space.low.astype(np.float32), space.high.astype(np.float32)
        elif isinstance(space, Discrete):
            self.zeros = np.zeros(batch.num_envs, np.int64)
            self.low, self.high = space.start, space.start + space.n - 1
        else:
            raise SpaceError(
                f"the action space is {space}: expected a float Box with one axis, or a Discrete; "
                "wrap the env (gymnasium.wrappers.TransformAction)"
            )
        self.dtype = space.dtype
        self.policy = policy
        self.explore = explore
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        # Not the seed itself: the env draws its first states with the same algorithm, from that.
        self.space = copy.deepcopy(batch.action_space)
        self.space.seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
        self.carry = None if policy is None else policy.initial(batch.num_envs)
        self.rows = np.arange(batch.num_envs)  # those that the carry has

    def act(self, frames: Frames, last_action: Array, first: Array, wanted: Array | None = None) -> Array:
        """[N, A] float32 within the bounds, or [N] int64.

        Rows that are not ``wanted`` [N] bool are left out of the policy's batch from now on and do nothing,
        if the carry can be split into rows.
        """
        if self.policy is None:
            return np.asarray(self.space.sample(), self.zeros.dtype)
        if wanted is not None and not wanted[self.rows].all():
            self._leave_out(~wanted[self.rows])
        with torch.no_grad():
            answer = self.policy.act(
                self.carry,
                {key: self._tensor(value) for key, value in frames.items()},
                self._tensor(last_action),
                self._tensor(first),
                explore=self.explore,
                generator=self.generator,
            )
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], torch.Tensor)):
            raise ActionError(
                f"policy {type(self.policy).__name__}.act returned a {type(answer).__name__}, expected "
                "(action tensor, carry)"
            )
        action, self.carry = answer
        executed = np.clip(self.zeros, self.low, self.high)
        executed[self.rows] = self._executable(action.cpu().numpy())
        return executed

    def _tensor(self, values: Array) -> torch.Tensor:
        """The rows [R, ...] of values [N, ...]."""
        return torch.from_numpy(values[self.rows]).to(self.device)

    def _leave_out(self, done: Array) -> None:
        """Goes on without some of the rows [R] bool, if all that the policy carries has a part for each."""
        leaves = [leaf for leaf in tree_leaves(self.carry) if leaf is not None]
        if all(isinstance(leaf, torch.Tensor) and leaf.shape[:1] == done.shape for leaf in leaves):
            left = torch.from_numpy(np.flatnonzero(~done))
            self.carry = tree_map(lambda x: None if x is None else x[left.to(x.device)], self.carry)
            self.rows = self.rows[~done]

    def native(self, action: Array) -> Array:
        """The action in the dtype of the env's space."""
        return action.astype(self.dtype, copy=False)

    def _executable(self, action: Array) -> Array:
        name = type(self.policy).__name__
        expected = (len(self.rows), *self.zeros.shape[1:])
        if action.shape != expected:
            raise ActionError(
                f"policy {name} returned an action of shape {list(action.shape)}, expected {list(expected)}"
            )
        kind = np.integer if self.zeros.dtype == np.int64 else np.floating
        if not np.issubdtype(action.dtype, kind):
            raise ActionError(f"policy {name} returned {action.dtype} actions, expected {self.zeros.dtype}")
        if kind is np.floating:
            if not np.isfinite(action).all():
                row = int(np.flatnonzero(~np.isfinite(action).all(axis=1))[0])
                raise ActionError(
                    f"policy {name} returned {action[row].tolist()} for env {self.rows[row]}, expected "
                    "finite numbers"
                )
            return np.clip(action.astype(np.float32), self.low, self.high)
        if action.min() < self.low or action.max() > self.high:
            raise ActionError(
                f"policy {name} returned discrete actions {action.min()}..{action.max()}, "
                f"expected {self.low}..{self.high}"
            )
        return action.astype(np.int64)


class Actor:
    """Acts in one env: observation in, action out. It remembers the episode so far, until ``reset``.

    Args:
        policy: acts.
        env: what it was made for; only its spaces matter.
        device: where the policy computes.
        explore: whether to add exploration.
        seed: of the policy's draws; with the seed of ``simulate`` it acts as it does there.
    """

    def __init__(
        self,
        policy: Policy,
        env: gymnasium.Env[Any, Any],
        *,
        device: torch.device | str = "cpu",
        explore: bool = False,
        seed: int = 0,
    ) -> None:
        check_range("seed", seed, 0, LARGEST_SEED)
        batch = BatchOfOne(env)
        self._spaces = frame_spaces(batch.single_observation_space)
        self._actor = BatchActor(batch, policy, seed, explore, torch.device(device))
        self.reset()

    def reset(self) -> None:
        """The next observation begins an episode."""
        self._first = np.ones(1, np.bool_)
        self._last = np.zeros_like(self._actor.zeros)

    def __call__(self, observation: Mapping[str, Any], last_action: Any = None) -> Array:
        """The next action.

        Args:
            observation: {key: [...]}, as the env gives it; others than the policy's are left alone.
            last_action: what was executed, where it was not what this returned last.

        Returns:
            action [A] within its bounds, or a whole number; in the dtype of the action space.

        Raises:
            SpaceError, ShapeError: for an observation that is missing, or of another shape.
            ActionError: for a ``last_action`` that cannot have been executed.
        """
        if not isinstance(observation, Mapping):
            raise SpaceError(
                f"the observation is a {type(observation).__name__}, expected a dict of "
                f"{', '.join(self._spaces)}"
            )
        for key, space in self._spaces.items():
            if key not in observation:
                raise SpaceError(f"the policy needs the observation '{key}', got {', '.join(observation)}")
            if np.shape(observation[key]) != space.shape:
                raise ShapeError(f"observation '{key}'", np.shape(observation[key]), space.shape or ())
        last = self._last if last_action is None else self._executed(last_action)
        batch = {key: np.asarray(observation[key])[None] for key in self._spaces}
        action = self._actor.act(frames_of(batch, self._spaces, 1), last, self._first)
        self._last, self._first = action, np.zeros(1, np.bool_)
        native: Array = self._actor.native(action)[0]
        return native

    def _executed(self, action: Any) -> Array:
        """An action that somebody says was executed, as a batch of one; not clipped: the world has seen it.

        Zero where the episode begins: what was executed before it says nothing of it.
        """
        try:
            values = np.asarray(action, None if self._last.dtype == np.int64 else np.float32)
        except (TypeError, ValueError):
            raise ActionError(f"last_action is {action!r}, expected numbers") from None
        if values.shape != self._last.shape[1:]:
            raise ActionError(
                f"last_action has shape {list(values.shape)}, expected {list(self._last.shape[1:])}"
            )
        low, high = self._actor.low, self._actor.high
        if self._last.dtype != np.int64:
            if not np.isfinite(values).all():
                raise ActionError(f"last_action is {values.tolist()}, expected finite numbers")
        elif values.dtype.kind not in "iu" or not low <= values <= high:
            raise ActionError(f"last_action is {action!r}, expected an integer in {low} .. {high}")
        return self._last if self._first[0] else values[None].astype(self._last.dtype)
