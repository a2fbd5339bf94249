"""Refusals: errors of one line with fields, and commands that exit with 2 and leave the disk as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from wmplay.cli import main
from wmplay.errors import WmplayError

PREFIX = "wmplay: error: "
UNASKED = object()
Tokens = str | int | Path | Iterable[str | int | Path]


@contextmanager
def refused(
    kind: type[WmplayError],
    about: Tokens = (),
    *,
    got: Any = UNASKED,
    expected: Tokens = (),
    advice: Tokens = (),
) -> Iterator[pytest.ExceptionInfo[WmplayError]]:
    """Expect an error of one line by its type and fields.

    Args:
        kind: of the error.
        about: tokens of its problem: keys, names, numbers, shapes, files; each a whole word, no prose.
        got: the value that was refused.
        expected: tokens of what was expected.
        advice: tokens of what to do next.
    """
    with pytest.raises(kind) as caught:
        yield caught
    error = caught.value
    assert str(error).isprintable()
    assert_tokens(error.problem, about)
    assert_tokens(error.expected, expected)
    assert_tokens(error.advice, advice)
    if got is not UNASKED:
        assert type(error.got) is type(got)
        assert error.got == got


def assert_tokens(text: str | None, tokens: Tokens) -> None:
    """Assert that a text contains each of the tokens as a whole word."""
    for token in [tokens] if isinstance(tokens, str | int | Path) else tokens:
        assert re.search(rf"(?<!\w){re.escape(str(token))}(?!\w)", text or ""), (token, text)


def contents(folder: Path = Path()) -> dict[str, bytes]:
    """Every file below a folder, and every directory as one with no content."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one-line message with which a command fails; other lines, of progress, may come before it."""
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith(PREFIX)] == lines[-1:]
    assert not any("Traceback" in line for line in lines)
    return lines[-1].removeprefix(PREFIX)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The message of a command that fails before it has done anything."""
    before = contents()
    capsys.readouterr()
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(PREFIX)
    assert contents() == before
    return err.removeprefix(PREFIX).removesuffix("\n")
