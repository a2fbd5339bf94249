"""Reports of checks: a line for each property."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wmplay.config.plugins import failed_at
from wmplay.errors import WmplayError
from wmplay.system.printing import say

S = TypeVar("S")


class Broken(Exception):
    """A property does not hold: the problem, on the smallest input that shows it, and advice."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


class NotTried(Exception):
    """A property that cannot be tried, or does not apply to the piece, and the reason."""


@dataclass(frozen=True)
class Finding:
    """The result of one property."""

    name: str
    passed: bool  # True also if it was not tried
    message: str = ""  # the problem, or why it was not tried
    advice: str = ""  # the next step
    tried: bool = True

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

    def __str__(self) -> str:
        return "\n".join([self.piece, *map(str, self.findings)])


def examine(
    piece: str, properties: Sequence[Callable[[S], None]], subject: S, verbose: bool = False
) -> Report:
    """Try each property on a subject and return the findings.

    Args:
        piece: name of the piece, for the reader.
        properties: functions that raise ``Broken`` if the property does not hold, ``NotTried`` if it cannot
            be tried; the property's name is the function's. Any other error is a failure of the piece.
        subject: the argument of each property.
        verbose: whether to print each finding at once.
    """
    findings = []
    for each in properties:
        findings.append(_try(each, subject))
        if verbose:
            say(str(findings[-1]))
    return Report(piece, tuple(findings))


def _try(holds: Callable[[S], None], subject: S) -> Finding:
    name = holds.__name__.replace("_", " ")
    try:
        holds(subject)
    except Broken as broken:
        return Finding(name, False, broken.message, broken.advice)
    except NotTried as reason:
        return Finding(name, True, str(reason), tried=False)
    except WmplayError as error:  # contains its own advice
        return Finding(name, False, *_in_two(str(error)))
    except Exception as error:  # any mistake in the piece's own code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(name, False, f"raised {text}", f"fix {failed_at(error) or _last_line(error)}")
    return Finding(name, True)


def _in_two(text: str) -> tuple[str, str]:
    text = " ".join(text.split())
    problem, _, advice = text.rpartition(": ")
    return (problem, advice) if " " in problem else (text, "fix this first")  # no more than whose error it is


def _last_line(error: Exception) -> str:
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
