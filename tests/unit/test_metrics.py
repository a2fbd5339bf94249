"""The lines of ``metrics.jsonl``: one reader, that leaves out what is damaged and says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wmplay.errors import RunError
from wmplay.runs.disk.metrics_file import LONGEST, read_metrics

LINE = {"step": 3, "phase": "fit", "iteration": 0, "time": 1.5, "loss/total": 0.5, "note/x": "text"}


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def text(**changes: object) -> bytes:
    return json.dumps({**LINE, **changes}).encode() + b"\n"


@pytest.mark.parametrize(
    "damaged",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b"3\n",
        b'{"step": 3}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"step": 3, "phase": "fit", "x": "' + b"x" * LONGEST + b'"}\n',
        text(step="3"),
        text(step=True),
        text(phase=None),
        text(iteration=0.5),
        text(time="now"),
        text(**{"loss/total": [1]}),
    ],
    ids=range(14),
)
def test_a_damaged_line_is_left_out_and_told(
    tmp_path: Path, damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "metrics.jsonl", text(), damaged, text(step=7))
    lines = read_metrics(path)
    assert [line["step"] for line in lines.sound] == [3, 7]
    assert lines.damaged == [2]
    lines.warn(path)
    told = capsys.readouterr().err
    assert "1 of 3 lines" in told
    assert "(line 2)" in told


def test_a_line_that_is_being_written_is_no_damage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "metrics.jsonl", text(), text()[:9])
    lines = read_metrics(path)
    lines.warn(path)
    assert lines == ([LINE], [])
    assert read_metrics(write(tmp_path / "other", text(), text()[:-1])) == ([LINE], [])
    assert read_metrics(write(tmp_path / "empty")) == ([], [])
    assert read_metrics(tmp_path / "none") == ([], [])
    assert capsys.readouterr().err == ""


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        read_metrics(tmp_path)
