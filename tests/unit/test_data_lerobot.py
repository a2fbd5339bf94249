"""LeRobot v3.0: what its own recorder wrote, the time rule, and holes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from refusals import refused

import wmplay
from wmplay.check.fixtures.alignment_env import AlignmentWorld, check_alignment
from wmplay.errors import DataError
from wmplay.formats import data_format
from wmplay.formats.transfer import export_data, import_data

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("av")
files = pytest.importorskip("lerobot_files")
VIDEO, write_lerobot = files.VIDEO, files.write_lerobot

TOY = Path(__file__).parents[1] / "fixtures" / "lerobot_toy"
chosen = data_format("lerobot")


def test_a_dataset_that_lerobot_recorded(tmp_path: Path) -> None:
    store = import_data("lerobot", TOY, tmp_path / "store")
    assert [len(trajectory) for trajectory in store] == [4, 2, 10]  # of 5, 3 and 11 frames
    for e, trajectory in enumerate(store):
        t = np.arange(len(trajectory) + 1)
        seen = trajectory.observation
        np.testing.assert_array_equal(seen["state"], np.stack([t, 0 * t + e, t * e], 1).astype(np.float32))
        np.testing.assert_array_equal(seen["clock"], t[:, None])
        np.testing.assert_array_equal(seen["grid"], np.arange(6.0) + t[:, None] / 8)  # [2, 3], flat
        wrist = np.broadcast_to((7 * t + e)[:, None, None, None], (len(t), 5, 7, 3))
        np.testing.assert_array_equal(seen["images.wrist"], wrist)
        colour = np.stack([20 * t + 5, 0 * t + 60 * e + 10, 0 * t + 200], 1)
        top = seen["images.top"].astype(int)
        assert top.shape == (len(t), 48, 64, 3)
        # a video loses a little, but is not one frame off
        assert np.abs(top - colour[:, None, None]).max() <= 9
        np.testing.assert_array_equal(trajectory.action, np.stack([t[:-1] / 16, 0 * t[:-1] + e], 1))
        np.testing.assert_array_equal(trajectory.reward, t[:-1] + np.float32(0.25))
        assert trajectory.terminated.sum() == (e == 1)
        assert trajectory.truncated[-1] == (e != 1)
    dtypes = {name: str(column.dtype) for name, column in store.space.items()}
    assert (dtypes["observation.state"], dtypes["observation.clock"]) == ("float32", "float32")
    kept = json.loads((tmp_path / "store" / "metadata.json").read_text())
    assert kept["tasks"] == ["task 0", "task 1"]
    assert (kept["fps"], kept["robot_type"], kept["left_out"]) == (10, "toy", ["task_index"])


@pytest.mark.parametrize("discrete", [False, True])
def test_the_time_rule(tmp_path: Path, discrete: bool) -> None:
    made = wmplay.simulate(AlignmentWorld(discrete=discrete), episodes=7, seed=3)
    write_lerobot(tmp_path / "d", [frames_of(trajectory) for trajectory in made])
    got = list(chosen.read(tmp_path / "d"))
    assert chosen.count(tmp_path / "d") == 7
    shaped = []
    for trajectory in got:
        observation = dict(trajectory.observation)
        if discrete:
            observation["led_by"] = observation["led_by"][:, 0]  # a single number is a vector of one here
        shaped.append(replace(trajectory, observation=observation))
    check_alignment(shaped)
    for ours, theirs in zip(made, shaped, strict=True):
        np.testing.assert_array_equal(theirs.action, ours.action)
        assert theirs.action.dtype == ours.action.dtype
        np.testing.assert_array_equal(theirs.observation["screen"], ours.observation["screen"])


def frames_of(trajectory) -> dict[str, np.ndarray]:
    """A trajectory as a robot's recorder has it: the last frame with an action that leads nowhere."""

    def one_more(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.zeros_like(array[:1])])

    return {
        **{f"observation.{key}": value for key, value in trajectory.observation.items()},
        "action": one_more(trajectory.action),
        "next.reward": one_more(trajectory.reward),
        "next.done": one_more(trajectory.terminated | trajectory.truncated),
        "next.truncated": one_more(trajectory.truncated),
    }


def toy_frames(lengths: list[int]) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [
        {
            "observation.state": rng.normal(size=(length, 2)).astype(np.float32),
            VIDEO: rng.integers(0, 256, (length, 16, 32, 3), dtype=np.uint8),
            "action": rng.normal(size=(length, 3)).astype(np.float32),
        }
        for length in lengths
    ]


