import errno
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, episode, on_disk, shards, with_observation
from refusals import refused

from wmplay import make_env
from wmplay.contracts import Trajectory
from wmplay.errors import StoreError
from wmplay.store import Store, load_trajectories, save_trajectories, writer


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Four shards of 3 episodes each."""
    store = save_trajectories([episode(i, 5) for i in range(3)], tmp_path / "store")
    for i in (3, 6, 9):
        store = store.append([episode(j, 5) for j in range(i, i + 3)])
    assert len(shards(store)) == 4
    return store


# ------------------------------------------------------------------------------------- what is not a store


def test_no_such_directory(tmp_path: Path) -> None:
    with refused(StoreError, "save_trajectories"):
        load_trajectories(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with refused(StoreError, "manifest.json", got=tmp_path / "file"):
        load_trajectories(tmp_path / "file")


def test_another_directory_is_no_store(tmp_path: Path) -> None:
    with refused(StoreError, "manifest.json", got=tmp_path):
        load_trajectories(tmp_path)


def test_another_schema(store: Store) -> None:
    file = store.path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 7}))
    for use in (load_trajectories, lambda path: save_trajectories([episode(12, 5)], path)):
        with refused(StoreError, "manifest.json", got=7):
            use(store.path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 1}', '{"schema": 1, "columns": 3}', "\xff"])
def test_a_damaged_manifest(store: Store, text: str) -> None:
    (store.path / "manifest.json").write_bytes(text.encode("latin-1"))
    with refused(StoreError, "manifest.json"):
        load_trajectories(store.path)


# ---------------------------------------------------------------------------- trajectories that do not fit

MISFITS = {
    "a missing key": (
        lambda one: replace(one, observation={"lcd": one.observation["lcd"]}),
        {"about": ("trajectory 1", "observation.where")},
    ),
    "another key": (
        lambda one: with_observation(one, whre=one.observation["where"]),
        {"about": "trajectory 1", "got": "observation.whre", "advice": "observation.where"},
    ),
    "another dtype": (
        lambda one: with_observation(one, lcd=one.observation["lcd"].astype(np.bool_)),
        {"about": ("observation.lcd", "bool", "[5, 7]", "uint8")},
    ),
    "another shape": (
        lambda one: with_observation(one, lcd=one.observation["lcd"][:, :3]),
        {"about": ("observation.lcd", "uint8", "[3, 7]", "[5, 7]")},
    ),
    "another action": (
        lambda one: replace(one, action=np.zeros(5, np.int64)),
        {"about": ("action", "int64", "[]", "float32", "[3]")},
    ),
    "no steps": (lambda one: episode(0, 0), {"about": ("trajectory 1", "steps")}),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_trajectory_that_does_not_fit(store: Store, misfit: str) -> None:
    change, fields = MISFITS[misfit]
    before, files = store.snapshot(), on_disk(store)
    for save in (store.append, lambda trajectories: save_trajectories(trajectories, store.path)):
        with refused(StoreError, **fields):
            save([episode(12, 5), change(episode(13, 5))])
    assert load_trajectories(store.path).snapshot() == before
    assert on_disk(store) == files


@pytest.mark.parametrize("misfit", MISFITS)
def test_the_first_trajectory_decides(tmp_path: Path, misfit: str) -> None:
    change, _ = MISFITS[misfit]
    with refused(StoreError, "trajectory 1"):
        save_trajectories([episode(0, 5), change(episode(1, 5))], tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("dtype", ["object", "U3", ">f4", "M8[s]"])
def test_values_that_no_tensor_holds(tmp_path: Path, dtype: str) -> None:
    with refused(StoreError, "observation.name"):
        save_trajectories([with_observation(episode(0, 5), name=np.zeros(6, dtype))], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_another_writer_was_first_with_another_layout(tmp_path: Path) -> None:
    def stream() -> Iterator[Trajectory]:
        yield episode(0, 5)
        other = with_observation(episode(0, 5), lcd=np.zeros((6, 2), np.float32))
        save_trajectories([other], tmp_path / "s")

    with refused(StoreError, "observation.lcd"):
        save_trajectories(stream(), tmp_path / "s")
    store = load_trajectories(tmp_path / "s")
    assert len(store) == 1
    assert on_disk(store) == set(shards(store))


def test_no_trajectories(store: Store, tmp_path: Path) -> None:
    with refused(StoreError, got=tmp_path / "new"):
        save_trajectories([], tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert save_trajectories([], store.path).snapshot() == store.snapshot()


def test_a_source_that_fails_leaves_the_store_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK", 1)

    def stream() -> Iterator[Trajectory]:
        yield from (episode(i, 5) for i in range(12, 15))
        raise OSError(errno.ENOSPC, "the env's own trouble")

    before, files = store.snapshot(), on_disk(store)
    with pytest.raises(OSError, match="the env's own trouble"):
        store.append(stream())
    assert load_trajectories(store.path).snapshot() == before
    assert on_disk(store) == files


# ------------------------------------------------------------------------------------------------ sampling


def test_windows_that_are_not_there(store: Store) -> None:
    for episodes, starts, length in ([0], [5], 3), ([0], [-1], 3), ([0], [0], 0):
        with refused(StoreError, got=(starts, length)):
            store.segment(np.array(episodes), np.array(starts), length)
    with refused(StoreError, ("batch_size", "2", "0"), got=(2, 0), expected="1"):
        store.sample(2, 0, 0)


# ------------------------------------------------------------------------------------------------- damage


def file_of(store: Store, shard: int, name: str) -> Path:
    return store.path / "shards" / shards(store)[shard] / name


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def empty(file: Path) -> None:
    os.truncate(file, 0)


def overwrite_header(file: Path) -> None:
    file.write_bytes(b"garbage!" + file.read_bytes()[8:])


def shorten(file: Path) -> None:
    np.save(file, np.load(file)[:-1])


@pytest.mark.parametrize("damage", [truncate, empty, overwrite_header, shorten, Path.unlink])
@pytest.mark.parametrize("name", ["action.npy", "observation.lcd.npy", "episodes.npy"])
def test_a_damaged_file_is_named_and_the_rest_is_readable(store: Store, damage, name: str) -> None:
    file = file_of(store, 1, name)
    damage(file)
    for use in (load_trajectories, lambda path: save_trajectories([episode(12, 5)], path)):
        with refused(StoreError, file, advice=("9 of 12", "skip_damaged=True")):
            use(store.path)
    readable = load_trajectories(store.path, skip_damaged=True)
    for got, number in zip(readable, [0, 1, 2, 6, 7, 8, 9, 10, 11], strict=True):
        assert_same(got, episode(number, 5))
    readable.sample(31, 3, 0)
    mended = save_trajectories(readable, store.path.parent / "mended")
    assert len(load_trajectories(mended.path)) == 9


FILES = [f"{name}.npy" for name in ("action", "observation.lcd", "observation.where", "reward")]


def flip(file: Path, place: int = -3) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_a_flipped_bit_is_found_by_its_checksum(store: Store) -> None:
    flip(file_of(store, 2, "observation.where.npy"))
    with refused(StoreError, "checksum", advice="9 of 12"):
        load_trajectories(store.path).verify()
    assert len(load_trajectories(store.path, skip_damaged=True)) == 9


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_neither_merged_nor_copied(store: Store, name: str) -> None:
    file = file_of(store, 2, name)
    flip(file)
    before = load_trajectories(store.path)
    with refused(StoreError, (file, "checksum"), advice="12 of 15"):
        for number in range(12, 30):  # until small shards are merged
            before = load_trajectories(store.path)
            store = before.append([episode(number, 5)])
    after, kept = load_trajectories(store.path), on_disk(store)
    assert after.snapshot() == before.snapshot()
    assert kept == set(shards(after))
    copies = {
        "whole": lambda: save_trajectories(after, store.path.parent / "copy"),
        "parts": lambda: save_trajectories((after[i] for i in (0, 7)), store.path.parent / "copy"),
        "rows": lambda: list(after.rows("reward")),
    }
    for read in copies.values():
        with refused(StoreError, (file, "checksum")):
            read()
    assert not (store.path.parent / "copy").exists()
    assert len(save_trajectories(load_trajectories(store.path, skip_damaged=True), file.parent / "sound")) > 8


def test_a_view_that_is_read_once_is_not_read_for_its_checksums_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = load_trajectories(store.path)
    list(view)
    monkeypatch.setattr("zlib.crc32", lambda *_: pytest.fail("read again"))
    list(view)


def test_damage_in_the_shard_with_dropped_episodes(tmp_path: Path) -> None:
    store = save_trajectories([episode(i, 5) for i in range(3)], tmp_path / "s")
    store = store.append([episode(i, 5) for i in range(3, 6)], max_steps=25)
    Path.unlink(file_of(store, 0, "action.npy"))
    with refused(StoreError, "action.npy", advice="3 of 5"):
        load_trajectories(store.path)
    assert_same(load_trajectories(store.path, skip_damaged=True)[0], episode(3, 5))


def test_nothing_readable_is_left(tmp_path: Path) -> None:
    store = save_trajectories([episode(0, 5)], tmp_path / "s")
    Path.unlink(file_of(store, 0, "action.npy"))
    with refused(StoreError, "action.npy", advice="0 of 1"):
        load_trajectories(store.path)
    with refused(StoreError, got=tmp_path / "s"):
        load_trajectories(store.path, skip_damaged=True).sample(2, 3, 0)


def test_a_snapshot_from_before_a_vacuum(store: Store) -> None:
    snapshot = store.snapshot()
    store = store.append([episode(i, 5) for i in range(12, 15)], max_steps=20)
    store.vacuum()
    before = store.snapshot()
    with refused(StoreError, ("4", store.path), got=3):
        Store.restore(store.path, snapshot)
    with refused(StoreError, "schema", got=None):
        Store.restore(store.path, {})
    assert load_trajectories(store.path).snapshot() == before


# --------------------------------------------------------------------------- when the system does not let us


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of half a megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    if os.name != "posix" or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_leaves_the_store_as_it_was(tiny_disk: Path) -> None:
    store = save_trajectories([episode(0, 5)], tiny_disk / "s")
    saved = 1
    with refused(StoreError, os.strerror(errno.ENOSPC), got=tiny_disk / "s"):
        while saved < 1000:
            store = store.append([episode(saved, 50)])
            saved += 1
    assert 1 < saved < 1000
    again = load_trajectories(tiny_disk / "s")
    again.verify()
    assert len(again) == saved
    again.vacuum()  # what was merged makes room
    assert on_disk(again) == set(shards(again))
    again = again.append([episode(saved, 50)])
    assert_same(again[-1], episode(saved, 50))


def test_a_disk_too_small_for_a_new_store(tiny_disk: Path) -> None:
    with refused(StoreError, os.strerror(errno.ENOSPC), got=tiny_disk / "s"):
        save_trajectories([episode(0, 100_000)], tiny_disk / "s")
    assert list(tiny_disk.iterdir()) == []


STAGES = {"write": "wmplay.store.shard._write_npy", "move": "os.rename", "replace": "os.replace"}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_stage_leaves_the_store_as_it_was(
    store: Store, monkeypatch: pytest.MonkeyPatch, stage: str, failure: BaseException
) -> None:
    def fail(*_) -> None:
        raise failure

    before, files = store.snapshot(), on_disk(store)
    with monkeypatch.context() as patch:
        patch.setattr(STAGES[stage], fail)
        for path in (store.path, store.path.parent / "new"):
            with pytest.raises(StoreError if isinstance(failure, OSError) else KeyboardInterrupt):
                save_trajectories([episode(12, 5)], path)
    assert load_trajectories(store.path).snapshot() == before
    assert on_disk(store) == files
    assert {entry.name for entry in store.path.iterdir()} == {".lock", "manifest.json", "shards"}
    assert not (store.path.parent / "new").exists()


@pytest.mark.parametrize("stage", STAGES)
def test_a_failure_leaves_the_origins_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    env = make_env("CartPole-v1")
    store = save_trajectories([episode(0, 5)], tmp_path / "store", env=env)
    before = (store.path / "metadata.json").read_bytes()
    other = make_env("Acrobot-v1")
    with monkeypatch.context() as patch:
        patch.setattr("wmplay.store.writer.write_manifest" if stage == "replace" else STAGES[stage], fail)
        for path in (store.path, tmp_path / "new"):
            with pytest.raises(KeyboardInterrupt):
                save_trajectories([episode(1, 5)], path, env=other, other_world=True)
    assert (store.path / "metadata.json").read_bytes() == before
    assert not (tmp_path / "new").exists()


def fail(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_path_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with refused(
            StoreError, os.strerror(errno.EEXIST if path.name == "file" else errno.ENOTDIR), got=path
        ):
            save_trajectories([episode(0, 5)], path)
    assert (tmp_path / "file").read_text() == "mine"


def test_no_permission(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_, **__) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    before = store.snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", deny)
        with refused(StoreError, "Permission denied", got=store.path):
            store.append([episode(12, 5)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", deny)
        with refused(StoreError, "manifest.json"):
            load_trajectories(store.path)
    assert load_trajectories(store.path).snapshot() == before
