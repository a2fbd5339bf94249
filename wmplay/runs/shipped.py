"""The small trained runs that come with wmplay, and load by their names."""

from __future__ import annotations

import difflib
from pathlib import Path

from wmplay.errors import UnknownName

HERE = Path(__file__).parents[1]


def folder() -> Path:
    """Return the folder that holds the trained runs: within an installed wheel, or next to a clone's code."""
    packaged = HERE / "trained"
    return packaged if packaged.is_dir() else HERE.parent / "trained"


def names() -> list[str]:
    """Return the names of the trained runs."""
    return sorted(path.parent.name for path in folder().glob("*/export.json"))


def where(path: Path) -> Path:
    """Return the path of a run: as it is, or that of the trained run of this name if there is no such path.

    Raises:
        UnknownName: for a single word that is neither, and is like a name.
    """
    if path.exists() or path.parent != Path() or path.is_absolute():
        return path
    if path.name in names():
        return folder() / path.name
    if difflib.get_close_matches(path.name, names()):
        raise UnknownName("run", str(path), names())
    return path
