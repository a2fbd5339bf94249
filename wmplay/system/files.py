"""Atomic writing of files, and checksums that reveal later changes.

A file is written under the temporary name ``.<name>-<8 hex digits>`` in the same folder and then renamed,
so that a reader never sees half of it. The writer locks the temporary file; an unlocked one was left by a
process that was killed, and the next writer of the same name removes it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from wmplay.errors import DamagedError, WmplayError, WriteError
from wmplay.system.locks import held

BESIDE = re.compile(r"\.(.+)-[0-9a-f]{8}")
CHECKSUM = "checksum"  # the key in a JSON object that holds the digest of its other keys
CHUNK = 1 << 20  # bytes
ZIP_END = struct.Struct("<4s16xH")  # the last record of a zip archive: signature, length of its comment
ZIP_SIGNATURE = b"PK\x05\x06"
SEAL = len("sha256:") + 64  # bytes of a sealed archive's comment


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder and rename it to ``path`` when the block succeeds.

    Raises:
        WriteError: no space, no permission; the temporary file is removed and ``path`` is unchanged.
    """
    with _moved_from_beside(path, lambda beside: beside.open("x").close()) as beside:
        yield beside


@contextmanager
def new_file_written_beside(path: Path) -> Iterator[Path]:
    """Yield a temporary file as ``written_beside`` does, and rename it to ``path`` only if ``path`` is free.

    Raises:
        WriteError: no space, no permission, or ``path`` exists by then; the temporary file is removed.
    """
    with written_beside(path) as beside:
        yield beside
        path.open("x").close()  # only one process can create it; works on file systems without links


@contextmanager
def folder_written_beside(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder in the same folder, and rename it to ``path`` when the block succeeds.

    Raises:
        WriteError: no space, no permission, or ``path`` exists and is not empty; the temporary folder is
            removed.
    """
    with _moved_from_beside(path, lambda beside: beside.mkdir(parents=True)) as beside:
        yield beside


def check_links(folder: Path, error: type[WmplayError]) -> None:
    """Search a folder for links that lead out of it, because a run would write through them.

    The folder ``wandb`` is skipped: wandb itself links to its logs.

    Raises:
        error: for the first link found.
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
    """Turn any OSError within the block into an error of one line that names ``path``.

    Raises:
        WriteError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise WriteError(path, error) from error


def is_beside(path: Path) -> bool:
    """Return whether a path has the form of a temporary name."""
    return BESIDE.fullmatch(path.name) is not None


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove the temporary files and folders of killed processes; those of living processes stay.

    Args:
        folder: may be missing.
        name: the final name that was being written; None for all names.
    """
    for path in folder.glob(".*-*"):
        of = BESIDE.fullmatch(path.name)
        if of is None or name not in (None, of[1]):
            continue
        with suppress(OSError), held(path) as free:  # what cannot be removed stays: nothing depends on it
            if free:
                _remove(path)


@contextmanager
def _moved_from_beside(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new temporary path and rename it to ``path`` when the block succeeds; remove it if not."""
    with explained(path), _beside(path, make) as beside:
        try:
            yield beside
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):  # it would have the same cause, and explain less
                _remove(beside)
            raise


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


@contextmanager
def _beside(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a new temporary path, locked for the duration of the block."""
    remove_leftovers(path.parent, path.name)
    while True:
        beside = path.with_name(f".{path.name}-{uuid4().hex[:8]}")
        make(beside)
        with ExitStack() as stack:
            with suppress(OSError):  # without locks on a file system, no process removes temporary files
                free = stack.enter_context(held(beside))
                if not free or not beside.exists():  # another process removed it before it was locked
                    continue
            yield beside
            return


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON, atomically.

    Raises:
        WriteError: no space, no permission.
    """
    with written_beside(path) as beside:
        beside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


# ---- files that notice when they change ----------------------------------------------------------


def write_sealed_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with its checksum, atomically.

    Raises:
        WriteError: no space, no permission.
    """
    plain = json.loads(json.dumps(value))
    write_json(path, {**plain, CHECKSUM: _digest_of(plain)})


def unsealed(content: Any, source: Path) -> dict[str, Any]:
    """Return the object that ``write_sealed_json`` wrote, without its checksum; older versions wrote none.

    Raises:
        DamagedError: if the checksum differs, or if the content is not an object.
    """
    if not isinstance(content, dict):
        raise DamagedError(
            f"{source} is damaged: it holds a {type(content).__name__}",
            got=type(content).__name__,
            expected="an object",
        )
    value = {key: item for key, item in content.items() if key != CHECKSUM}
    if CHECKSUM in content and content[CHECKSUM] != _digest_of(value):
        raise DamagedError(f"{source} is damaged: its checksum differs; restore it from a copy", got=source)
    return value


def _digest_of(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@contextmanager
def archive_written_beside(path: Path) -> Iterator[BinaryIO]:
    """Yield a file to write a zip archive into, as torch and numpy do, and rename it to ``path`` afterwards.

    The archive's comment, which other programs show or ignore, holds the SHA-256 of all bytes before it.

    Raises:
        WriteError: no space, no permission; the temporary file is removed and ``path`` is unchanged.
    """
    with written_beside(path) as beside, beside.open("w+b") as file:
        yield file
        file.seek(-2, os.SEEK_END)
        file.write(struct.pack("<H", SEAL))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0, os.SEEK_END)
        file.write(f"sha256:{digest}".encode())


def open_archive(path: Path) -> BinaryIO:
    """Open a zip archive after verifying its checksum, or the checksums of its entries if it has none.

    Raises:
        DamagedError: if a checksum differs, or if the archive is incomplete.
        OSError: if the file cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe would never end
        raise OSError(errno.EINVAL, "it is no plain file")
    file = path.open("rb")
    try:
        problem = _problem(file)
        if problem is not None:
            raise DamagedError(f"{path} is damaged ({problem})")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _problem(file: BinaryIO) -> str | None:
    """Return the first defect of an archive, or None."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - ZIP_END.size - SEAL))
    tail = file.read()
    ends = {SEAL: tail[: ZIP_END.size], 0: tail[-ZIP_END.size :]}  # by the length of the comment
    found = [length for length, end in ends.items() if len(end) == ZIP_END.size and _ends(end, length)]
    if not found:
        return "its end is missing"
    file.seek(0)
    if found[0] == 0:  # written by an older version, without a checksum
        try:
            with zipfile.ZipFile(file) as archive:
                part = archive.testzip()
        except Exception as error:  # zipfile raises errors of many types
            return type(error).__name__
        return None if part is None else f"the checksum of {part} differs"
    digest = hashlib.sha256()
    left = size - SEAL
    while left and (chunk := file.read(min(left, CHUNK))):
        digest.update(chunk)
        left -= len(chunk)
    return None if tail[-SEAL:] == f"sha256:{digest.hexdigest()}".encode() else "its checksum differs"


def _ends(record: bytes, comment: int) -> bool:
    return ZIP_END.unpack(record) == (ZIP_SIGNATURE, comment)
