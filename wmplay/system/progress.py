"""Progress bars with rates and remaining time, and stopping at a safe moment on Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.control import Control
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.segment import ControlType, Segment
from rich.text import Text

from wmplay.system.printing import printable

LINE_EVERY = 30.0  # seconds between lines where no terminal can show a bar
ONCE = (signal.SIGINT, signal.SIGTERM)  # a second signal of the same kind acts at once
OTHERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)  # a terminal closes; a queue's time limit nears


class _Printable(RenderHook):
    """A hook that escapes control characters in everything a console prints: names and errors come from
    files."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(each) for each in renderables]


class _Shown:
    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for text, style, control in console.render(self.inner, options):
            yield Segment(text if control else printable(text), style, control)


def terminal(**settings: Any) -> Console:
    """Return a console that escapes control characters in everything it prints."""
    console = Console(highlight=False, **settings)
    console.push_render_hook(_Printable())
    return console


console = terminal(stderr=True)


def tell(line: str) -> None:
    """Print a line literally: without markup and without line breaks."""
    console.print(Text(line), soft_wrap=True)


class Interrupted(Exception):
    """Ctrl-C was pressed and the current step is complete: the state is consistent and can be saved."""


class Interrupt:
    """A switch that turns Ctrl-C into an exception at a moment that the code chooses.

    A second Ctrl-C acts at once. The same holds for SIGTERM, for SIGHUP (a closed terminal; left alone under
    nohup) and for SIGUSR1 and SIGUSR2 (sent by queues before a time limit; left alone if handled elsewhere).
    """

    def __init__(self) -> None:
        self.pressed = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Set ``pressed`` at the first signal within the block instead of raising."""
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread receives signals
            return
        others = [number for number in OTHERS if signal.getsignal(number) is signal.SIG_DFL]
        previous = {number: signal.getsignal(number) for number in (*ONCE, *others)}
        seen: set[int] = set()

        def press(number: int, frame: FrameType | None) -> None:
            if number in seen and number in ONCE:
                raise KeyboardInterrupt
            seen.add(number)
            self.pressed = True
            if number == signal.SIGHUP and console.is_terminal:
                console.quiet = True  # the terminal is closed
            with suppress(OSError):
                console.print(
                    "[yellow]stopping at the next safe moment (press again to stop at once)[/yellow]"
                )

        for number in previous:
            signal.signal(number, press)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if Ctrl-C was pressed."""
        if self.pressed:
            raise Interrupted


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Show a line while the block runs, where there is a terminal, and take it away after."""
    if not console.is_terminal:
        yield
        return
    console.print(Text(f"...  {what}"), end="", soft_wrap=True)
    console.control(Control(ControlType.CARRIAGE_RETURN))
    try:
        yield
    finally:
        console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))


Advance = Callable[[int, str], None]  # (units done so far, a short note such as "loss 1.23")


@contextmanager
def bar(title: str, total: int, unit: str, *, start: int = 0) -> Iterator[Advance]:
    """Show a progress bar with its rate, or lines now and then without a terminal, and a line at the end.

    Yields:
        A function of the units done so far and a short note.
    """
    began = time.perf_counter()
    done = start
    note = ""
    said = began
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=32),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )

    def rate() -> str:
        return f"{(done - start) / max(time.perf_counter() - began, 1e-9):,.0f} {unit}/s"

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task: TaskID = progress.add_task(title, total=total, completed=start, rate="", note="")

        def advance(now: int, text: str = "") -> None:
            nonlocal done, note, said
            done, note = now, text
            progress.update(task, completed=now, rate=rate(), note=text)
            clock = time.perf_counter()
            if not console.is_terminal and clock - said >= LINE_EVERY and start < done < total:
                said = clock
                left = (total - done) * (clock - began) / (done - start)
                tell(
                    f"{title:<9} {done:,} of {total:,} {unit} ({rate()}), {left:,.0f} s left  {note}".rstrip()
                )

        yield advance
    seconds = time.perf_counter() - began
    tell(f"{title:<9} {done - start:,} {unit} in {seconds:.1f} s ({rate()})  {note}".rstrip())


@contextmanager
def episodes_bar(
    title: str, episodes: int, check: Callable[[], None] = lambda: None
) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar over the episodes of ``simulate``.

    Args:
        title: of the bar.
        episodes: their number.
        check: called first at each advance; may raise to stop.

    Yields:
        The ``progress`` argument for ``simulate``.
    """
    with bar(title, episodes, "episodes") as advance:

        def progress(done: int, steps: int) -> None:
            check()
            advance(done, f"{steps:,} steps")

        yield progress
