"""Explorers: wrappers that change a policy's actions while data is collected.

The policy receives the executed action as ``last_action``, so that its belief stays correct.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from wmplay.contracts import Carry, Policy
from wmplay.errors import SpaceError, check_values
from wmplay.nets.actions import action_bounds, random_actions


class ExplorerCarry(NamedTuple):
    """The wrapped policy's carry, and the explorer's own memory of each row."""

    policy: Carry
    own: Tensor  # [B]


class Explorer(ABC):
    """The base of the explorers: it calls the policy, and changes some of its actions."""

    def __init__(self, policy: Policy, action_space: gym.Space[Any]) -> None:
        random_actions(action_space, (1,))  # an unsupported space fails here, not in the middle of a run
        self.policy = policy
        self.action_space = action_space

    def initial(self, batch_size: int) -> ExplorerCarry:
        """Return the wrapped policy's carry and the explorer's own."""
        return ExplorerCarry(self.policy.initial(batch_size), torch.zeros(batch_size))

    def act(
        self,
        carry: ExplorerCarry,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, ExplorerCarry]:
        """Return the policy's action, changed if ``explore``: [B, A], or [B] int64."""
        action, policy_carry = self.policy.act(
            carry.policy, observation, last_action, first, explore=explore, generator=generator
        )
        own = carry.own.to(first.device)
        if explore:
            action, own = self.change(action, own, first, generator)
        return action, ExplorerCarry(policy_carry, own)

    @abstractmethod
    def change(
        self, action: Tensor, own: Tensor, first: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return the action to execute and the new memory [B], given the policy's action."""

    def replace(self, action: Tensor, where: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return the action with a uniform random action in the rows where [B] is True."""
        drawn = random_actions(self.action_space, (len(where),), generator, where.device)
        return torch.where(where.reshape(-1, *[1] * (action.ndim - 1)), drawn.to(action.dtype), action)


class RandomColdStart(Explorer):
    """Random steps at the start of each episode, so that the policy starts from more varied states.

    Args:
        policy: acts after the random steps.
        action_space: to draw from.
        steps: random steps at the start of each episode.

    Raises:
        SpaceError, ConfigError: for an unsupported space, or a negative number of steps.
    """

    def __init__(self, policy: Policy, action_space: gym.Space[Any], steps: int = 10) -> None:
        super().__init__(policy, action_space)
        check_values("random_cold_start", not_negative={"steps": steps})
        self.steps = steps

    def change(
        self, action: Tensor, own: Tensor, first: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Replace the action in an episode's first steps; the memory counts steps."""
        taken = torch.where(first, 0.0, own)
        return self.replace(action, taken < self.steps, generator), taken + 1


class GaussianNoise(Explorer):
    """Gaussian noise added to continuous actions, clipped to the space (PlaNet: 0.3).

    Args:
        policy: acts.
        action_space: a bounded one-dimensional Box.
        std: standard deviation, in half-ranges of the space.

    Raises:
        SpaceError, ConfigError: for another space, or a negative std.
    """

    def __init__(self, policy: Policy, action_space: gym.Space[Any], std: float = 0.3) -> None:
        super().__init__(policy, action_space)
        if isinstance(action_space, gym.spaces.Discrete):
            raise SpaceError(
                f"action space is {action_space}",
                got=action_space,
                expected="a one-dimensional Box",
                advice="use explorer=epsilon_greedy for discrete actions",
            )
        self.low, self.high = action_bounds(action_space)
        check_values("gaussian_noise", not_negative={"std": std})
        self.std = std * (self.high - self.low) / 2

    def change(
        self, action: Tensor, own: Tensor, first: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Add noise to the action; the memory is not used."""
        noise = torch.randn(action.shape, generator=generator, device=action.device)
        low, high, std = (x.to(action.device) for x in (self.low, self.high, self.std))
        return torch.clamp(action + std * noise, low, high), own


class EpsilonGreedy(Explorer):
    """A uniform random action in some rows and steps, drawn by chance.

    Args:
        policy: acts in all other rows and steps.
        action_space: to draw from.
        epsilon: probability of a random action, per row and step.

    Raises:
        SpaceError, ConfigError: for an unsupported space, or an epsilon outside 0..1.
    """

    def __init__(self, policy: Policy, action_space: gym.Space[Any], epsilon: float = 0.1) -> None:
        super().__init__(policy, action_space)
        check_values("epsilon_greedy", fractions={"epsilon": epsilon})
        self.epsilon = epsilon

    def change(
        self, action: Tensor, own: Tensor, first: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Replace the action with probability epsilon; the memory is not used."""
        return self.replace(action, _chance(self.epsilon, first, generator), generator), own


class Randomizer(Explorer):
    """Random actions through whole episodes, which are drawn by chance.

    Args:
        policy: acts in all other episodes.
        action_space: to draw from.
        probability: of a random episode.

    Raises:
        SpaceError, ConfigError: for an unsupported space, or a probability outside 0..1.
    """

    def __init__(self, policy: Policy, action_space: gym.Space[Any], probability: float = 0.2) -> None:
        super().__init__(policy, action_space)
        check_values("randomizer", fractions={"probability": probability})
        self.probability = probability

    def change(
        self, action: Tensor, own: Tensor, first: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Replace the action in random episodes; the memory marks their rows."""
        chosen = torch.where(first, _chance(self.probability, first, generator), own > 0)
        return self.replace(action, chosen, generator), chosen.float()


def _chance(probability: float, like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device) < probability
