"""Conversion of foreign observations to named arrays that models take, each with a reader.

This module reads the observations of foreign environments, both live (``env=gym``) and recorded (``wmplay
data import``), so that a model of recorded data fits the env that the data comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Text, Tuple

from wmplay.errors import SpaceError
from wmplay.system.arrays import Array

Observation: TypeAlias = dict[str, Array]
Reader: TypeAlias = Callable[[Any], Array]  # of one observation, or of a batch: [...] -> [...]
Path: TypeAlias = tuple[str | int, ...]  # keys and numbers that lead to a part of an observation

CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class Leaf:
    """A part of an observation that has no parts itself."""

    path: Path
    space: Space[Any]

    @property
    def name(self) -> str:
        """The path to the part, with ``.`` between keys; "pixels" or "vector" for an observation without
        parts."""
        if self.path:
            return ".".join(map(str, self.path))
        is_picture = isinstance(self.space, Box) and _image(self.space, screen=False) is not None
        return "pixels" if is_picture else "vector"

    def of(self, seen: Any) -> Any:
        """Return the value of the part in an observation."""
        for key in self.path:
            seen = seen[key]
        return seen


@dataclass(frozen=True)
class Parts:
    """The converted parts of an observation."""

    spaces: dict[str, Space[Any]]
    readers: dict[str, Reader]  # each takes the whole observation
    left_out: tuple[str, ...]  # names of texts

    def read(self, seen: Any) -> Observation:
        """Return all parts of an observation, or of a batch of them."""
        return {name: read(seen) for name, read in self.readers.items()}


def parts(space: Space[Any], what: str) -> Parts:
    """Return the parts of an observation space by name, with a reader of each.

    The parts of a Dict or a Tuple, nested or not, are named by their path (``arm.angle``, ``0``); an
    observation without parts is ``pixels`` or ``vector``. Texts are left out.

    Raises:
        SpaceError: for spaces that ``observed`` refuses, two parts of one name, or only texts.
    """
    found = leaves(space, what)
    spaces: dict[str, Space[Any]] = {}
    readers: dict[str, Reader] = {}
    for leaf in found:
        if not _is_text(leaf.space):
            spaces[leaf.name], read = observed(leaf.space, what, screen=bool(leaf.path))
            readers[leaf.name] = lambda seen, leaf=leaf, read=read: read(leaf.of(seen))  # type: ignore[misc]
    if not spaces:
        raise SpaceError(
            f"{what} is {space}", got=space, expected="numbers or images in it: nothing is learned of texts"
        )
    return Parts(spaces, readers, tuple(leaf.name for leaf in found if leaf.name not in spaces))


def leaves(space: Space[Any], what: str) -> list[Leaf]:
    """Return the parts of a space that have no parts themselves, in their order.

    Raises:
        SpaceError: if two have the same name.
    """
    found = list(_leaves(space, ()))
    names = [leaf.name for leaf in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SpaceError(
            f"{what} has two parts that would be called '{twice}'", got=twice, advice="rename one of them"
        )
    return found


def observed(space: Space[Any], what: str, *, screen: bool) -> tuple[Box, Reader]:
    """Return the converted space of a part of an observation, and a reader, which returns copies.

    An image becomes uint8 [H, W, C], also if its channels come first; ``screen`` allows [H, W] of zeros and
    ones, for example ``lcd``. All other parts become a float32 vector [D]: the numbers of a Box or
    MultiBinary in their order, a Discrete one-hot, the one-hot vectors of a MultiDiscrete concatenated.

    Raises:
        SpaceError: for any other space.
    """
    if isinstance(space, Discrete):
        count, start = int(space.n), int(space.start)
        return Box(0, 1, (count,), np.float32), lambda seen: one_hot(np.asarray(seen) - start, count)
    if isinstance(space, MultiDiscrete):
        return _choices(space)
    if isinstance(space, MultiBinary):
        return _flat(space.shape, np.zeros(space.shape), np.ones(space.shape))
    if isinstance(space, Box) and space.dtype.kind in "biuf":
        image = _image(space, screen)
        return _flat(space.shape, space.low, space.high) if image is None else image
    raise SpaceError(
        f"{what} is {space}",
        got=space,
        expected="a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or Tuple of these",
        advice="make one of it by gymnasium.wrappers.TransformObservation",
    )


def one_hot(numbers: Any, count: int, dtype: Any = np.float32) -> Array:
    """Encode numbers [...] as one-hot vectors [..., count].

    Raises:
        SpaceError: for numbers that are not in 0 .. count - 1.
    """
    numbers = np.asarray(numbers)
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
        raise SpaceError(
            f"the numbers {numbers.min()} .. {numbers.max()} are not all of {count} choices",
            advice="give the space as many as there are",
        )
    rows: Array = np.eye(count, dtype=dtype)[numbers]
    return rows.copy()


def is_image(space: Space[Any]) -> bool:
    """Return whether a space holds uint8 images."""
    return isinstance(space, Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3)


def _is_text(space: Space[Any]) -> bool:
    """Return whether a space holds texts: Gymnasium's own, or one of another library such as MiniGrid's."""
    return isinstance(space, Text) or (space.dtype is not None and space.dtype.kind == "U")


def _leaves(space: Space[Any], path: Path) -> Iterator[Leaf]:
    if isinstance(space, Dict | Tuple):
        for key, part in space.spaces.items() if isinstance(space, Dict) else enumerate(space.spaces):
            yield from _leaves(part, (*path, key))
    else:
        yield Leaf(path, space)


def _image(space: Box, screen: bool) -> tuple[Box, Reader] | None:
    """Return the space and reader of a screen or image, or None for other arrays."""
    shape = space.shape
    if screen and len(shape) == 2 and space.dtype in (np.bool_, np.uint8) and bool((space.high == 1).all()):
        return Box(0, 1, shape, np.uint8), lambda seen: np.array(seen, np.uint8)
    if not is_image(space):
        return None
    if len(shape) == 2:
        return Box(0, 255, (*shape, 1), np.uint8), lambda seen: np.array(seen, np.uint8)[..., None]
    if shape[-1] in CHANNELS:
        return Box(0, 255, shape, np.uint8), lambda seen: np.array(seen, np.uint8)
    if shape[0] in CHANNELS:
        turned = Box(0, 255, (*shape[1:], shape[0]), np.uint8)
        return turned, lambda seen: np.moveaxis(np.asarray(seen, np.uint8), -3, -1).copy()
    return None


def _flat(shape: tuple[int, ...], low: Array, high: Array) -> tuple[Box, Reader]:
    """Return the space and reader of numbers of any shape as a vector."""
    size, axes = math.prod(shape), len(shape)
    with np.errstate(over="ignore"):  # bounds beyond float32's range become infinite
        lowest, highest = (np.asarray(bound).astype(np.float32).reshape(size) for bound in (low, high))

    def read(seen: Any) -> Array:
        values = np.array(seen, np.float32)
        return values.reshape(*values.shape[: values.ndim - axes], size)

    return Box(lowest, highest, dtype=np.float32), read


def _choices(space: MultiDiscrete) -> tuple[Box, Reader]:
    counts = [int(count) for count in space.nvec.ravel()]
    start, axes = space.start, len(space.shape)

    def read(seen: Any) -> Array:
        numbers = np.asarray(seen) - start
        numbers = numbers.reshape(*numbers.shape[: numbers.ndim - axes], len(counts))
        return np.concatenate([one_hot(numbers[..., i], count) for i, count in enumerate(counts)], axis=-1)

    return Box(0, 1, (sum(counts),), np.float32), read
