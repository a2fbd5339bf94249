"""Pieces that are built to break what ``wmplay.check`` promises, and what it must say of them."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
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


def edited(piece: type, *changes: tuple[str, str]) -> Any:
    """The class from its own module's source, with texts in it replaced; each must be there."""
    source = Path(inspect.getfile(piece)).read_text()
    for old, new in changes:
        assert source.count(old) >= 1, f"'{old}' is not in {piece.__module__}"
        source = source.replace(old, new)
    module = types.ModuleType(f"edited_{piece.__name__.lower()}")
    sys.modules[module.__name__] = module  # dataclasses and named tuples look themselves up
    exec(compile(source, f"edited {piece.__module__}", "exec"), module.__dict__)
    return getattr(module, piece.__name__)
