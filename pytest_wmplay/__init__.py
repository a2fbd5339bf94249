"""``pytest --wmplay-check plugins/``: ``wmplay check`` as tests, one for each property of each piece.

This package imports wmplay only where the option is given, since pytest imports it in every run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wmplay.check import Report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("wmplay")
    group.addoption(
        "--wmplay-check",
        action="store_true",
        help="try what the pieces in plugin files promise, a test for each property",
    )
    group.addoption(
        "--wmplay-set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting, as of `wmplay check`: env=luxo, model.hidden=32; may be given several times",
    )
    group.addoption("--wmplay-quick", action="store_true", help="leave out the properties that take long")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a Python file in which a plugin registers pieces, if ``--wmplay-check`` is given."""
    if not parent.config.getoption("--wmplay-check") or file_path.suffix != ".py":
        return None
    if file_path.name.startswith("test_") or b"register(" not in file_path.read_bytes():
        return None
    file: pytest.Collector = PluginFile.from_parent(parent, path=file_path)
    return file


class PluginFile(pytest.File):
    """A file with pieces of a plugin."""

    def collect(self) -> Iterator[pytest.Collector]:
        """Import the file's plugin and yield a collector for each piece in the file."""
        for kind, name, cls in _pieces(self.path):
            yield Piece.from_parent(self, name=f"{kind}={name}", piece=cls)


class Piece(pytest.Collector):
    """A piece, which is built and checked once, when the first of its tests runs."""

    def __init__(self, *, piece: type, **how: Any) -> None:
        super().__init__(**how)
        self.piece = piece
        self._outcome: Report | Exception | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each property."""
        from wmplay.check.configured import properties

        for name in properties(self.name.partition("=")[0], self.piece):
            yield PropertyTest.from_parent(self, name=name)

    def report(self) -> Report:
        """Return the report of the piece. Raises WmplayError if it cannot be built."""
        from wmplay.check.configured import try_piece

        if self._outcome is None:
            config = self.config
            quick = bool(config.getoption("--wmplay-quick"))
            try:
                self._outcome = try_piece(self.name, config.getoption("--wmplay-set"), quick=quick)
            except Exception as error:
                self._outcome = error
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


class DoesNotHold(Exception):
    """A property that a piece does not have: what was found, and what to do."""


class PropertyTest(pytest.Item):
    """The test of one property."""

    def runtest(self) -> None:
        """Raise DoesNotHold, or skip what was not tried."""
        assert isinstance(self.parent, Piece)
        finding = next((each for each in self.parent.report().findings if each.name == self.name), None)
        if finding is None or not finding.tried:
            pytest.skip("not tried" if finding is None else f"not tried, {finding.message}")
        if not finding.passed:
            raise DoesNotHold(f"{finding.message}\n{finding.advice}")

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return message and advice alone; the traceback of any other error than wmplay's."""
        from wmplay.errors import WmplayError

        if isinstance(excinfo.value, DoesNotHold | WmplayError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return where the test is, and its name in pytest's output."""
        assert self.parent is not None
        return self.path, None, f"{self.parent.name}: {self.name}"


def _pieces(path: Path) -> Iterable[tuple[str, str, type]]:
    """Return (kind, name, class) of the pieces that a file registers.

    A file that lies in no folder of plugins is made one, by the variable that says where they are.
    """
    from wmplay.config import catalogue, plugins

    def holding() -> list[plugins.Plugin]:
        return [each for each in plugins.plugins() if _holds(each.path.absolute(), path)]

    if not holding():
        folders = [os.environ.get("WMPLAY_PLUGINS", ""), str(path.parent)]
        os.environ["WMPLAY_PLUGINS"] = os.pathsep.join(filter(None, folders))
    for plugin in holding():
        plugins.load(plugin)
        failure = plugins.failures().get(plugin.source)
        if failure is not None:
            raise pytest.Collector.CollectError(f"{plugin.source} does not load: {failure}")
    found = catalogue.registered()
    return [(*key, cls) for key, cls in found.items() if _file_of(cls) == path]


def _holds(plugin: Path, path: Path) -> bool:
    return plugin == path or (plugin.name == "__init__.py" and plugin.parent in path.parents)


def _file_of(cls: type) -> Path | None:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return None if file is None else Path(file).absolute()
