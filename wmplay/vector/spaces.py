"""Conversion of spaces to JSON and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, Space

from wmplay.errors import SpaceError

ENTRIES = 10**7  # of an observation at most: 16 pictures of 512 x 512 pixels


def space_to_json(space: Space[Any]) -> dict[str, Any]:
    """Return a space as JSON; bounds with equal entries are written as one number.

    Raises:
        SpaceError: for anything but Box, Discrete and a Dict of these.
    """
    if isinstance(space, Dict):
        return {"type": "Dict", "spaces": {key: space_to_json(part) for key, part in space.spaces.items()}}
    if isinstance(space, Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, Box):
        shape, dtype = list(space.shape), np.dtype(space.dtype).name
        return {
            "type": "Box",
            "shape": shape,
            "dtype": dtype,
            "low": _bound(space.low),
            "high": _bound(space.high),
        }
    raise SpaceError(
        f"{space} cannot be exported",
        got=space,
        expected="a Box, a Discrete, or a Dict of these",
        advice="wrap the env",
    )


def space_from_json(content: Mapping[str, Any]) -> Space[Any]:
    """Return the space that ``space_to_json`` wrote.

    Raises:
        KeyError, TypeError, ValueError: for other content, and for more than ``ENTRIES`` entries.
    """
    kind = content["type"]
    if kind == "Dict":
        parts = [(key, space_from_json(part)) for key, part in content["spaces"].items()]
        return Dict(parts)  # keeps the order of keys
    if kind == "Discrete":
        if content["n"] < 1:
            raise ValueError(f"a Discrete of {content['n']}")
        return Discrete(content["n"], start=content["start"])
    if kind == "Box":
        shape, dtype = tuple(content["shape"]), np.dtype(content["dtype"])
        if dtype.kind not in "biuf" or not 0 <= math.prod(shape) <= ENTRIES or min(shape, default=0) < 0:
            raise ValueError(f"a Box of {dtype} {list(shape)}")
        low, high = (
            np.broadcast_to(np.array(content[name], np.float64 if dtype.kind == "f" else dtype), shape)
            for name in ("low", "high")
        )
        return Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)
    raise ValueError(f"a space of type {kind!r}")


def _bound(values: Any) -> Any:
    """Return bounds [...] as nested lists or one number; JSON in Python reads and writes ``Infinity``."""
    return values.flat[0].item() if values.size and (values == values.flat[0]).all() else values.tolist()
