"""Reports of checks: which properties are tried, and whose lines an error names."""

from __future__ import annotations

import json
from pathlib import Path

from wmplay.check.report import KIT, Broken, NotTried, Property, examine


class Piece:
    """Fails where it is told to, and notes what was tried."""

    def __init__(self, *bad: str) -> None:
        self.bad, self.tried = bad, list[str]()

    def ask(self, name: str) -> None:
        """Note a property, and break it."""
        self.tried.append(name)
        if name in self.bad:
            raise Broken(f"{name} is wrong", "mend it")


def first(piece: Piece) -> None:
    """Check that the first holds."""
    piece.ask("first")


def second(piece: Piece) -> None:
    """Hold second."""
    piece.ask("second")


def third_of_all(piece: Piece) -> None:
    """Hold third."""
    piece.ask("third of all")


PROPERTIES = (
    Property(first, decisive=True),
    Property(second),
    Property(third_of_all, after=(second,), slow=True),
)


def not_tried(piece: Piece, **settings: bool) -> set[str]:
    """The properties that were left out, which are those that the piece was not asked for."""
    report = examine("piece", PROPERTIES, piece, **settings)
    assert [finding.name for finding in report.findings if finding.tried] == piece.tried
    return {finding.name for finding in report.findings if not finding.tried}


def test_what_depends_on_a_broken_property_is_not_tried() -> None:
    assert not_tried(Piece()) == set()
    assert not_tried(Piece("first")) == {"second", "third of all"}
    assert not_tried(Piece("second")) == {"third of all"}
    assert not_tried(Piece("third of all")) == set()


def test_quick_leaves_out_what_is_slow() -> None:
    assert not_tried(Piece(), quick=True) == {"third of all"}


def test_one_that_is_not_tried_decides_nothing() -> None:
    def cannot_be_tried(piece: Piece) -> None:
        raise NotTried("there is no such thing here")

    report = examine("piece", (Property(cannot_be_tried, decisive=True), Property(first)), Piece())
    assert (report.passed, report.tried) == (True, 1)


def test_a_report_is_json() -> None:
    data = json.loads(json.dumps(examine("piece", PROPERTIES, Piece("second")).as_json()))
    assert (data["piece"], data["passed"]) == ("piece", False)
    names = {"name", "status", "message", "advice", "seconds"}
    assert [finding["status"] for finding in data["findings"]] == ["ok", "failed", "not tried"]
    assert all(set(finding) == names and finding["seconds"] >= 0 for finding in data["findings"])


def raised_by(source: str, where: Path) -> str:
    """The advice about an error that code at a place raises."""
    space: dict[str, object] = {}
    exec(compile(source, where, "exec"), space)
    (finding,) = examine("piece", (Property(first),), _Raising(space["call"])).findings
    return finding.advice


class _Raising:
    def __init__(self, call: object) -> None:
        self.ask = call


def test_an_error_names_the_pieces_own_line_and_never_the_kits(tmp_path: Path) -> None:
    wrong = "def call(name):\n    return {}['absent']\n"
    theirs, ours = tmp_path / "mine.py", KIT / "fixtures" / "anything.py"
    advice = raised_by(wrong, theirs)
    assert "mine.py" in advice
    assert "line 2" in advice
    assert str(KIT) not in raised_by(wrong, ours)
    assert "first" in raised_by(wrong, ours).lower()
