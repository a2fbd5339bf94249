"""Files that are damaged, of something else, or cannot be written: one line each, and nothing lost."""

from __future__ import annotations

import errno
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
from refusals import assert_tokens, contents, failure, refusal, refused

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
    ("damage", "commands", "tokens"),
    [
        (half("run.json"), (GO_ON, EVAL, REPORT, ACT), ("run/run.json", "damaged")),
        (
            text("run.json", "[]"),
            (GO_ON, EVAL, REPORT),
            ("run/run.json", "list"),
        ),
        (text("config.yaml", "seed: ["), (GO_ON, EVAL, ACT), ("run/config.yaml", "damaged")),
        (text("config.yaml", "seed: 3"), (GO_ON, EVAL, ACT), ("run/config.yaml", "env")),
        (
            replaced("hidden: 97", "hidden: x"),
            (GO_ON, EVAL),
            ("run/config.yaml", "MLP", "hidden", "x", "str"),
        ),
        (
            replaced("model/mlp", "model/mpl"),
            (GO_ON, EVAL),
            ("run/config.yaml", "model", "mpl", "mlp"),
        ),
        (
            replaced("hidden: 97", "hidden: 5"),
            (GO_ON, EVAL, ACT),
            ("run", "model", "MLP", "weights"),
        ),
        (checkpoints(b"half"), (GO_ON, EVAL, ACT), ("run", "checkpoint", "000005.pt", "damaged")),
        (
            checkpoints(None),
            (GO_ON, EVAL, ACT),
            ("run", "checkpoint", "copy"),
        ),
        (foreign_checkpoints, (GO_ON, EVAL, ACT), ("run/checkpoints", "format 2")),
        (cut_shard, (GO_ON, EVAL), ("action.npy", "damaged")),
        (half("evaluation.json"), (REPORT,), ("run/evaluation.json", "damaged")),
        (text("evaluation.json", '{"random": {}}'), (REPORT,), ("run/evaluation.json", "'random'")),
        (half("clips.npz"), (REPORT,), ("run/clips.npz", "damaged")),
        (
            half("held_out/seed1000-8/manifest.json"),
            (EVAL,),
            "run/held_out/seed1000-8",
        ),
    ],
)
def test_a_damaged_run_is_refused_and_left_as_it_is(
    damage: Callable[[Path], object],
    commands: tuple[tuple[str, ...], ...],
    tokens: str | tuple[str, ...],
    run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(run)
    for command in commands:
        assert_tokens(refusal(capsys, *command), tokens)


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        (
            ("train", "experiment=tiny", "dir=run"),
            ("run=run", "dir="),
        ),
        (
            ("train", "run=run", "experiment=tiny"),
            ("'experiment'", "run="),
        ),
        (("train", "run=run", "model=rssm"), ("'model'", "run=")),
        (("train", "run=run", "iteratons=2"), ("iteratons", "iterations")),
        (("train", "run=run", "fit.lr=fast"), ("fit.lr", "fast", "str", "float", "0")),
        (("train", "run=run", "+fit.lr=1"), ("'+fit.lr=1'", "key=value")),
        (
            ("train", "run=run", "evaluate.prediction.horizon=29"),
            ("evaluate.prediction", "29", "31 steps"),
        ),
        (("eval", "run", "evaluate.prediction.horizon=29"), ("30 steps", "31")),
        (("eval", "run", "evaluate.policy.episodes=-1"), ("evaluate.policy.episodes", "-1", "int", "0")),
        (("report", "run/checkpoints"), ("run/checkpoints", "run.json")),
        (("report", "run/run.json"), "run/run.json"),
        (
            ("simulate", "luxo", "physics=fast", "--run", "run", "--out", "x"),
            ("'goal_lcd'", "lcd", "proprio"),
        ),
        (
            (*ACT[:-1], "run/trajectories", "full_state=true"),
            ("full_state", "observation"),
        ),
    ],
)
def test_what_cannot_be_done_with_a_run(
    arguments: tuple[str, ...], tokens: str | tuple[str, ...], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_tokens(refusal(capsys, *arguments), tokens)


def test_a_run_that_another_process_is_at(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDirectory(run).held():
        for command in (GO_ON, EVAL):
            assert_tokens(refusal(capsys, *command), ("run", f"process {os.getpid()}"))
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
    ("path", "content", "tokens"),
    [
        ("store/manifest.json", "half a manif", ("store/manifest.json", "line 1")),
        (
            "store/manifest.json",
            '{"schema": 2}',
            ("store/manifest.json", "schema 2", "schema 1"),
        ),
        ("store/manifest.json", '{"schema": 1}', ("store/manifest.json", "columns")),
        ("store", "a file", ("store", "File exists")),
    ],
)
def test_a_store_that_is_none(
    path: str, content: str, tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(content)
    assert_tokens(refusal(capsys, *SIMULATE, "store"), tokens)


def test_a_store_of_other_trajectories(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for env, tokens in (
        (("crab", "physics=fast"), ("world=luxo, physics=fast", "world=crab")),
        (
            ("luxo", "physics=fast", "task=body_goal"),
            ("store", "observation.goal_lcd", "observation.lcd"),
        ),
        (("Pendulum-v1",), ("world=luxo", "id=Pendulum-v1")),
    ):
        assert_tokens(refusal(capsys, "simulate", *env, "--out", "store"), tokens)
    assert_tokens(refusal(capsys, "train", *SMALL, "env.data=store"), "observation.goal_lcd")


def test_a_store_with_a_damaged_file_says_how_many_episodes_are_readable(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SIMULATE, "store"]) == 0
    shard = min((store / "shards").glob("*/reward.npy"))
    shard.unlink()
    message = refusal(capsys, *SIMULATE, "store")
    assert_tokens(message, (shard, "damaged"))
    assert_tokens(message, "3 of 6")
    assert len(wmplay.load_trajectories("store", skip_damaged=True)) == 3


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"observation": {"x": np.zeros((5, 3))}}, {"about": "x", "got": (5, 3), "expected": "[6, 3]"}),
        ({"reward": np.zeros(4)}, {"about": "reward", "got": (4,), "expected": "[5]"}),
        ({"terminated": np.zeros((5, 1), bool)}, {"about": "terminated", "got": (5, 1), "expected": "[5]"}),
    ],
)
def test_a_trajectory_of_wrong_lengths(changes: dict[str, object], fields: dict[str, object]) -> None:
    arrays = {
        "observation": {"x": np.zeros((6, 3))},
        "action": np.zeros((5, 2)),
        "reward": np.zeros(5),
        "terminated": np.zeros(5, bool),
        "truncated": np.zeros(5, bool),
    }
    with refused(ShapeError, **fields):
        wmplay.Trajectory(**{**arrays, **changes})


