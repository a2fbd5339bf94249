"""Progress: plain lines where no bar can be drawn, and lines that go away."""

from io import StringIO

import pytest
from rich.console import Console

from wmplay.system import progress


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_a_file_gets_plain_lines(every: float, monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr(progress, "console", Console(file=written, width=40))
    monkeypatch.setattr(progress, "LINE_EVERY", every)
    with progress.bar("fit", 100, "updates", start=10) as advance:
        for done in (40, 70, 100):
            advance(done, f"[loss] {done}")
    lines = written.getvalue().splitlines()
    assert not {"\r", "\x1b"} & set(written.getvalue())
    assert len(lines) == (3 if every == 0 else 1)
    assert all("updates" in line and "[loss]" in line for line in lines)


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_being_done_is_shown_and_taken_away(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    written = StringIO()
    monkeypatch.setattr(progress, "console", Console(file=written, force_terminal=terminal))
    with progress.doing("[no] peeking"):
        during = written.getvalue()
    assert during == ("...  [no] peeking\r" if terminal else "")
    assert written.getvalue().removeprefix(during) == ("\r\x1b[2K" if terminal else "")
