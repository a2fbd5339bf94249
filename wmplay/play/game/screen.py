"""The part of an observation that a person sees: its screen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Space

from wmplay.contracts import Array
from wmplay.errors import ConfigError

Size: TypeAlias = tuple[int, int, int]  # height, width, channels


@dataclass(frozen=True)
class Shown:
    """The observation that is drawn, as uint8 pixels [height, width, channels]."""

    key: str
    binary: bool  # whether pixels are 0 or 1, so that an expected pixel is a probability
    size: Size

    def pixels(self, values: Array) -> Array:
        """Return uint8 [..., height, width, channels] of observed or expected screens, 255 = lit."""
        scale = 255.0 if self.binary else 1.0
        whole = np.clip(np.rint(values.astype(np.float32) * scale), 0, 255).astype(np.uint8)
        lead = whole.ndim - (2 if self.size[2] == 1 and whole.shape[-2:] == self.size[:2] else 3)
        pixels: Array = whole.reshape(*whole.shape[:lead], *self.size)
        return pixels


def shown_key(spaces: Mapping[str, Space[Any]]) -> Shown:
    """Return the first screen among the observations.

    Raises:
        ConfigError: if no observation is a picture.
    """
    for key, space in spaces.items():
        if isinstance(space, Box) and space.dtype == np.uint8 and not key.startswith("goal_"):
            shape = space.shape if len(space.shape) == 3 else (*space.shape, 1)
            if len(shape) == 3 and shape[2] in (1, 3):
                return Shown(key, bool(space.high.max() <= 1), (shape[0], shape[1], shape[2]))
    raise ConfigError(
        f"nothing to see: none of the observations {', '.join(spaces)} is a picture",
        got=list(spaces),
        expected="a uint8 observation [height, width] or [height, width, 1 or 3]",
        advice="play an env with a screen, for example env=luxo",
    )
