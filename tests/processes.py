"""Commands in processes of their own, forked from one that has imported what they use: that takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from wmplay.cli import main

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["wmplay.loop.train"])


class Command:
    """``wmplay`` with arguments in the present directory; what it prints is in the file ``printed``."""

    def __init__(self, *arguments: str, killed_at: tuple[str, int] | None = None) -> None:
        """Starts it. ``killed_at``: kills itself once so many lines of a phase are in its run's metrics."""
        number = len(list(Path().glob("printed-*")))
        self.printed = Path(f"printed-{number}").absolute()
        self._process = forks.Process(target=_run, args=(arguments, os.getcwd(), self.printed, killed_at))
        self._process.start()

    def goes_on(self) -> bool:
        return self._process.is_alive()

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        os.kill(self._process.pid, signal.SIGINT)

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        """Its exit code; that of a process that was killed is the signal's, negative."""
        self._process.join()
        return int(self._process.exitcode)


def _run(arguments: Sequence[str], folder: str, printed: Path, killed_at: tuple[str, int] | None) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background jobs ignore it
    os.chdir(folder)
    with printed.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if killed_at is not None:
        _kill_at(*killed_at)
    sys.exit(main(arguments))


def _kill_at(phase: str, lines: int) -> None:
    from wmplay.loop.session import Session

    log = Session.log
    left = [lines]

    def log_and_die(self: Session, name: str, metrics: dict[str, float]) -> None:
        log(self, name, metrics)
        left[0] -= name == phase
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Session.log = log_and_die
