"""Runs for a logger to log, in a temporary working directory, and what is written of them when."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, TypeAlias

from wmplay.check.loggers.logged import KNOWN, Line, Record, lines, records
from wmplay.check.report import Broken, NotTried
from wmplay.config.kinds import KINDS
from wmplay.contracts import missing_methods

Make: TypeAlias = Callable[[Path], Any]

BRIEF = (
    Line(0, {"collect/first_name": 0.53, "collect/second_name": 7}),
    Line(11, {"fit/third_name": 0.00037}),
    Line(11, {"evaluate/of_many_words/and_more_of_them/fourth_name": -123456.75}),
)
OFTEN = ("fit/first_name", "evaluate/first_name", "fit/second_name", "fit/third_name", *BRIEF[2].metrics)
SO_FAR = (*BRIEF, *lines(13, OFTEN, step=101))
AGAIN = Line(SO_FAR[-1].step + 19, SO_FAR[-1].metrics)  # nothing has changed since the line before
LINES = (*SO_FAR, AGAIN)
LATER = (Line(53, {"fit/fifth_name": 0.59}),)
PATIENCE = 2.0  # seconds
LONGEST_CALL = 20.0  # seconds
OF_THE_RUN = ("config.yaml", "run.json", "metrics.jsonl", "checkpoints/updates_7.pt", "report.html")


@dataclass(frozen=True)
class Written:
    """Content of the files of a run."""

    names: set[str]  # the last parts of metrics' names
    records: list[Record]
    blind: bool  # whether other files, which cannot be read, hold names

    def complete(self, expected: tuple[Line, ...]) -> bool:
        """Return whether all lines are written, as far as that can be seen."""
        names = {name.rpartition("/")[2] for line in expected for name in line.metrics}
        return names <= self.names and (self.blind or not any(self.lost(*each) for each in entries(expected)))

    def lost(self, step: int, name: str, value: float) -> bool:
        """Return whether no record has the value of a metric, nor its name and step."""
        return not any(r.has(name, value) or (r.stands_at(step) and r.of(name)) for r in self.records)

    def once(self, step: int, name: str, value: float) -> bool:
        """Return whether one record alone has a value that was logged twice, last at ``step``."""
        holding = [record for record in self.records if record.has(name, value)]
        return len(holding) == 1 and not holding[0].stands_at(step)


@dataclass(frozen=True)
class Logged:
    """A run that was logged, stopped and continued, and what was written when."""

    run_dir: Path
    before_close: Written
    stopped: Written
    end: Written


def entries(of: tuple[Line, ...]) -> list[tuple[int, str, float]]:
    """Return step, name and value of each metric of some lines."""
    return [(line.step, name, value) for line in of for name, value in line.metrics.items()]


class Desk:
    """A temporary working directory in which runs are logged."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self._logger: InThread | None = None  # the last one made
        self.name = "logger"
        self.runs = 0

    def __enter__(self) -> Desk:
        self._folder = TemporaryDirectory(prefix="wmplay-check-", ignore_cleanup_errors=True)
        self._inside = chdir(self._folder.name)
        self._inside.__enter__()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._logger is not None:
            with suppress(NotTried):
                self._logger.end()
        self._inside.__exit__(*_)
        self._folder.cleanup()

    def new_run(self) -> Path:
        """Make a run directory with the files that every run has."""
        self.runs += 1
        run_dir = Path("runs", "checked", str(self.runs))
        for name in OF_THE_RUN:
            path = run_dir / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"what the run keeps in {name}\n")
        return run_dir

    def make(self, run_dir: Path) -> InThread:
        """Make a logger for a run. Raise NotTried if a call of an earlier logger has not returned."""
        if self._logger is not None:
            self._logger.end()
        self._logger = InThread()
        self._logger.build(self._make, run_dir)
        self.name = type(self._logger.inner).__name__
        return self._logger

    @contextmanager
    def logger(self, run_dir: Path) -> Iterator[InThread]:
        """Yield a logger for a run, and close it afterwards."""
        logger = self.make(run_dir)
        try:
            yield logger
        except BaseException:
            with suppress(Exception):  # the first error counts
                logger.close()
            raise
        logger.close()

    @cached_property
    def logged(self) -> Logged:
        """A run that was logged, stopped, and continued from an earlier checkpoint."""
        run_dir = self.new_run()
        with self.logger(run_dir) as logger:
            missing = missing_methods(logger.inner, KINDS["logger"].methods)
            if missing:
                raise Broken(f"it has no {missing[0]}()", "see Logger in wmplay/contracts")
            for line in LINES:
                logger.log(dict(line.metrics), line.step)
            open_ = self.settled(run_dir, LINES)
        stopped = self.settled(run_dir, LINES)
        with self.logger(run_dir) as logger:
            for line in LATER:
                logger.log(dict(line.metrics), line.step)
        return Logged(run_dir, open_, stopped, self.settled(run_dir, (*LINES, *LATER)))

    def run(self) -> Logged:
        """Return ``logged``. Raise NotTried if the run could not be logged."""
        try:
            return self.logged
        except NotTried:
            raise
        except Exception as error:
            raise NotTried("a run could not be logged") from error

    def settled(self, run_dir: Path, expected: tuple[Line, ...]) -> Written:
        """Return what is in a run's files, after waiting for loggers that write in a process of their own."""
        until, pause = time.monotonic() + PATIENCE, 0.01
        while True:
            written = self.written(run_dir)
            nothing = not self.files(run_dir)
            if nothing or written.complete(expected) or time.monotonic() > until:
                return written
            pause *= 2  # reading costs more than waiting
            time.sleep(min(pause, max(0.0, until - time.monotonic())))

    @staticmethod
    def files(run_dir: Path) -> list[Path]:
        """Return the files that the logger has written."""
        apart = {run_dir / name for name in OF_THE_RUN}
        return [path for path in sorted(run_dir.rglob("*")) if path.is_file() and path not in apart]

    def written(self, run_dir: Path) -> Written:
        """Return what is in a run's files now."""
        texts = {path: path.read_bytes().decode("latin-1") for path in self.files(run_dir)}
        holding = [path for path, text in texts.items() if KNOWN.search(f"{path} {text}")]
        names = {match[0] for item in texts.items() for match in KNOWN.finditer(" ".join(map(str, item)))}
        if not names:
            return Written(names, [], False)
        found = {path: records(path, run_dir) for path in texts}
        blind = any(found[path] is None for path in holding)
        return Written(names, [record for kept in found.values() for record in kept or ()], blind)


