"""Files that are damaged, of something else, or cannot be written: one line each, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import contents, failure, refusal

import wmplay
from wmplay.cli import main
from wmplay.errors import ShapeError, StoreError
from wmplay.runs.disk.directory import RunDirectory

SMALL = ("experiment=tiny", "iterations=1", "model=mlp", "model.hidden=97", "report=false")
SIMULATE = ("simulate", "luxo", "physics=fast", "--episodes", "3", "--out")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to copy."""
    path = tmp_path_factory.mktemp("finished") / "run"
    wmplay.train([*SMALL, f"dir={path}"])
    return path


@pytest.fixture
def run(finished: Path) -> Path:
    shutil.copytree(finished, "run")
    return Path("run")


# ---- runs ------------------------------------------------------------------------------------------


def half(path: str) -> Callable[[Path], None]:
    return lambda run: (run / path).write_bytes((run / path).read_bytes()[: (run / path).stat().st_size // 2])


def text(path: str, content: str) -> Callable[[Path], object]:
    return lambda run: (run / path).write_text(content)


def replaced(old: str, new: str) -> Callable[[Path], object]:
    def edit(run: Path) -> None:
        config = (run / "config.yaml").read_text()
        assert old in config
        (run / "config.yaml").write_text(config.replace(old, new))

    return edit


def checkpoints(content: bytes | None) -> Callable[[Path], None]:
    def edit(run: Path) -> None:
        for path in (run / "checkpoints").iterdir():
            path.unlink() if content is None else path.write_bytes(content)

    return edit


def foreign_checkpoints(run: Path) -> None:
    for path in (run / "checkpoints").iterdir():
        torch.save({"weights": {}}, path)


def cut_shard(run: Path) -> None:
    shard = min((run / "trajectories" / "shards").glob("*/action.npy"))
    shard.write_bytes(shard.read_bytes()[:100])


GO_ON, EVAL, REPORT = ("train", "run=run", "iterations=2"), ("eval", "run"), ("report", "run")
ACT = ("simulate", "luxo", "task=body_goal", "physics=fast", "--run", "run", "--out", "store")


@pytest.mark.parametrize(
    ("damage", "commands", "message"),
    [
        (half("run.json"), (GO_ON, EVAL, REPORT, ACT), "run/run.json is damaged ("),
        (
            text("run.json", "[]"),
            (GO_ON, EVAL, REPORT),
            "run/run.json is damaged: it holds a list, expected an",
        ),
        (text("config.yaml", "seed: ["), (GO_ON, EVAL, ACT), "run/config.yaml is damaged (while parsing"),
        (text("config.yaml", "seed: 3"), (GO_ON, EVAL, ACT), "run/config.yaml: there is no 'env'"),
        (
            replaced("hidden: 97", "hidden: x"),
            (GO_ON, EVAL),
            "run/config.yaml: MLP: hidden is 'x' (str), exp",
        ),
        (
            replaced("model/mlp", "model/mpl"),
            (GO_ON, EVAL),
            "run/config.yaml: unknown model 'mpl': did you mean 'mlp'",
        ),
        (
            replaced("hidden: 97", "hidden: 5"),
            (GO_ON, EVAL, ACT),
            "the checkpoint in run is of another model than",
        ),
        (checkpoints(b"half"), (GO_ON, EVAL, ACT), "run has no checkpoint that can be read; 0000"),
        (
            checkpoints(None),
            (GO_ON, EVAL, ACT),
            "run has no checkpoint that can be read: restore one from a copy",
        ),
        (foreign_checkpoints, (GO_ON, EVAL, ACT), ".pt is not a checkpoint of format 2"),
        (cut_shard, (GO_ON, EVAL), "action.npy is damaged ("),
        (half("evaluation.json"), (REPORT,), "run/evaluation.json is damaged "),
        (text("evaluation.json", '{"random": {}}'), (REPORT,), "run/evaluation.json is damaged ("),
        (half("clips.npz"), (REPORT,), "run/clips.npz is damaged ("),
        (
            half("held_out/seed1000-8/manifest.json"),
            (EVAL,),
            "; or delete run/held_out/seed1000-8: its episodes",
        ),
    ],
)
def test_a_damaged_run_is_refused_and_left_as_it_is(
    damage: Callable[[Path], object],
    commands: tuple[tuple[str, ...], ...],
    message: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run)
    for command in commands:
        assert message in refusal(capsys, *command)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("train", "experiment=tiny", "dir=run"),
            "run is a run: go on with it by run=run, or choose another dir=",
        ),
        (
            ("train", "run=run", "experiment=tiny"),
            "cannot override 'experiment': a run that goes on keeps its pi",
        ),
        (("train", "run=run", "model=rssm"), "cannot override 'model': a run that goes on keeps its pieces"),
        (("train", "run=run", "iteratons=2"), "no key 'iteratons': did you mean 'iterations'"),
        (("train", "run=run", "fit.lr=fast"), "fit.lr is 'fast' (str), expected float > 0"),
        (("train", "run=run", "+fit.lr=1"), "'+fit.lr=1': expected key=value with a single value here"),
        (
            ("train", "run=run", "evaluate.prediction.horizon=29"),
            "a horizon of 29 take 31 steps, an episode has at",
        ),
        (("eval", "run", "evaluate.prediction.horizon=29"), "has 30 steps, expected at least 31"),
        (("eval", "run", "evaluate.policy.episodes=-1"), "evaluate.policy.episodes is -1, expected int >= 0"),
        (("report", "run/checkpoints"), "run/checkpoints is not a run: it has no run.json"),
        (("report", "run/run.json"), "run/run.json is not a run: it has no run.json"),
        (
            ("simulate", "luxo", "physics=fast", "--run", "run", "--out", "x"),
            "needs the observation 'goal_lcd', the env has lcd, pr",
        ),
        (
            (*ACT[:-1], "run/trajectories", "full_state=true"),
            "full_state, which the env gives (it has observation",
        ),
    ],
)
def test_what_cannot_be_done_with_a_run(
    arguments: tuple[str, ...], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, *arguments)


