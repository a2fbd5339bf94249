"""Stacks of layers; they take sizes, never a config."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_GRID = 4
NORM_EPS = 1e-4
ROWS = 1250  # of a block


def mlp(inputs: int, hidden: int, layers: int, outputs: int, norm: bool = False) -> nn.Sequential:
    """Return ``layers`` layers of ``hidden`` SiLU units and a linear layer: [..., inputs] -> [..., outputs].

    With ``norm``, units are divided by their root mean square before the SiLU, as in DreamerV3.
    """
    sizes = [inputs] + [hidden] * layers
    stack: list[nn.Module] = []
    for before, after in pairwise(sizes):
        stack += [nn.Linear(before, after), *([nn.RMSNorm(after, NORM_EPS)] if norm else []), nn.SiLU()]
    return nn.Sequential(*stack, nn.Linear(sizes[-1], outputs))


def in_blocks(network: nn.Module, x: Tensor) -> Tensor:
    """Return the outputs [..., O] of a network for inputs [..., I], on a processor a block of rows at a time.

    The units of more rows do not fit into a processor's cache.
    """
    if x.device.type != "cpu":
        return network(x)  # type: ignore[no-any-return]
    parts = [network(part) for part in torch.split(x.flatten(0, -2), ROWS)]
    return torch.cat(parts).reshape(*x.shape[:-1], -1)


class BlockGRU(nn.Module):
    """The recurrent cell of DreamerV3: (inputs [B, I], state [B, D]) -> state [B, D].

    The state h has K blocks. Each sees itself, an embedding of the whole state and the inputs x, by weights
    of its own, of which there are far fewer than a GRU of this width has:

        e = f(W h),   u[k] = f(V[k] (h[k], e, x)),   reset, candidate, update = U[k] u[k]
        h' = update * tanh(reset * candidate) + (1 - update) * h

    with f a normalised SiLU and the gates as sigmoids, that of the update shifted by -1, so that a new cell
    remembers.

    Args:
        inputs: size I.
        state: size D, a multiple of K.
        hidden: size of the embedding of the state.
        blocks: number K.
    """

    def __init__(self, inputs: int, state: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.blocks, each = blocks, state // blocks
        self.whole = nn.Sequential(nn.Linear(state, hidden), nn.RMSNorm(hidden, NORM_EPS), nn.SiLU())
        self.norm = nn.RMSNorm(state, NORM_EPS)
        sizes = [(each + hidden + inputs, each), (each, 3 * each)]
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(blocks, *size)) for size in sizes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(blocks, 1, end)) for _, end in sizes)
        for weight in self.weights:  # scaled by the inputs of all blocks, as published
            std = (blocks * weight.shape[1]) ** -0.5
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """Return the next state [B, D]."""
        own = self._split(state)
        shared = torch.cat([self.whole(state), x], -1).expand(self.blocks, -1, -1)
        seen = torch.cat([own, shared], -1)
        hidden = torch.baddbmm(self.biases[0], seen, self.weights[0]).transpose(0, 1).flatten(1)
        gates = torch.baddbmm(self.biases[1], self._split(F.silu(self.norm(hidden))), self.weights[1])
        reset, candidate, update = gates.float().chunk(3, -1)
        fresh = (reset.sigmoid() * candidate).tanh()
        after: Tensor = torch.lerp(own.float(), fresh, (update - 1).sigmoid()).transpose(0, 1).flatten(1)
        return after

    def _split(self, state: Tensor) -> Tensor:
        """Return the blocks [K, B, D / K] of [B, D]."""
        return state.reshape(len(state), self.blocks, -1).transpose(0, 1)


class ParallelNets(nn.Module):
    """``count`` networks in parallel, from [M, inputs] or [count, M, inputs] to [count, M, outputs] float32.

    The last layer is in full precision, because values differ by little where actions do.

    Args:
        count: of networks.
        inputs: size of each input.
        hidden: units of each hidden layer.
        layers: hidden layers.
        outputs: size of each output.
        silu: whether the units are SiLU; else ReLU.
    """

    def __init__(
        self, count: int, inputs: int, hidden: int, layers: int, outputs: int, silu: bool = False
    ) -> None:
        super().__init__()
        self.silu = silu
        sizes = [inputs] + [hidden] * layers
        bounds = [size**-0.5 for size in sizes]  # as in nn.Linear
        ends = [*sizes[1:], outputs]
        self.weights, self.biases = (
            nn.ParameterList(
                nn.Parameter(torch.empty(count, rows, end).uniform_(-bound, bound))
                for rows, end, bound in zip(heights, ends, bounds, strict=True)
            )
            for heights in (sizes, [1] * len(sizes))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of all networks, for the same rows [M, inputs] or for rows of their own."""
        if x.ndim == 2:
            x = x.expand(len(self.weights[0]), *x.shape)
        *hidden, (weight, bias) = zip(self.weights, self.biases, strict=True)
        for inner, offset in hidden:
            x = torch.bmm(x, inner)
            x = x.add_(offset.to(x.dtype))
            x = F.silu(x) if self.silu else x.relu_()
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            if weight.shape[-1] == 1:  # faster than a matrix product with one column
                output: Tensor = (x * weight.mT).sum(-1, keepdim=True) + bias
            else:
                output = torch.baddbmm(bias, x, weight)
        return output


