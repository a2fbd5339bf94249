"""What a check finds: one line per property."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from wmplay.errors import WmplayError

S = TypeVar("S")


class Broken(Exception):
    """A property does not hold: what is wrong, on the smallest input that shows it, and what to do."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


@dataclass(frozen=True)
class Finding:
    """Whether a piece has a property."""

    name: str
    passed: bool
    message: str = ""  # what is wrong
    advice: str = ""  # what to do

    def __str__(self) -> str:
        return f"ok   {self.name}" if self.passed else f"FAIL {self.name}: {self.message}; {self.advice}"


@dataclass(frozen=True)
class Report:
    """All findings about a piece. As text, one line each: ``assert report.passed, report`` shows them."""

    piece: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether the piece has every property."""
        return not self.failures

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The properties that it does not have."""
        return tuple(finding for finding in self.findings if not finding.passed)

    def __str__(self) -> str:
        return "\n".join([self.piece, *map(str, self.findings)])


def examine(piece: str, properties: Sequence[Callable[[S], None]], subject: S) -> Report:
    """Tries each property on a subject.

    Args:
        piece: what is examined, for the reader.
        properties: functions that raise ``Broken`` where theirs does not hold; the property's name is the
            function's. Whatever else they raise is the piece's failure, too.
        subject: what they look at.
    """
    return Report(piece, tuple(_try(each, subject) for each in properties))


def _try(holds: Callable[[S], None], subject: S) -> Finding:
    name = holds.__name__.replace("_", " ")
    try:
        holds(subject)
    except Broken as broken:
        return Finding(name, False, broken.message, broken.advice)
    except WmplayError as error:  # it says itself what to do
        return Finding(name, False, *_in_two(str(error)))
    except Exception as error:  # any mistake in the piece's own code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        where = _last_line(error)
        return Finding(name, False, f"raised {text}", f"mend {where}")
    return Finding(name, True)


def _in_two(text: str) -> tuple[str, str]:
    problem, _, advice = " ".join(text.split()).rpartition(": ")
    return (problem, advice) if problem else (advice, "mend this first")


def _last_line(error: Exception) -> str:
    trace = error.__traceback__
    assert trace is not None
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}"
