"""The conformance kit on loggers: an honest one passes, each property fails one built to break it."""

from __future__ import annotations

import csv
import gzip
import json
import math
import pickle
import random
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread, get_ident
from typing import Any, ClassVar

import numpy as np
import pytest
from mutants import Mutants, expect_failures, named

import wmplay
from wmplay.check import check_logger
from wmplay.check.loggers import PROPERTIES
from wmplay.loggers import NoLogger

OF_WHAT_IS_WRITTEN = {
    "every line is kept",
    "values are kept",
    "steps are kept",
    "a run that is killed keeps its lines",
}


class Honest:
    """A line of JSON for each call."""

    filename = "mine.jsonl"
    mode = "a"

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.file = (run_dir / self.filename).open(self.mode)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.file.write(json.dumps({**metrics, "step": step}) + "\n")
        self.file.flush()

    def close(self) -> None:
        self.file.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wmplay.check.loggers.desk.PATIENCE", 0.1)


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
class CutsNames(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        super().log({name[:20]: value for name, value in metrics.items()}, step)


@breaks("every line is kept")
class OneLineForAStep(Honest):
    last: int | None = None

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if step != self.last:
            super().log(metrics, step)
        self.last = step


@breaks("every line is kept")
class WritesWhatHasChanged(Honest):
    last: Mapping[str, Any] = {}

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        new = {name: value for name, value in metrics.items() if self.last.get(name) != value}
        self.last = {**self.last, **metrics}
        super().log(new, step)


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


class Changed(Honest):
    """Writes something else than it is given."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        super().log({name: self.change(name, value) for name, value in metrics.items()}, self.at(step))

    def change(self, name: str, value: Any) -> Any:
        return value

    def at(self, step: int) -> int:
        return step


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


@breaks("values are kept")
class WholeNumbers(Changed):
    def change(self, name: str, value: Any) -> Any:
        return int(value) if is_number(value) else value


@breaks("values are kept")
class NoSigns(Changed):
    def change(self, name: str, value: Any) -> Any:
        return abs(value) if is_number(value) else value


@breaks("values are kept")
class HalfPrecision(Changed):
    def change(self, name: str, value: Any) -> Any:
        with np.errstate(over="ignore"):
            return float(np.float16(value)) if isinstance(value, float) else value


@breaks("values are kept")
class ValuesInAnotherOrder(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        super().log(dict(zip(metrics, reversed(metrics.values()), strict=True)), step)


@breaks("steps are kept")
class CountsLines(Changed):
    count = -1

    def at(self, step: int) -> int:
        self.count += 1
        return self.count


@breaks("steps are kept")
class StepOfTheLineBefore(Changed):
    last = 0

    def at(self, step: int) -> int:
        before, self.last = self.last, step
        return before


@breaks("steps are kept")
class GoesOnCounting(Changed):
    """In a run that goes on, steps follow the last of those that were logged before."""

    def at(self, step: int) -> int:
        rows = (self.run_dir / self.filename).read_text().splitlines()
        last = json.loads(rows[-1])["step"] if rows else 0
        return max(step, last)


@breaks("values are kept")
class TwoDecimals(Changed):
    def change(self, name: str, value: Any) -> Any:
        return round(value, 2) if isinstance(value, float) else value


@breaks("steps are kept")
class NoSteps(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.file.write(json.dumps(dict(metrics)) + "\n")
        self.file.flush()


@breaks("every line is kept")
class OneLineOfTen(Honest):
    count = 0

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.count += 1
        if self.count < 7 or self.count % 10 == 0:
            super().log(metrics, step)


@breaks("every line is kept")
class ForgetsThePhase(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        super().log({name.rpartition("/")[2]: value for name, value in metrics.items()}, step)


@breaks("every line is kept")
class LosesItsLastLines(Honest):
    """Writes whenever five lines have come, never what is left."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.lines = [*getattr(self, "lines", []), (metrics, step)]
        if len(self.lines) == 5:
            for line in self.lines:
                super().log(*line)
            self.lines = []


@breaks("odd metrics are no reason to stop")
class NothingForNaN(Changed):
    def change(self, name: str, value: Any) -> Any:
        return 0.0 if value != value else value


@breaks("odd metrics are no reason to stop")
class GivesUp(Honest):
    failed = False

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.failed = self.failed or not all(is_number(value) for value in metrics.values())
        if not self.failed:
            super().log(metrics, step)


@breaks("a run that is killed keeps its lines")
class NothingBeforeTheEnd(Honest):
    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.lines: list[Any] = []

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.lines.append((dict(metrics), step))

    def close(self) -> None:
        for line in self.lines:
            super().log(*line)
        self.lines = []
        super().close()


@breaks("a run that is killed keeps its lines")
class LinesInABuffer(Honest):
    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.file.write(json.dumps({**metrics, "step": step}) + "\n")


@breaks("a run that goes on keeps what there was")
class OneFileAnew(Honest):
    """Keeps the names of what was there, and no lines."""

    def __init__(self, run_dir: Path) -> None:
        path = run_dir / self.filename
        before = path.read_text() if path.exists() else ""
        super().__init__(run_dir)
        names = sorted({name for line in before.splitlines() for name in json.loads(line)})
        self.file.truncate(0)
        self.file.write(json.dumps(dict.fromkeys(names)) + "\n")


class Events:
    """TensorBoard's, with what is given changed."""

    def __init__(self, run_dir: Path) -> None:
        pytest.importorskip("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer, self.count = SummaryWriter(str(run_dir)), 0

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.count += 1
        for name, value in metrics.items():
            if isinstance(value, int | float):
                self.writer.add_scalar(name, *self.changed(value, step))

    def changed(self, value: Any, step: int) -> tuple[Any, int]:
        return value, step

    def close(self) -> None:
        self.writer.close()


@breaks("values are kept")
class EventsOfWholeNumbers(Events):
    def changed(self, value: Any, step: int) -> tuple[Any, int]:
        return int(value) if is_number(value) else value, step


@breaks("steps are kept")
class EventsOfItsOwnSteps(Events):
    def changed(self, value: Any, step: int) -> tuple[Any, int]:
        return value, self.count


class Rows:
    """A table of a database: step, name, value."""

    def __init__(self, run_dir: Path) -> None:
        self.database = sqlite3.connect(run_dir / "metrics.db")
        self.database.execute("create table if not exists metrics (step integer, name text, value real)")

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        rows = [(self.at(step), *each) for each in metrics.items() if isinstance(each[1], int | float)]
        self.database.executemany(
            "insert into metrics values (?, ?, ?)", [(*row[:2], float(row[2])) for row in rows]
        )
        self.commit()

    def at(self, step: int) -> int:
        return step

    def commit(self) -> None:
        self.database.commit()

    def close(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # closed before
            self.database.commit()
        self.database.close()


@breaks("steps are kept")
class RowsAStepLate(Rows):
    def at(self, step: int) -> int:
        return step + 1


@breaks("a run that is killed keeps its lines")
class RowsOfOneTransaction(Rows):
    def commit(self) -> None:
        pass


# ---- loggers of other styles, all of them correct --------------------------------------------------


class Text(Honest):
    """A line for a person to read."""

    filename = "log.txt"

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        shown = ", ".join(f"{name}={value}" for name, value in metrics.items())
        self.file.write(f"12:03:45 [step {step}] {shown}\n")
        self.file.flush()


class LongTable(Honest):
    filename = "long.csv"

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        if self.file.tell() == 0:
            self.file.write("step,name,value\n")
        csv.writer(self.file).writerows((step, name, value) for name, value in metrics.items())
        self.file.flush()


class WideTable(Honest):
    """Written anew at each line, since columns come up later."""

    filename = "wide.csv"

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        path = self.run_dir / self.filename
        with path.open(newline="") as file:
            rows = [*csv.DictReader(file), {"step": step, **metrics}]
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list({name: None for row in rows for name in row}))
            writer.writeheader()
            writer.writerows(rows)


class Nested(Honest):
    """Phases in each other; numbers to three digits."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        line: dict[str, Any] = {"at": {"updates": step}}
        for name, value in metrics.items():
            phase, _, rest = name.partition("/")
            line.setdefault(phase, {})[rest] = float(f"{value:.4g}") if is_number(value) else str(value)
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()


class OneDocument(Honest):
    """All lines in one list, written anew each time."""

    filename = "all.json"

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        path = self.run_dir / self.filename
        lines = json.loads(path.read_text() or "[]")
        path.write_text(json.dumps([*lines, {"step": step, "metrics": dict(metrics)}], indent=2))


class AFileForAMetric:
    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "curves"
        self.folder.mkdir(exist_ok=True)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        for name, value in metrics.items():
            with (self.folder / f"{name.replace('/', '.')[:90]}.dat").open("a") as file:
                file.write(f"{step} {value}\n")

    def close(self) -> None:
        pass


class InTheBackground(Honest):
    """Written by a thread."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir)
        self.lines: SimpleQueue[Any] = SimpleQueue()
        self.thread = Thread(target=self.work, daemon=True)
        self.thread.start()

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        self.lines.put((dict(metrics), step))

    def work(self) -> None:
        while (line := self.lines.get()) is not None:
            super().log(*line)

    def close(self) -> None:
        self.lines.put(None)
        self.thread.join()
        super().close()


class Compressed(Honest):
    """In a format that the kit does not read."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        line = json.dumps({**metrics, "step": step}).encode()
        with (self.run_dir / "metrics.gz").open("ab") as file:
            file.write(gzip.compress(line))


class Blobs(Honest):
    def __init__(self, run_dir: Path) -> None:
        self.file = (run_dir / "metrics.pkl").open("ab")  # type: ignore[assignment]

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        pickle.dump((step, dict(metrics)), self.file)  # type: ignore[arg-type]


UNUSUAL = (
    Text,
    LongTable,
    WideTable,
    Nested,
    OneDocument,
    AFileForAMetric,
    InTheBackground,
    Compressed,
    Blobs,
    Events,
    Rows,
)


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


@pytest.mark.parametrize("cls", UNUSUAL)
def test_one_of_another_style_is_not_accused(cls: Any) -> None:
    report = check_logger(cls)
    assert report.passed, str(report)
    unread = cls in (Compressed, Blobs)
    assert {f.tried for f in report.findings if f.name in OF_WHAT_IS_WRITTEN} == {not unread}


def test_each_property_is_broken_by_a_mutant() -> None:
    assert MUTANTS.broken() == named(PROPERTIES)


def test_one_that_writes_nothing_has_nothing_to_lose() -> None:
    report = check_logger(lambda run_dir: NoLogger())
    assert report.passed, report
    untried = {finding.name for finding in report.findings if not finding.tried}
    assert untried == {*OF_WHAT_IS_WRITTEN, "every name is kept", "a run that goes on keeps what there was"}


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
    monkeypatch.setattr("wmplay.check.loggers.desk.LONGEST_CALL", 0.05)
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
