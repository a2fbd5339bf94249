"""What every refusal has in common: exit code 2 and one line, and nothing changed on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from wmplay.cli import main

PREFIX = "wmplay: error: "


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
