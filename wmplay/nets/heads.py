"""Predictions of reward and of whether the episode goes on, shared by the models."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, Segment
from wmplay.errors import ConfigError
from wmplay.nets.layers import mlp
from wmplay.system.processes import joint_count


class OutcomeHeads(nn.Module):
    """From the features of each predicted step, its reward and the probability that the episode goes on.

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
                raise ConfigError(f"{name}_weight is {weight}, expected at least 0")
        self.reward = mlp(inputs, hidden, layers, 1) if reward_weight else None
        self.continuation = mlp(inputs, hidden, layers, 1) if continuation_weight else None
        self.weights = {"reward": reward_weight, "continuation": continuation_weight}

    def forward(self, features: Callable[[], Tensor]) -> LazyMapping[Tensor | None]:
        """{"reward", "discount"} -> [B, H] or None, each worked out when asked for, from what ``features``
        then gives, [B, H, F]."""

        def outcome(name: str) -> Tensor | None:
            head = self.reward if name == "reward" else self.continuation
            if head is None:
                return None
            value: Tensor = head(features()).squeeze(-1).float()
            return value if name == "reward" else value.sigmoid()

        return LazyMapping(("reward", "discount"), outcome)

    def negative_log_likelihoods(self, features: Tensor, segment: Segment) -> dict[str, Tensor]:
        """{"reward", "continuation"} -> [B, T] nats of what each step led to, from features [B, T, F].

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
    """The mean of values [B, T] where mask [B, T] is True; 0 if it is so nowhere.

    Over the joint batch, where several processes share one (``wmplay.system.processes.joint_count``).
    """
    return torch.where(mask, values, 0.0).sum() / joint_count(mask)
