"""Convolutions between a tiny binary screen with vectors and a coarse grid of codes.

A cell of the grid stands for 4 x 4 pixels. With ``patch`` 1 the screen is halved twice by strided
convolutions; with 2 or 4, pixels enter as patches of that size, which leaves fewer or no halvings and costs
far less. Screens whose sides are not multiples of 4 are padded with background.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.errors import ConfigError
from wmplay.nets.layers import ResidualBlock, mlp

CELL = 4  # pixels along each side of a cell
BLOCKS = 3  # residual blocks of the encoder, and of the decoder
SHARPNESS = 8.0  # factor of the codes: symbols that are coin flips give the decoder little to learn from


def grid_cells(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the rows and columns of the grid of a screen [H, W]."""
    return -(-shape[0] // CELL), -(-shape[1] // CELL)


class GridEncoder(nn.Module):
    """An encoder of a screen [N, H, W] and vectors [N, V] to the flat grid [N, channels * rows * columns].

    Raises:
        ConfigError: for a patch other than 1, 2 or 4.
    """

    def __init__(self, shape: tuple[int, ...], vectors: int, width: int, patch: int, channels: int) -> None:
        super().__init__()
        rows, columns = grid_cells(shape)
        self.padding = (0, columns * CELL - shape[1], 0, rows * CELL - shape[0])
        self.patch = patch
        self.stem = nn.Conv2d(patch**2, width, 3, padding=1)
        halvings = _halvings(patch)
        self.embed = mlp(vectors, width, 1, width) if vectors else None
        self.blocks = nn.ModuleList(ResidualBlock(width, width if vectors else 0) for _ in range(BLOCKS))
        self.down = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(halvings))
        self.out = nn.Sequential(nn.GroupNorm(1, width), nn.SiLU(), nn.Conv2d(width, channels, 1))

    def forward(self, screen: Tensor, vectors: Tensor) -> Tensor:
        """Return the flat grid [N, channels * rows * columns]."""
        x = F.pad(screen.float(), self.padding).unsqueeze(1)
        x = self.stem(F.pixel_unshuffle(x, self.patch))
        embedding = None if self.embed is None else self.embed(vectors)
        for number, block in enumerate(self.blocks):
            x = block(x, embedding)
            if number < len(self.down):
                x = self.down[number](x)
        flat: Tensor = SHARPNESS * self.out(x).flatten(1)
        return flat


class GridDecoder(nn.Module):
    """A decoder of the flat grid [N, channels * rows * columns] to logits of the screen [N, H, W]."""

    def __init__(self, shape: tuple[int, ...], width: int, patch: int, channels: int) -> None:
        super().__init__()
        self.shape, self.grid = shape, (channels, *grid_cells(shape))
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, 0) for _ in range(BLOCKS))
        self.up = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(_halvings(patch)))
        self.out = nn.Sequential(nn.GroupNorm(1, width), nn.SiLU(), nn.Conv2d(width, patch**2, 3, padding=1))
        self.patch = patch

    def forward(self, code: Tensor) -> Tensor:
        """Return logits [N, H, W]."""
        x = self.stem(code.reshape(-1, *self.grid))
        for number, block in enumerate(self.blocks):
            x = block(x, None)
            if number < len(self.up):
                x = self.up[number](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        screen = F.pixel_shuffle(self.out(x), self.patch).squeeze(1)
        return screen[:, : self.shape[0], : self.shape[1]]


def _halvings(patch: int) -> int:
    halvings = {1: 2, 2: 1, 4: 0}
    if patch not in halvings:
        raise ConfigError(f"patch is {patch}", got=patch, expected="1, 2 or 4")
    return halvings[patch]
