"""Networks from and to a dict of observations of several kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.errors import ConfigError, SpaceError
from wmplay.nets.by_key import ModulesByKey
from wmplay.nets.layers import ConvDecoder, ConvEncoder, fourier_features, mlp
from wmplay.nets.modalities import Binary, Modality, Pixels, Vector
from wmplay.system.lazy import LazyMapping

OUTER_PRODUCTS = 16  # rank of images that are decoded without convolutions
CONV_FROM = 4096  # images with at least this many numbers get convolutions; smaller ones are flattened


class ObservationInputs(nn.Module):
    """The numbers of all observation keys in a row: {key: [..., *shape]} -> [..., size].

    Vectors and small images are taken as they are, large images are convolved. Vectors come with sines and
    cosines of ``frequencies`` octaves, which make the small change of a position from frame to frame as large
    as any other input.

    Attributes:
        sizes: the numbers of each key.
    """

    def __init__(self, modalities: Mapping[str, Modality], frequencies: int) -> None:
        super().__init__()
        self.modalities = dict(modalities)
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        convs = {key: ConvEncoder(m.shape) for key, m in modalities.items() if _convolved(m)}
        self.convs = ModulesByKey(convs)
        self.frequencies = frequencies
        self.sizes = {
            key: convs[key].size if key in convs else m.size * (1 + 2 * frequencies * isinstance(m, Vector))
            for key, m in modalities.items()
        }

    def part(self, key: str, value: Tensor) -> Tensor:
        """Return the numbers [..., sizes[key]] of a value [..., *shape] of a key."""
        modality = self.modalities[key]
        x = modality.encode(value)
        if isinstance(modality, Vector):
            x = fourier_features(x, self.frequencies)
        if key in self.convs:
            convolved: Tensor = self.convs[key](x)
            return convolved
        return x.flatten(x.ndim - len(modality.shape))

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the numbers of all keys, [..., size]."""
        return torch.cat([self.part(key, observation[key]) for key in self.modalities], dim=-1)


class ObservationEncoder(ObservationInputs):
    """An encoder of all observation keys to one embedding by an MLP: {key: [..., *shape]} -> [...,
    outputs]."""

    def __init__(
        self, modalities: Mapping[str, Modality], frequencies: int, hidden: int, layers: int, outputs: int
    ) -> None:
        super().__init__(modalities, frequencies)
        self.mlp = mlp(sum(self.sizes.values()), hidden, layers, outputs)

    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the embedding [..., outputs]."""
        embedding: Tensor = self.mlp(super().forward(observation))
        return embedding


class ImageHead(nn.Module):
    """A decoder of one image key from a latent and predicted positions: [..., inputs] -> [..., *shape].

    The positions (predicted vector observations) enter as sines and cosines: pixels depend on positions
    through sharp edges, which an MLP learns slowly from plain numbers. A small image is decoded as a sum of
    outer products of row profiles and column profiles; in the lcd worlds this halves the error of a plain
    layer of pixels. Large images get convolutions.
    """

    def __init__(
        self, modality: Modality, inputs: int, positions: int, frequencies: int, hidden: int
    ) -> None:
        super().__init__()
        self.shape = modality.shape
        self.frequencies = frequencies
        inputs += positions * (1 + 2 * frequencies)
        self.conv = ConvDecoder(hidden, modality.shape) if _convolved(modality) else None
        self.rows, self.columns = modality.shape[0], modality.size // modality.shape[0]
        outputs = OUTER_PRODUCTS * (self.rows + self.columns) if self.conv is None else hidden
        self.mlp = mlp(inputs, hidden, 1, outputs)
        self.bias = nn.Parameter(torch.zeros(self.rows, self.columns)) if self.conv is None else None

    def forward(self, latent: Tensor, positions: Tensor) -> Tensor:
        """Return logits of a binary screen, or pixel values around 0."""
        x: Tensor = self.mlp(torch.cat([latent, fourier_features(positions, self.frequencies)], dim=-1))
        if self.conv is not None:
            image: Tensor = self.conv(F.silu(x))
            return image
        assert self.bias is not None
        profiles = x.reshape(*x.shape[:-1], OUTER_PRODUCTS, self.rows + self.columns)
        down, across = profiles[..., : self.rows], profiles[..., self.rows :]
        image = down.transpose(-1, -2) @ across + self.bias
        return image.reshape(*latent.shape[:-1], *self.shape)


class ObservationDecoder(ModulesByKey):
    """A decoder of all observation keys: [..., inputs] -> {key: distribution of [..., *shape]}."""

    def __init__(self, modalities: Mapping[str, Modality], inputs: int, hidden: int) -> None:
        heads: dict[str, nn.Module] = {}
        for key, m in modalities.items():
            image = len(m.shape) > 1
            heads[key] = ImageHead(m, inputs, 0, 0, hidden) if image else mlp(inputs, hidden, 1, m.size)
        super().__init__(heads)
        self.modalities = dict(modalities)

    def forward(self, latent: Tensor) -> LazyMapping[Distribution]:
        """Return the distribution of each key, computed at its first use."""

        def distribution(key: str) -> Distribution:
            head = self[key]
            output = head(latent, latent[..., :0]) if isinstance(head, ImageHead) else head(latent)
            return self.modalities[key].distribution(output)

        return LazyMapping(list(self), distribution)


def vectors(modalities: Mapping[str, Modality]) -> dict[str, Vector]:
    """Return the modalities of the keys that hold vectors."""
    return {key: m for key, m in modalities.items() if isinstance(m, Vector)}


def the_screen(modalities: Mapping[str, Modality]) -> str:
    """Return the key of the one binary screen. Raise SpaceError for other observations."""
    screens = [key for key, m in modalities.items() if isinstance(m, Binary) and len(m.shape) == 2]
    others = [key for key, m in modalities.items() if key not in screens and not isinstance(m, Vector)]
    if len(screens) != 1 or others:
        raise SpaceError(
            f"observations are {', '.join(modalities)}",
            got=list(modalities),
            expected="one binary screen [H, W] and float vectors",
            advice="use rssm or mlp for other kinds",
        )
    return screens[0]


def chosen(known: Mapping[str, Modality], keys: Sequence[str] | None) -> dict[str, Modality]:
    """Return the modalities of the keys that a model reads; None = the images, or all where there is none.

    Raise ConfigError for a key that does not exist.
    """
    if keys is None:
        images = {key: m for key, m in known.items() if not isinstance(m, Vector)}
        return images or dict(known)
    unknown = [key for key in keys if key not in known]
    if unknown or not keys:
        raise ConfigError(
            f"keys are {list(keys)}", got=list(keys), expected=f"some of {', '.join(known)}, or null"
        )
    return {key: known[key] for key in keys}


def _convolved(modality: Modality) -> bool:
    return isinstance(modality, Pixels) and modality.size >= CONV_FROM
