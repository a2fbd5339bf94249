"""An encoder of frames that keeps its maps, and a decoder that sees them again, for ``svg`` and ``epva``."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.nets.layers import ResidualBlock

SMALLEST = 4  # the smallest side of a map
MOST = 4  # times the width: the most channels of a map


def halvings(shape: tuple[int, ...]) -> int:
    """Return how often a frame of shape [H, W, ...] is halved."""
    return max(min(shape[:2]) // SMALLEST, 1).bit_length() - 1


class Pyramid(nn.Module):
    """Convolutions that halve a frame, and keep the map of each scale.

    Args:
        image: channels of a frame.
        sides: (H, W) of a frame, multiples of 2^count.
        width: channels at full resolution; they double with each halving, up to four times as many.
        count: of halvings.
        code: size of the code.
    """

    def __init__(self, image: int, sides: tuple[int, int], width: int, count: int, code: int) -> None:
        super().__init__()
        self.widths = [min(2**i, MOST) * width for i in range(count + 1)]
        self.grid = self.widths[-1], sides[0] >> count, sides[1] >> count
        self.stem = nn.Conv2d(image, width, 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(self.widths))
        self.out = nn.Linear(self.grid[0] * self.grid[1] * self.grid[2], code)

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the codes [N, code] of frames [N, C, H, W], and the maps of all scales, from large to
        small."""
        maps = [F.silu(self.stem(frames))]
        for layer in self.down:
            maps.append(F.silu(layer(maps[-1])))
        return self.out(maps[-1].flatten(1)), maps


class PyramidDecoder(nn.Module):
    """Residual convolutions from a code, and the maps of an earlier frame, to a frame.

    The code enters at every scale: where it entered at the smallest one alone, a fit learned to copy the
    earlier frame, and then nothing from the code.

    Args:
        pyramid: the encoder whose maps it sees.
        code: size of the code.
        image: channels of a frame.
    """

    def __init__(self, pyramid: Pyramid, code: int, image: int) -> None:
        super().__init__()
        self.grid = pyramid.grid
        self.inputs = nn.Linear(code, self.grid[0] * self.grid[1] * self.grid[2])
        widths = pyramid.widths[::-1]
        self.blocks = nn.ModuleList(ResidualBlock(width, code) for width in widths)
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 4, 2, 1) for a, b in pairwise(widths))
        self.out = nn.Conv2d(widths[-1], image, 1)

    def forward(self, code: Tensor, maps: list[Tensor]) -> Tensor:
        """Return the frames [N, C, H, W], as logits, of codes [N, code] and maps of all scales [N, ...]."""
        smallest, *larger = reversed(maps)
        x = self.blocks[0](self.inputs(code).reshape(-1, *self.grid) + smallest, code)
        for up, block, seen in zip(self.up, self.blocks[1:], larger, strict=True):
            x = block(up(x) + seen, code)
        frames: Tensor = self.out(F.silu(x))
        return frames
