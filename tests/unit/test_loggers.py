"""Loggers: JSON lines that can be cut back, TensorBoard, wandb, and none of them able to stop a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

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
    assert capsys.readouterr().err == "Failing failed and is left out from here on: no [way] out\n"


def test_a_logger_that_does_not_start_or_close_leaves_the_run_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def start() -> Failing:
        raise ConnectionError("no network")

    Guarded(start).log({"loss": 1.0}, step=1)
    Guarded(Failing).close()
    errors = capsys.readouterr().err
    assert "the logger failed and is left out" in errors
    assert "Failing did not close: still no network" in errors


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import importlib

    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ConfigError, match=r"pip install 'wmplay\[wandb\]'"):
        loggers.WandbLogger(tmp_path, {})


def test_a_full_disk_is_named() -> None:
    logger = Jsonl(Path("/dev/full"))
    with pytest.raises(WriteError, match=r"cannot write /dev/full \(No space left on device\)"):
        logger.log({"loss": 0.5}, step=3)
    logger.close()
