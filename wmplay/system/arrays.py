"""The type of numpy arrays, and tests of their values, for modules that do not import torch."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]


def are_flags(array: Array) -> bool:
    """Return whether an array holds only booleans, or only the numbers 0 and 1."""
    return array.dtype.kind in "biuf" and bool(np.isin(array, (0, 1)).all())


def first_not_finite(array: Array) -> tuple[int, str] | None:
    """Return the first row of an array [rows, ...] that is not finite, with "NaN" or "infinite".

    Return None if all entries are finite.
    """
    if array.dtype.kind not in "fc":
        return None
    finite = np.isfinite(array)
    if finite.all():
        return None
    row = int(np.argwhere(~finite)[0][0])
    return row, "NaN" if np.isnan(array[row]).any() else "infinite"
