"""Pieces that are built to break what ``wmplay.check`` promises, and what it must say of them."""

from __future__ import annotations

import inspect
import re
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


def edited(piece: type, *changes: tuple[str, str], inlined: types.ModuleType | None = None) -> Any:
    """The class from its own module's source, with texts in it replaced; each must be there.

    The source of ``inlined``, a module that it imports from, stands in place of the import.
    """
    source = Path(inspect.getfile(piece)).read_text()
    if inlined is not None:
        own = Path(str(inlined.__file__)).read_text().replace("from __future__ import annotations\n", "")
        source, count = re.subn(f"from {re.escape(inlined.__name__)} import [^\n(]*\n", lambda _: own, source)
        assert count == 1, inlined
    for old, new in changes:
        assert source.count(old) >= 1, f"'{old}' is not in {piece.__module__}"
        source = source.replace(old, new)
    module = types.ModuleType(f"edited_{piece.__name__.lower()}")
    sys.modules[module.__name__] = module  # dataclasses and named tuples look themselves up
    exec(compile(source, f"edited {piece.__module__}", "exec"), module.__dict__)
    return getattr(module, piece.__name__)
