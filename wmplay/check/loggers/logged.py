"""Lines for loggers to log, whose numbers are unmistakable, and the records in the files that they write."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w])")
KNOWN = re.compile(r"(first|second|third|fourth|fifth)_name")  # the last parts of all metrics' names
NEAR = 0.01  # relative: a logger may round to three digits
EVENTS = "events.out.tfevents"  # begins the names of TensorBoard's files


@dataclass(frozen=True)
class Line:
    """A call of a logger: metrics at a step."""

    step: int
    metrics: Mapping[str, float]


@dataclass
class Record:
    """Numbers that a file keeps together: a line, a row of a table, an event."""

    text: str  # with all names that belong to it, also of the file
    numbers: list[float] = field(default_factory=list)
    named: dict[str, float] = field(default_factory=dict)  # those numbers that stand under a name

    def holds(self, number: float) -> bool:
        """Return whether one of its numbers is this one, but for rounding."""
        return any(near(each, number) for each in (*self.numbers, *self.named.values()))

    def stands_at(self, step: int) -> bool:
        """Return whether a step is among its numbers."""
        return step in self.numbers or step in self.named.values()

    def of(self, name: str) -> bool:
        """Return whether a metric's name stands in it, with any sign between its parts, or no name at all."""
        return _names(self.text, name) or not KNOWN.search(self.text)

    def has(self, name: str, value: float) -> bool:
        """Return whether it is of a metric, and holds this value of it."""
        if not (self.holds(value) and self.of(name)):
            return False
        under = [number for key, number in self.named.items() if _names(key, name)]
        return not under or any(near(x, value) for x in under)


def _names(text: str, name: str) -> bool:
    return all(part in text for part in name.split("/"))


def near(got: float, expected: float) -> bool:
    """Return whether two numbers are the same but for rounding, to three digits or four decimals."""
    return abs(got - expected) <= NEAR * abs(expected) + 5e-5


def lines(count: int, names: tuple[str, ...], step: int = 0) -> list[Line]:
    """Return lines whose numbers are not near to a whole number, nor to those of other lines close by.

    Args:
        count: of lines.
        names: of the metrics of each.
        step: of the first line; steps are at irregular distances.
    """
    values = _values()
    steps = (step + 17 * number + number * number for number in range(count))
    return [Line(at, dict(zip(names, values, strict=False))) for at in steps]


def _values() -> Iterator[float]:
    for sign in cycle((1, -1)):
        value = 1.3137
        while value < 0.2 / NEAR:
            if abs(value - round(value)) > 2 * NEAR * value:
                yield round(sign * value, 5)
            value *= 1 + 2.5 * NEAR


def records(path: Path, run_dir: Path) -> list[Record] | None:
    """Return the records of a run's file, with its name in the text of each, or None for other formats."""
    kept = next((kept for read in READERS if (kept := read(path)) is not None), None)
    if kept is None:
        return None
    where = str(path.relative_to(run_dir))
    return [Record(f"{where} {each.text}", each.numbers, each.named) for each in kept]


# ---- readers: each returns None for a file that is not of its format ------------------------------


def _events(path: Path) -> list[Record] | None:
    if not path.name.startswith(EVENTS):
        return None
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    except ImportError:
        return None
    found = []
    for event in LegacyEventFileLoader(str(path)).Load():
        for value in event.summary.value:
            number = _scalar(value)
            if number is not None:
                found.append(Record(value.tag, [float(event.step)], {value.tag: number}))
    return found


def _scalar(value: Any) -> float | None:
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.HasField("tensor"):
        from tensorboard.util.tensor_util import make_ndarray

        array = make_ndarray(value.tensor)
        return float(array) if array.ndim == 0 and array.dtype.kind in "fiu" else None
    return None


def _tables(path: Path) -> list[Record] | None:
    with path.open("rb") as file:
        if not file.read(16).startswith(b"SQLite format 3"):
            return None
    found = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database, suppress(sqlite3.Error):
        for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
            rows = database.execute(f'select * from "{table}"')
            columns = [str(column[0]) for column in rows.description]
            found += [_record(zip(columns, row, strict=True)) for row in rows]
    return found


def _text(path: Path) -> list[Record] | None:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
    if "\0" in text:
        return None
    rows = [line for line in text.splitlines() if line.strip()]
    return _json(rows) or _table(rows) or [_loose(row) for row in rows]


def _json(rows: list[str]) -> list[Record]:
    found = []
    for row in rows:
        try:
            value = json.loads(row)
        except ValueError:
            return []
        if isinstance(value, list) and all(isinstance(each, dict) for each in value):
            found += [_record(_flat(each)) for each in value]
        elif isinstance(value, dict) and not any(isinstance(each, list) for each in value.values()):
            found.append(_record(_flat(value)))
        else:
            found.append(_loose(row))
    return found


def _flat(value: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{before}{key}/")
        else:
            yield f"{before}{key}", inner


def _table(rows: list[str]) -> list[Record]:
    """Return the rows of a table whose header, or headers, have no numbers."""
    separator = next((each for each in "\t;," if rows and each in rows[0]), None)
    if separator is None:
        return []
    found, header = [], list[str]()
    for cells in csv.reader(rows, delimiter=separator):
        if not any(NUMBER.fullmatch(cell.strip()) for cell in cells):
            header = cells
        elif len(cells) != len(header):
            return []
        else:
            found.append(_record(zip(header, cells, strict=True)))
    return found


def _record(cells: Any) -> Record:
    named, text = {}, []
    for name, cell in cells:
        number = _number(cell)
        text.append(name)
        if number is None:
            text.append(str(cell))
        else:
            named[name] = number
    return Record(" ".join(text), [], named)


def _loose(row: str) -> Record:
    return Record(row, [float(each) for each in islice(NUMBER.findall(row), 10_000)])


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    if isinstance(cell, int | float):
        return float(cell)
    return float(cell) if isinstance(cell, str) and NUMBER.fullmatch(cell.strip()) else None


READERS: tuple[Callable[[Path], list[Record] | None], ...] = (_events, _tables, _text)
