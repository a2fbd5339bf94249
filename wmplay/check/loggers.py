"""Properties of loggers, one function each.

A run continues without its logger if the logger fails: metrics that a logger refuses are lost silently.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, TypeAlias

from wmplay.check.compare import global_generators_at_rest, listed
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.config.kinds import KINDS
from wmplay.contracts import missing_methods
from wmplay.errors import WmplayError

Make: TypeAlias = Callable[[Path], Any]

NAME = re.compile(rb"(first|second|third|fourth|fifth)_name")  # names of metrics to find in files
PATIENCE = 2.0  # seconds
LONGEST_CALL = 20.0  # seconds
NO_NAMES = "it writes no names of metrics into the run's directory"
OF_THE_RUN = ("config.yaml", "run.json", "metrics.jsonl", "checkpoints/updates_7.pt", "report.html")
ODD: Mapping[str, Mapping[str, Any]] = {
    "not a number": {"fit/loss": math.nan},
    "infinity": {"fit/loss": math.inf, "fit/other": -math.inf},
    "a whole number beyond 64 bits": {"fit/steps": 2**70},
    "text, a flag and None": {"fit/note": "warm", "fit/flag": True, "fit/nothing": None},
    "a name with spaces and signs": {"evaluate/return (10 %), ±": 0.5, "a.b-c[0]": 0.25},
    "a name in another script": {"Verlust/größe": 0.5, "损失": 0.25},
    "a long name": {"evaluate/" + "long_" * 60: 0.5},
    "no numbers at all": {},
}


def check_logger(make: Make, *, verbose: bool = False, quick: bool = False) -> Report:
    """Check all properties of a logger, in temporary run directories.

    Args:
        make: makes a logger for an existing run directory: ``lambda run_dir: MyLogger(run_dir)``. It is
            called several times; paths are relative, and the working directory is a temporary one.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.
    """
    with Desk(make) as desk:
        findings = examine("logger", PROPERTIES, desk, verbose, quick).findings
    return Report(desk.name, findings)


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
    def logged(self) -> tuple[Path, set[str], set[str]]:
        """A run that was logged, stopped, and continued from an earlier checkpoint.

        It consists of the run's directory, and the names in its files after the stop and at the end.
        """
        run_dir = self.new_run()
        with self.logger(run_dir) as logger:
            missing = missing_methods(logger.inner, KINDS["logger"].methods)
            if missing:
                raise Broken(f"it has no {missing[0]}()", "see Logger in wmplay/contracts")
            logger.log({"collect/first_name": 0.5, "collect/second_name": 7}, 0)
            logger.log({"fit/third_name": 0.25}, 11)
            logger.log({"evaluate/fourth_name": 0.125}, 11)
        stopped = self.settled(run_dir, {"first_name", "second_name", "third_name", "fourth_name"})
        with self.logger(run_dir) as logger:
            logger.log({"fit/fifth_name": 0.5}, 7)
        return run_dir, stopped, self.settled(run_dir, stopped | {"fifth_name"})

    def run(self) -> tuple[Path, set[str], set[str]]:
        """Return ``logged``. Raise NotTried if the run could not be logged."""
        try:
            return self.logged
        except NotTried:
            raise
        except Exception as error:
            raise NotTried("a run could not be logged") from error

    def settled(self, run_dir: Path, expected: set[str]) -> set[str]:
        """Return the names in a run's files, after waiting for loggers that write in a process of their
        own."""
        until = time.monotonic() + PATIENCE
        while not expected <= (names := self.names(run_dir)) and names and time.monotonic() < until:
            time.sleep(0.05)
        return names

    @staticmethod
    def names(run_dir: Path) -> set[str]:
        """Return the known names that are in a run's files."""
        own = [path for path in run_dir.rglob("*") if path.is_file()]
        written = b"".join(path.read_bytes() for path in own if path not in {run_dir / n for n in OF_THE_RUN})
        return {match[0].decode() for match in NAME.finditer(written)}


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


# ---- the properties ------------------------------------------------------------------------------


def it_logs_and_closes(desk: Desk) -> None:
    """Check that a run can be logged, and continued at steps that were logged before."""
    try:
        _ = desk.logged
    except (Broken, WmplayError):
        raise
    except Exception as error:
        raise Broken(
            f"a run of a few lines raised {type(error).__name__}: {error}",
            "names differ from line to line, steps repeat, and begin again further back where a run goes on",
        ) from error


