"""Progress bars with rates and time left, and stopping at a safe moment on Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True, highlight=False)

LINE_EVERY = 30.0  # seconds, where a bar cannot be drawn


def tell(line: str) -> None:
    """Prints a line as it stands: no markup, and no breaks in it."""
    console.print(Text(line), soft_wrap=True)


class Interrupted(Exception):
    """Ctrl-C was pressed and the present step is complete: state is consistent and can be saved."""


class Interrupt:
    """Turns Ctrl-C into an exception at a moment that the code chooses; a second Ctrl-C acts at once."""

    def __init__(self) -> None:
        self.pressed = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within this block the first Ctrl-C (or SIGTERM) only sets ``pressed``."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread only
            return
        previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def press(number: int, frame: FrameType | None) -> None:
            if self.pressed:
                raise KeyboardInterrupt
            self.pressed = True
            console.print("[yellow]stopping at the next safe moment (press again to stop at once)[/yellow]")

        for number in previous:
            signal.signal(number, press)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if Ctrl-C was pressed."""
        if self.pressed:
            raise Interrupted


Advance = Callable[[int, str], None]  # (done so far, a short note such as "loss 1.23")


@contextmanager
def bar(title: str, total: int, unit: str, *, start: int = 0) -> Iterator[Advance]:
    """A progress bar with its rate; where there is no terminal, a line now and then, and one when it is over.

    Yields:
        A function to call with what is done so far and a short note.
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
    """A bar of episodes that ``simulate`` goes through.

    Args:
        title: of the bar.
        episodes: how many.
        check: called first each time; it may raise to stop.

    Yields:
        The ``progress`` for ``simulate``.
    """
    with bar(title, episodes, "episodes") as advance:

        def progress(done: int, steps: int) -> None:
            check()
            advance(done, f"{steps:,} steps")

        yield progress
