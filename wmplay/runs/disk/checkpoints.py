"""The checkpoints of a run: a kill at any moment leaves whole ones, and any changed bit is detected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape

from wmplay.errors import DamagedError, RunError
from wmplay.system.files import archive_written_beside, open_archive
from wmplay.system.progress import console

FORMAT = 2  # 1: before policies learned
PARTS = {"state": dict, "weights": dict, "fitter": object, "learner": object, "store": object, "metrics": int}
KEPT = 2  # the last one, and the one before in case the last is damaged


class Checkpoints:
    """A folder of ``000001.pt``, ``000002.pt``, ...; the newest two undamaged ones are kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged: set[Path] = set()

    def paths(self) -> list[Path]:
        """Return the files, oldest first. Raise RunError if the folder cannot be read."""
        try:
            found = list(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RunError(
                f"cannot read {self.folder} ({error.strerror})", advice="check its permissions"
            ) from error
        return sorted(path for path in found if path.suffix == ".pt" and path.stem.isdecimal())

    def save(self, state: Mapping[str, Any]) -> Path:
        """Write the next checkpoint atomically, and delete the oldest.

        Args:
            state: tensors, numbers, strings, lists and dicts: ``torch.load(weights_only=True)`` reads it.

        Raises:
            WriteError: no space, no permission; earlier checkpoints are unchanged.
        """
        existing = self.paths()
        number = int(existing[-1].stem) + 1 if existing else 1
        path = self.folder / f"{number:06d}.pt"
        with archive_written_beside(path) as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None  # torch hides the system's error behind its own
                raise
        sound = [each for each in existing if each not in self._damaged]
        for old in sound[: 1 - KEPT]:
            old.unlink(missing_ok=True)
        return path

    def read(self) -> dict[str, Any]:
        """Return the last checkpoint that is not damaged, and report damaged ones on the terminal.

        Raises:
            DamagedError: if all are damaged.
            RunError: if none exists, or if it cannot be read or has another format.
        """
        problems: dict[Path, str] = {}
        while left := [path for path in self.paths() if path not in problems]:
            try:
                state = _read(left[-1])
            except FileNotFoundError:  # the run, which goes on, has let go of it
                continue
            except OSError as error:
                raise RunError(
                    f"cannot read {left[-1]} ({error.strerror or error})", got=left[-1], advice="try again"
                ) from error
            except DamagedError as error:
                problems[left[-1]] = str(error).replace(str(left[-1]), left[-1].name)
                continue
            if problems:
                damaged = "; ".join(problems.values())
                where = f"{self.folder.parent}: {damaged}: taking {left[-1].name} instead"
                console.print(escape(where), soft_wrap=True)
            self._damaged = set(problems)
            return state
        if not problems:
            raise RunError(
                f"{self.folder.parent} has no checkpoint that can be read",
                advice="restore one from a copy, or train anew",
            )
        raise DamagedError(
            f"{self.folder.parent} has no checkpoint that can be read; {'; '.join(problems.values())}",
            advice="restore one from a copy, or train anew",
        )


def _read(path: Path) -> dict[str, Any]:
    """Return a checkpoint. Raise DamagedError, RunError or OSError."""
    with open_archive(path) as file:
        try:
            state: Any = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # all bytes are as they were written
            why = " ".join(str(error).split())[:200]
            raise RunError(
                f"cannot read {path} ({type(error).__name__}: {why}): was it written by another version?"
            ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or not state.keys() >= PARTS.keys():
        raise RunError(f"{path} is not a checkpoint of format {FORMAT}", got=path)
    wrong = [name for name, kind in PARTS.items() if not isinstance(state[name], kind)]
    if wrong:
        raise RunError(
            f"{path} is not a checkpoint: its {wrong[0]} is a {type(state[wrong[0]]).__name__}",
            got=type(state[wrong[0]]).__name__,
        )
    return state
