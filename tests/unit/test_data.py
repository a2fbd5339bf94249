"""Formats: round trips lose nothing, and foreign data with a hole is answered in one line."""

import builtins
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import h5py
import minari
import numpy as np
import pytest
from episodes import assert_same, episode
from gymnasium.spaces import Box, Dict, Discrete
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from minari.data_collector.episode_buffer import EpisodeBuffer
from refusals import refused

from wmplay.contracts import Trajectory
from wmplay.errors import DataError, StoreError, UnknownName, WriteError
from wmplay.formats import FORMATS, READ_ONLY, data_format
from wmplay.formats.transfer import export_data, import_data, print_info
from wmplay.store import load_trajectories, save_trajectories
from wmplay.system.files import folder_written_beside

WRITABLE = [name for name in FORMATS if name not in READ_ONLY]
every_format = pytest.mark.parametrize("name", WRITABLE)

# ---------------------------------------------------------------------------------------- round trips

DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]
SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
KEYS = st.text(max_size=12)
PATH_KEYS = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1
)


@every_format
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip(name: str, data: st.DataObject) -> None:
    keys = KEYS if name != "minari" else PATH_KEYS.filter(lambda key: key not in (".", ".."))
    shapes = SHAPES.filter(lambda shape: 0 not in shape) if name in ("minari", "lance") else SHAPES
    observation = data.draw(
        st.dictionaries(keys, st.tuples(st.sampled_from(DTYPES), shapes), min_size=1, max_size=4)
    )
    action = data.draw(st.sampled_from([("float32", (3,)), ("float32", (1,)), ("int64", ())]))
    lengths = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=12))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))

    def values(rows: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        high = rng.choice([2, 3, 120])
        return (rng.integers(0, high, (rows, *shape)) / (1 if dtype[0] in "iu" else 7)).astype(dtype)

    def trajectory(length: int) -> Trajectory:
        ends = rng.random(2) < 0.5
        last = np.arange(length) == length - 1
        return Trajectory(
            {key: values(length + 1, *column) for key, column in observation.items()},
            values(length, *action),
            values(length, "float32", ()),
            last & ends[0],
            last & ends[1],
        )

    episodes = [trajectory(length) for length in lengths]
    metadata = data.draw(
        st.dictionaries(st.text(max_size=5), st.text(max_size=5) | st.integers(), max_size=3)
    )
    chosen = data_format(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "round-v0"
        chosen.write(iter(episodes), path, metadata)
        assert chosen.count(path) == len(episodes)
        got = list(chosen.read(path))
        kept = chosen.read_metadata(path)
    assert {key: kept[key] for key in metadata} == metadata
    for ours, theirs in zip(episodes, got, strict=True):
        if name == "minari":  # its keys are in the order of their names
            theirs = Trajectory(
                {key: theirs.observation[key] for key in ours.observation},
                theirs.action,
                theirs.reward,
                theirs.terminated,
                theirs.truncated,
            )
        assert_same(theirs, ours)


@every_format
def test_from_store_to_store_with_metadata(tmp_path: Path, name: str) -> None:
    store = save_trajectories([episode(i, length) for i, length in enumerate([5, 1, 7])], tmp_path / "a")
    (tmp_path / "a" / "metadata.json").write_text('{"author": ["someone"], "code_permalink": "x"}')
    export_data(tmp_path / "a", name, tmp_path / "data-v1")
    copy = import_data(name, tmp_path / "data-v1", tmp_path / "b")
    for got, expected in zip(copy, store, strict=True):
        assert_same(got, expected)
    kept = json.loads((tmp_path / "b" / "metadata.json").read_text())
    assert (kept["author"], kept["code_permalink"]) == (["someone"], "x")
    export_data(tmp_path / "b", name, tmp_path / "again-v1")
    assert data_format(name).read_metadata(tmp_path / "again-v1") == kept
    assert len(import_data(name, tmp_path / "again-v1", tmp_path / "b")) == 6


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    arrays = npz_arrays(3)
    for number in (10, 9, 1):
        np.savez(tmp_path / f"ep{number}.npz", **{**arrays, "reward": np.full(3, number, np.float32)})
    assert [each.reward[0] for each in data_format("npz").read(tmp_path)] == [1, 9, 10]


def test_reading_and_writing_hold_one_episode_at_a_time(tmp_path: Path) -> None:
    for name in WRITABLE:
        asked = 0

        def episodes():
            nonlocal asked
            for asked in range(5):
                yield episode(asked, 3)

        path = tmp_path / f"{name}-v0"
        data_format(name).write(episodes(), path, {})
        assert asked == 4
        reading = data_format(name).read(path)
        assert_same(next(reading), episode(0, 3))


# --------------------------------------------------------------------------------------- real Minari


def minari_dataset(monkeypatch: pytest.MonkeyPatch, root: Path, observation_space, action_space, episodes):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
    return minari.create_dataset_from_buffers(
        "toys/push-v3",
        buffer=episodes,
        observation_space=observation_space,
        action_space=action_space,
        author={"A"},
        algorithm_name="by hand",
    )


def test_a_dataset_that_minari_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frames, actions = rng.normal(size=(6, 2)), rng.normal(size=(5, 3))
    ends = np.arange(5) == 4
    buffer = EpisodeBuffer(
        seed=7,
        observations=frames,
        actions=actions,
        rewards=[0.1] * 5,
        terminations=ends,
        truncations=np.zeros(5, bool),
    )
    spaces = Box(-9, 9, (2,), np.float64), Box(-9, 9, (3,), np.float64)
    minari_dataset(monkeypatch, tmp_path, *spaces, [buffer, buffer])
    store = import_data("minari", tmp_path / "toys" / "push-v3", tmp_path / "store")
    assert len(store) == 2
    np.testing.assert_array_equal(store[1].observation["vector"], frames.astype(np.float32))
    np.testing.assert_array_equal(store[1].action, actions.astype(np.float32))
    assert store[1].reward.dtype == np.float32
    np.testing.assert_array_equal(store[1].terminated, ends)
    export_data(tmp_path / "store", "minari", tmp_path / "copy-v0")
    copy = minari.load_dataset("copy-v0")  # its root is the environment variable's
    assert copy.observation_space == Dict(vector=Box(-9, 9, (2,), np.float32))
    assert copy.action_space == Box(-9, 9, (3,), np.float32)
    assert copy.storage.metadata["author"] == {"A"}
    assert copy.storage.metadata["algorithm_name"] == "by hand"
    assert (copy.total_episodes, copy.total_steps) == (2, 10)
    np.testing.assert_array_equal(copy[0].observations["vector"], frames.astype(np.float32))


def test_minari_reads_what_we_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    screens = np.random.default_rng(0).integers(0, 256, (4, 40, 48), dtype=np.uint8)
    steps = np.zeros(3, np.float32), np.zeros(3, bool), np.array([False, False, True])
    given = Trajectory({"lcd": screens, "x": np.eye(4)}, np.array([2, 0, 4]), *steps)
    data_format("minari").write([given], tmp_path / "screens-v2", {})
    dataset = minari.load_dataset("screens-v2")
    assert dataset.action_space == Discrete(5)
    assert set(dataset.observation_space) == {"lcd", "x"}
    np.testing.assert_array_equal(dataset[0].observations["lcd"], screens)  # not as JPEG
    assert dataset[0].truncations.tolist() == [False, False, True]


# ------------------------------------------------------------------------------------------- holes


def npz_arrays(length: int) -> dict[str, np.ndarray]:
    return {
        "observation.x": np.zeros((length + 1, 2)),
        "action": np.zeros((length, 3), np.float32),
        "reward": np.zeros(length),
        "terminated": np.zeros(length, bool),
        "truncated": np.zeros(length, bool),
    }


def without(name: str) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda arrays: arrays.pop(name)


def with_(**changed) -> Callable[[dict[str, np.ndarray]], object]:
    return lambda arrays: arrays.update({name.replace("__", "."): array for name, array in changed.items()})


NAN = np.array([[0, 0, 0]] * 2 + [[0, np.nan, 0]] + [[0, 0, 0]] * 2)
HOLES = [
    ({"about": "no 'action'"}, without("action")),
    ({"about": "no 'truncated'"}, without("truncated")),
    ({"about": "observation.<key>"}, without("observation.x")),
    ({"about": ("reward", "5"), "got": 4}, with_(reward=np.zeros(4))),
    ({"about": "reward", "got": (5, 1), "expected": "[5]"}, with_(reward=np.zeros((5, 1)))),
    ({"about": ("x", "5"), "got": 5, "expected": "6"}, with_(observation__x=np.zeros((5, 2)))),
    ({"about": "x", "got": 9, "expected": "6"}, with_(observation__x=np.zeros((9, 2)))),
    ({"about": ("action", "row 2"), "got": "NaN"}, with_(action=NAN)),
    ({"about": ("reward", "row 1"), "got": "infinite"}, with_(reward=np.array([0, np.inf, 0, 0, 0]))),
    ({"about": ("reward", "float32")}, with_(reward=np.array([0, 1e39, 0, 0, 0]))),
    ({"about": ("reward", "float32")}, with_(reward=np.full(5, 1j))),
    ({"about": ("action", "float32")}, with_(action=np.full((5, 2), -1e39))),
    ({"about": ("action", "int64")}, with_(action=np.full(5, 2**63, np.uint64))),
    ({"about": ("x", "row 5"), "got": "NaN"}, with_(observation__x=np.array([0.0] * 5 + [np.nan]))),
    ({"about": "5", "got": 1}, with_(terminated=np.arange(5) == 1)),
    ({"about": ("terminated", "0..3"), "expected": "booleans"}, with_(terminated=np.array([0, 0, 0, 0, 3]))),
    (
        {"about": ("action", "int64", "[5, 2]"), "expected": "[T, A]"},
        with_(action=np.zeros((5, 2), np.int64)),
    ),
    ({"about": "x", "expected": "row"}, with_(observation__x=np.array(3.0))),
    ({"about": ("episode 1", "x"), "got": np.dtype("S1")}, with_(observation__x=np.array([b"a"] * 6))),
]


@pytest.mark.parametrize("name", ["npz", "hdf5"])
@pytest.mark.parametrize(("fields", "damage"), HOLES)
def test_a_hole_is_named_and_nothing_imported(
    tmp_path: Path,
    name: str,
    fields: dict[str, object],
    damage: Callable[[dict[str, np.ndarray]], object],
) -> None:
    whole, broken = npz_arrays(5), npz_arrays(5)
    damage(broken)
    source = tmp_path / "source"
    if name == "npz":
        source.mkdir()
        np.savez(source / "0.npz", **whole)
        np.savez(source / "1.npz", **broken)
    else:
        with h5py.File(source, "w") as file:
            for number, arrays in enumerate([whole, broken]):
                for key, array in arrays.items():
                    file[f"{number}/{key}"] = array
    with refused(DataError, **fields) as caught:
        import_data(name, source, tmp_path / "store")
    assert str(source) in caught.value.problem
    assert not (tmp_path / "store").exists()


def test_a_minari_dataset_with_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "d-v0"
    data_format("minari").write([episode(0, 5), episode(1, 5)], path, {})
    with h5py.File(path / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
    reading = data_format("minari").read(path)
    next(reading)
    with refused(DataError, ("episode 1", "rewards")):
        next(reading)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("npz", ".npz"),
        ("hdf5", "HDF5"),
        ("minari", "Minari"),
        ("lance", "Lance"),
        ("lerobot", "LeRobot"),
    ],
)
def test_data_that_is_not_there(tmp_path: Path, name: str, kind: str) -> None:
    with refused(DataError, (tmp_path / "nowhere", kind)):
        import_data(name, tmp_path / "nowhere", tmp_path / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["npz", "hdf5", "minari", "lance"])
def test_the_folders_on_the_way_are_made(tmp_path: Path, name: str) -> None:
    path = tmp_path / "some" / "where" / "d-v0"
    data_format(name).write([episode(0, 5)], path, {})
    assert data_format(name).count(path) == 1


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("[]", {"got": "list"}),
        ("{", {"about": "metadata.json"}),
        ('{"data_format": "hdf5"}', {"about": "AssertionError"}),
    ],
)
def test_minari_metadata_that_is_damaged(tmp_path: Path, text: str, fields: dict[str, object]) -> None:
    path = tmp_path / "d-v0"
    data_format("minari").write([episode(0, 5)], path, {})
    (path / "data" / "metadata.json").write_text(text)
    with refused(DataError, **fields):
        data_format("minari").count(path)


