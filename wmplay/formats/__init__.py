"""Data in other formats: from and to npz folders, HDF5 files, Minari and Lance datasets; from LeRobot.

A format is a module with the functions of ``Format``. Reading and writing hold one episode at a time.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from wmplay.contracts import Trajectory
from wmplay.errors import DataError, UnknownName
from wmplay.system.extras import how_to_install

FORMATS = {  # by name: the extra that it needs
    "npz": None,
    "hdf5": "hdf5",
    "minari": "minari",
    "lance": "lance",
    "lerobot": "lerobot",
}
READ_ONLY = ("lerobot",)


class Format(Protocol):
    """What a format's module offers."""

    def count(self, path: Path, **options: Any) -> int:
        """The number of episodes. Raises DataError where there is no such data."""

    def read(self, path: Path, **options: Any) -> Iterator[Trajectory]:
        """All episodes, in order; options are the format's own. Raises DataError at a hole."""

    def read_metadata(self, path: Path) -> dict[str, Any]:
        """What is said of the data as a whole, as JSON."""

    def write(self, trajectories: Iterable[Trajectory], path: Path, metadata: Mapping[str, Any]) -> None:
        """Writes all of it or nothing to a path that is free. Raises DataError, WriteError."""


def data_format(name: str) -> Format:
    """A format by name.

    Raises:
        UnknownName: there is none of this name.
        DataError: a package that it needs is not installed.
    """
    if name not in FORMATS:
        raise UnknownName("data format", name, FORMATS)
    try:
        return cast(Format, importlib.import_module(f"wmplay.formats.{name}"))
    except ImportError as error:
        raise DataError(
            f"the format {name} needs a package that is not here ({error}): "
            + how_to_install(FORMATS[name] or name)
        ) from error
