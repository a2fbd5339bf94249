"""The conformance kit on loggers: an honest one passes, each property fails one built to break it."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Mapping
from pathlib import Path
from threading import Event, get_ident
from typing import Any, ClassVar

import pytest
from mutants import Mutants, expect_failures, named

import wmplay
from wmplay.check import check_logger
from wmplay.check.loggers import PROPERTIES
from wmplay.loggers import NoLogger


class Honest:
    """A line of JSON for each call."""

    filename = "mine.jsonl"
    mode = "a"

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.file = (run_dir / self.filename).open(self.mode)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.file.write(json.dumps({**metrics, "step": step}) + "\n")

    def close(self) -> None:
        self.file.close()


# ---- loggers that each break something -----------------------------------------------------------

MUTANTS = Mutants()
breaks = MUTANTS.breaks


@breaks("it logs and closes")
class TakesNoStepTwice(Honest):
    last = -1

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if step <= self.last:
            raise ValueError(f"step {step} was logged before")
        self.last = step
        super().log(metrics, step)


@breaks("odd metrics are no reason to stop")
class TakesNumbersOnly(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        super().log({name: float(value) for name, value in metrics.items()}, step)


@breaks("odd metrics are no reason to stop")
class StrictJson(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        json.dumps(dict(metrics), allow_nan=False)
        super().log(metrics, step)


@breaks("odd metrics are no reason to stop")
class AFileForEachMetric(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        for name in metrics:
            (self.run_dir / f"{name.replace('/', '.')}.txt").write_text(str(step))
        super().log(metrics, step)


@breaks("every name is kept")
class ColumnsOfTheFirstLine(Honest):
    columns: list[str] | None = None

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if self.columns is None and metrics:
            self.columns = list(metrics)
            csv.writer(self.file).writerow(self.columns)
        csv.writer(self.file).writerow([metrics.get(name) for name in self.columns or ()])


@breaks("every name is kept")
class OneLineForAStep(Honest):
    last: int | None = None

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if step != self.last:
            super().log(metrics, step)
        self.last = step


@breaks("a run that goes on keeps what there was")
class WritesFromTheStart(Honest):
    mode = "w"


@breaks("it keeps to its own")
class WritesIntoTheRunsMetrics(Honest):
    filename = "metrics.jsonl"


@breaks("it keeps to its own")
class LeavesAFileBehind(Honest):
    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        Path("logger.lock").touch()


@breaks("runs are apart")
class OneFileForTheProcess(Honest):
    files: ClassVar[list[Path]] = []

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        if run_dir.name == "4":  # the second of the two that are compared
            self.file = (run_dir.parent / "3" / self.filename).open("a")


@breaks("closing twice is closing")
class CountsOnBeingClosedOnce(Honest):
    def close(self) -> None:
        self.file.write("\n")
        super().close()


@breaks("closing twice is closing")
class ClosesWithItsLastLine(Honest):
    last: Any = None

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        super().log(metrics, step)
        self.last = step

    def close(self) -> None:
        super().close()
        _ = self.last + 1


@breaks("metrics are left as they are")
class TakesTheStepIn(Honest):
    def log(self, metrics: Any, step: int) -> None:
        metrics["step"] = step
        super().log(metrics, step)


@breaks("random numbers are left alone")
class NamesItselfByChance(Honest):
    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.name = f"run-{random.random()}"


# ---- tests ---------------------------------------------------------------------------------------


def test_an_honest_logger_has_every_property() -> None:
    here = Path.cwd()
    report = check_logger(Honest)
    assert report.piece == "Honest"
    assert report.passed, report
    assert all(finding.tried for finding in report.findings), report
    assert Path.cwd() == here


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_what_it_breaks_and_nothing_else(mutant: str) -> None:
    make, expected = MUTANTS[mutant]
    expect_failures(check_logger(make), expected)


def test_each_property_is_broken_by_a_mutant() -> None:
    assert MUTANTS.broken() == named(PROPERTIES)


def test_one_that_writes_nothing_has_nothing_to_lose() -> None:
    report = check_logger(lambda run_dir: NoLogger())
    assert report.passed, report
    assert [finding.name for finding in report.findings if not finding.tried] == [
        "every name is kept",
        "a run that goes on keeps what there was",
    ]


def test_what_is_no_logger_is_told_so() -> None:
    (finding, *_) = check_logger(lambda run_dir: object()).failures
    assert str(finding) == "FAIL it logs and closes: it has no log(); see Logger in wmplay/contracts"


def test_a_missing_package_is_its_own_line() -> None:
    def make(run_dir: Path) -> Any:
        raise wmplay.errors.ConfigError(
            "this logger needs the package aim, which is not here: pip install aim"
        )

    report = check_logger(make)
    assert "aim, which is not here; pip install aim" in str(report.failures[0])


@pytest.mark.parametrize("method", ["__init__", "log", "close"])
def test_a_call_that_does_not_return_is_named_once(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmplay.check.loggers.LONGEST_CALL", 0.05)
    released = Event()

    class Blocks(Honest):
        pass

    setattr(Blocks, method, lambda *_, **__: released.wait(60))
    report = check_logger(Blocks)
    released.set()
    (finding,) = report.failures
    assert finding.name == "it logs and closes"
    assert ("constructor" if method == "__init__" else f"{method}()") in finding.message
    assert report.tried == 1


def test_all_calls_of_a_logger_come_from_one_thread() -> None:
    class OfItsThread(Honest):
        def __init__(self, run_dir: Path) -> None:
            super().__init__(run_dir)
            self.thread = get_ident()

        def log(self, metrics: Mapping[str, Any], step: int) -> None:
            assert get_ident() == self.thread
            super().log(metrics, step)

    assert check_logger(OfItsThread).passed
