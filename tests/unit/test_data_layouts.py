"""HDF5 files as robomimic and D4RL lay them out."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from refusals import refused

from wmplay.errors import ConfigError, DataError, StoreError
from wmplay.formats import data_format
from wmplay.formats.transfer import import_data
from wmplay.store.metadata import read_metadata
from wmplay.store.split import hold_out

chosen = data_format("hdf5")
X = np.arange(24.0).reshape(12, 2)  # frame t is (2t, 2t + 1)
A = np.arange(36, dtype=np.float64).reshape(12, 3) / 64
R = np.arange(12) / 8


def flat(path: Path, ends: dict[str, list[int]], *, after: bool = False, **changed: np.ndarray) -> Path:
    rows = {"observations": X, "actions": A, "rewards": R}
    flags = {name: np.isin(np.arange(12), places) for name, places in {"terminals": [], **ends}.items()}
    ends_at = np.flatnonzero(flags["terminals"] | flags.get("timeouts", False))
    following = np.roll(X, -1, axis=0)  # but where an episode ends
    following[[*ends_at, 11]] = X[[*ends_at, 11]] + 100
    rows |= flags | ({"next_observations": following} if after else {}) | changed
    with h5py.File(path, "w") as file:
        for name, array in rows.items():
            file[name] = array
    return path


def test_flat_arrays_with_what_came_after(tmp_path: Path) -> None:
    path = flat(tmp_path / "d.h5", {"terminals": [4], "timeouts": [8]}, after=True)
    first, second, third = import_data("hdf5", path, tmp_path / "store")
    assert [len(each) for each in (first, second, third)] == [5, 4, 3]
    np.testing.assert_array_equal(first.observation["vector"], [*X[:5], X[4] + 100])
    np.testing.assert_array_equal(second.observation["vector"], [*X[5:9], X[8] + 100])
    np.testing.assert_array_equal(second.action, A[5:9].astype(np.float32))
    np.testing.assert_array_equal(third.reward, R[9:].astype(np.float32))
    ends = [(bool(each.terminated[-1]), bool(each.truncated[-1])) for each in (first, second, third)]
    assert ends == [(True, False), (False, True), (False, True)]


def test_flat_arrays_without(tmp_path: Path) -> None:
    """The last action of each episode led to a frame that is not there; an episode of one row has no step."""
    path = flat(tmp_path / "d.h5", {"terminals": [4, 5], "timeouts": [9]})
    first, second, third = import_data("hdf5", path, tmp_path / "store")
    assert chosen.count(path) == 3
    np.testing.assert_array_equal(first.observation["vector"], X[:5])
    np.testing.assert_array_equal(first.action, A[:4].astype(np.float32))
    assert (first.terminated.any(), first.truncated.tolist()) == (False, [False, False, False, True])
    assert [len(second), len(third)] == [3, 1]


def lengths(path: Path, **options: int) -> list[int]:
    return [len(each) for each in chosen.read(path, **options)]


def following(*breaks: int) -> np.ndarray:
    """What comes next, which is another frame than the next row's at some rows."""
    frames = np.roll(X, -1, axis=0)
    frames[[*breaks, 11]] += 50
    return frames


@pytest.mark.parametrize("ends", [{}, {"timeouts": []}, {"terminals": [5]}, {"terminals": [5, 11]}])
def test_an_end_must_be_known(tmp_path: Path, ends: dict[str, list[int]]) -> None:
    path = flat(tmp_path / "d.h5", ends)
    with refused(DataError, ("timeouts", "terminals", "--episode-length"), got=path):
        import_data("hdf5", path, tmp_path / "store")
    assert not (tmp_path / "store").exists()
    assert sum(lengths(path, episode_length=3)) == 8
    assert import_data("hdf5", path, tmp_path / "store", episode_length=12).steps in (10, 11)


def test_an_episode_length_is_counted_from_the_last_end(tmp_path: Path) -> None:
    path = flat(tmp_path / "d.h5", {"terminals": [2]}, next_observations=following(2, 6, 10))
    first, *rest = chosen.read(path, episode_length=4)
    assert [len(first), *map(len, rest)] == [3, 4, 4, 1]
    assert first.terminated[-1]
    assert all(each.truncated[-1] and not each.terminated.any() for each in rest)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"next_observations": following(3, 7)}, [4, 4, 4]),
        ({"next_observations": following()}, [12]),
        ({"infos/step": np.arange(12) % 6}, [5, 5]),
        ({"timesteps": np.arange(12)[:, None] % 4}, [3, 3, 3]),
        ({"episode_id": np.arange(12) // 5}, [4, 4, 1]),
    ],
)
def test_other_columns_say_where_an_episode_ends(
    tmp_path: Path, columns: dict[str, np.ndarray], expected: list[int]
) -> None:
    path = flat(tmp_path / "d.h5", {}, **columns)
    assert lengths(path) == expected
    assert chosen.count(path) == len(expected)


