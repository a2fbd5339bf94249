"""Sweeps: every combination gets a run directory, a failed job leaves the others alone, a table ends it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from refusals import refusal, refused
from tiny_sweep import TINY, runs, timeless, write_plugin

import wmplay
from wmplay.cli import main
from wmplay.errors import ConfigError, WmplayError
from wmplay.runs.sweep_directory import SweepDirectory, write_failure
from wmplay.sweeps import multirun


def test_a_sweep_runs_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", *TINY, "model=gru,mlp", "seed=1,2"]) == 0
    (directory,) = Path("runs/tiny").iterdir()
    found = {(run.config.model["_piece_"], run.config.seed) for run in runs(directory)}
    assert found == {(f"model/{name}", seed) for name in ("gru", "mlp") for seed in (1, 2)}
    assert all(run.directory.read()["status"] == "finished" for run in runs(directory))
    assert "Jobs" in capsys.readouterr().out
    with (directory / "sweep.csv").open() as file:
        assert {(row["setting"], row["seed"]) for row in csv.DictReader(file)} == {
            (f"model={model}", seed) for model in ("gru", "mlp") for seed in "12"
        }


def test_names_may_be_chosen_by_a_pattern() -> None:
    write_plugin()
    found = runs(multirun([*TINY, "model=glob([watche*,mlp_b*])"]))
    told = [text for run in found for text in run.directory.read()["overrides"]]
    assert {text for text in told if text.startswith("model=")} == {"model=watched", "model=mlp_beta"}


def test_a_job_of_a_sweep_is_the_run_of_its_overrides() -> None:
    job = runs(multirun([*TINY, "seed=1,2"]))[1]
    alone = wmplay.train([*TINY, "seed=2", "dir=alone"])
    assert timeless(alone) == timeless(job)


def test_a_failed_job_leaves_the_others_running() -> None:
    with refused(WmplayError, ("2", "ConfigError"), got=1):
        multirun([*TINY, "model.frames=0,2"])
    (directory,) = Path("runs/tiny").iterdir()
    (failure,) = directory.glob("*/failure.txt")
    assert "Traceback" in failure.read_text()
    (run,) = runs(directory)
    assert run.config.model.frames == 2
    assert run.directory.read()["status"] == "finished"


def test_jobs_that_all_failed_before_they_began_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    sweep = SweepDirectory(Path("s"))
    sweep.write(["model.frames=0,-1"])
    write_failure(Path("s/job"), ["model.frames=0"], ConfigError("no frames"))
    assert main(["report", "s"]) == 0
    assert "failed" in capsys.readouterr().out


def test_joblib_runs_jobs_side_by_side_and_finds_plugins() -> None:
    write_plugin()
    directory = multirun([*TINY, "model=watched", "model.hidden=7,13", "hydra/launcher=joblib"])
    assert sorted(run.config.model.hidden for run in runs(directory)) == [7, 13]
    assert all(run.model is not None for run in runs(directory))
    assert len(set(Path("updates-a").read_text().split())) == 2  # processes


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=mlp,shotcut"], "unknown model 'shotcut': did you mean 'shortcut'?"),
        (["fit.steps=3,few"], "fit.steps is 'few' (str), expected int >= 0"),
        (
            ["run=runs/old"],
            "a sweep makes new runs: leave out run=, or go on with a sweep by hydra.sweep.dir=",
        ),
        (
            ["fit.lr=interval(0.1,0.2)"],
            "'fit.lr=interval(0.1,0.2)' is a range to search in: choose a sweeper",
        ),
        (["fit.steps=range(5,1)"], "'fit.steps=range(5,1)' has no values: give at least one"),
        (["model=glob(x*)"], "'model=glob(x*)' has no values"),
        (["model=interval(0,1)"], "'model=interval(0,1)' is a range of numbers, expected names"),
        (["hydra/launcher=jobli"], "unknown hydra/launcher 'jobli': did you mean 'joblib'?"),
        (["hydra/sweeper=optun"], "unknown hydra/sweeper 'optun': did you mean 'optuna'?"),
        (
            ["hydra/launcher=joblib", "hydra.launcher.jobs=2"],
            "no key 'jobs' in hydra.launcher: did you mean 'n_jobs'?",
        ),
    ],
)
def test_what_cannot_be_swept_stops_before_it_starts(
    overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, "train", "-m", *TINY, "seed=0,1", *overrides).startswith(message)


@pytest.mark.parametrize(
    ("choice", "package", "extra"),
    [
        ("hydra/launcher=ray", "ray", "ray"),
        ("hydra/launcher=submitit_local", "hydra-submitit-launcher", "submitit"),
        ("hydra/launcher=submitit_slurm", "hydra-submitit-launcher", "submitit"),
        ("hydra/sweeper=optuna", "optuna", "optuna"),
    ],
)
def test_a_missing_package_is_named(
    choice: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("wmplay.sweeps.requests.installed", lambda name: None)
    line = refusal(capsys, "train", "-m", *TINY, "seed=0,1", choice)
    assert line == f"{choice} needs the package {package}, which is not here: pip install 'wmplay[{extra}]'"
