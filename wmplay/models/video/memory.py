"""The LSTM of models that remember codes of frames: ``svg`` and ``epva``."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Memory(nn.Module):
    """An LSTM over the sum of its inputs' projections, and around it.

    Each input so enters with the same weight, and an action acts before the LSTM has learned to let it pass.

    Args:
        inputs: size of each input.
        size: of the state.
    """

    def __init__(self, inputs: Sequence[int], size: int) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Linear(one, size) for one in inputs)
        self.lstm = nn.LSTM(size, size, batch_first=True)

    def forward(
        self, inputs: Sequence[Tensor], hidden: Tensor, cell: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs [B, T, size] of inputs [B, T, ...], and the last hidden and cell state [B,
        size]."""
        x = torch.stack([layer(one) for layer, one in zip(self.inputs, inputs, strict=True)]).sum(0)
        output, (hidden, cell) = self.lstm(F.silu(x), (hidden.unsqueeze(0), cell.unsqueeze(0)))
        return x + output, hidden.squeeze(0), cell.squeeze(0)
