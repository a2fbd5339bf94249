"""Standard output as it may be: without some characters, or with nobody who reads it."""

from __future__ import annotations

import codecs
import os
import select
from io import TextIOWrapper
from typing import TextIO

PLAIN = {"±": "+-", "·": "-", "…": "...", "–": "-", "—": "-", "×": "x", "→": "->", "≥": ">=", "≤": "<="}


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
