"""What a check finds: one line per property."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wmplay.config.plugins import failed_at
from wmplay.errors import WmplayError
from wmplay.system.printing import say

S = TypeVar("S")


class Broken(Exception):
    """A property does not hold: what is wrong, on the smallest input that shows it, and what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


class NotTried(Exception):
    """A property that cannot be tried here, or is none of this piece's, and why."""


@dataclass(frozen=True)
class Finding:
    """Whether a piece has a property."""

    name: str
    passed: bool  # or not tried
    message: str = ""  # what is wrong, or why it was not tried
    advice: str = ""  # what to do
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
        """Whether the piece has every property."""
        return not self.failures

    @property
    def tried(self) -> int:
        """How many properties were tried."""
        return sum(finding.tried for finding in self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The properties that it does not have."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def __str__(self) -> str:
        return "\n".join([self.piece, *map(str, self.findings)])


def examine(
    piece: str, properties: Sequence[Callable[[S], None]], subject: S, verbose: bool = False
) -> Report:
    """Tries each property on a subject.

    Args:
        piece: what is examined, for the reader.
        properties: functions that raise ``Broken`` where theirs does not hold, ``NotTried`` where it cannot
            be tried; the property's name is the function's. Whatever else they raise is the piece's failure.
        subject: what they look at.
        verbose: print each finding as soon as there is one.
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
    except WmplayError as error:  # it says itself what to do
        return Finding(name, False, *_in_two(str(error)))
    except Exception as error:  # any mistake in the piece's own code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        return Finding(name, False, f"raised {text}", f"mend {failed_at(error) or _last_line(error)}")
    return Finding(name, True)


def _in_two(text: str) -> tuple[str, str]:
    text = " ".join(text.split())
    problem, _, advice = text.rpartition(": ")
    return (
        (problem, advice) if " " in problem else (text, "mend this first")
    )  # no more than whose error it is


def _last_line(error: Exception) -> str:
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
