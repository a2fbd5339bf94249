"""Printing on standard output as it may be, without some characters or with nobody who reads it; and of what
files say, which a terminal would obey."""

from __future__ import annotations

import codecs
import os
import re
import select
from io import TextIOWrapper
from typing import TextIO

# What a terminal obeys instead of showing it: control characters but for tab and line feed, and those that
# turn the direction of the text or break its lines.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
PLAIN = {"±": "+-", "·": "-", "…": "...", "–": "-", "—": "-", "×": "x", "→": "->", "≥": ">=", "≤": "<="}


def printable(text: str) -> str:
    """Return a text in which what a terminal would obey is written out, as in ``\\x1b``."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str, end: str = "\n") -> None:
    """Prints a text on standard output, ``printable``."""
    print(printable(text), end=end, flush=True)


def say_what_can_be_said(*streams: TextIO) -> None:
    """Lets streams replace characters that their encoding does not have, rather than end in an error."""
    codecs.register_error("wmplay.plain", _plain)
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="wmplay.plain")


def is_closed(stream: TextIO) -> bool:
    """Whether nobody reads a stream any more (``| head``). If so, what is left to be written goes nowhere."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    closed = any(flags & (select.POLLERR | select.POLLHUP) for _, flags in poll.poll(0))
    if closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return closed


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(PLAIN.get(c, "?") for c in error.object[error.start : error.end]), error.end
