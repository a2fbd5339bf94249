"""Lance: one row for each frame, by the real package, and what is not such a dataset."""

from pathlib import Path

import numpy as np
import pytest
from episodes import assert_same, episode
from refusals import refused

from wmplay.contracts import Trajectory
from wmplay.errors import DataError
from wmplay.formats import data_format

lance = pytest.importorskip("lance")
pa = pytest.importorskip("pyarrow")
chosen = data_format("lance")
ROWS = chosen.ROWS


def test_what_lance_itself_sees(tmp_path: Path) -> None:
    chosen.write([episode(0, 3), episode(1, 5)], tmp_path / "d", {"author": "A"})
    dataset = lance.dataset(tmp_path / "d")
    assert dataset.count_rows() == 4 + 6
    assert dataset.to_table()["episode"].to_pylist() == [0] * 4 + [1] * 6
    (last, first) = dataset.take([3, 4]).to_pylist()
    assert last["action"] is last["reward"] is last["terminated"] is None
    assert first["observation/where"] == [1, 0]
    assert np.float32(first["reward"]) == episode(1, 5).reward[0]


def test_episodes_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    episodes = [episode(0, ROWS - 1), episode(1, 2 * ROWS + 7), episode(2, 3)]
    chosen.write(iter(episodes), tmp_path / "d", {})
    for got, expected in zip(chosen.read(tmp_path / "d"), episodes, strict=True):
        assert_same(got, expected)


def foreign(path: Path, **changed: object) -> Path:
    columns = {
        "episode": [7, 7, 7, 2, 2],
        "step": [0, 1, 2, 0, 1],
        "observation": pa.array([[0.5, 1]] * 5, pa.list_(pa.float32(), 2)),
        "action": [3, 4, None, 5, None],
        "reward": [0.0, 1.0, None, 2.0, None],
        "terminated": [False, True, None, False, None],
        "truncated": [False, False, None, True, None],
        **changed,
    }
    lance.write_dataset(pa.table({k: v for k, v in columns.items() if v is not None}), path)
    return path


def test_a_dataset_of_somebody_else(tmp_path: Path) -> None:
    first, second = chosen.read(foreign(tmp_path / "d"))
    assert first.action.tolist() == [3, 4]
    assert first.action.dtype == np.int64
    assert first.observation["observation"].shape == (3, 2)
    assert (first.terminated.tolist(), second.truncated.tolist()) == ([False, True], [True])
    assert chosen.count(tmp_path / "d") == 2
    assert chosen.read_metadata(tmp_path / "d") == {}


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"step": [0, 2, 1, 0, 1]}, {"about": ("episode 7", "step"), "advice": ("episode", "step")}),
        (
            {"episode": [7, 2, 2, 7, 7], "step": [0, 0, 1, 1, 2]},
            {"about": ("episode", "7"), "advice": "episode"},
        ),
        ({"reward": [0.0, None, None, 2.0, None]}, {"about": ("7", "reward"), "got": 1}),
        ({"action": None}, {"about": ("7", "action")}),
        ({"observation": None}, {"about": ("episode 7", "observation")}),
        ({"episode": None}, {"about": ("column episode", "step", "docs/data.md")}),
        (
            {"observation": pa.array([[0.5], [1], [2], [3], [4, 5]])},
            {"about": ("2", "observation", "1")},
        ),
    ],
)
def test_holes(tmp_path: Path, changed: dict[str, object], fields: dict[str, object]) -> None:
    path = foreign(tmp_path / "d", **changed)
    with refused(DataError, **fields):
        list(chosen.read(path))


def test_a_damaged_dataset(tmp_path: Path) -> None:
    chosen.write([episode(0, 3)], tmp_path / "d", {})
    for file in (tmp_path / "d" / "data").iterdir():
        file.unlink()
    with refused(DataError, (tmp_path / "d", "Lance")):
        list(chosen.read(tmp_path / "d"))


def test_what_lance_cannot_have(tmp_path: Path) -> None:
    whole = episode(0, 3)
    steps = whole.action, whole.reward, whole.terminated, whole.truncated
    for values, fields in (
        (np.zeros((4, 2), np.complex64), {"about": "complex64"}),
        (np.zeros((4, 0)), {"got": (0,)}),
    ):
        with refused(DataError, **fields):
            chosen.write([Trajectory({"x": values}, *steps)], tmp_path / "d", {})
    with refused(DataError, tmp_path / "d", advice="one"):
        chosen.write([], tmp_path / "d", {})
    assert list(tmp_path.iterdir()) == []