class ConvEncoder(nn.Module):
    """Convolutions that halve an image down to about 4 x 4: [..., H, W, C] or [..., H, W] -> [..., size]."""

    def __init__(self, shape: tuple[int, ...], channels: int = 32) -> None:
        super().__init__()
        self.height, self.width, self.channels = _image(shape)
        self.image_dims = len(shape)
        widths = [self.channels] + [channels * 2**i for i in range(_halvings(shape))]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )
        halvings = len(self.layers)
        self.size = widths[-1] * (self.height >> halvings) * (self.width >> halvings)

    def forward(self, image: Tensor) -> Tensor:
        """Return flat features [..., size]."""
        batch = image.shape[: image.ndim - self.image_dims]
        x = image.reshape(-1, self.height, self.width, self.channels).movedim(-1, 1)
        for layer in self.layers:
            x = F.silu(layer(x))
        return x.reshape(*batch, self.size)


class ConvDecoder(nn.Module):
    """Transposed convolutions from features [..., inputs] to an image [..., *shape]; the last layer is
    linear."""

    def __init__(self, inputs: int, shape: tuple[int, ...], channels: int = 32) -> None:
        super().__init__()
        height, width, image_channels = _image(shape)
        self.shape = shape
        halvings = _halvings(shape)
        widths = [channels * 2**i for i in reversed(range(halvings))] + [image_channels]
        self.grid = (widths[0], -(-height // 2**halvings), -(-width // 2**halvings))
        self.inputs = nn.Linear(inputs, self.grid[0] * self.grid[1] * self.grid[2])
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1) for before, after in pairwise(widths)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the image [..., *shape]."""
        x = self.inputs(features).reshape(-1, *self.grid)
        for layer in self.layers:
            x = layer(F.silu(x))
        height, width, _ = _image(self.shape)
        # crop, because sizes that do not halve evenly come back larger
        image: Tensor = x[:, :, :height, :width].movedim(1, -1)
        return image.reshape(*features.shape[:-1], *self.shape)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after GroupNorm and SiLU, with an embedding added between them."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(1, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))
        self.embedding = nn.Linear(embedding, width) if embedding else None
        self.second = nn.Sequential(nn.GroupNorm(1, width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        """Return features [N, width, rows, columns], in the shape of x."""
        inner = self.first(x)
        if self.embedding is not None and embedding is not None:
            inner = inner + self.embedding(F.silu(embedding))[:, :, None, None]
        out: Tensor = x + self.second(inner)
        return out


def fourier_features(x: Tensor, frequencies: int) -> Tensor:
    """Append sines and cosines of pi x, 2 pi x, 4 pi x, ...: [..., D] -> [..., D * (1 + 2 * frequencies)].

    They let a small network represent sharp edges at positions x (Tancik et al. 2020, arXiv 2006.10739).
    """
    octaves = torch.pi * 2.0 ** torch.arange(frequencies, device=x.device)
    angles = (x.unsqueeze(-1) * octaves).flatten(-2)
    return torch.cat([x, angles.sin(), angles.cos()], dim=-1)


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return (H, W, C); an image without a channel axis has one channel."""
    return shape[0], shape[1], shape[2] if len(shape) == 3 else 1


def _halvings(shape: tuple[int, ...]) -> int:
    halvings = 0
    while min(shape[:2]) >> halvings >= 2 * SMALLEST_GRID:
        halvings += 1
    return halvings
