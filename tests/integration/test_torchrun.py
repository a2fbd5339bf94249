"""Runs of two processes under torchrun: the files and the numbers of one, to go on with by any number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from refusals import assert_tokens, refusal, refused

import wmplay
from wmplay import registry
from wmplay.errors import ConfigError
from wmplay.loop.session import Session
from wmplay.system.processes import Team

# Nothing is drawn in mlp's loss; episodes are long enough for some windows only, so that masks matter.
RUN = (
    "experiment=tiny",
    "model=mlp",
    "model.hidden=17",
    "model.image_hidden=19",
    "device=cpu",
    "env.task=null",
    "objective=sum_of_rewards",
    "policy=random",
    "collect.env={max_steps: 5}",
    "collect.episodes=2",
    "fit.batch_size=6",
    "fit.schedule=constant",
    "fit.precision=float32",
    "fit.log_every=1",
    "evaluate.prediction={episodes: 2, context: 1, horizon: 3}",
    "evaluate.generation.clips=0",
    "evaluate.policy.episodes=0",
    "report=false",
)


def torchrun(*overrides: str) -> None:
    """Two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, "-m", "wmplay", "train", *overrides], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("fit       ") == 1, done.stderr  # one of them tells how it goes
    assert "Warning" not in done.stderr, done.stderr
    assert done.stdout.count("run: ") == 1


def numbers(run: str) -> list[dict[str, Any]]:
    """The lines of metrics but for when they were written."""
    return [{**line, "time": 0} for line in wmplay.load_run(run).metrics]


def files(run: str) -> list[str]:
    """What a run has left; shards and checkpoints by their folders, as they have names of their own."""
    paths = [path.relative_to(run) for path in Path(run).rglob("*") if path.is_file()]
    named = {"shards": lambda path: f"shards/*/{path.name}", "checkpoints": lambda path: "checkpoints/*.pt"}
    return sorted(
        next((name(path) for part, name in named.items() if part in path.parts), str(path)) for path in paths
    )


def test_two_processes_leave_the_files_and_numbers_of_one_which_goes_on() -> None:
    wmplay.train([*RUN, "iterations=2", "dir=one"])
    torchrun(*RUN, "iterations=1", "dir=two")
    wmplay.train(["run=two", "iterations=2"])
    assert files("two") == files("one")
    assert len(numbers("two")) == len(numbers("one")) > 20
    for ours, theirs in zip(numbers("two"), numbers("one"), strict=True):
        assert ours.pop("phase") == theirs.pop("phase")
        assert ours == pytest.approx(theirs, rel=2e-3, abs=1e-5)
    for a, b in zip(*(wmplay.load_run(run).trajectories for run in ("one", "two")), strict=True):
        assert (a.action == b.action).all()


# ---- bad input -----------------------------------------------------------------------------------


def test_a_batch_that_cannot_be_shared() -> None:
    with refused(ConfigError, "fit.batch_size", got=6, expected="5"):
        Session(registry.compose(RUN), Team(3, 5, 3))


def test_a_sweep_is_not_for_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert_tokens(refusal(capsys, "train", "-m", *RUN, "seed=0,1"), ("torchrun", "-m"))


def test_processes_that_do_not_know_of_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    assert_tokens(refusal(capsys, "train", *RUN), ("WORLD_SIZE", "2", "RANK"))
