"""Networks of the family: from frames to latents, and from the last latents and actions to the next one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.nets.by_key import ModulesByKey
from wmplay.nets.layers import ConvEncoder, fourier_features, mlp
from wmplay.nets.modalities import Modality, Vector


class FrameEncoder(nn.Module):
    """An encoder of frames {key: [..., *shape]} to latents [..., size].

    Images pass convolutions, vectors come with sines and cosines; an MLP with a layer norm follows.
    """

    def __init__(
        self, modalities: Mapping[str, Modality], size: int, hidden: int, channels: int, frequencies: int
    ) -> None:
        super().__init__()
        self.modalities, self.frequencies, self.size = dict(modalities), frequencies, size
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        convs = {
            key: ConvEncoder(m.shape, channels)
            for key, m in modalities.items()
            if not isinstance(m, Vector) and len(m.shape) > 1
        }
        self.convs = ModulesByKey(convs)
        sizes = [
            convs[key].size if key in convs else m.size * (1 + 2 * frequencies * isinstance(m, Vector))
            for key, m in modalities.items()
        ]
        self.inputs = mlp(sum(sizes), hidden, 1, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.outputs = nn.Linear(hidden, size)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the latents [..., size]."""
        parts = []
        for key, modality in self.modalities.items():
            x = modality.encode(observation[key])
            if isinstance(modality, Vector):
                x = fourier_features(x, self.frequencies)
            parts.append(self.convs[key](x) if key in self.convs else x.flatten(x.ndim - len(modality.shape)))
        latent: Tensor = self.outputs(F.silu(self.norm(self.inputs(torch.cat(parts, dim=-1)))))
        return latent


class Predictor(nn.Module):
    """Residual layers from the last k latents to the next one, modulated by the actions taken there.

    The modulation (AdaLN-zero, Peebles & Xie 2023, arXiv 2212.09748) begins at zero, so that the layers begin
    as the identity.
    """

    def __init__(self, size: int, action: int, frames: int, width: int, layers: int) -> None:
        super().__init__()
        self.inputs = nn.Linear(frames * size, width)
        self.condition = nn.Sequential(nn.Linear(frames * action, width), nn.SiLU())
        self.layers = nn.ModuleList(Modulated(width) for _ in range(layers))
        self.outputs = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size))

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the next latent [R, size] of the last ones [R, k, size] and encoded actions [R, k, A]."""
        x, condition = self.inputs(latent.flatten(1)), self.condition(action.flatten(1))
        for layer in self.layers:
            x = layer(x, condition)
        after: Tensor = self.outputs(x)
        return after


class Modulated(nn.Module):
    """A residual layer with shift, scale and gate from a condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = mlp(width, 2 * width, 1, width)
        self.modulate = nn.Linear(width, 3 * width)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return [R, W] after the layer; x and the condition are [R, W]."""
        shift, scale, gate = self.modulate(condition).chunk(3, -1)
        after: Tensor = x + gate * self.mlp(F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift)
        return after


class RecurrentPredictor(nn.Module):
    """A GRU along the last k latents and actions; the last state, read out, is the next latent's change."""

    def __init__(self, size: int, action: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(size + action, hidden)
        self.outputs = nn.Linear(hidden, size)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the next latent [R, size] of the last ones [R, k, size] and encoded actions [R, k, A]."""
        hidden = latent.new_zeros(len(latent), self.cell.hidden_size)
        for x in torch.cat([latent, action], dim=-1).unbind(1):
            hidden = self.cell(x, hidden)
        after: Tensor = latent[:, -1] + self.outputs(hidden)
        return after