def test_videos_of_several_episodes_and_files_frame_by_frame(tmp_path: Path) -> None:
    """Noise, losslessly encoded: every frame is its own and no other."""
    episodes = toy_frames([3, 7, 1, 5, 2])
    write_lerobot(tmp_path / "d", episodes, per_file=3)
    assert chosen.count(tmp_path / "d") == 4  # a single frame is no step
    got = list(chosen.read(tmp_path / "d"))
    for trajectory, frames in zip(got, [e for e in episodes if len(e["action"]) > 1], strict=True):
        np.testing.assert_array_equal(trajectory.observation["images.top"], frames[VIDEO])
        np.testing.assert_array_equal(trajectory.action, frames["action"][:-1])
        assert not trajectory.reward.any()
        assert trajectory.truncated[-1]


def change(table: pa.Table, name: str, values: list[object]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def edit(file: Path, **changed: list[object]) -> None:
    table = pq.read_table(file)
    for name, values in changed.items():
        table = table.drop_columns(name) if values is None else change(table, name, values)
    pq.write_table(table, file)


DATA, META = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
VIDEOS = f"videos/{VIDEO}/chunk-000/file-000.mp4"
HOLES = [
    ({"about": ("episode 0", "frame_index", "2")}, lambda d: edit(d / DATA, frame_index=[0, 2, 3, 0, 1])),
    ({"about": ("action", "meta/info.json")}, lambda d: edit(d / DATA, action=None)),
    (
        {"about": ("episode 9", "data/", "meta/episodes")},
        lambda d: edit(d / DATA, episode_index=[0, 0, 0, 9, 9]),
    ),
    ({"about": "episode 0", "advice": "data/"}, lambda d: (d / DATA).unlink()),
    ({"about": "file-000.parquet"}, lambda d: (d / DATA).write_bytes(b"no parquet")),
    ({"about": "meta/episodes"}, lambda d: (d / META).unlink()),
    ({"about": "observation.images.top"}, lambda d: edit(d / META, **{f"videos/{VIDEO}/file_index": None})),
    ({"about": "file-000.mp4"}, lambda d: (d / VIDEOS).unlink()),
    ({"about": "file-007.mp4"}, lambda d: edit(d / META, **{f"videos/{VIDEO}/file_index": [7, 7]})),
    (
        {"about": ("file-000.mp4", "0")},
        lambda d: edit(d / META, **{f"videos/{VIDEO}/from_timestamp": [0.0, 0.4]}),
    ),
    (
        {"about": ("observation.state", "3"), "got": 15},
        lambda d: edit(d / DATA, **{"observation.state": [[0.0] * 5] * 5}),
    ),
    (
        {"about": "observation.state", "got": 1},
        lambda d: edit(
            d / DATA, **{"observation.state": [[0.0, 1.0], None, [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]}
        ),
    ),
    ({"about": "LeRobot", "got": "v2.1", "expected": "v3.0"}, lambda d: info(d, codebase_version="v2.1")),
    ({"about": ("info.json", "fps")}, lambda d: info(d, fps=None)),
    ({"about": "info.json"}, lambda d: (d / "meta" / "info.json").write_text("{")),
    ({"about": "info.json"}, lambda d: (d / "meta" / "info.json").write_text("[" * 9_999)),
    ({"about": "video_path"}, lambda d: info(d, video_path="{video_key.__class__}")),
    ({"about": "video_path"}, lambda d: info(d, video_path="{chunk_index:99999999d}")),
    ({"about": ("action", "observation.state")}, lambda d: info(d, features_without="action")),
]


def info(path: Path, features_without: str = "", **changed: object) -> None:
    file = path / "meta" / "info.json"
    content = {**json.loads(file.read_text()), **changed}
    content["features"].pop(features_without, None)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(("fields", "damage"), HOLES)
def test_a_hole_is_named_and_nothing_imported(
    tmp_path: Path, fields: dict[str, object], damage: Callable[[Path], object]
) -> None:
    write_lerobot(tmp_path / "d", toy_frames([3, 2]))
    damage(tmp_path / "d")
    with refused(DataError, **fields):
        import_data("lerobot", tmp_path / "d", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    shutil.copytree(TOY, tmp_path / "d")
    file = tmp_path / "d" / DATA
    edit(file, **{"observation.images.wrist": [{"bytes": b"no image", "path": ""}] * 19})
    with refused(DataError, "observation.images.wrist"):
        list(chosen.read(tmp_path / "d"))


def test_it_is_read_and_not_written(tmp_path: Path) -> None:
    with refused(DataError, got="lerobot", advice="hdf5"):
        export_data(tmp_path / "store", "lerobot", tmp_path / "d")
