"""Numbers as categorical distributions over bins: a target is shared by the two bins around it.

The loss is a cross-entropy, whose gradients do not depend on the scale of the numbers. The three definitions
in use differ in the space in which distances are measured and the mean is taken:

- ``of_values``, DreamerV3's present code: bins at symexp(-20 .. 20), distances and the mean between values:
  the mean of a mixture is the mean of its parts;
- ``of_symlogs``, TD-MPC2 (arXiv 2310.16828): distances and the mean between symlogs; the mean of noisy values
  is too small;
- ``of_roots``, MuZero (arXiv 1911.08265, appendix F): the same between roots.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wmplay.nets.modalities import symexp, symlog

ROOT_SLOPE = 1e-3  # of the linear part of MuZero's transform, which gives it an inverse


class TwoHot(nn.Module):
    """The map between numbers [...] and distributions over C bins, as logits [..., C].

    Args:
        upper: [(C + 1) / 2], the bins from 0 up, in the space in which distances are measured; those below 0
            mirror them.
        inward: from numbers to that space.
        outward: the inverse of ``inward``.
    """

    bins: Tensor  # [C]

    def __init__(
        self, upper: Tensor, inward: Callable[[Tensor], Tensor], outward: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.inward, self.outward, self.size = inward, outward, 2 * len(upper) - 1
        self.register_buffer("bins", torch.cat([-upper.flip(0)[:-1], upper]), persistent=False)

    def mean(self, logits: Tensor) -> Tensor:
        """Return the numbers [...] of distributions; bins that mirror each other are summed together, so that
        equal logits give exactly 0."""
        weights = logits.float().softmax(-1)
        half = self.size // 2
        above = weights[..., half + 1 :] - weights[..., :half].flip(-1)
        return self.outward(above @ self.bins[half + 1 :])

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropies [...], in nats, of distributions to target numbers [...]."""
        below, above = self.neighbours(target)
        logs = logits.float().log_softmax(-1)
        at_below, at_above = (
            logs.gather(-1, index.unsqueeze(-1)).squeeze(-1) for index in (below, below + 1)
        )
        return -(at_below * (1 - above) + at_above * above)

    def encode(self, target: Tensor) -> Tensor:
        """Return the target distributions [..., C] of numbers [...]."""
        below, above = self.neighbours(target)
        weights = torch.stack([1 - above, above], -1)
        index = torch.stack([below, below + 1], -1)
        return weights.new_zeros(*target.shape, self.size).scatter_(-1, index, weights)

    def neighbours(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the bins [...] below numbers, int64, and the weights [...] of the bins above; numbers beyond
        the last bin are taken for it."""
        inner = self.inward(target.float()).clamp(self.bins[0], self.bins[-1])
        below = (torch.searchsorted(self.bins, inner, right=True) - 1).clamp(max=self.size - 2)
        low, high = self.bins[below], self.bins[below + 1]
        return below, (inner - low) / (high - low)


def of_values(number: int = 255, most: float = 20.0) -> TwoHot:
    """Return DreamerV3's distribution: an odd number of bins at the symexps of -most .. most."""
    return TwoHot(symexp(torch.linspace(0, most, number // 2 + 1)), _same, _same)


def of_symlogs(number: int = 101, most: float = 10.0) -> TwoHot:
    """Return TD-MPC2's distribution: an odd number of bins at -most .. most of the symlogs."""
    return TwoHot(torch.linspace(0, most, number // 2 + 1), symlog, symexp)


def of_roots(number: int = 601, most: float = 300.0) -> TwoHot:
    """Return MuZero's distribution: an odd number of bins at -most .. most of the roots (``to_root``)."""
    return TwoHot(torch.linspace(0, most, number // 2 + 1), to_root, from_root)


def to_root(x: Tensor) -> Tensor:
    """Return sign(x) (sqrt(|x| + 1) - 1) + 0.001 x (Pohlen et al. 2018, arXiv 1805.11593)."""
    size = x.abs()
    return x.sign() * (size / ((size + 1).sqrt() + 1)) + ROOT_SLOPE * x


def from_root(y: Tensor) -> Tensor:
    """Return the inverse of ``to_root``."""
    size = y.abs() + 1 + ROOT_SLOPE
    root = 2 * size / ((1 + 4 * ROOT_SLOPE * size).sqrt() + 1)
    return y.sign() * (root - 1) * (root + 1)


def _same(x: Tensor) -> Tensor:
    return x
