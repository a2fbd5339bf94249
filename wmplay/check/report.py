"""Reports of checks: a line for each property."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from wmplay.config.plugins import failed_at
from wmplay.errors import WmplayError
from wmplay.system.printing import say
from wmplay.system.progress import doing

S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
KIT = Path(__file__).parent


class Broken(Exception):
    """A property does not hold: the problem, on the smallest input that shows it, and advice."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


class NotTried(Exception):
    """A property that cannot be tried, or does not apply to the piece, and the reason."""


@dataclass(frozen=True)
class Property(Generic[S_contra]):
    """A property that pieces promise, and its place among the others."""

    holds: Callable[[S_contra], None]  # raises Broken if it does not hold, NotTried if it cannot be tried
    decisive: bool = False  # True if the results of all later properties mean nothing without this one
    after: tuple[
        Callable[[S_contra], None], ...
    ] = ()  # earlier properties without which this one means nothing
    slow: bool = False  # True if ``quick`` leaves it out

    @property
    def name(self) -> str:
        """The function's name, in words."""
        return self.holds.__name__.replace("_", " ")


@dataclass(frozen=True)
class Finding:
    """The result of one property."""

    name: str
    passed: bool  # True also if it was not tried
    message: str = ""  # the problem, or why it was not tried
    advice: str = ""  # the next step
    tried: bool = True
    seconds: float = 0.0

    @property
    def status(self) -> Literal["ok", "failed", "not tried"]:
        """The result in a word."""
        if not self.tried:
            return "not tried"
        return "ok" if self.passed else "failed"

    def __str__(self) -> str:
        if not self.tried:
            return f"--   {self.name}: not tried, {self.message}"
        return f"ok   {self.name}" if self.passed else f"FAIL {self.name}: {self.message}; {self.advice}"


@dataclass(frozen=True)
class Report:
    """All findings about a piece. Its text has a line for each: ``assert report.passed, str(report)``."""

    piece: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """True if the piece has every property that was tried."""
        return not self.failures

    @property
    def tried(self) -> int:
        """The number of properties that were tried."""
        return sum(finding.tried for finding in self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The properties that the piece does not have."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON data: ``piece``, ``passed``, and ``findings`` with name, status, message,
        advice and seconds."""
        findings = [
            {
                "name": finding.name,
                "status": finding.status,
                "message": finding.message,
                "advice": finding.advice,
                "seconds": finding.seconds,
            }
            for finding in self.findings
        ]
        return {"piece": self.piece, "passed": self.passed, "findings": findings}

    def __str__(self) -> str:
        return "\n".join([self.piece, *map(str, self.findings)])


def examine(
    piece: str, properties: Sequence[Property[S]], subject: S, verbose: bool = False, quick: bool = False
) -> Report:
    """Try each property on a subject and return the findings.

    Args:
        piece: name of the piece, for the reader.
        properties: causes before their effects. An error other than ``Broken`` and ``NotTried`` is a failure
            of the piece.
        subject: the argument of each property.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.
    """
    findings: list[Finding] = []
    broken: list[Property[S]] = []
    for each in properties:
        reason = next((x for x in broken if x.decisive or x.holds in each.after), None)
        start = time.perf_counter()
        if reason is not None:
            finding = _not_tried(each.name, f"'{reason.name}' does not hold")
        elif quick and each.slow:
            finding = _not_tried(each.name, "it takes long")
        else:
            with doing(each.name) if verbose else nullcontext():
                finding = _try(each, subject)
        findings.append(replace(finding, seconds=time.perf_counter() - start))
        if verbose:
            say(str(finding))
        if not finding.passed:
            broken.append(each)
    return Report(piece, tuple(findings))


def _try(each: Property[S], subject: S) -> Finding:
    try:
        each.holds(subject)
    except Broken as broken:
        return Finding(each.name, False, broken.message, broken.advice)
    except NotTried as reason:
        return _not_tried(each.name, str(reason))
    except WmplayError as error:  # contains its own advice
        return Finding(each.name, False, *_in_two(str(error)))
    except Exception as error:  # any mistake in the piece's own code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(each.name, False, f"raised {text}", f"fix {_place(error, each)}")
    return Finding(each.name, True)


def _not_tried(name: str, reason: str) -> Finding:
    return Finding(name, True, reason, tried=False)


def _in_two(text: str) -> tuple[str, str]:
    text = " ".join(text.split())
    problem, _, advice = text.rpartition(": ")
    return (problem, advice) if " " in problem else (text, "fix this first")  # no more than whose error it is


def _place(error: Exception, tried: Property[S]) -> str:
    """Return the innermost line of the piece; if no line is the piece's, what its answer must allow."""
    foreign = failed_at(error, hidden=KIT)
    if foreign is not None:
        return foreign
    lines = [
        line for line in traceback.extract_tb(error.__traceback__) if KIT not in Path(line.filename).parents
    ]
    if lines:
        return f"{lines[-1].filename}, line {lines[-1].lineno}"
    about = " ".join((tried.holds.__doc__ or tried.name).split())
    return f"the answer that led to this error; the property: {about}"
