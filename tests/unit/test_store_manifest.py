"""What a manifest may say: files on disk are somebody else's word."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from episodes import episode, on_disk, shards
from refusals import refused

from wmplay.errors import StoreError
from wmplay.store import Store, load_trajectories, save_trajectories


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two shards of 3 episodes each, one of the first dropped."""
    store = save_trajectories([episode(i, 5) for i in range(3)], tmp_path / "store")
    store = store.append([episode(i, 5) for i in range(3, 6)], max_steps=25)
    assert (len(shards(store)), len(store)) == (2, 5)
    return store


def changed(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for key in path[:-1]:
            place = place[key]
        if to is DELETED:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return change


def twice(manifest: dict[str, Any]) -> None:
    manifest["shards"].append(manifest["shards"][1])


def renamed(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    """A column is called otherwise everywhere."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["columns"][new] = manifest["columns"].pop(old)
        for shard in manifest["shards"]:
            shard["crc32"][f"{new}.npy"] = shard["crc32"].pop(f"{old}.npy")

    return change


DELETED = Ellipsis  # which JSON cannot hold, and whose name is the same in each process
NO_DTYPES = [
    *("object", "O", "V8", "M8[s]", "str", ">i8", "i8,i8", "(2,)i4", "float128", "", "int32"),
    3,
    None,
    [],
]
NO_SHAPES = [
    [],
    [3],
    [-1],
    [2, 2],
    [True, 2],
    ["2"],
    [2.5],
    2,
    None,
    [2] * 60,
    [2**31] * 15,
    [0, 2**31, 2**31],
]
NOT_PACKED = [
    ["action"],
    ["observation.x"],
    ["observation.lcd"] * 2,
    [],
    "observation.lcd",
    [3],
    None,
    ["terminated"],
]
FIRST = ("shards", 0)
NO_COUNTS = [-1, 0, True, 3.0, 2.5, "3", None, [3], 10**30]
NO_NAMES = [
    "",
    "..",
    ".",
    "../other",
    "/etc",
    "a/b",
    "a\\b",
    "a\0b",
    "a b",
    "a\n",
    "\u00e4",
    "x" * 200,
    3,
    None,
    [],
]
LIES = {
    **{f"shard name {name!r}": changed(*FIRST, "name", to=name) for name in NO_NAMES},
    **{f"episodes {n!r}": changed(*FIRST, "episodes", to=n) for n in [*NO_COUNTS, 2, 4] if n != 3.0},
    **{f"steps {n!r}": changed(*FIRST, "steps", to=n) for n in [*NO_COUNTS, 14, 16, 2**40]},
    **{f"dropped {n!r}": changed("dropped", to=n) for n in [*NO_COUNTS[2:], -1, 3, 4]},
    **{f"columns {c!r}": changed("columns", to=c) for c in ([], {}, None, "action", {"action": {}})},
    **{
        f"dtype {t!r}": changed("columns", "observation.where", "dtype", to=t)
        for t in NO_DTYPES
    },
    **{
        f"shape {s!r}": changed("columns", "observation.where", "shape", to=s)
        for s in NO_SHAPES
    },
    **{
        f"no {name}": changed("columns", name, to=DELETED)
        for name in ("action", "reward", "terminated", "truncated", "observation.where")
    },
    **{f"{name} called {new!r}": renamed(name, new) for name, new in (
        ("observation.where", "where"),
        ("observation.where", "../observation.where"),
        ("reward", "observation.reward"),
        ("observation.where", "observation." + "x" * 300),
        ("observation.where", "observation.\ud800"),
    )},
    "reward of another type": changed("columns", "reward", to={"dtype": "float64", "shape": []}),
    "action without an axis": changed("columns", "action", "shape", to=[]),
    **{
        f"packed {names!r}": changed(*FIRST, "packed", to=names)
        for names in NOT_PACKED
    },
    **{
        f"checksum {c!r}": changed(*FIRST, "crc32", "action.npy", to=c)
        for c in (-1, 2**32, True, 1.5, "1", None, DELETED)
    },
    **{
        f"file {name!r}": changed(*FIRST, "crc32", name, to=0)
        for name in ("/dev/zero", "../../manifest.json", "action", "")
    },
    "a shard twice": twice,
    "shards as an object": changed("shards", to={}),
    "a shard that is a list": changed(*FIRST, to=[]),
    "no shards, but dropped episodes": changed("shards", to=[]),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_the_manifest_is_refused_everywhere(store: Store, lie: str) -> None:
    manifest = json.loads((store.path / "manifest.json").read_text())
    LIES[lie](manifest)
    with refused(StoreError, "damaged"):
        Store.restore(store.path, manifest)
    (store.path / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(store.path.rglob("*"))
    uses: dict[str, Callable[[], object]] = {
        "load": lambda: load_trajectories(store.path),
        "append": lambda: save_trajectories([episode(6, 5)], store.path),
    }
    for use in uses.values():
        with refused(StoreError, "damaged"):
            use()
    assert sorted(store.path.rglob("*")) == before


def test_lengths_that_do_not_add_up(store: Store) -> None:
    file = store.path / "shards" / shards(store)[0] / "episodes.npy"
    for lengths in ([5, 5, 6], [0, 5, 10], [-5, 10, 10], [2**62, 2**62, 15 - 2**63]):
        np.save(file, np.array(lengths))
        with refused(
            StoreError,
            file,
            advice="3 of 5",
        ):
            load_trajectories(store.path)


def pipe(file: Path) -> None:
    os.mkfifo(file)


def link(file: Path) -> None:
    file.symlink_to(file.with_name(f"{file.name}-moved"))


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


@pytest.mark.parametrize("other", [pipe, link, endless, Path.mkdir])
@pytest.mark.parametrize("name", ["action.npy", "episodes.npy", ""])
def test_what_is_no_plain_file_is_not_read(store: Store, other: Callable[[Path], None], name: str) -> None:
    file = store.path / "shards" / shards(store)[1] / name
    file.rename(file.with_name(f"{file.name}-moved"))
    other(file)
    for use in (load_trajectories, lambda path: save_trajectories([episode(6, 5)], path)):
        with refused(StoreError, file, advice="2 of 5"):
            use(store.path)
    assert len(load_trajectories(store.path, skip_damaged=True)) == 2


def test_a_directory_of_shards_that_is_a_link(store: Store, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "mine").mkdir()
    (store.path / "shards").rename(store.path / "moved")
    (store.path / "shards").symlink_to(tmp_path / "thesis")
    with refused(StoreError, got=store.path / "shards"):
        store.vacuum()
    with refused(StoreError, store.path / "shards", advice="0 of 5"):
        save_trajectories([episode(6, 5)], store.path)
    assert (tmp_path / "thesis" / "mine").exists()


@pytest.mark.parametrize("other", [pipe, endless])
def test_a_lock_that_is_none_keeps_nobody_waiting(store: Store, other: Callable[[Path], None]) -> None:
    (store.path / ".lock").unlink()
    other(store.path / ".lock")
    if other is endless:
        with refused(StoreError, os.strerror(errno.ELOOP), got=store.path):
            store.append([episode(6, 5)])
    else:
        assert len(store.append([episode(6, 5)])) == 6


def test_readers_write_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    (store.path / ".lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    view = load_trajectories(store.path)
    view.verify()
    list(view)
    view.sample(2, 3, 0)
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before
    assert len(on_disk(view)) == 2


NPY = "{'descr': %s, 'fortran_order': %s, 'shape': %s}"
HEADERS = [
    *("", "[[[[" * 20, "(" * 90, "-" * 90, "\xff" * 50, "'''", "{'descr': '<f4'", "open('x', 'w')"),
    NPY % ("'O'", False, (15, 3)),
    NPY % ("'<f4'", True, (15, 3)),
    *(NPY % ("'<f4'", False, shape) for shape in ((15, -3), (10**20, 3), (15.0, 3), "x", None)),
]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_is_none(store: Store, header: str) -> None:
    file = store.path / "shards" / shards(store)[0] / "action.npy"
    content = file.read_bytes()
    file.write_bytes(content[:10] + header.encode("latin-1").ljust(117)[:117] + b"\n" + content[128:])
    with refused(StoreError, file, advice="3 of 5"):
        load_trajectories(store.path)
