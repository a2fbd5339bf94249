"""The type of numpy arrays, for modules that do without torch, which ``contracts`` imports."""

from __future__ import annotations

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
