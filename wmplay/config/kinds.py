"""The kinds of pieces: a row says all that differs from kind to kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of piece."""

    name: str
    methods: tuple[str, ...]  # that every piece of this kind has
    required: bool = False  # a run cannot do without a piece of this kind


_ALL = (
    Kind("env", ("reset", "step"), required=True),
    Kind("model", ("initial", "observe", "predict", "decode", "loss")),
    Kind("planner", ("plan",)),
    Kind("policy", ("initial", "act")),
    Kind("explorer", ("initial", "act")),
    Kind("objective", ("__call__",)),
    Kind("logger", ("log", "close"), required=True),
)

TABLE: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
KINDS = tuple(TABLE)
