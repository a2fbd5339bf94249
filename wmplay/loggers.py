"""Loggers of metrics: always ``metrics.jsonl``, and by config wandb or TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, Literal

from wmplay.contracts import Logger
from wmplay.errors import WmplayError
from wmplay.system.extras import import_extra
from wmplay.system.files import explained
from wmplay.system.progress import tell

WAITING = 1000  # lines that wait for a slow logger
START, FINISH = 3.0, 5.0  # seconds that a run waits for a logger to start, and to finish


class Jsonl:
    """One JSON object per line, in a file that can be truncated to the position of a checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path):
            self._file = path.open("ab")

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Append a line and flush it, so that a killed run keeps it. Raise WriteError if that fails."""
        with explained(self._path):
            self._file.write(json.dumps({"step": step, **metrics}).encode() + b"\n")
            self._file.flush()

    def position(self) -> int:
        """Return the number of bytes written."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # flushing a line that could not be written, which log has reported
            self._file.close()

    @staticmethod
    def size(path: Path) -> int:
        """Return the number of bytes in a file, or 0 if it does not exist."""
        return path.stat().st_size if path.exists() else 0

    @staticmethod
    def cut(path: Path, position: int) -> None:
        """Truncate a file to ``position`` bytes; a run that continues writes the later lines again."""
        if Jsonl.size(path) > position:
            with explained(path):
                os.truncate(path, position)


class NoLogger:
    """No logger besides ``metrics.jsonl``."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Ignore the metrics."""

    def close(self) -> None:
        """Return at once."""


class WandbLogger:
    """Weights & Biases; offline unless the user is logged in."""

    @classmethod
    def check(cls) -> None:
        """Raise ConfigError if wandb is not installed."""
        import_extra("wandb", "wandb", "this logger")

    def __init__(
        self,
        run_dir: Path,
        config: dict[str, Any],
        *,
        project: str = "wmplay",
        mode: Literal["auto", "online", "offline"] = "auto",
    ) -> None:
        wandb = import_extra("wandb", "wandb", "this logger")
        if mode == "auto":
            mode = "online" if _wandb_login() else "offline"
        name = "/".join(run_dir.parts[-2:])
        self._run = wandb.init(project=project, mode=mode, dir=str(run_dir), config=config, name=name)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Send the numbers of a line."""
        self._run.log({**_numbers(metrics), "step": step})

    def close(self) -> None:
        """Finish the wandb run."""
        self._run.finish()


class TensorBoardLogger:
    """TensorBoard event files in ``<run>/tensorboard``."""

    @classmethod
    def check(cls) -> None:
        """Raise ConfigError if tensorboard is not installed."""
        import_extra("tensorboard", "tensorboard", "this logger")

    def __init__(self, run_dir: Path) -> None:
        self.check()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Write each number as a scalar."""
        for name, value in _numbers(metrics).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class Guarded:
    """A logger in a thread of its own, which can neither stop a run nor block it.

    Lines wait in a queue. A line is lost if the queue is full, if the logger has failed, or if it is still
    waiting when the run's time for finishing is over; the number of lost lines is reported at the end.

    Args:
        make: builds the logger.

    Raises:
        WmplayError: if the logger reports a mistake of the user at its start, for example a wrong setting.
    """

    def __init__(self, make: Callable[[], Logger]) -> None:
        self._lines: Queue[tuple[dict[str, Any], int] | None] = Queue(WAITING)
        self._name = "the logger"
        self._offered = self._delivered = 0  # lines
        self._refusal: WmplayError | None = None
        self._started = Event()
        self._thread = Thread(target=self._work, args=(make,), name="logger", daemon=True)
        self._thread.start()
        if not self._started.wait(START):
            tell(
                f"the logger has not started within {START:g} s: the run goes on, up to {WAITING} lines wait"
            )
        if self._refusal is not None:
            raise self._refusal

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Queue a line for the logger, unless the queue is full."""
        self._offered += 1
        with suppress(Full):
            self._lines.put_nowait((dict(metrics), step))

    def close(self) -> None:
        """Let the logger finish, for a limited time."""
        until = time.monotonic() + FINISH
        while self._thread.is_alive() and time.monotonic() < until:
            with suppress(Full):
                self._lines.put(None, timeout=0.1)
                self._thread.join(until - time.monotonic())
        if self._thread.is_alive():
            tell(f"{self._name} has not finished within {FINISH:g} s, and is left behind")
        lost = self._offered - self._delivered
        if lost:
            tell(f"{self._name} has not taken {lost} of {self._offered} lines: metrics.jsonl has all of them")

    def _work(self, make: Callable[[], Logger]) -> None:
        try:
            logger = make()
            self._name = type(logger).__name__
            self._started.set()
            while (line := self._lines.get()) is not None:
                logger.log(*line)
                self._delivered += 1
        except Exception as error:
            if isinstance(error, WmplayError) and not self._started.is_set():
                self._refusal = error
            else:
                why = str(error) or type(error).__name__
                tell(f"{self._name} failed and is left out from here on: {why}")
            self._started.set()
            return
        try:
            logger.close()
        except Exception as error:
            tell(f"{self._name} did not close: {error}")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in metrics.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _wandb_login() -> bool:
    import netrc

    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
