"""Convolutional dynamic neural advection (CDNA; Finn et al. 2016, arXiv 1605.07157): a frame whose pixels are
moved by a few kernels, and put together by masks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def kernels(output: Tensor, count: int, size: int) -> Tensor:
    """Return kernels [N, count, size, size] from a network's output [N, count * size * size].

    Their entries are not negative and sum to 1, so that a kernel moves and blurs but never adds light. They
    are a softmax, where the authors divide the output of a ReLU by its sum: most of those kernels die, and
    remain a blur.
    """
    entries = output.float().reshape(-1, count, size * size)
    return entries.softmax(-1).reshape(-1, count, size, size)


def move(frame: Tensor, kernel: Tensor) -> Tensor:
    """Return a frame [N, C, H, W] under each of its own kernels [N, K, S, S], as [N, K, C, H, W].

    Entry (i, j) of a kernel, from its centre, takes the pixel i rows below and j columns to the right.
    """
    rows, channels, height, width = frame.shape
    size = kernel.shape[-1]
    patches = F.unfold(frame.reshape(-1, 1, height, width), size, padding=size // 2)
    patches = patches.reshape(rows, channels, size * size, height * width)
    moved = kernel.flatten(2).unsqueeze(1) @ patches  # [N, C, K, H * W]
    return moved.transpose(1, 2).reshape(rows, -1, channels, height, width)


def compose(layers: Tensor, logits: Tensor) -> Tensor:
    """Return the frame [N, C, H, W] that masks make of layers [N, K, C, H, W].

    The masks are the softmax of logits [N, K, H, W] over the layers: at each pixel they sum to 1.
    """
    return (layers * logits.float().softmax(1).unsqueeze(2)).sum(1)


class ConvLSTM(nn.Module):
    """An LSTM whose gates are convolutions (Shi et al. 2015, arXiv 1506.04214).

    Args:
        inputs: channels of the input.
        channels: of the state.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.from_input = nn.Conv2d(inputs, 4 * channels, 3, padding=1)
        self.from_hidden = nn.Conv2d(channels, 4 * channels, 3, padding=1, bias=False)

    def forward(self, gates: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the hidden states [N, T, channels, H, W] of T steps, and the last hidden and cell state.

        Args:
            gates: [N, T, 4 * channels, H, W], the part of the gates that does not depend on the state.
            hidden: [N, channels, H, W], and so is cell.
        """
        steps = []
        for known in gates.unbind(1):
            keep, add, show, value = (known + self.from_hidden(hidden)).chunk(4, 1)
            cell = (keep + 1).sigmoid() * cell + add.sigmoid() * value.tanh()  # remembers at first
            hidden = show.sigmoid() * cell.tanh()
            steps.append(hidden)
        return torch.stack(steps, 1), hidden, cell
