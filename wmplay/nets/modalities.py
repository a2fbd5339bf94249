"""Modalities: the encoding of each observation key for a network, and its distribution from a network's
output.

Networks see numbers of order one; distributions and their targets are in the env's own units.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent, Normal, constraints

from wmplay.contracts import GOAL_PREFIX, model_keys
from wmplay.errors import ConfigError, SpaceError
from wmplay.nets.units import Units

CHANNELS = (1, 3, 4)  # grey, RGB, RGB and alpha


class Modality(nn.Module, ABC):
    """The kind and shape of one observation key."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape
        self.size = math.prod(shape)

    @abstractmethod
    def encode(self, value: Tensor) -> Tensor:
        """Return the network input [..., *shape], float32, for an observation [..., *shape]."""

    @abstractmethod
    def distribution(self, output: Tensor) -> Distribution:
        """Return the distribution of the observation, given a network's output [..., *shape]."""


class Binary(Modality):
    """Zeros and ones of any shape, for example a tiny screen, as independent Bernoulli variables."""

    def encode(self, value: Tensor) -> Tensor:
        """Return the zeros and ones as floats."""
        return value.float()

    def distribution(self, output: Tensor) -> Distribution:
        """Return a Bernoulli with the output as logits; its mean is the probability of a one."""
        return _independent(Bernoulli(logits=output.float(), validate_args=False), len(self.shape))


class Pixels(Modality):
    """uint8 images [H, W, C] or [H, W] as Gaussians of the fixed width ``sigma`` * 255."""

    def __init__(self, shape: tuple[int, ...], sigma: float) -> None:
        super().__init__(shape)
        self.sigma = sigma

    def encode(self, value: Tensor) -> Tensor:
        """Map 0..255 to -0.5..0.5."""
        return value.float() / 255 - 0.5

    def distribution(self, output: Tensor) -> Distribution:
        """Return a Normal around the output, mapped back to 0..255."""
        mean = (output.float() + 0.5) * 255
        sigma = mean.new_tensor(self.sigma * 255).expand_as(mean)
        return _independent(Normal(mean, sigma, validate_args=False), len(self.shape))


class Vector(Modality):
    """Float vectors [D] as Gaussians of the fixed width ``sigma`` times each entry's half-range.

    The half-range of an entry comes from its bounds, or from the data if it has none (``Units``). With
    ``symlog``, a vector with unbounded entries is squashed.
    """

    def __init__(self, key: str, space: gym.spaces.Box, sigma: float, symlog: bool) -> None:
        super().__init__(space.shape)
        self.units = Units(space, key)
        self.sigma = sigma
        self.symlog = symlog and self.units.open

    @property
    def limit(self) -> Tensor:
        """The largest encoded value of each entry, [D]: 1 or infinity."""
        return self.units.limit

    def encode(self, value: Tensor) -> Tensor:
        """Map entries to -1..1, or about -1..1 where they have no bounds."""
        scaled: Tensor = self.units(value)
        return symlog(scaled) if self.symlog else scaled

    def distribution(self, output: Tensor) -> Distribution:
        """Return a Normal around the output, mapped back to the observation's units."""
        mean = output.float()
        if self.symlog:
            return SymlogNormal(mean, self.units.center, self.units.scale, self.sigma)
        sigma = (self.sigma * self.units.scale).expand_as(mean)
        return _independent(Normal(self.units.back(mean), sigma, validate_args=False), 1)


class SymlogNormal(Distribution):
    """A vector [D] whose scaled symlog is Normal with a fixed width (DreamerV3, arXiv 2301.04104, eq. 9)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, output: Tensor, center: Tensor, scale: Tensor, sigma: float) -> None:
        self.normal = Normal(output, output.new_tensor(sigma).expand_as(output), validate_args=False)
        self.center, self.scale = center, scale
        super().__init__(output.shape[:-1], output.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The symexp of the Normal's mean: strictly the median, which rare large values do not shift."""
        return symexp(self.normal.mean) * self.scale + self.center

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draw a sample in the observation's units."""
        drawn: Tensor = self.normal.sample(sample_shape)  # type: ignore[no-untyped-call]
        return symexp(drawn) * self.scale + self.center

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log density [...] in the observation's units."""
        scaled = (value - self.center) / self.scale
        log_slope = -torch.log1p(scaled.abs()) - self.scale.log()
        log_density: Tensor = self.normal.log_prob(symlog(scaled))  # type: ignore[no-untyped-call]
        return (log_density + log_slope).sum(-1)


