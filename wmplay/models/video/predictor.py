"""The network of SV2P: the next frame from a frame, an action, a latent and the memory of earlier frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.models.video.cdna import ConvLSTM, compose, kernels, move

State: TypeAlias = dict[str, Tensor]  # hidden1, cell1 .. hidden3, cell3: [B, channels, h, w]


class Maps(NamedTuple):
    """The maps of T steps, from which the next frames are decoded."""

    large: Tensor  # [B, T, channels, h, w]
    middle: Tensor  # [B, T, 2 * channels, h / 2, w / 2]: the smallest maps, which have seen the action


class FramePredictor(nn.Module):
    """Convolutional LSTMs at two scales, whose output moves the pixels of the last frame.

    Args:
        image: channels of a frame.
        height: of a frame, in pixels, a multiple of 2 * stride; so is width.
        actions: size of an encoded action.
        latent: numbers of the vector that enters the smallest scale; 0 = a map of one number for each of its
            places, None = none.
        channels: of the larger scale; the smaller one has twice as many.
        stride: pixels of a cell of the larger scale.
        count: kernels that move the frame.
        size: edge of a kernel in pixels, odd.
    """

    def __init__(
        self,
        image: int,
        height: int,
        width: int,
        actions: int,
        latent: int | None,
        channels: int,
        stride: int,
        count: int,
        size: int,
    ) -> None:
        super().__init__()
        self.count, self.size = count, size
        rows, columns = height // stride, width // stride
        large, middle = (channels, rows, columns), (2 * channels, rows // 2, columns // 2)
        self.grids = {"1": large, "2": middle, "3": large}
        self.stem = nn.Conv2d(image, channels, stride + 3, stride, (stride + 2) // 2)
        self.down = nn.Conv2d(channels, 2 * channels, 3, 2, 1)
        self.up = nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1)
        self.first = ConvLSTM(channels, channels)
        self.second = ConvLSTM(2 * channels, 2 * channels)
        self.third = ConvLSTM(2 * channels, channels)
        # a layer norm behind each LSTM, whose gates would otherwise shrink what passes
        self.norms = nn.ModuleList(nn.GroupNorm(1, size) for size in (channels, 2 * channels, channels))
        self.from_action = nn.Linear(actions, 8 * channels, bias=False)
        self.latent_shape = (latent, 1, 1) if latent else (1, *middle[1:])
        self.from_latent = None
        if latent is not None:
            edge = 1 if latent else 3
            self.from_latent = nn.Conv2d(latent or 1, 8 * channels, edge, padding=edge // 2, bias=False)
        self.full = nn.ConvTranspose2d(channels, channels, 2 * stride, stride, stride // 2)
        self.masks = nn.Conv2d(channels + image, count + 2, 1)
        self.drawn = nn.Conv2d(channels, image, 1)
        self.kernels = nn.Linear(self.middle_size, count * size * size)
        nn.init.normal_(self.kernels.weight, std=0.01)
        nn.init.normal_(self.kernels.bias)  # so that kernels differ from each other

    @property
    def middle_size(self) -> int:
        """The numbers of the smallest maps."""
        channels, height, width = self.grids["2"]
        return channels * height * width

    def blank(self, rows: int, device: torch.device) -> State:
        """Return the state before the first frame."""
        return {
            name + number: torch.zeros(rows, *grid, device=device)
            for number, grid in self.grids.items()
            for name in ("hidden", "cell")
        }

    def conditions(self, action: Tensor, latent: Tensor | None) -> Tensor:
        """Return the part of the smallest scale's gates that comes from encoded actions [B, T, A] and from
        the video's latent [B, T or 1, L, h, w], as [B, T, gates, h, w]."""
        gates: Tensor = self.from_action(action)[..., None, None]
        if self.from_latent is None or latent is None:
            return gates
        return gates + _each(latent, self.from_latent)

    def forward(self, state: State, frames: Tensor, conditions: Tensor) -> tuple[Maps, State]:
        """Return the maps of T steps from known frames [B, T, C, H, W].

        Layer by layer: all that does not depend on the state is computed for all T steps at once.
        """
        below, lower = self.read(state, frames)
        maps, upper = self.think(state, below, conditions)
        return maps, {**lower, **upper}

    def read(self, state: State, frames: Tensor) -> tuple[Tensor, State]:
        """Return the first LSTM's maps [B, T, channels, h, w], in which neither actions nor latents have a
        part, and its state."""
        inputs = _each(frames, lambda x: self.first.from_input(F.silu(self.stem(x))))
        maps, hidden, cell = self.first(inputs, state["hidden1"], state["cell1"])
        return _each(maps, self.norms[0]), {"hidden1": hidden, "cell1": cell}

    def think(self, state: State, below: Tensor, conditions: Tensor) -> tuple[Maps, State]:
        """Return the maps, and the state of the other two LSTMs, from the first LSTM's maps."""
        inputs = _each(below, lambda x: self.second.from_input(F.silu(self.down(x)))) + conditions
        middle, hidden2, cell2 = self.second(inputs, state["hidden2"], state["cell2"])
        middle = _each(middle, self.norms[1])
        wide = torch.cat([_each(middle, lambda x: F.silu(self.up(x))), below], 2)
        inputs = _each(wide, self.third.from_input)
        large, hidden3, cell3 = self.third(inputs, state["hidden3"], state["cell3"])
        after = {"hidden2": hidden2, "cell2": cell2, "hidden3": hidden3, "cell3": cell3}
        return Maps(_each(large, self.norms[2]), middle), after

    def decode(self, maps: Maps, frames: Tensor) -> Tensor:
        """Return the next frames [B, T, C, H, W], within 0 and 1, of steps from frames [B, T, C, H, W]."""
        before = frames.flatten(0, 1)
        full = F.silu(self.full(maps.large.flatten(0, 1)))
        kernel = kernels(self.kernels(maps.middle.flatten(0, 1).flatten(1)), self.count, self.size)
        drawn = self.drawn(full).float().sigmoid()
        layers = torch.cat([move(before, kernel), before.unsqueeze(1), drawn.unsqueeze(1)], 1)
        after = compose(layers, self.masks(torch.cat([full, before.to(full.dtype)], 1)))
        return after.reshape(*frames.shape[:2], *after.shape[1:])


def _each(maps: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return a function of maps [N, ...] of all steps [B, T, ...] at once."""
    output = function(maps.flatten(0, 1))
    return output.reshape(*maps.shape[:2], *output.shape[1:])
