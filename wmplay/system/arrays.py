"""The type of numpy arrays, for modules that do without torch, which ``contracts`` imports."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


def are_flags(array: Array) -> bool:
    """Return whether an array holds nothing but booleans, or the numbers 0 and 1."""
    return array.dtype.kind in "biuf" and bool(np.isin(array, (0, 1)).all())


def first_not_finite(array: Array) -> tuple[int, str] | None:
    """Return the first row of numbers [rows, ...] that are not all finite, and "NaN" or "infinite".

    None where all of them are.
    """
    if array.dtype.kind not in "fc":
        return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    row = int(np.argwhere(~finite)[0][0])
    return row, "NaN" if np.isnan(array[row]).any() else "infinite"
