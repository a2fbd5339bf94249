"""What reaches a terminal, and what signals do."""

from __future__ import annotations

import io
import os
import signal
import time

import pytest
from rich.table import Table

from wmplay.cli import main
from wmplay.system.printing import printable
from wmplay.system.progress import Interrupt, Interrupted, bar, console, terminal

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\u202eab"


def test_nothing_that_a_terminal_obeys_is_printed() -> None:
    shown = terminal(file=io.StringIO(), width=200)
    table = Table(title=EVIL)
    table.add_column(EVIL)
    table.add_row(EVIL)
    for what in (EVIL, table):
        shown.print(what)
        shown.rule(EVIL)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "\\x1b]0;owned" in text
    assert "\\u202e" in text
    assert printable(text) == text


def test_what_is_harmless_stays_as_it_is() -> None:
    text = "größe\t損失 ±\n"
    assert printable(text) == text


def test_colours_and_bars_are_still_drawn() -> None:
    shown = terminal(file=io.StringIO(), force_terminal=True, width=80)
    shown.print("[red]x[/red]")
    assert "\x1b[31mx" in shown.file.getvalue()  # type: ignore[attr-defined]
    with bar("fit", 3, "updates") as advance:
        advance(3, EVIL)


def test_an_error_is_printed_with_what_it_would_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"experiment={EVIL.strip()}"]) == 2
    error = capsys.readouterr().err
    assert printable(error) == error


@pytest.fixture(autouse=True)
def _usual_signals():
    """As in the foreground of a shell, not under nohup."""
    usual = {signal.SIGHUP: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = {number: signal.signal(number, action) for number, action in usual.items()}
    yield
    for number, action in before.items():
        signal.signal(number, action)


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_that_end_a_process_stop_at_a_safe_moment(number: int) -> None:
    interrupt, before = Interrupt(), signal.getsignal(number)
    with interrupt.listening():
        interrupt.check()
        send(number)
        with pytest.raises(Interrupted):
            interrupt.check()
    assert signal.getsignal(number) == before


def test_a_closing_terminal_hurries_nobody() -> None:
    """Shells send SIGHUP again; session managers send SIGTERM with it."""
    interrupt = Interrupt()
    with interrupt.listening():
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP, signal.SIGINT):
            send(number)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_run_under_nohup_goes_on() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    interrupt = Interrupt()
    with interrupt.listening():
        send(signal.SIGHUP)
        interrupt.check()


def test_a_terminal_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def isatty(self) -> bool:
            return True

    with monkeypatch.context() as patch:
        patch.setattr(console, "_file", Gone())
        patch.setattr(console, "quiet", False)
        interrupt = Interrupt()
        with interrupt.listening():
            send(signal.SIGHUP)
            console.print("on")
        assert interrupt.pressed
