"""Safe printing: characters that a stream cannot encode are replaced, control characters are escaped, and a
stream that nobody reads any more is recognised."""

from __future__ import annotations

import codecs
import os
import re
import select
from io import TextIOWrapper
from typing import TextIO

# Control characters other than tab and line feed, and characters that change the direction of text or break
# lines: a terminal obeys them instead of showing them.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
PLAIN = {"±": "+-", "·": "-", "…": "...", "–": "-", "—": "-", "×": "x", "→": "->", "≥": ">=", "≤": "<="}


def printable(text: str) -> str:
    """Return a text with control characters escaped, for example ``\\x1b``."""
    return CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def say(text: str, end: str = "\n") -> None:
    """Print a text on standard output with control characters escaped."""
    print(printable(text), end=end, flush=True)


def say_what_can_be_said(*streams: TextIO) -> None:
    """Make streams replace characters that their encoding lacks instead of raising an error."""
    codecs.register_error("wmplay.plain", _plain)
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="wmplay.plain")


def is_closed(stream: TextIO) -> bool:
    """Return whether nobody reads a stream any more (``| head``), and discard its further output if so."""
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
