"""Heads that predict the reward and the discount, shared by the models."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, Segment
from wmplay.errors import ConfigError
from wmplay.nets.layers import mlp
from wmplay.system.processes import joint_count

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class OutcomeHeads(nn.Module):
    """Heads from the features of each predicted step to its reward and to the probability that the episode
    continues.

    A head with weight 0 is left out: it predicts None and adds no loss.

    Raises:
        ConfigError: for a negative weight.
    """

    def __init__(
        self, inputs: int, hidden: int, layers: int, reward_weight: float, continuation_weight: float
    ) -> None:
        super().__init__()
        for name, weight in (("reward", reward_weight), ("continuation", continuation_weight)):
            if not weight >= 0:
                raise ConfigError(f"{name}_weight is {weight}", expected="at least 0")
        self.reward = mlp(inputs, hidden, layers, 1) if reward_weight else None
        self.continuation = mlp(inputs, hidden, layers, 1) if continuation_weight else None
        self.weights = {"reward": reward_weight, "continuation": continuation_weight}

    def forward(self, features: Callable[[], Tensor]) -> LazyMapping[Tensor | None]:
        """Return {"reward", "discount"} -> [B, H], or None for a head that is left out.

        Each value is computed at its first use, from the result of ``features``, [B, H, F].
        """

        def outcome(name: str) -> Tensor | None:
            head = self.reward if name == "reward" else self.continuation
            if head is None:
                return None
            value: Tensor = head(features()).squeeze(-1).float()
            return value if name == "reward" else value.sigmoid()

        return LazyMapping(("reward", "discount"), outcome)

    def negative_log_likelihoods(self, features: Tensor, segment: Segment) -> dict[str, Tensor]:
        """Return {"reward", "continuation"} -> nats [B, T] of each step's outcome, given features [B, T, F].

        The reward's density is a Gaussian of width 1, without its constant.
        """
        terms = {}
        if self.reward is not None:
            error = self.reward(features).squeeze(-1).float() - segment.reward
            terms["reward"] = 0.5 * error.square()
        if self.continuation is not None:
            logits = self.continuation(features).squeeze(-1).float()
            goes_on = (~segment.terminated).float()
            terms["continuation"] = F.binary_cross_entropy_with_logits(logits, goes_on, reduction="none")
        return terms


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values [B, T] where mask [B, T] is True, or 0 if no entry is True.

    If several processes share a batch, divide by the count of the joint batch
    (``wmplay.system.processes.joint_count``).
    """
    return torch.where(mask, values, 0.0).sum() / joint_count(mask)


def nats(value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Return the negative log density of each number [...] under Gaussians, in nats."""
    return 0.5 * ((value - mean) / sigma).square() + sigma.log() + HALF_LOG_TAU
