"""Files that are written beside, sealed, and locked."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import socket
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wmplay.errors import DamagedError, WriteError
from wmplay.system.files import (
    archive_written_beside,
    folder_written_beside,
    new_file_written_beside,
    open_archive,
    remove_leftovers,
    unsealed,
    write_sealed_json,
    written_beside,
)
from wmplay.system.locks import claimed, holder, is_claimed

fork = multiprocessing.get_context("fork")


def killed_within(context: Callable[[Path], Any], path: Path) -> int:
    """Kills a process that has entered a context; returns its number."""
    ready = fork.Event()

    def until_killed() -> None:
        with context(path):
            ready.set()
            time.sleep(60)

    process = fork.Process(target=until_killed)
    process.start()
    assert ready.wait(30)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return process.pid


@pytest.mark.parametrize("write", [new_file_written_beside, folder_written_beside])
def test_of_two_who_write_one_new_thing_the_second_is_refused(tmp_path: Path, write) -> None:
    def fill(beside: Path, text: str) -> None:
        (beside / "part" if beside.is_dir() else beside).write_text(text)

    path = tmp_path / "x"
    with ExitStack() as late:
        fill(late.enter_context(write(path)), "second")
        with write(path) as first:
            fill(first, "first")
        with pytest.raises(WriteError):
            late.close()
    assert [each.name for each in tmp_path.iterdir()] == ["x"]
    assert (path / "part" if path.is_dir() else path).read_text() == "first"


@pytest.mark.parametrize("write", [written_beside, folder_written_beside])
def test_the_next_who_writes_removes_what_a_killed_one_left(tmp_path: Path, write) -> None:
    killed_within(write, tmp_path / "x")
    (left,) = tmp_path.iterdir()
    with write(tmp_path / "other"):
        pass
    assert left.exists(), "of something else, it is left to who writes that"
    with write(tmp_path / "x") as beside:
        assert not left.exists()
        if beside.is_file():
            beside.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "x"]


@pytest.mark.parametrize("write", [written_beside, folder_written_beside])
def test_what_is_being_written_stays(tmp_path: Path, write) -> None:
    with write(tmp_path / "x") as first:
        remove_leftovers(tmp_path)
        with write(tmp_path / "y"):
            remove_leftovers(tmp_path)
        assert first.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_files_of_others_are_no_leftovers(tmp_path: Path) -> None:
    for name in (".profile", ".x-notes", ".x-0123456", "x-01234567", ".x-0123456g"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    with written_beside(tmp_path / "x"):
        pass
    assert len(list(tmp_path.iterdir())) == 6


# ---- seals ---------------------------------------------------------------------------------------


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.npz"
    with archive_written_beside(path) as file:
        np.savez(file, values=np.arange(7), names=np.zeros((2, 3)))
    return path


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_any_bit_of_an_archive_that_flips_is_noticed(archive: Path) -> None:
    content = archive.read_bytes()
    for bit in range(0, 8 * len(content), 23):
        archive.write_bytes(flipped(content, bit))
        with pytest.raises(DamagedError):
            open_archive(archive)
    archive.write_bytes(content)
    with open_archive(archive) as file, np.load(file) as arrays:
        assert arrays["values"].tolist() == list(range(7))


def test_an_archive_that_is_cut_or_longer_is_damaged(archive: Path) -> None:
    content = archive.read_bytes()
    for changed in (b"", content[:10], content[:-1], content[: len(content) // 2], content + b"\0"):
        archive.write_bytes(changed)
        with pytest.raises(DamagedError):
            open_archive(archive)


def test_an_archive_without_a_seal_has_the_checksums_of_its_parts(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, values=np.arange(100))
    content, path = buffer.getvalue(), tmp_path / "a.npz"
    path.write_bytes(content)
    open_archive(path).close()
    data = content.index(np.arange(100).tobytes())
    for bit in range(8 * data, 8 * (data + 800), 97):
        path.write_bytes(flipped(content, bit))
        with pytest.raises(DamagedError):
            open_archive(path)


def test_a_sealed_archive_is_one_for_others_too(archive: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert opened.comment.startswith(b"sha256:")


def test_a_sealed_object_that_changed_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"name": "x", "numbers": [1, 2.5, float("nan")], "more": {"a": None, "ü": True}}
    write_sealed_json(path, value)
    content = json.loads(path.read_text())
    assert json.dumps(unsealed(content, path)) == json.dumps(value)
    for key in value:
        with pytest.raises(DamagedError):
            unsealed({**content, key: "another"}, path)
        with pytest.raises(DamagedError):
            unsealed({name: item for name, item in content.items() if name != key}, path)
    assert unsealed({"written by": "an older version"}, path) == {"written by": "an older version"}


# ---- locks ---------------------------------------------------------------------------------------


def test_a_lock_is_held_once_and_says_by_whom(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "lock"
    assert not is_claimed(path)
    for _ in range(2):
        with claimed(path) as free:
            assert free
            assert is_claimed(path)
            with claimed(path) as second:
                assert not second
            assert is_claimed(path), "the second has not let go of it"
            assert f"process {os.getpid()} on {socket.gethostname()}, for 0:00:0" in holder(path)
        assert not path.exists()


def test_a_killed_holder_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    number = killed_within(claimed, path)
    assert f"process {number} " in holder(path)
    assert not is_claimed(path)
    with claimed(path) as free:
        assert free


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x", "host": 3, "since": 1e999}'])
def test_a_holder_who_does_not_say_who_he_is(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock").write_text(content)
    assert holder(tmp_path / "lock") == "another process"


def test_many_who_want_a_lock_have_it_one_after_the_other(tmp_path: Path) -> None:
    """The file is removed and made anew each time: nobody may hold one that is gone."""
    path, inside = tmp_path / "lock", tmp_path / "inside"

    def work() -> None:
        for _ in range(20):
            with claimed(path, patience=30) as free:
                assert free
                inside.mkdir()
                inside.rmdir()

    processes = [fork.Process(target=work) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_a_lock_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WriteError), claimed(tmp_path / "file" / "lock"):
        pass
