"""A policy step by step on the numpy arrays of a batch of envs."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.contracts import Array, Policy
from wmplay.errors import ActionError, SpaceError
from wmplay.vector.actions import checked_action, clipped
from wmplay.vector.frames import Frames


class PolicyDriver:
    """A policy, or random actions, in a batch of N envs: tensors in, validated numpy actions out."""

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
                "wrap the env (gymnasium.wrappers.TransformAction)",
                got=space,
            )
        self.single_space = space
        self.policy = policy
        self.explore = explore
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)
        # Not the seed itself: the env draws its first states with the same algorithm, from that.
        self.space = copy.deepcopy(batch.action_space)
        self.space.seed(int(np.random.SeedSequence([seed, 1]).generate_state(1)[0]))
        self.carry = None if policy is None else policy.initial(batch.num_envs)
        self.rows = np.arange(batch.num_envs)  # the rows of the policy's carry

    def act(self, frames: Frames, last_action: Array, first: Array, wanted: Array | None = None) -> Array:
        """Return actions [N, A] float32 within the bounds, or [N] int64.

        Rows that are not ``wanted`` [N] bool leave the policy's batch for good and get zero actions, if the
        carry can be split into rows.
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
                f"policy {type(self.policy).__name__}.act returned a {type(answer).__name__}",
                expected="(action tensor, carry)",
            )
        action, self.carry = answer
        executed = np.clip(self.zeros, self.low, self.high)
        executed[self.rows] = self._executable(action.cpu().numpy())
        return executed

    def _tensor(self, values: Array) -> torch.Tensor:
        """Return the rows [R, ...] of values [N, ...]."""
        return torch.from_numpy(values[self.rows]).to(self.device)

    def _leave_out(self, done: Array) -> None:
        """Drop some of the rows [R] bool, if each tensor of the policy's carry has a part for each row."""
        leaves = [leaf for leaf in tree_leaves(self.carry) if leaf is not None]
        if all(isinstance(leaf, torch.Tensor) and leaf.shape[:1] == done.shape for leaf in leaves):
            left = torch.from_numpy(np.flatnonzero(~done))
            self.carry = tree_map(lambda x: None if x is None else x[left.to(x.device)], self.carry)
            self.rows = self.rows[~done]

    def native(self, action: Array) -> Array:
        """Return the action in the dtype of the env's space."""
        return action.astype(self.single_space.dtype, copy=False)

    def _executable(self, action: Array) -> Array:
        who = f"policy {type(self.policy).__name__} returned an action that"
        checked = checked_action(
            action, self.single_space, self.rows.tolist(), who=who, floats=True, finite=True
        )
        return clipped(checked, self.low, self.high) if self.zeros.dtype == np.float32 else checked