def test_a_run_that_another_process_is_at(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDirectory(run).held():
        for command in (GO_ON, EVAL):
            assert f"run is in use by process {os.getpid()} on " in refusal(capsys, *command)
        assert main(REPORT) == 0, "which only reads it, and may be looked at meanwhile"


@pytest.mark.parametrize("directory", ["notes", "notes/thesis.txt"])
def test_a_directory_for_a_run_that_holds_something_else(
    directory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes").mkdir()
    Path("notes/thesis.txt").write_text("do not touch")
    message = refusal(capsys, "train", "experiment=tiny", f"dir={directory}")
    assert message == f"{directory} exists, and is not a run to go on with: choose another dir=<path>"


# ---- stores ----------------------------------------------------------------------------------------


@pytest.fixture
def store() -> Path:
    assert main([*SIMULATE, "store"]) == 0
    return Path("store")


@pytest.mark.parametrize(
    ("path", "content", "message"),
    [
        ("store/manifest.json", "half a manif", "store/manifest.json is damaged (Expecting value"),
        (
            "store/manifest.json",
            '{"schema": 2}',
            "has schema 2, this version of wmplay reads schema 1: read it",
        ),
        ("store/manifest.json", '{"schema": 1}', "store/manifest.json is damaged ("),
        ("store", "a file", "cannot write to the store store (File exists): it is as it was before"),
    ],
)
def test_a_store_that_is_none(
    path: str, content: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(content)
    assert message in refusal(capsys, *SIMULATE, "store")


def test_a_store_of_other_trajectories(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for env, message in (
        (("crab", "physics=fast"), "store store was made with lcd(world=luxo, physics=fast"),
        (
            ("luxo", "physics=fast", "task=body_goal"),
            "has no observation.goal_lcd, which the env gives (it has observation.lcd",
        ),
        (("Pendulum-v1",), "the env here is gym(id=Pendulum-v1"),
    ):
        assert message in refusal(capsys, "simulate", *env, "--out", "store")
    assert "has no observation.goal_lcd" in refusal(capsys, "train", *SMALL, "env.data=store")


def test_a_store_with_a_damaged_file_says_how_many_episodes_are_readable(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SIMULATE, "store"]) == 0
    shard = min((store / "shards").glob("*/reward.npy"))
    shard.unlink()
    message = refusal(capsys, *SIMULATE, "store")
    assert message.startswith(f"{shard} is damaged (")
    assert "3 of 6 episodes are readable" in message
    assert len(wmplay.load_trajectories("store", skip_damaged=True)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"observation": {"x": np.zeros((5, 3))}}, r"observation 'x' has shape \[5, 3\], expected \[6, 3\]"),
        ({"reward": np.zeros(4)}, r"trajectory reward has shape \[4\], expected \[5\]"),
        ({"terminated": np.zeros((5, 1), bool)}, r"trajectory terminated has shape \[5, 1\], expected \[5\]"),
    ],
)
def test_a_trajectory_of_wrong_lengths(changes: dict[str, object], message: str) -> None:
    arrays = {
        "observation": {"x": np.zeros((6, 3))},
        "action": np.zeros((5, 2)),
        "reward": np.zeros(5),
        "terminated": np.zeros(5, bool),
        "truncated": np.zeros(5, bool),
    }
    with pytest.raises(ShapeError, match=message):
        wmplay.Trajectory(**{**arrays, **changes})


