"""A sweep that is stopped, and run again: nothing is done twice, nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from processes import Command
from refusals import assert_tokens, refusal, refused
from tiny_sweep import TINY, runs, timeless, write_plugin

import wmplay
from wmplay import registry
from wmplay.errors import WmplayError
from wmplay.runs.sweep_directory import SweepDirectory
from wmplay.sweeps import multirun

WATCHED = [*TINY, "model=watched", "model.name=a,b"]


@pytest.fixture(autouse=True)
def _here() -> None:
    write_plugin()


def updates(name: str) -> int:
    path = Path(f"updates-{name}")
    return len(path.read_text().split()) if path.exists() else 0


def started(*overrides: str) -> Command:
    """A sweep in a process of its own, in whose job b the second update waits."""
    command = Command("train", "-m", *WATCHED, "hydra.sweep.dir=s", *overrides)
    until = time.monotonic() + 300
    while updates("b") < 2:
        assert command.goes_on(), command.printed.read_text()
        assert time.monotonic() < until, "the sweep does not begin"
        time.sleep(0.05)
    return command


def test_what_is_finished_is_not_done_again(capsys: pytest.CaptureFixture[str]) -> None:
    multirun([*WATCHED, "hydra.sweep.dir=s"])
    before = {path: path.stat().st_mtime_ns for path in Path("s").glob("*/*.json")}
    multirun([*WATCHED, "model.name=b,a", "hydra.sweep.dir=s"])
    assert_tokens(capsys.readouterr().err, ("2 of 2", "finished"))
    assert (updates("a"), updates("b")) == (3, 3)
    assert {path: path.stat().st_mtime_ns for path in Path("s").glob("*/*.json")} == before


def test_more_values_and_seeds_run_only_what_is_new() -> None:
    multirun([*TINY, "model=watched", "model.name=a", "hydra.sweep.dir=s"])
    multirun([*TINY, "model=watched", "model.name=a", "seed=0,1", "fit.lr=0.003", "hydra.sweep.dir=t"])
    multirun([*TINY, "model=watched", "model.name=a", "seed=0,1", "hydra.sweep.dir=s"])
    assert [run.config.seed for run in runs(Path("s"))] == [0, 1]
    assert updates("a") == 3 * 4
    # an override that says what is the default makes no other job
    assert {run.path.name for run in runs(Path("s"))} == {run.path.name for run in runs(Path("t"))}


def test_more_seeds_go_with_what_the_sweep_was_run_with() -> None:
    multirun([*TINY, "model=watched", "model.name=a", "seed=3,4", "hydra.sweep.dir=s"])
    multirun(["seed=4,5", "hydra.sweep.dir=s"])
    assert [run.config.seed for run in runs(Path("s"))] == [3, 4, 5]
    assert updates("a") == 3 * 3


def test_what_failed_is_run_again() -> None:
    Path("fail-b").touch()
    with refused(WmplayError, ("2", "RuntimeError", "watched.py"), got=1):
        multirun([*WATCHED, "hydra.sweep.dir=s"])
    Path("fail-b").unlink()
    multirun(["hydra.sweep.dir=s"])  # its own overrides
    assert (updates("a"), updates("b")) == (3, 1 + 3)
    assert all(run.directory.read()["status"] == "finished" for run in runs(Path("s")))
    assert not list(Path("s").glob("*/failure.txt"))


def test_it_goes_on_with_another_launcher() -> None:
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
    multirun([*TINY, "model=watched", "model.name=a", *joblib, "hydra.sweep.dir=s"])
    multirun(["hydra.sweep.dir=s", "hydra/launcher=basic"])  # which has no n_jobs
    assert updates("a") == 3
    assert SweepDirectory(Path("s")).overrides()[-1] == "hydra/launcher=basic"


def test_killed_it_goes_on_to_the_same_numbers() -> None:
    Path("wait-b").touch()
    command = started("checkpoint.every=0.0")
    command.kill()
    command.wait()
    Path("wait-b").unlink()
    sweep = SweepDirectory(Path("s"))
    assert [sweep.state(run.path) for run in runs(Path("s"))] == ["finished", "stopped"]
    multirun(["hydra.sweep.dir=s"])
    assert (updates("a"), updates("b")) == (3, 2 + 2)  # from its first update on
    alone = wmplay.train([*TINY, "checkpoint.every=0.0", "model=watched", "model.name=b", "dir=alone"])
    assert timeless(runs(Path("s"))[1]) == timeless(alone)


def test_ctrl_c_stops_the_whole_sweep_and_says_how_to_go_on() -> None:
    Path("wait-b").touch()
    command = started("model.name=b,a")  # the last one counts: the job that waits is the first
    command.interrupt()
    Path("wait-b").unlink()
    assert command.wait() == 130
    printed = command.printed.read_text()
    assert "wmplay: interrupted: go on with: wmplay train -m hydra.sweep.dir=s\n" in printed
    assert "Traceback" not in printed
    assert updates("a") == 0  # no other job has begun
    (run,) = runs(Path("s"))
    assert run.directory.read()["status"] == "interrupted"
    multirun(["hydra.sweep.dir=s"])
    assert (updates("a"), updates("b")) == (3, 3)  # b went on after its second


def test_what_runs_is_not_started_twice(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = SweepDirectory(Path("s"))
    busy = sweep.job(registry.compose([*TINY, "model=watched", "model.name=b"]))
    sweep.write(WATCHED)
    with sweep.claimed(busy) as free:
        assert free
        multirun([*WATCHED, "hydra.sweep.dir=s"])
        error = capsys.readouterr().err
    assert_tokens(error, ("1 of 2", "running"))
    assert_tokens(error, ("1 jobs", "wmplay report s"))
    assert (updates("a"), updates("b")) == (3, 0)
    multirun([*WATCHED, "hydra.sweep.dir=s"])
    assert (updates("a"), updates("b")) == (3, 3)


def test_a_checkpoint_that_is_damaged_is_no_reason_to_fail() -> None:
    directory = multirun([*WATCHED, "hydra.sweep.dir=s"])
    run = runs(directory)[0]
    run.directory.update(status="running")
    for path in run.directory.checkpoints():
        path.write_bytes(b"half a")
    multirun(["hydra.sweep.dir=s"])
    assert (updates("a"), updates("b")) == (6, 3)


@pytest.fixture(scope="module")
def other_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("other") / "s"
    SweepDirectory(path).write([*TINY, "seed=0,1"])
    return path


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [
        (
            ["fit.lr=1e-2,1e-3"],
            ("fit.lr", "hydra.sweep.dir=<path>"),
        ),
        (["fit.steps=5"], ("fit.steps=3", "fit.steps=5", "hydra.sweep.dir=")),
    ],
)
def test_another_sweeps_directory_is_left_alone(
    overrides: list[str], tokens: str | tuple[str, ...], other_sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = f"hydra.sweep.dir={other_sweep}"
    before = sorted(other_sweep.rglob("*"))
    assert_tokens(refusal(capsys, "train", "-m", *TINY, "seed=0,1", *overrides, where), tokens)
    assert sorted(other_sweep.rglob("*")) == before


def test_a_directory_that_is_no_sweeps_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("thesis").mkdir()
    Path("thesis/chapter").write_text("1")
    line = refusal(capsys, "train", "-m", *TINY, "seed=0,1", "hydra.sweep.dir=thesis")
    assert_tokens(line, ("thesis", "sweep", "hydra.sweep.dir=<path>"))
    assert_tokens(refusal(capsys, "train", "-m", "hydra.sweep.dir=thesis"), ("thesis", "sweep.json"))
    Path("thesis/sweep.json").write_text('{"overrides"')
    assert_tokens(refusal(capsys, "train", "-m", "hydra.sweep.dir=thesis"), ("sweep.json", "damaged"))
