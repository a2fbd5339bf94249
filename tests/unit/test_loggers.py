"""Loggers: JSON lines that can be cut back, TensorBoard, wandb, and none of them able to stop a run."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from refusals import assert_tokens, refused

from wmplay import loggers, registry
from wmplay.errors import ConfigError, WriteError
from wmplay.loggers import Guarded, Jsonl


def test_json_lines_can_be_cut_back_to_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    logger = Jsonl(path)
    logger.log({"loss": 0.5, "phase": "fit"}, step=7)
    kept = logger.position()
    logger.log({"loss": 0.25}, step=11)
    logger.close()
    Jsonl.cut(path, kept)
    again = Jsonl(path)
    assert again.position() == kept
    again.log({"loss": 0.125}, step=11)
    again.close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines == [{"step": 7, "loss": 0.5, "phase": "fit"}, {"step": 11, "loss": 0.125}]


def test_tensorboard_writes_an_event_file(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = registry.make("logger", "tensorboard", run_dir=tmp_path)
    logger.log({"loss": 0.5, "phase": "fit"}, step=3)
    logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    (scalar,) = events.Scalars("loss")
    assert (scalar.step, scalar.value) == (3, 0.5)


def test_wandb_works_offline_without_a_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = registry.make("logger", "wandb", run_dir=tmp_path, config={"seed": 3})
    logger.log({"loss": 0.5, "phase": "fit"}, step=3)
    logger.close()
    assert list((tmp_path / "wandb").glob("offline-run-*/run-*.wandb"))


class Failing:
    def __init__(self) -> None:
        self.calls = 0

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.calls += 1
        raise ConnectionError("no [way] out")

    def close(self) -> None:
        raise ConnectionError("still no network")


def test_a_failing_logger_is_named_once_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    failing = Failing()
    guarded = Guarded(lambda: failing)
    for step in (1, 2):
        guarded.log({"loss": 1.0}, step=step)
    guarded.close()
    assert failing.calls == 1
    error = capsys.readouterr().err
    assert error.count("Failing failed and is left out from here on: no [way] out\n") == 1
    assert "2 of 2 lines" in error


def test_a_logger_that_does_not_start_or_close_leaves_the_run_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def start() -> Failing:
        raise ConnectionError("no network")

    guarded = Guarded(start)
    guarded.log({"loss": 1.0}, step=1)
    guarded.close()
    assert_tokens(capsys.readouterr().err, "logger")
    Guarded(Failing).close()
    assert_tokens(capsys.readouterr().err, ("Failing", "still no network"))


def test_a_logger_that_refuses_its_settings_refuses_the_run() -> None:
    def refuse() -> Failing:
        raise ConfigError("no such project", got="walks")

    with refused(ConfigError, got="walks"):
        Guarded(refuse)


class Kept:
    """What is logged, behind a gate at each of its methods."""

    def __init__(self, **gates: Event) -> None:
        self.gates, self.lines, self.closed = gates, [], False
        self._pass("start")

    def _pass(self, gate: str) -> None:
        if gate in self.gates:
            self.gates[gate].wait()

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self._pass("log")
        self.lines.append((metrics, step))

    def close(self) -> None:
        self._pass("close")
        self.closed = True


def test_lines_are_delivered_in_order_as_they_were_when_they_were_logged() -> None:
    kept = Kept()
    guarded = Guarded(lambda: kept)
    metrics = {"loss": 0}
    for step in range(100):
        metrics["loss"] = step
        guarded.log(metrics, step)
    guarded.close()
    guarded.close()
    assert kept.lines == [({"loss": step}, step) for step in range(100)]
    assert kept.closed


@pytest.mark.parametrize(("gate", "lost"), [("start", 3), ("log", 3), ("close", 0)])
def test_a_logger_that_blocks_for_ever_holds_nobody(
    gate: str, lost: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loggers, "START", 0.05)
    monkeypatch.setattr(loggers, "FINISH", 0.3)
    monkeypatch.setattr(loggers, "WAITING", 2)
    never = Event()
    guarded = Guarded(lambda: Kept(**{gate: never}))
    for step in range(3):
        guarded.log({"loss": 1.0}, step)
        time.sleep(0.05)  # there is room for each where it is fetched
    guarded.close()
    error = capsys.readouterr().err
    assert "is left behind" in error
    assert (f"{lost} of 3 lines" in error) == (lost > 0)
    never.set()


def test_a_slow_logger_takes_what_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loggers, "WAITING", 5)
    gate = Event()
    kept = Kept(log=gate)
    guarded = Guarded(lambda: kept)
    for step in range(100):
        guarded.log({"loss": 1.0}, step)
    gate.set()
    guarded.close()
    assert kept.closed
    assert 5 <= len(kept.lines) <= 6
    assert f"{100 - len(kept.lines)} of 100 lines" in capsys.readouterr().err


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with refused(ConfigError, "wmplay[wandb]"):
        loggers.WandbLogger(tmp_path, {})


def test_a_full_disk_is_named() -> None:
    logger = Jsonl(Path("/dev/full"))
    with refused(WriteError, ("/dev/full", os.strerror(errno.ENOSPC))):
        logger.log({"loss": 0.5}, step=3)
    logger.close()
