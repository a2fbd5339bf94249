"""Data in other formats: npz folders, HDF5 files, Minari and Lance datasets; LeRobot datasets are only read.

A format is a module with the functions of ``Format``. Reading and writing hold one episode in memory at a
time.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from wmplay.contracts import Trajectory
from wmplay.errors import DataError, UnknownName
from wmplay.system.extras import how_to_install

FORMATS = {  # name -> the extra that it needs
    "npz": None,
    "hdf5": "hdf5",
    "minari": "minari",
    "lance": "lance",
    "lerobot": "lerobot",
}
READ_ONLY = ("lerobot",)


class Format(Protocol):
    """The functions of a format's module."""

    def count(self, path: Path, **options: Any) -> int:
        """Return the number of episodes. Raise DataError if the data does not exist."""

    def read(self, path: Path, **options: Any) -> Iterator[Trajectory]:
        """Yield all episodes in order; options are the format's own. Raise DataError for missing data."""

    def read_metadata(self, path: Path) -> dict[str, Any]:
        """Return the metadata of the whole data, as JSON."""

    def write(self, trajectories: Iterable[Trajectory], path: Path, metadata: Mapping[str, Any]) -> None:
        """Write all trajectories, or nothing, to a path that is free. Raise DataError or WriteError."""


def data_format(name: str) -> Format:
    """Return the format of this name.

    Raises:
        UnknownName: if no format has the name.
        DataError: if a package that the format needs is not installed.
    """
    if name not in FORMATS:
        raise UnknownName("data format", name, FORMATS)
    try:
        return cast(Format, importlib.import_module(f"wmplay.formats.{name}"))
    except ImportError as error:
        raise DataError(
            f"the format {name} needs a package that is not here ({error}): "
            + how_to_install(FORMATS[name] or name),
            got=name,
        ) from error