def odd_metrics_are_no_reason_to_stop(desk: Desk) -> None:
    """Check that unusual metrics raise nothing, because an error would end the logging."""
    with desk.logger(desk.new_run()) as logger:
        for step, (what, metrics) in enumerate(ODD.items()):
            try:
                logger.log(metrics, step)
            except (Broken, NotTried):
                raise
            except Exception as error:
                raise Broken(
                    f"{what}, {metrics!s:.60}, raised {type(error).__name__}: {error!s:.80}",
                    "leave out what cannot be logged, or write it as it can be",
                ) from error


def every_name_is_kept(desk: Desk) -> None:
    """Check that metrics are written whose names appear later, or at a repeated step."""
    _, stopped, _ = desk.run()
    if not stopped:
        raise NotTried(NO_NAMES)
    lost = sorted({"first_name", "second_name", "third_name", "fourth_name"} - stopped)
    if lost:
        raise Broken(
            f"of four metrics in three lines it has not written {listed(lost)}",
            "write every metric of every line: names differ by phase, and several lines share a step",
        )


def a_run_that_goes_on_keeps_what_there_was(desk: Desk) -> None:
    """Check that a logger opened again in the same run directory keeps earlier lines."""
    _, stopped, end = desk.run()
    if not stopped:
        raise NotTried(NO_NAMES)
    lost = sorted((stopped | {"fifth_name"}) - end)
    if lost:
        raise Broken(
            f"after a run was stopped and went on, {listed(lost)} {'is' if len(lost) == 1 else 'are'} gone",
            'open files to append ("a"), or write a new one each time',
        )


def it_keeps_to_its_own(desk: Desk) -> None:
    """Check that it writes only into the run's directory, and not into the run's own files."""
    run_dir, _, _ = desk.run()
    changed = [n for n in OF_THE_RUN if (run_dir / n).read_text() != f"what the run keeps in {n}\n"]
    if changed:
        raise Broken(f"it writes into the run's own {changed[0]}", "choose another file name")
    elsewhere = [path for path in sorted(Path().iterdir()) if path.name != "runs"]
    if elsewhere:
        raise Broken(
            f"it writes '{elsewhere[0]}' into the working directory",
            "write into run_dir, a folder for each run",
        )


def runs_are_apart(desk: Desk) -> None:
    """Check that two runs in the same process do not share metrics."""
    first, second = desk.new_run(), desk.new_run()
    with desk.logger(first) as logger:
        logger.log({"fit/first_name": 0.5}, 3)
    with desk.logger(second) as logger:
        logger.log({"fit/second_name": 0.5}, 3)
    if "second_name" in desk.names(first) or "first_name" in desk.names(second):
        raise Broken(
            "two runs, one after the other, share what they log",
            "keep everything in the object, nothing in the class or module; let go of it in close()",
        )


def closing_twice_is_closing(desk: Desk) -> None:
    """Check that ``close`` works for a run without lines, and a second time."""
    for lines in (0, 1):
        logger = desk.make(desk.new_run())
        for step in range(lines):
            logger.log({"fit/loss": 0.5}, step)
        for count in ("once", "twice"):
            try:
                logger.close()
            except (Broken, NotTried):
                raise
            except Exception as error:
                raise Broken(
                    f"closed {count} after {lines} lines, it raised {type(error).__name__}: {error}",
                    "close what is open, and nothing else",
                ) from error


def metrics_are_left_as_they_are(desk: Desk) -> None:
    """Check that the given metrics are not changed."""
    metrics: dict[str, Any] = {"fit/loss": 0.5, "fit/rate": 3}
    before = dict(metrics)
    with desk.logger(desk.new_run()) as logger:
        logger.log(metrics, 3)
    if metrics != before:
        changed = [name for name in {**metrics, **before} if metrics.get(name) != before.get(name)]
        raise Broken(f"it changes the metrics that it is given ('{changed[0]}')", "copy them: dict(metrics)")


def random_numbers_are_left_alone(desk: Desk) -> None:
    """Check that global generators are not used, so that a run's numbers do not depend on it."""
    with global_generators_at_rest("it", "use a generator of its own"), desk.logger(desk.new_run()) as logger:
        logger.log({"fit/loss": 0.5}, 3)


PROPERTIES: tuple[Property[Desk], ...] = (
    Property(it_logs_and_closes),
    Property(odd_metrics_are_no_reason_to_stop),
    Property(every_name_is_kept),
    Property(a_run_that_goes_on_keeps_what_there_was),
    Property(it_keeps_to_its_own),
    Property(runs_are_apart),
    Property(closing_twice_is_closing),
    Property(metrics_are_left_as_they_are),
    Property(random_numbers_are_left_alone),
)
