"""Returns of imagined or real steps, and the running scale by which agents divide them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

LOW, HIGH = 0.05, 0.95  # percentiles between which returns spread


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, decay: float | Tensor) -> Tensor:
    """Return the lambda returns [B, H] of H steps.

        R[t] = reward[t] + discount[t] * ((1 - decay) * value[t] + decay * R[t + 1]),  R[H] = value[H - 1]

    Args:
        reward: [B, H], of each step.
        discount: [B, H], of all that follows each step: gamma, times the probability that the episode goes
            on.
        value: [B, H], of the state that each step leads to.
        decay: lambda, of all steps or of each, [B, H]: 0 trusts the values, 1 the rewards.
    """
    alone = reward + discount * (1 - decay) * value
    onward = (discount * decay).unbind(1)
    later, found = value[:, -1], []
    for now, factor in zip(alone.unbind(1)[::-1], onward[::-1], strict=True):
        later = now + factor * later
        found.append(later)
    return torch.stack(found[::-1], 1)


class ReturnScale(nn.Module):
    """A running mean of the spread of returns, from the 5th to the 95th percentile; at least 1.

    Small returns are not enlarged. The mean begins at 0 and has no correction for this (DreamerV3), or, with
    ``floored``, at 1, and each spread counts as 1 at least (TD-MPC2).

    Args:
        rate: of the running mean, for each update.
        floored: see above.
    """

    spread: Tensor

    def __init__(self, rate: float = 0.01, floored: bool = False) -> None:
        super().__init__()
        self.rate, self.floored = rate, floored
        self.register_buffer("spread", torch.ones(()) if floored else torch.zeros(()))

    def forward(self) -> Tensor:
        """Return the scale, a scalar."""
        return self.spread.clamp(min=1.0)

    @torch.no_grad()
    def update(self, returns: Tensor) -> None:
        """Add returns [...] to the running mean."""
        flat = returns.detach().flatten().float()
        low, high = torch.quantile(flat, flat.new_tensor([LOW, HIGH]))
        spread = (high - low).clamp(min=1.0) if self.floored else high - low
        self.spread.lerp_(spread, self.rate)
