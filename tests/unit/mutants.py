"""Pieces that are built to break what ``wmplay.check`` promises, and what it must say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from wmplay.check import Report
from wmplay.check.report import Property

Piece = TypeVar("Piece", bound=type)


class Mutants(dict[str, tuple[Any, set[str]]]):
    """By name: the class, and the properties that it must fail."""

    def breaks(self, *properties: str) -> Callable[[Piece], Piece]:
        """Registers a class."""

        def register(cls: Piece) -> Piece:
            self[cls.__name__] = cls, set(properties)
            return cls

        return register

    def broken(self) -> set[str]:
        """The properties that are broken by any."""
        return set().union(*(properties for _, properties in self.values()))


def expect_failures(report: Report, expected: set[str]) -> None:
    """These properties fail and no others, each with one line of what it found and what to do."""
    assert {finding.name for finding in report.failures} == expected, report
    for finding in report.failures:
        assert finding.message
        assert finding.advice
        assert "\n" not in str(finding)


def named(properties: Iterable[Property[Any]]) -> set[str]:
    """As reports call them."""
    return {each.name for each in properties}
