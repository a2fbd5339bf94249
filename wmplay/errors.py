"""Errors that a user can fix: one line with the problem, the value, the expected values and the next step.

Every error is a ``ValueError``; the command line prints the line alone and exits with 2 (with ``--debug`` it
adds a traceback). Violated invariants of wmplay itself are assertions instead.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

Portable: TypeAlias = tuple[type[Exception], str, dict[str, Any], str, str | None]
FIELDS = ("problem", "got", "expected", "advice")
LARGEST_SEED = 2**63 - 1  # of any generator, and of a number in an array
LARGEST_COUNT = 2**31 - 1  # of envs, steps, episodes, ...
PLACE = "failed_at"  # the attribute of a restored error that names its place in a plugin
LONGEST = 2000  # characters of a message at most


class WmplayError(ValueError):
    """A mistake that the user can fix; its message is one line that a terminal can show safely.

    The message is made of the fields: "<problem>, expected <expected>: <advice>".

    Attributes:
        problem: the mistake, with the value that was given.
        got: that value by itself, where it is known.
        expected: the values that are valid; None if the problem says so.
        advice: what to do next, or None.
    """

    problem: str = ""
    got: Any = None
    expected: str | None = None
    advice: str | None = None

    def __init__(
        self, problem: str = "", *, got: Any = None, expected: str | None = None, advice: str | None = None
    ) -> None:
        self.problem, self.got, self.expected, self.advice = problem, got, expected, advice
        text = problem if expected is None else f"{problem}, expected {expected}"
        super().__init__(_one_line(text if advice is None else f"{text}: {advice}"))

    def name(self, piece: str) -> None:
        """Put the piece that raised the error in front of its message, unless this names the piece."""
        if piece.rpartition("=")[2] not in str(self):
            self.problem, self.args = f"{piece}: {self.problem}", (_one_line(f"{piece}: {self}"),)


class UnknownName(WmplayError):
    """An unknown name; the message suggests the nearest ones, or other advice."""

    def __init__(self, what: str, name: str, known: Iterable[str], advice: str = "") -> None:
        super().__init__(f"unknown {what} '{name}'", got=name, advice=advice or suggestion(name, known))


class UsageError(WmplayError):
    """A command line or call with invalid arguments."""


class ConfigError(WmplayError):
    """A config that cannot be composed or built."""


class UnknownSetting(ConfigError):
    """A key that a piece's constructor does not take; the message suggests the nearest ones."""

    def __init__(self, piece: str, key: str, known: Iterable[str]) -> None:
        super().__init__(f"{piece} takes no '{key}'", got=key, advice=suggestion(key, known))


class ShapeError(WmplayError):
    """An array of the wrong shape."""

    def __init__(
        self, what: str, got: Iterable[int], expected: Iterable[int | str], advice: str | None = None
    ) -> None:
        shape = tuple(got)
        super().__init__(
            f"{what} has shape {_show(shape)}", got=shape, expected=_show(expected), advice=advice
        )


class SpaceError(WmplayError):
    """An observation or action space that a piece cannot handle."""


class ActionError(WmplayError):
    """A policy returned an action that cannot be executed (NaN, or of the wrong shape or type)."""


class StoreError(WmplayError):
    """A trajectory store that cannot be read or written."""


class WorldError(WmplayError):
    """Data or a policy of one world, used in another."""


class DataError(WmplayError):
    """Data in another format that cannot be read or written, for example because a package is missing."""


class AlignmentError(WmplayError):
    """An array of a trajectory that violates the time rule."""


class RunError(WmplayError):
    """A run directory or checkpoint that cannot be used."""


class DamagedError(RunError):
    """A file of a run that is incomplete, or changed since it was written."""


class CardError(RunError):
    """A card of an exported run that is missing, or that the run does not agree with."""


class ArbiterError(WmplayError):
    """An arbiter that is missing or damaged, or that cannot measure the given clips."""


class WriteError(WmplayError):
    """A file that could not be written, for lack of space or permission; an earlier version is unchanged."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write {path} ({error.strerror or error})",
            advice="what was there is as it was; make room, get permission or choose another directory",
        )


class DivergedError(WmplayError):
    """A loss, or an imagined world, that became NaN or exploded."""


class CheckError(WmplayError):
    """A piece that breaks the contract of its kind."""


class PluginError(WmplayError):
    """A plugin that cannot be loaded."""


def portable(error: Exception, place: str | None) -> Portable:
    """Return an error in a form that any process can raise again.

    Args:
        error: that has been caught; its class, its line and its traceback are kept.
        place: of the error in a plugin (``plugins.failed_at``).
    """
    fields = {name: vars(error)[name] for name in FIELDS if name in vars(error)}
    return type(error), str(error), fields, traceback.format_exc(), place


def restored(error: Portable, where: str) -> Exception:
    """Return the error that another process made ``portable``, with a note of its origin and traceback."""
    kind, message, fields, trace, place = error
    again = kind.__new__(kind)
    again.args = (message,)
    vars(again).update(fields)
    setattr(again, PLACE, place)
    again.add_note(f"raised in {where}:\n{trace}")
    return again


def check_range(what: str, value: int | None, least: int, most: int = LARGEST_COUNT) -> None:
    """Raise ConfigError for a whole number outside least .. most; None is allowed."""
    if value is not None and value < least:
        raise ConfigError(f"{what} is {value}", got=value, expected=f"at least {least}")
    if value is not None and value > most:
        raise ConfigError(f"{what} is {value}", got=value, expected=f"at most {most}")


def check_values(
    piece: str,
    *,
    at_least_one: Mapping[str, float] | None = None,
    positive: Mapping[str, float] | None = None,
    not_negative: Mapping[str, float] | None = None,
    fractions: Mapping[str, float] | None = None,
) -> None:
    """Raise ConfigError for the first of a piece's numbers, given by name, that is out of range."""
    rules: list[tuple[Mapping[str, float] | None, Callable[[float], bool], str]] = [
        (at_least_one, lambda x: x >= 1, "at least 1"),
        (positive, lambda x: x > 0, "a positive number"),
        (not_negative, lambda x: x >= 0, "at least 0"),
        (fractions, lambda x: 0 <= x <= 1, "0 to 1"),
    ]
    for values, is_fine, expected in rules:
        for name, value in (values or {}).items():
            if not is_fine(value):
                raise ConfigError(f"{piece}: {name} is {value}", got=value, expected=expected)


def suggestion(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Return the advice for an unknown name: the nearest known ones, or all of them if none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=limit, cutoff=0.5)
    if near:
        return f"did you mean {_either(near)}?"
    return f"choose from {', '.join(known)}" if known else "there are none"


def _one_line(text: str) -> str:
    """Return a text without control characters, and with its middle left out if it is very long."""
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"
    if text.isprintable():
        return text
    shown = (c if c.isprintable() else " " if c == "\n" else ascii(c)[1:-1] for c in text)
    return "".join(shown)


def _either(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def _show(shape: Iterable[int | str]) -> str:
    return "[" + ", ".join(str(size) for size in shape) + "]"
