"""Writing files so that a reader never sees half of one: beside, then renamed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from wmplay.errors import WmplayError, WriteError


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder and renames it to ``path`` when the block succeeds.

    Raises:
        WriteError: no space, no permission; nothing is left behind and ``path`` is as it was.
    """
    beside = path.with_name(f".{path.name}-{uuid4().hex[:8]}")
    with explained(path):
        try:
            yield beside
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):  # of the same cause, and less telling
                beside.unlink()
            raise


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """``written_beside`` for a folder: yields an empty one, which becomes ``path`` when the block succeeds.

    Raises:
        WriteError: no space, no permission, or ``path`` is there and not empty; nothing is left behind.
    """
    beside = path.with_name(f".{path.name}-{uuid4().hex[:8]}")
    with explained(path):
        try:
            beside.mkdir(parents=True)
            yield beside
            os.replace(beside, path)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def check_links(folder: Path, error: type[WmplayError]) -> None:
    """Look for links in a folder that lead out of it: who writes into the folder would write elsewhere.

    What is below ``wandb`` is left out: wandb itself links to its logs.

    Raises:
        error: for the first of them.
    """
    home = os.path.realpath(folder)
    for here, folders, names in os.walk(home):
        for name in (*folders, *names):
            path = os.path.join(here, name)
            if os.path.islink(path) and not f"{os.path.realpath(path)}/".startswith(f"{home}/"):
                raise error(
                    f"{os.path.join(folder, os.path.relpath(path, home))} is a link to "
                    f"{os.path.realpath(path)}, where a run would write: put the file itself there"
                )
        if here == home and "wandb" in folders:
            folders.remove("wandb")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write to ``path`` into one line.

    Raises:
        WriteError: instead of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(path, error) from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON, beside and then renamed.

    Raises:
        WriteError: no space, no permission.
    """
    with written_beside(path) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


@contextmanager
def claimed(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Holds a file's lock within the block; yields whether nobody else holds it.

    However its holder dies, the system lets go of the lock. Between machines it works where their shared
    file system has ``flock``. The file is made if need be, and stays.

    Args:
        path: of the file.
        patience: seconds to try for, against those who only look whether it is held.

    Raises:
        WriteError: if the file cannot be made, or its file system has no locks.
    """
    with ExitStack() as stack:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a"))
            until = time.monotonic() + patience
            while not (free := _lock(file.fileno())) and time.monotonic() < until:
                time.sleep(0.05)
        yield free


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
