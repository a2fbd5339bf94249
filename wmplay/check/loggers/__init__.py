"""Properties of loggers, one function each.

A run continues without its logger if the logger fails: metrics that a logger refuses are lost silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wmplay.check.compare import global_generators_at_rest, listed
from wmplay.check.loggers.desk import AGAIN, LATER, LINES, OF_THE_RUN, Desk, Make, Written, entries
from wmplay.check.loggers.logged import Line
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.errors import WmplayError

NO_NAMES = "it writes no names of metrics into the run's directory"
NOT_READ = "its files are neither text, CSV, JSON and SQLite nor TensorBoard's"
ODD: Mapping[str, Mapping[str, Any]] = {
    "not a number": {"fit/second_name": math.nan},
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


def every_name_is_kept(desk: Desk) -> None:
    """Check that metrics are written whose names appear later, or at a repeated step."""
    stopped = desk.run().stopped.names
    if not stopped:
        raise NotTried(NO_NAMES)
    lost = sorted({"first_name", "second_name", "third_name", "fourth_name"} - stopped)
    if lost:
        raise Broken(
            f"of four metrics in three lines it has not written {listed(lost)}",
            "write every metric of every line: names differ by phase, and several lines share a step",
        )


def every_line_is_kept(desk: Desk) -> None:
    """Check that no line is left out, and no metric that shares the end of its name with another."""
    stopped = _readable(desk)
    lost = [(step, name) for step, name, value in entries(LINES) if stopped.lost(step, name, value)]
    if lost:
        raise Broken(
            f"of {len(entries(LINES))} numbers in {len(LINES)} lines {len(lost)} are not in its files, first "
            f"'{lost[0][1]}' of step {lost[0][0]}",
            "write each line, with the whole name of each metric, and in close() what still waits",
        )
    if all(stopped.once(*each) for each in entries((AGAIN,))):
        raise Broken(
            f"numbers of step {AGAIN.step} that are those of the line before are not in its files",
            "write a metric in each line that has it, whether it has changed or not",
        )


def values_are_kept(desk: Desk) -> None:
    """Check that the numbers written are those logged."""
    for written, step, name, value in _each_number(desk):
        if not any(record.has(name, value) for record in written.records):
            near = [r for r in written.records if r.of(name) and r.stands_at(step)]
            got = [x for r in near for x in (*r.named.values(), *r.numbers) if x != step]
            beside = ", ".join(f"{x:g}" for x in got[:4]) or "no other number"
            raise Broken(
                f"'{name}' is {value:g} in step {step}, beside which its files have {beside}",
                "write the number as it is, under its own name: float(value)",
            )


def steps_are_kept(desk: Desk) -> None:
    """Check that each number stands at the step it was logged with."""
    steps = {line.step for line in (*LINES, *LATER)}
    for written, step, name, value in _each_number(desk):
        at = [record for record in written.records if record.has(name, value)]
        if any(record.stands_at(step) for record in at):
            continue
        others = sorted(other for other in steps - {step} if any(record.stands_at(other) for record in at))
        if others or not any(record.stands_at(step) for record in written.records):
            stands = f"it stands at step {others[0]}" if others else "this step is nowhere in its files"
            raise Broken(
                f"'{name}' is logged as {value:g} in step {step}; {stands}",
                "write the step that log() is given: it counts updates, not lines",
            )


def odd_metrics_are_no_reason_to_stop(desk: Desk) -> None:
    """Check that unusual metrics raise nothing, which would end the logging, and do no harm to later ones."""
    run_dir = desk.new_run()
    after = (Line(4001, {"fit/first_name": 0.53}),)
    with desk.logger(run_dir) as logger:
        for step, (what, metrics) in enumerate(ODD.items(), 3001):
            try:
                logger.log(dict(metrics), step)
            except (Broken, NotTried):
                raise
            except Exception as error:
                raise Broken(
                    f"{what}, {metrics!s:.60}, raised {type(error).__name__}: {error!s:.80}",
                    "leave out what cannot be logged, or write it as it can be",
                ) from error
        logger.log(dict(after[0].metrics), after[0].step)
    written = desk.settled(run_dir, after)
    if written.blind or not desk.run().stopped.names:
        return
    if any(written.lost(*each) for each in entries(after)):
        raise Broken(
            "after odd metrics it logs nothing any more", "leave out what cannot be logged, and go on"
        )
    for record in written.records:
        for key, number in record.named.items():
            if record.stands_at(3001) and key.endswith("second_name") and math.isfinite(number):
                raise Broken(f"where a metric is not a number, it writes {number:g}", "write NaN, or nothing")


def a_run_that_is_killed_keeps_its_lines(desk: Desk) -> None:
    """Check that lines are in the files before the logger is closed."""
    stopped, before = _readable(desk), desk.run().before_close
    kept = [each for each in entries(LINES) if not stopped.lost(*each)]
    lost = [each for each in kept if before.lost(*each)]
    if lost:
        raise Broken(
            f"before close() {len(lost)} of {len(kept)} numbers are not in its files: a run that is killed "
            "loses them",
            "write in log(), and flush: file.flush()",
        )


def a_run_that_goes_on_keeps_what_there_was(desk: Desk) -> None:
    """Check that a logger opened again in the same run directory keeps earlier lines."""
    run = desk.run()
    stopped, end = run.stopped.names, run.end.names
    if not stopped:
        raise NotTried(NO_NAMES)
    gone = sorted((stopped | {"fifth_name"}) - end)
    if not gone and not run.stopped.blind:
        there = [each for each in entries(LINES) if not run.stopped.lost(*each)]
        gone = [f"{each[1]} of step {each[0]}" for each in (*there, *entries(LATER)) if run.end.lost(*each)]
    if gone:
        raise Broken(
            f"after a run was stopped and went on, {listed(gone)} {'is' if len(gone) == 1 else 'are'} gone",
            'open files to append ("a"), or write a new one each time',
        )


def it_keeps_to_its_own(desk: Desk) -> None:
    """Check that it writes only into the run's directory, and not into the run's own files."""
    run_dir = desk.run().run_dir
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
    if "second_name" in desk.written(first).names or "first_name" in desk.written(second).names:
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
    Property(it_logs_and_closes, decisive=True),
    Property(every_name_is_kept),
    Property(every_line_is_kept, after=(every_name_is_kept,)),
    Property(values_are_kept, after=(every_name_is_kept, every_line_is_kept)),
    Property(steps_are_kept, after=(every_name_is_kept, every_line_is_kept, values_are_kept)),
    Property(odd_metrics_are_no_reason_to_stop, after=(every_name_is_kept, every_line_is_kept)),
    Property(a_run_that_is_killed_keeps_its_lines, after=(every_name_is_kept, every_line_is_kept)),
    Property(a_run_that_goes_on_keeps_what_there_was, after=(every_name_is_kept, every_line_is_kept)),
    Property(it_keeps_to_its_own),
    Property(runs_are_apart),
    Property(closing_twice_is_closing),
    Property(metrics_are_left_as_they_are),
    Property(random_numbers_are_left_alone),
)


# ---- helpers ------------------------------------------------------------------------------------


def _each_number(desk: Desk) -> Iterator[tuple[Written, int, str, float]]:
    """Yield what was written of a run's two parts, with step, name and value of each number of the part."""
    for written, of in ((_readable(desk), LINES), (desk.run().end, LATER)):
        for entry in entries(of):
            yield written, *entry


def _readable(desk: Desk) -> Written:
    """Return what a stopped run's files hold. Raise NotTried if that is nothing, or cannot be read."""
    stopped = desk.run().stopped
    if not stopped.names:
        raise NotTried(NO_NAMES)
    if stopped.blind:
        raise NotTried(NOT_READ)
    return stopped