@pytest.mark.parametrize(
    ("ends", "columns", "fields"),
    [
        (
            {"timeouts": [5]},
            {"next_observations": following(3, 5)},
            {"about": ("row 3", "next_observations"), "got": 4},
        ),
        ({"timeouts": [5]}, {"infos/step": np.arange(12) % 4}, {"about": "row 3", "got": 4}),
        ({}, {"next_observations": X}, {"about": "row 0", "got": 1}),
        ({"timeouts": [5]}, {"infos/qpos": X[:7]}, {"about": "infos/qpos", "got": (7, 2)}),
        ({"timeouts": [5]}, {"timesteps": np.arange(13)}, {"about": "timesteps", "got": (13,)}),
    ],
)
def test_columns_that_contradict(
    tmp_path: Path, ends: dict[str, list[int]], columns: dict[str, np.ndarray], fields: dict[str, object]
) -> None:
    with refused(DataError, **fields):
        import_data("hdf5", flat(tmp_path / "d.h5", ends, **columns), tmp_path / "store")


def test_episodes_that_are_longer_than_they_can_be(tmp_path: Path) -> None:
    path = flat(tmp_path / "d.h5", {"terminals": [3]})
    with h5py.File(path, "a") as file:
        file.attrs["max_episode_steps"] = 5
    with refused(DataError, ("max_episode_steps", "--episode-length 5"), got=8):
        lengths(path)
    assert lengths(path, episode_length=5) == [3, 4, 2]


def test_an_episode_length_is_for_flat_arrays_alone(tmp_path: Path) -> None:
    with refused(DataError, "D4RL", got=tmp_path / "d.hdf5"):
        lengths(demonstrations(tmp_path / "d.hdf5"), episode_length=3)
    with refused(DataError, got="npz"):
        import_data("npz", tmp_path, tmp_path / "store", episode_length=3)


def test_masks_become_a_split(tmp_path: Path) -> None:
    """What the authors hold out is what is held out."""
    path = demonstrations(tmp_path / "d.hdf5")
    with h5py.File(path, "a") as file:
        file["mask/train"], file["mask/valid"] = [b"demo_10"], [b"demo_9"]
    store = import_data("hdf5", path, tmp_path / "store")
    assert read_metadata(store.path)["split"] == {"train": [1], "valid": [0]}
    fitted, held = hold_out(store, 1, seed=0)
    assert (fitted.episodes, held.episodes) == ([1], [0])
    assert hold_out(store, 0, seed=0)[0].episodes == [1]
    with refused(ConfigError, ("evaluate.prediction.episodes", "valid", "1"), got=2):
        hold_out(store, 2, seed=0)
    for split in ({"valid": [7]}, {"valid": [0, 1]}, {"valid": "all"}, {"valid": [True]}):
        (store.path / "metadata.json").write_text(json.dumps({"split": split}))
        with refused(StoreError, (store.path, "valid", "2")):
            hold_out(store, 1, seed=0)
    with h5py.File(path, "a") as file:
        file["mask/test"] = [b"demo_3"]
    with refused(DataError, "mask/test", got="demo_3"):
        import_data("hdf5", path, tmp_path / "other")


def demonstrations(path: Path, *, after: bool = False) -> Path:
    with h5py.File(path, "w") as file:
        for number, length in ((10, 5), (9, 3)):
            group = file.create_group(f"data/demo_{number}")
            group["actions"], group["rewards"] = A[:length], R[:length]
            group["dones"] = np.arange(length) >= length - 2
            group["obs/x"], group["obs/image"] = X[:length], np.full((length, 5, 7, 3), number, np.uint8)
            if after:
                group["next_obs/x"], group["next_obs/image"] = (
                    X[:length] + 1,
                    np.zeros((length, 5, 7, 3), np.uint8),
                )
        file["data"].attrs["env_args"] = '{"env_name": "Lift"}'
    return path


