"""Errors that a user can mend: one line that says what, got, expected and what to do next.

Everything here is a ``ValueError``; the command line prints the line alone and exits with 2 (a
traceback comes with ``--debug``). Our own invariants are assertions instead.
"""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

Portable: TypeAlias = tuple[type[Exception], str, str, str | None]
LARGEST_SEED = 2**63 - 1  # of any generator, and of a number in an array
LARGEST_COUNT = 2**31 - 1  # of envs, steps, episodes, ...
PLACE = "failed_at"  # the attribute of a restored error that says where in a plugin it came up
LONGEST = 2000  # characters of a message


class WmplayError(ValueError):
    """Something the user can mend; its message is one line that a terminal can show, whatever it quotes."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_one_line(message))


class UnknownName(WmplayError):
    """A name that is not there; the message gives the nearest ones, or other advice."""

    def __init__(self, what: str, name: str, known: Iterable[str], advice: str = "") -> None:
        super().__init__(f"unknown {what} '{name}'{f': {advice}' if advice else did_you_mean(name, known)}")


class UsageError(WmplayError):
    """A command line or call with arguments that make no sense."""


class ConfigError(WmplayError):
    """A config that cannot be composed or built."""


class UnknownSetting(ConfigError):
    """A key that a piece's constructor does not take; the message gives the nearest ones."""

    def __init__(self, piece: str, key: str, known: Iterable[str]) -> None:
        super().__init__(f"{piece} takes no '{key}'{did_you_mean(key, known)}")


class ShapeError(WmplayError):
    """An array of the wrong shape."""

    def __init__(self, what: str, got: Iterable[int], expected: Iterable[int | str], hint: str = "") -> None:
        text = f"{what} has shape {_show(got)}, expected {_show(expected)}"
        super().__init__(f"{text}: {hint}" if hint else text)


class SpaceError(WmplayError):
    """An observation or action space that a piece cannot handle."""


class ActionError(WmplayError):
    """A policy returned an action that cannot be executed (NaN, or of the wrong shape or type)."""


class StoreError(WmplayError):
    """A trajectory store that cannot be read or written."""


class WorldError(WmplayError):
    """Data or a policy of one world, given to another."""


class DataError(WmplayError):
    """Data in another format that cannot be read or written: it has a hole, or a package is missing."""


class AlignmentError(WmplayError):
    """An array of a trajectory is not where the time rule wants it."""


class RunError(WmplayError):
    """A run directory or checkpoint that cannot be used."""


class DamagedError(RunError):
    """A file of a run that was only half written, or changed since."""


class ArbiterError(WmplayError):
    """A judge of clips that is not there, is damaged, or cannot judge what it is given."""


class WriteError(WmplayError):
    """A file that could not be written: no space, no permission. What was there before is as it was."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(
            f"cannot write {path} ({error.strerror or error}): what was there is as it was; make room, get "
            "permission or choose another directory"
        )


class DivergedError(WmplayError):
    """A loss, or an imagined world, that became NaN or exploded."""


class CheckError(WmplayError):
    """A piece that does not keep what its kind promises."""


class PluginError(WmplayError):
    """A plugin that cannot be loaded."""


def portable(error: Exception, place: str | None) -> Portable:
    """An error in a form that any process can raise again.

    Args:
        error: that has been caught; its class, its line and its traceback are kept.
        place: where in a plugin it came up (``plugins.failed_at``).
    """
    return type(error), str(error), traceback.format_exc(), place


def restored(error: Portable, where: str) -> Exception:
    """The error that was made ``portable`` in another process; a note says where, with its traceback."""
    kind, message, trace, place = error
    again = kind.__new__(kind)
    again.args = (message,)
    setattr(again, PLACE, place)
    again.add_note(f"raised in {where}:\n{trace}")
    return again


def check_range(what: str, value: int | None, least: int, most: int = LARGEST_COUNT) -> None:
    """Raises ConfigError for a whole number outside least .. most; None is fine."""
    if value is not None and value < least:
        raise ConfigError(f"{what} is {value}, expected at least {least}")
    if value is not None and value > most:
        raise ConfigError(f"{what} is {value}, expected at most {most}")


def check_values(
    piece: str,
    *,
    at_least_one: Mapping[str, float] | None = None,
    positive: Mapping[str, float] | None = None,
    not_negative: Mapping[str, float] | None = None,
    fractions: Mapping[str, float] | None = None,
) -> None:
    """Checks a piece's numbers, given by name. Raises ConfigError for the first that is out of range."""
    rules: list[tuple[Mapping[str, float] | None, Callable[[float], bool], str]] = [
        (at_least_one, lambda x: x >= 1, "at least 1"),
        (positive, lambda x: x > 0, "a positive number"),
        (not_negative, lambda x: x >= 0, "at least 0"),
        (fractions, lambda x: 0 <= x <= 1, "0 to 1"),
    ]
    for values, is_fine, expected in rules:
        for name, value in (values or {}).items():
            if not is_fine(value):
                raise ConfigError(f"{piece}: {name} is {value}, expected {expected}")


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """The end of an error line: the nearest known names, or all of them if none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=limit, cutoff=0.5)
    if near:
        return f": did you mean {_either(near)}?"
    return f": choose from {', '.join(known)}" if known else ": there are none"


def _one_line(text: str) -> str:
    """A text without control characters, and with its middle left out where it is very long."""
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