class InThread:
    """A logger in a thread of its own, as in a run. Each call raises Broken if it does not return in time."""

    def __init__(self) -> None:
        self.inner: Any = None
        self.blocked_in: str | None = None  # the name of a call that has not returned
        self._calls: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        Thread(target=self._work, name="logger", daemon=True).start()

    def build(self, make: Make, run_dir: Path) -> None:
        """Build the logger."""
        self.inner = self._call("constructor", lambda: make(run_dir))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log metrics."""
        self._call("log()", lambda: self.inner.log(metrics, step))

    def close(self) -> None:
        """Close the logger."""
        self._call("close()", lambda: self.inner.close())

    def end(self) -> None:
        """Let the thread end. Raise NotTried if a call in it has not returned."""
        self._check()
        self._calls.put(None)

    def _check(self) -> None:
        if self.blocked_in is not None:
            raise NotTried(f"its {self.blocked_in} does not return")

    def _call(self, name: str, call: Callable[[], Any]) -> Any:
        self._check()
        self._calls.put(call)
        try:
            value, error = self._answers.get(timeout=LONGEST_CALL)
        except Empty:
            self.blocked_in = name
            raise Broken(
                f"its {name} has not returned within {LONGEST_CALL:g} s",
                "give what it waits for (a connection, a lock, a full queue) a timeout",
            ) from None
        if error is not None:
            raise error
        return value

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                self._answers.put((call(), None))
            except BaseException as error:
                self._answers.put((None, error))