def test_data_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with refused(DataError, ".npz", got=tmp_path / "folder"):
        data_format("npz").count(tmp_path / "folder")
    (tmp_path / "folder" / "a.npz").write_bytes(b"no zip")
    with refused(DataError, ".npz", got=tmp_path / "folder" / "a.npz"):
        list(data_format("npz").read(tmp_path / "folder"))
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["observations"] = np.zeros(3)
    with refused(DataError, (tmp_path / "flat.h5", "observations", "group")):
        data_format("hdf5").count(tmp_path / "flat.h5")
    (tmp_path / "folder" / "metadata.json").write_text("[1]")
    with refused(DataError, got="list", expected="JSON"):
        data_format("npz").read_metadata(tmp_path / "folder")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "metadata.json").write_text('{"data_format": "hdf5"}')
    with refused(DataError, "Minari", got=tmp_path):
        data_format("minari").count(tmp_path)


def test_episodes_that_do_not_go_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "0.npz", **npz_arrays(5))
    np.savez(tmp_path / "1.npz", **{**npz_arrays(5), "observation.x": np.zeros((6, 7))})
    with refused(StoreError, ("trajectory 1", "observation.x", "float32", "[7]")):
        import_data("npz", tmp_path, tmp_path / "store")


def test_what_minari_cannot_have(tmp_path: Path) -> None:
    chosen = data_format("minari")
    with refused(DataError, "plain-v0", got="plain"):
        chosen.write([episode(0, 3)], tmp_path / "plain", {})
    with refused(DataError, tmp_path / "d-v0", advice="one"):
        chosen.write([], tmp_path / "d-v0", {})
    with refused(DataError, got="observation_space"):
        chosen.write([episode(0, 3)], tmp_path / "d-v0", {"observation_space": "{}"})
    whole = episode(0, 3)
    for key, values, fields in (
        ("a/b", np.zeros((4, 2)), {"got": "a/b", "advice": "/"}),
        ("c", np.zeros((4, 2), np.complex64), {"about": "complex64"}),
        ("e", np.zeros((4, 0)), {"about": "Minari", "got": (0,)}),
    ):
        steps = whole.action, whole.reward, whole.terminated, whole.truncated
        with refused(DataError, **fields):
            chosen.write([Trajectory({key: values}, *steps)], tmp_path / "d-v0", {})
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------- all of it or nothing


