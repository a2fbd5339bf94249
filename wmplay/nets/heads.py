"""Heads that predict the reward and the discount, shared by the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, Segment
from wmplay.errors import ConfigError
from wmplay.nets.agents.distributions import HALF_LOG_TAU
from wmplay.nets.agents.two_hot import of_values
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import Modality
from wmplay.nets.observations import ObservationEncoder
from wmplay.system.processes import joint_count


class OutcomeHeads(nn.Module):
    """Heads from the features of each predicted step to its reward and to the probability that the episode
    continues.

    A head with weight 0 is left out: it predicts None and adds no loss.

    Args:
        inputs: F.
        hidden: units of each hidden layer.
        layers: hidden layers.
        reward_weight: of the reward's loss.
        continuation_weight: of the continuation's loss.
        two_hot: whether the reward is a distribution over DreamerV3's bins, which begins at a mean of 0; else
            a Gaussian of width 1.

    Raises:
        ConfigError: for a negative weight.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int,
        reward_weight: float,
        continuation_weight: float,
        two_hot: bool = False,
    ) -> None:
        super().__init__()
        for name, weight in (("reward", reward_weight), ("continuation", continuation_weight)):
            if not weight >= 0:
                raise ConfigError(f"{name}_weight is {weight}", expected="at least 0")
        self.bins = of_values() if two_hot else None
        self.reward = None
        if reward_weight:
            self.reward = mlp(inputs, hidden, layers, 1 if self.bins is None else self.bins.size)
            for parameter in () if self.bins is None else self.reward[-1].parameters():
                nn.init.zeros_(parameter)
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
            output: Tensor = head(features().float()).float()  # it may be read outside of an autocast
            if name == "discount":
                return output.squeeze(-1).sigmoid()
            return output.squeeze(-1) if self.bins is None else self.bins.mean(output)

        return LazyMapping(("reward", "discount"), outcome)

    def negative_log_likelihoods(self, features: Tensor, segment: Segment) -> dict[str, Tensor]:
        """Return {"reward", "continuation"} -> nats [B, T] of each step's outcome, given features [B, T, F].

        A Gaussian's density is without its constant.
        """
        terms = {}
        if self.reward is not None:
            output = self.reward(features).float()
            terms["reward"] = (
                0.5 * (output.squeeze(-1) - segment.reward).square()
                if self.bins is None
                else self.bins.loss(output, segment.reward)
            )
        if self.continuation is not None:
            logits = self.continuation(features).squeeze(-1).float()
            goes_on = (~segment.terminated).float()
            terms["continuation"] = F.binary_cross_entropy_with_logits(logits, goes_on, reduction="none")
        return terms


class FrameReader(nn.Module):
    """A reader of frames for the heads: the frames before and after each step, and the action between them.

    No gradient reaches the frames, so that they are predicted for their own sake, whatever is rewarded
    (Babaeizadeh et al. 2020, arXiv 2012.04603).

    Args:
        modalities: of the keys that are read.
        frequencies: octaves of sines and cosines of vectors.
        hidden: units of the code of a frame, and of the hidden layer before it.
        actions: size of an encoded action.
    """

    def __init__(
        self, modalities: Mapping[str, Modality], frequencies: int, hidden: int, actions: int
    ) -> None:
        super().__init__()
        self.encoder = ObservationEncoder(modalities, frequencies, hidden, 1, hidden)
        self.size = 2 * hidden + actions

    def forward(self, frames: Mapping[str, Tensor], action: Tensor) -> Tensor:
        """Return the numbers [B, T, size] of steps with frames {key: [B, T + 1, ...]} around them.

        Args:
            frames: real ones, or expected ones in the units of the observations.
            action: [B, T, A], encoded.
        """
        code = self.encoder({key: frames[key].detach() for key in self.encoder.modalities})
        return torch.cat([code[:, :-1], code[:, 1:], action], -1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of values [B, T] where mask [B, T] is True, or 0 if no entry is True.

    If several processes share a batch, divide by the count of the joint batch
    (``wmplay.system.processes.joint_count``).
    """
    return torch.where(mask, values, 0.0).sum() / joint_count(mask)


def nats(value: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """Return the negative log density of each number [...] under Gaussians, in nats."""
    return 0.5 * ((value - mean) / sigma).square() + sigma.log() + HALF_LOG_TAU