@pytest.mark.parametrize("after", [False, True])
def test_demonstrations(tmp_path: Path, after: bool) -> None:
    path = demonstrations(tmp_path / "d.hdf5", after=after)
    nine, ten = import_data("hdf5", path, tmp_path / "store")
    assert (len(nine), len(ten)) == ((3, 5) if after else (2, 4))
    np.testing.assert_array_equal(ten.observation["x"], [*X[:5], X[4] + 1] if after else X[:5])
    np.testing.assert_array_equal(nine.observation["image"][0], np.full((5, 7, 3), 9))
    assert (ten.terminated.any(), ten.truncated[-1], ten.truncated[:-1].any()) == (False, True, False)
    assert chosen.read_metadata(path) == {"env_args": {"env_name": "Lift"}}
    assert chosen.count(path) == 2


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        (
            {"terminals": np.zeros(11, bool)},
            {"about": ("terminals", "bool", "[11]"), "expected": "12"},
        ),
        ({"timeouts": np.full(12, 2)}, {"about": ("timeouts", "int64"), "expected": ("boolean", "12")}),
        ({"rewards": np.full(12, np.nan)}, {"about": ("episode 0", "reward", "row 0"), "got": "NaN"}),
        ({"observations": X[:7]}, {"about": "observations", "got": (7, 2), "expected": "12"}),
        ({"rewards": np.append(R, 0)}, {"about": "rewards", "got": (13,), "expected": "12"}),
        ({"next_observations": X[:7]}, {"about": "next_observations", "got": [7, 2], "expected": "[12, 2]"}),
        ({"actions": np.float32(1)}, {"about": "actions", "expected": "row"}),
    ],
)
def test_holes_of_flat_arrays(
    tmp_path: Path, changed: dict[str, np.ndarray], fields: dict[str, object]
) -> None:
    path = flat(tmp_path / "d.h5", {"timeouts": [11]}, **changed)
    with refused(DataError, **fields):
        import_data("hdf5", path, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_holes_of_demonstrations(tmp_path: Path) -> None:
    path = demonstrations(tmp_path / "d.hdf5")
    with h5py.File(path, "a") as file:
        del file["data/demo_9/actions"]
    with refused(DataError, ("demo_9", "actions")):
        list(chosen.read(path))
    with h5py.File(path, "a") as file:
        file["data/demo_9/actions"] = A[:3]
        file["data/demo_9/obs/deep/er"] = X[:3]
    with refused(DataError, ("demo_9", "deep"), expected="array"):
        list(chosen.read(path))


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"next_obs/x": X[:2]}, {"about": "next_obs/x", "got": [2, 2], "expected": "[3, 2]"}),
        ({"next_obs/x": None}, {"about": ("next_obs/x", "None")}),
        ({"obs": X[:3]}, {"about": "obs", "expected": "group"}),
        ({"actions": np.float64(1)}, {"about": "actions", "expected": "row"}),
        ({"rewards": None, "rewards/raw": R[:3]}, {"about": "rewards", "expected": "array"}),
    ],
)
def test_demonstrations_with_holes(
    tmp_path: Path, changed: dict[str, np.ndarray | None], fields: dict[str, object]
) -> None:
    path = demonstrations(tmp_path / "d.hdf5", after=True)
    with h5py.File(path, "a") as file:
        demo = file["data/demo_9"]
        for name, array in changed.items():
            if name in demo:
                del demo[name]
            if array is not None:
                demo[name] = array
    with refused(DataError, **fields):
        list(chosen.read(path))


def test_an_episode_may_be_called_data(tmp_path: Path) -> None:
    """The group that robomimic has, with arrays in it, is an episode as wmplay itself lays them out."""
    with h5py.File(tmp_path / "d.h5", "w") as file:
        flags = {"terminated": np.zeros(11, bool), "truncated": np.zeros(11, bool)}
        for name, array in {"observation": X, "action": A[1:], "reward": R[1:], **flags}.items():
            file[f"data/{name}"] = array
    (episode,) = chosen.read(tmp_path / "d.h5")
    np.testing.assert_array_equal(episode.observation["observation"], X)


def test_what_is_beside_demonstrations_is_passed_over(tmp_path: Path) -> None:
    path = demonstrations(tmp_path / "d.hdf5")
    with h5py.File(path, "a") as file:
        file["data/total"] = 8
    assert chosen.count(path) == len(list(chosen.read(path))) == 2
