"""Writers that work at once, readers beside them, and writers that are killed."""

import fcntl
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, episode, on_disk, shards

from wmplay.store import load_trajectories, save_trajectories

fork = multiprocessing.get_context("fork")  # a fresh interpreter would cost a second each


def start(target: Callable[..., None], *args: object) -> BaseProcess:
    process = fork.Process(target=target, args=args)
    process.start()
    return process


def write(path: Path, writer: int, count: int) -> None:
    for i in range(count):
        save_trajectories([episode(writer * 1000 + i, 5 + i % 3)], path)


def numbers(store) -> list[int]:
    """The number of each episode, all of which are whole."""
    found = []
    for one in store:
        found.append(int(one.observation["where"][0, 0]))
        assert_same(one, episode(found[-1], len(one)))
    return found


def test_several_writers_do_not_corrupt_each_other(tmp_path: Path) -> None:
    path = tmp_path / "s"  # not there yet: they also create it together
    writers = [start(write, path, writer, 31) for writer in range(3)]
    for process in writers:
        process.join()
        assert process.exitcode == 0
    store = load_trajectories(path)
    store.verify()
    found = numbers(store)
    for writer in range(3):
        assert [n for n in found if n // 1000 == writer] == [writer * 1000 + i for i in range(31)]
    assert len(found) == 93
    assert on_disk(store) == set(shards(store))


def test_readers_see_whole_trajectories_while_others_write_and_vacuum(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = save_trajectories([episode(7000, 5)], path)
    writers = [start(write, path, writer, 31) for writer in range(2)]
    rng = np.random.default_rng(0)
    seen = [1]
    while any(process.is_alive() for process in writers):
        store = load_trajectories(path)
        seen.append(len(numbers(store)))
        store.sample(3, 5, rng)
    assert [process.exitcode for process in writers] == [0, 0]
    assert seen == sorted(seen)
    assert len(load_trajectories(path)) == 63
    assert numbers(first) == [7000]


def wait_for_a_waiter(inode: int) -> None:
    """Returns when the system knows of somebody who waits for a file's lock."""
    until = time.monotonic() + 30
    waiting = re.compile(rf"-> FLOCK .*:{inode} ")
    while not waiting.search(Path("/proc/locks").read_text()):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_lock_that_was_removed_counts_for_nothing(tmp_path: Path) -> None:
    """As when a store's first writer fails, and clears up, while a second one waits."""
    with ThreadPoolExecutor(1) as pool, open(tmp_path / ".lock", "a") as removed:
        fcntl.flock(removed, fcntl.LOCK_EX)
        saved = pool.submit(save_trajectories, [episode(0, 5)], tmp_path)
        wait_for_a_waiter(os.fstat(removed.fileno()).st_ino)
        (tmp_path / ".lock").unlink()
        with open(tmp_path / ".lock", "a") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            fcntl.flock(removed, fcntl.LOCK_UN)
            with pytest.raises(TimeoutError):
                saved.result(timeout=0.3)
            assert not (tmp_path / "shards").exists()
        assert len(saved.result()) == 1


def write_until_killed(path: Path, committed: int) -> None:
    """Appends numbered episodes, one or a few at a time, and says through a pipe how many are saved."""
    store = load_trajectories(path)
    number = len(store)
    while True:
        count = 1 + number % 3
        store = store.append([episode(number + i, 5 + (number + i) % 7) for i in range(count)])
        number += count
        os.write(committed, number.to_bytes(4, "little"))
        if number % 5 == 0:
            store.vacuum()


def test_a_hundred_killed_writers_corrupt_nothing(tmp_path: Path) -> None:
    path = tmp_path / "s"
    save_trajectories([episode(0, 5)], path)
    rng = np.random.default_rng(0)
    known, killed, interrupted = 1, 0, 0
    while killed < 100 or interrupted == 0:  # some are killed in the middle
        killed += 1
        reader, committed = os.pipe()
        process = start(write_until_killed, path, committed)
        os.close(committed)
        os.read(reader, 4)  # it is at work
        time.sleep(rng.uniform(0, 0.02))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        while said := os.read(reader, 4096):
            known = int.from_bytes(said[-4:], "little")
        os.close(reader)

        store = load_trajectories(path)
        assert len(store) >= known  # what was saved is there
        assert store.lengths.tolist() == [5 + i % 7 for i in range(len(store))]
        newest = range(max(0, len(store) - 5), len(store))
        for i in newest:
            assert_same(store[i], episode(i, 5 + i % 7))
        interrupted += any(name.startswith(".writing-") for name in on_disk(store))
    assert numbers(store) == list(range(len(store)))
    store.verify()
    store.vacuum()
    assert on_disk(store) == set(shards(store))
    assert_same(store.append([episode(1, 5)])[-1], episode(1, 5))