@pytest.mark.parametrize(("batch_size", "length"), [(0, 7), (-3, 7), (5, 0)])
def test_a_sample_of_nothing(store: Path, batch_size: int, length: int) -> None:
    with pytest.raises(StoreError, match="expected at least 1 of each"):
        wmplay.load_trajectories(store).sample(batch_size, length, np.random.default_rng(0))


def test_a_limit_that_would_drop_everything(store: Path) -> None:
    before = contents(store)
    trajectories = list(wmplay.load_trajectories(store))
    with pytest.raises(StoreError, match="max_steps is 0, expected at least 1"):
        wmplay.save_trajectories(trajectories, store, max_steps=0)
    assert contents(store) == before


# ---- places that cannot be written to --------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/nowhere"])
def test_a_place_without_permission(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"cannot write {place} (" in refusal(capsys, "train", "experiment=tiny", f"dir={place}")
    assert f"cannot write to the store {place} (" in refusal(capsys, *SIMULATE, place)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes disks of so many kilobytes."""
    made: list[Path] = []

    def make(kilobytes: int) -> Path:
        path = tmp_path / f"disk{kilobytes}"
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("only root can mount a small disk")
        made.append(path)
        return path

    yield make
    for path in made:
        subprocess.run(["umount", "-l", str(path)], check=True)


def test_no_space_for_a_store(disk: Callable[[int], Path], capsys: pytest.CaptureFixture[str]) -> None:
    store = disk(96) / "store"
    assert main([*SIMULATE, str(store)]) == 0
    before = contents(store)
    message = failure(capsys, *SIMULATE, str(store), "--episodes", "60")
    assert f"cannot write to the store {store} (No space left on device): it is as it was before" in message
    assert contents(store) == before


def test_no_space_for_a_run(disk: Callable[[int], Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = disk(4) / "run"
    assert f"cannot write {path}/config.yaml (No space left" in failure(
        capsys, "train", *SMALL, f"dir={path}"
    )
    assert not path.exists()


def test_no_space_for_checkpoints_and_on_when_there_is(
    disk: Callable[[int], Path], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = max(path.stat().st_size for path in (finished / "checkpoints").iterdir()) // 1024
    path = disk(size + 200) / "run"  # before fitting they are smaller: the optimiser has no state yet
    message = failure(capsys, "train", *SMALL, f"dir={path}")
    assert f"cannot write {path}/checkpoints/0000" in message
    assert "(No space left on device): what was there is as it was" in message
    run = wmplay.load_run(path)
    saved = run.directory.read_checkpoint()
    assert all(name.suffix == ".pt" and name.stem.isdigit() for name in (path / "checkpoints").iterdir())
    assert len(run.trajectories) == 10
    assert saved["state"]["phase"] == "fit"
    subprocess.run(["mount", "-o", f"remount,size={9 * size + 4096}k", str(path.parent)], check=True)
    assert wmplay.train([f"run={path}"]).directory.read()["status"] == "finished"
    numbers = [
        {k: v for k, v in json.loads(line).items() if k != "time"}
        for line in (finished / "metrics.jsonl").read_text().splitlines()
    ]
    assert [{k: v for k, v in line.items() if k != "time"} for line in run.metrics] == numbers


def test_no_space_for_a_report(
    disk: Callable[[int], Path], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = sum(path.stat().st_size for path in run.rglob("*") if path.is_file()) // 1024
    copy = disk(needed + 400) / "run"
    shutil.copytree(run, copy)
    filler = copy.parent / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    (copy / "report").mkdir()
    before = contents(copy)
    message = failure(capsys, "report", str(copy))
    assert f"cannot write {copy}/report" in message
    assert "(No space left on device)" in message
    assert contents(copy) == before
