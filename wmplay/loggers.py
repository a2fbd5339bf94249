"""Where metrics go: always into ``metrics.jsonl``, and by config to wandb or TensorBoard as well."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Protocol

from rich.markup import escape

from wmplay.errors import WmplayError
from wmplay.extras import import_extra
from wmplay.files import explained
from wmplay.progress import console


class Logger(Protocol):
    """Takes flat metrics: names to numbers."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Records metrics; ``step`` counts model updates and collected episodes, and never goes back."""

    def close(self) -> None:
        """Flushes and lets go."""


class Jsonl:
    """One JSON object per line; the file can be cut back to where a checkpoint was."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with explained(path):
            self._file = path.open("ab")

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Appends a line at once, so that a killed run keeps it. Raises WriteError."""
        with explained(self._path):
            self._file.write(json.dumps({"step": step, **metrics}).encode() + b"\n")
            self._file.flush()

    def position(self) -> int:
        """Bytes written so far."""
        return self._file.tell()

    def close(self) -> None:
        """Closes the file."""
        with suppress(OSError):  # of a line that could not be written, as log has said
            self._file.close()

    @staticmethod
    def size(path: Path) -> int:
        """Bytes in a file; 0 where there is none."""
        return path.stat().st_size if path.exists() else 0

    @staticmethod
    def cut(path: Path, position: int) -> None:
        """Forgets what was written after ``position``; a run that goes on writes it again."""
        if Jsonl.size(path) > position:
            with explained(path):
                os.truncate(path, position)


class NoLogger:
    """Nothing besides ``metrics.jsonl``."""

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


class WandbLogger:
    """Weights & Biases; offline unless the user is logged in."""

    @classmethod
    def check(cls) -> None:
        """Raises ConfigError where wandb is not installed."""
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
        """Sends the numbers of a line."""
        self._run.log({**_numbers(metrics), "step": step})

    def close(self) -> None:
        """Finishes the wandb run."""
        self._run.finish()


class TensorBoardLogger:
    """TensorBoard event files in ``<run>/tensorboard``."""

    @classmethod
    def check(cls) -> None:
        """Raises ConfigError where tensorboard is not installed."""
        import_extra("tensorboard", "tensorboard", "this logger")

    def __init__(self, run_dir: Path) -> None:
        self.check()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"))

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Writes each number as a scalar."""
        for name, value in _numbers(metrics).items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flushes and closes the event file."""
        self._writer.close()


class Guarded:
    """Keeps a logger's failure from stopping the run: it is named once, and the logger is left out.

    Args:
        make: builds the logger.

    Raises:
        WmplayError: for what the user can mend at once, as a missing package.
    """

    def __init__(self, make: Callable[[], Logger]) -> None:
        try:
            self._logger = make()
        except WmplayError:
            raise
        except Exception as error:
            self._leave_out("the logger", error)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Logs, as long as the logger works."""
        try:
            self._logger.log(metrics, step)
        except Exception as error:
            self._leave_out(type(self._logger).__name__, error)

    def _leave_out(self, name: str, error: Exception) -> None:
        self._logger = NoLogger()
        console.print(f"[yellow]{name} failed and is left out from here on:[/yellow] {escape(str(error))}")

    def close(self) -> None:
        """Closes the logger; what it says about that does not matter to the run."""
        try:
            self._logger.close()
        except Exception as error:
            console.print(
                f"[yellow]{type(self._logger).__name__} did not close:[/yellow] {escape(str(error))}"
            )


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