def modalities(
    space: gym.Space[Any],
    *,
    vector_sigma: float,
    pixel_sigma: float,
    symlog: bool = False,
    goals: bool = False,
) -> dict[str, Modality]:
    """Return the modality of each observation key that world models model (all but ``goal_`` keys).

    Args:
        space: a ``Dict`` of Boxes: zeros and ones (uint8 or bool), uint8 images, float vectors.
        vector_sigma: width of predictions of vectors, in half-ranges.
        pixel_sigma: width of predictions of pixels, as a part of 0..255.
        symlog: whether to squash vectors that have unbounded entries.
        goals: whether to return those of ``goal_`` keys as well.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for widths that are not positive.
    """
    for name, value in (("vector_sigma", vector_sigma), ("pixel_sigma", pixel_sigma)):
        if not value > 0:
            raise ConfigError(f"{name} is {value}", got=value, expected="more than 0")
    if not isinstance(space, gym.spaces.Dict) or not model_keys(space.spaces):
        raise SpaceError(
            f"observation space is {space}",
            got=space,
            expected="a Dict with a Box for each observation",
            advice=(
                "give them names, or register the env with Gymnasium and use env=gym env.id=<id>, which does"
            ),
        )
    return {
        key: _modality(key, space.spaces[key], vector_sigma, pixel_sigma, symlog)
        for key in (space.spaces if goals else model_keys(space.spaces))
    }


def chosen_space(space: gym.Space[Any], keys: Sequence[str] | None) -> gym.Space[Any]:
    """Return the part of a Dict with these keys and their goals; all of it without keys.

    Raises:
        ConfigError: for a key that the observations lack.
    """
    if keys is None or not isinstance(space, gym.spaces.Dict):
        return space
    known = model_keys(space.spaces)
    if not keys or any(key not in known for key in keys):
        expected = f"some of {', '.join(known)}, or null"
        raise ConfigError(f"keys are {list(keys)}", got=list(keys), expected=expected)
    read = {*keys, *(GOAL_PREFIX + key for key in keys)}
    return gym.spaces.Dict({key: each for key, each in space.spaces.items() if key in read})


def symlog(x: Tensor) -> Tensor:
    """Return sign(x) log(1 + abs(x))."""
    return x.sign() * torch.log1p(x.abs())


def symexp(x: Tensor) -> Tensor:
    """Return the inverse of ``symlog``."""
    return x.sign() * torch.expm1(x.abs())


def _modality(
    key: str, space: gym.Space[Any], vector_sigma: float, pixel_sigma: float, use_symlog: bool
) -> Modality:
    if isinstance(space, gym.spaces.Box):
        if space.dtype == np.bool_ or (space.dtype == np.uint8 and (space.high == 1).all()):
            return Binary(space.shape)
        if space.dtype == np.uint8 and len(space.shape) in (2, 3):
            _check_channels(key, space.shape)
            return Pixels(space.shape, pixel_sigma)
        if np.issubdtype(space.dtype, np.floating) and len(space.shape) == 1 and space.shape[0]:
            return Vector(key, space, vector_sigma, use_symlog)
    raise SpaceError(
        f"observation '{key}' is {space}",
        got=space,
        expected="a Box of zeros and ones, a uint8 image or a float vector",
        advice="give one, or register the env with Gymnasium and use env=gym env.id=<id>, which does",
    )


def _check_channels(key: str, shape: tuple[int, ...]) -> None:
    """Raise SpaceError if the channels of an image come first instead of last."""
    if len(shape) == 3 and shape[0] in CHANNELS and shape[2] not in CHANNELS:
        c, h, w = shape
        raise SpaceError(
            f"observation '{key}' is an image {list(shape)}, whose channels come first",
            got=list(shape),
            expected=f"{[h, w, c]}",
            advice="return np.moveaxis(image, 0, -1), and give its space that shape",
        )


def _independent(distribution: Distribution, event_dims: int) -> Distribution:
    return Independent(distribution, event_dims, validate_args=False)