@every_format
def test_a_failure_half_way_leaves_nothing(tmp_path: Path, name: str) -> None:
    def episodes():
        yield episode(0, 3)
        raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        data_format(name).write(episodes(), tmp_path / "d-v0", {})
    assert list(tmp_path.iterdir()) == []


def test_never_writes_over_anything(tmp_path: Path) -> None:
    save_trajectories([episode(0, 3)], tmp_path / "store")
    (tmp_path / "there").write_text("mine")
    with refused(DataError, got=tmp_path / "there"):
        export_data(tmp_path / "store", "hdf5", tmp_path / "there")
    assert (tmp_path / "there").read_text() == "mine"
    with pytest.raises(WriteError), folder_written_beside(tmp_path / "store"):
        pass
    assert len(load_trajectories(tmp_path / "store")) == 1


@pytest.mark.parametrize(
    ("name", "package"), [("hdf5", "h5py"), ("minari", "minari"), ("lance", "lance"), ("lerobot", "av")]
)
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, name: str, package: str) -> None:
    real = builtins.__import__

    def import_(module, globals=None, locals=None, fromlist=(), level=0):
        if level == 0 and module.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'")
        return real(module, globals, locals, fromlist, level)

    monkeypatch.delitem(sys.modules, f"wmplay.formats.{name}", raising=False)
    monkeypatch.setattr(builtins, "__import__", import_)
    with refused(DataError, (package, f"wmplay[{name}]"), got=name):
        data_format(name)


def test_an_unknown_format() -> None:
    with refused(UnknownName, got="hdf", advice="hdf5"):
        data_format("hdf")


def test_info(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    save_trajectories([episode(i, length) for i, length in enumerate([5, 2, 7])], tmp_path / "s")
    (tmp_path / "s" / "metadata.json").write_text('{"author": "someone"}')
    print_info(tmp_path / "s")
    output = capsys.readouterr().out
    for words in ("3 episodes, 14 steps", "2 to 7, median 5", "1 terminated, 2 truncated, 0 just cut"):
        assert words in output
    assert "uint8 [5, 7]" in output
    assert "someone" in output
