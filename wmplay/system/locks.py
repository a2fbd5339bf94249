"""Locks by ``flock``, which the system releases however their holder dies.

Between machines they work where their shared file system has ``flock``.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from wmplay.errors import WriteError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file within the block, after waiting for whoever holds it.

    Raises:
        OSError: if the file cannot be made, or its file system has no locks.
    """
    descriptor = _acquire(path, None)
    assert descriptor is not None
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def claimed(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Hold a lock file within the block; yield whether nobody else holds it.

    The file names its holder and is deleted at the end of the block.

    Args:
        path: of the file.
        patience: seconds to try for, against those who only test whether it is held.

    Raises:
        WriteError: if the file cannot be made, or its file system has no locks.
    """
    try:
        descriptor = _acquire(path, time.monotonic() + patience)
    except OSError as error:
        raise WriteError(path, error) from error
    if descriptor is not None:
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # the disk is full: the lock is held all the same
            os.pwrite(descriptor, json.dumps(about).encode(), 0)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold an existing file or folder itself within the block; yield whether nobody else holds it.

    Raises:
        OSError: if the path cannot be opened, or its file system has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def is_claimed(path: Path) -> bool:
    """Return whether a living process holds a lock file."""
    try:
        descriptor = _open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _lock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(descriptor)


def holder(path: Path) -> str:
    """Return a description of the holder of a lock file and the time since it took the lock."""
    try:
        content = json.loads(path.read_bytes())
        age = timedelta(seconds=max(0, round(time.time() - content["since"])))
        return f"process {int(content['pid'])} on {content['host']}, for {age} (h:mm:ss)"
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # it is being written at this moment
        return "another process"


def _acquire(path: Path, until: float | None) -> int | None:
    """Return the descriptor of a lock file that is now held; None if it was held until a time."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _open(path, os.O_RDWR | os.O_CREAT)
        try:
            free = _lock(descriptor, fcntl.LOCK_EX | (0 if until is None else fcntl.LOCK_NB))
            if free and _is_at(path, descriptor):  # not deleted by its last holder after it was opened
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not free and until is not None:
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)


def _open(path: Path, flags: int) -> int:
    """Open a lock file: a link is refused, and a pipe does not block."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)


def _lock(descriptor: int, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
