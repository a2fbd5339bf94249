"""Sweeps: every combination gets a run directory, a failed job leaves the others alone, a table ends it."""

from __future__ import annotations

from pathlib import Path

import pytest

import wmplay
from wmplay.cli import main
from wmplay.errors import WmplayError
from wmplay.sweep import multirun

TINY = ["experiment=tiny", "iterations=1", "fit.steps=3", "report=false", "evaluate.policy.episodes=2"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sweep_runs_every_combination(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", *TINY, "model=rssm,mlp", "seed=1,2"]) == 0
    (directory,) = Path("runs/tiny").iterdir()
    runs = [wmplay.load_run(directory / str(job)) for job in range(4)]
    found = {(run.config.model["_target_"].rpartition(".")[2], run.config.seed) for run in runs}
    assert found == {("RSSM", 1), ("RSSM", 2), ("MLP", 1), ("MLP", 2)}
    assert all(run.directory.read()["status"] == "finished" for run in runs)
    assert "Jobs" in capsys.readouterr().out
    assert (directory / "sweep.csv").exists()


def test_a_job_of_a_sweep_is_the_run_of_its_overrides() -> None:
    directory = multirun([*TINY, "seed=1,2"])
    alone = wmplay.train([*TINY, "seed=2", "dir=alone"])
    job = wmplay.load_run(directory / "1")
    drop = ("time",)
    left, right = (
        [{k: v for k, v in line.items() if k not in drop} for line in r.metrics] for r in (alone, job)
    )
    assert left == right


def test_a_failed_job_leaves_the_others_running(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WmplayError, match=r"1 jobs of the sweep failed, such as .*/0: ConfigError"):
        multirun([*TINY, "model=mlp", "model.frames=0,2"])
    (directory,) = Path("runs/tiny").iterdir()
    assert (directory / "0" / "failure.txt").exists()
    assert wmplay.load_run(directory / "1").directory.read()["status"] == "finished"


def test_an_unknown_name_stops_a_sweep_before_it_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "-m", *TINY, "model=rssm,mpl"]) == 2
    assert "unknown model 'mpl': did you mean 'mlp'?" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_joblib_runs_jobs_side_by_side_and_finds_plugins() -> None:
    Path("plugins").mkdir()
    Path("plugins/mine.py").write_text(
        "import wmplay\nfrom wmplay.models.mlp import MLP\n"
        "@wmplay.register('model', 'mine')\n"
        "class Mine(MLP):\n"
        "    def __init__(self, observation_space, action_space, *, hidden: int = 16):\n"
        "        super().__init__(observation_space, action_space, hidden=hidden)\n"
    )
    launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    directory = multirun([*TINY, "model=mine", "model.hidden=7,11", *launcher])
    hidden = [wmplay.load_run(directory / str(job)).config.model.hidden for job in range(2)]
    assert hidden == [7, 11]
    assert wmplay.load_run(directory / "1").model is not None