@pytest.mark.parametrize(("batch_size", "length"), [(0, 7), (-3, 7), (5, 0)])
def test_a_sample_of_nothing(store: Path, batch_size: int, length: int) -> None:
    with refused(StoreError, ("batch_size", "length"), got=(batch_size, length), expected="1"):
        wmplay.load_trajectories(store).sample(batch_size, length, np.random.default_rng(0))


def test_a_limit_that_would_drop_everything(store: Path) -> None:
    before = contents(store)
    trajectories = list(wmplay.load_trajectories(store))
    with refused(StoreError, "max_steps", got=0, expected="1"):
        wmplay.save_trajectories(trajectories, store, max_steps=0)
    assert contents(store) == before


# ---- places that cannot be written to --------------------------------------------------------------


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null/nowhere"])
def test_a_place_without_permission(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert_tokens(refusal(capsys, "train", "experiment=tiny", f"dir={place}"), place)
    assert_tokens(refusal(capsys, *SIMULATE, place), ("store", place))


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
    assert_tokens(message, (store, os.strerror(errno.ENOSPC)))
    assert contents(store) == before


def test_no_space_for_a_run(disk: Callable[[int], Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = disk(4) / "run"
    assert_tokens(
        failure(capsys, "train", *SMALL, f"dir={path}"), (f"{path}/config.yaml", os.strerror(errno.ENOSPC))
    )
    assert not path.exists()


def test_no_space_for_checkpoints_and_on_when_there_is(
    disk: Callable[[int], Path], finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = max(path.stat().st_size for path in (finished / "checkpoints").iterdir()) // 1024
    path = disk(size + 200) / "run"  # before fitting they are smaller: the optimiser has no state yet
    message = failure(capsys, "train", *SMALL, f"dir={path}")
    assert f"{path}/checkpoints/0000" in message
    assert_tokens(message, os.strerror(errno.ENOSPC))
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
    assert f"{copy}/report" in message
    assert_tokens(message, os.strerror(errno.ENOSPC))
    assert contents(copy) == before
