"""A run on disk: its files, the lock of its writer, and checksums that reveal later changes."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import msgspec
import torch
from msgspec import Meta

from wmplay import registry
from wmplay.config.run_config import read_config, write_config
from wmplay.config.settings import Settings
from wmplay.errors import DamagedError, RunError
from wmplay.runs.disk.checkpoints import Checkpoints
from wmplay.runs.disk.portable import is_portable
from wmplay.runs.shipped import where
from wmplay.system.files import (
    check_links,
    explained,
    is_beside,
    remove_leftovers,
    unsealed,
    write_sealed_json,
)
from wmplay.system.locks import claimed, holder, is_claimed
from wmplay.system.reading import read_json

LOCK = ".lock"  # held as long as a process writes to the run
PATIENCE = 1.0  # seconds, against those who only look whether it is held
BEFORE_RUN_JSON = ("checkpoints", "config.yaml")

Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e12)]


@dataclass(frozen=True)
class _Machine:
    threads: Annotated[int, Meta(ge=1)] | None = None


@dataclass(frozen=True)
class _Content:
    """The fields of ``run.json`` that are read; others are only shown."""

    name: str | None = None
    seed: int | None = None
    overrides: list[str] = field(default_factory=list)
    command: str | None = None
    versions: dict[str, Any] | None = None
    machine: _Machine | None = None
    started: str | None = None
    status: str | None = None
    wall: dict[str, Seconds] | None = None  # of each phase
    config_sha256: str | None = None
    changes: list[Any] | None = None


class RunDirectory:
    """The directory of a run: ``config.yaml``, ``run.json``, ``metrics.jsonl``, ``trajectories/``, ...

    ``run.json``, checkpoints and ``.npz`` files have checksums: one that changed since it was written is
    reported when it is read. Files of older versions have none; the config may be edited by a person.

    Raises:
        RunError: if the path is not a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.trajectories = path / "trajectories"
        self.held_out = path / "held_out"
        self._checkpoints = Checkpoints(path / "checkpoints")
        self.read()

    @classmethod
    @contextmanager
    def created(
        cls, settings: Settings, overrides: Sequence[str], path: str | Path | None = None
    ) -> Iterator[RunDirectory]:
        """Make the directory of a new run, and hold it within the block (see ``held``).

        Args:
            settings: of the whole run.
            overrides: as typed; they name the run among the jobs of a sweep.
            path: of the directory; None is ``runs/<name>/<date-time>``.

        Raises:
            RunError: if the path is taken, or if another process makes a run in it.
            WriteError: no space, no permission; the directory is removed.
        """
        path, made = (_unused(Path("runs") / settings.name), True) if path is None else _claim(Path(path))
        begun = (path / LOCK).exists()  # and killed before there was a run
        with ExitStack() as undo:
            if made:
                undo.callback(_remove_empty, path)
            with claimed(path / LOCK, PATIENCE) as free:
                if not free and not (path / "run.json").exists():
                    raise RunError(_busy(path))
                if not free or not _is_free(path, begun):
                    raise RunError(_taken(path))
                with _undone(path):
                    _write_new(path, settings, overrides)
                undo.pop_all()
                yield cls(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from writing to the run within the block.

        Temporary files of killed processes are removed.

        Raises:
            RunError: if another process writes to the run, with its number, its machine and since when; or
                for a link that leads out of the directory, through which the run would write.
            WriteError: no permission.
        """
        check_links(self.path, RunError)
        with claimed(self.path / LOCK, PATIENCE) as free:
            if not free:
                raise RunError(_busy(self.path), got=self.path)
            for folder in (self.path, *(path for path in self.path.iterdir() if path.is_dir())):
                remove_leftovers(folder)
            yield

    def read(self) -> dict[str, Any]:
        """Return the content of ``run.json``.

        Raises:
            RunError: if the file is missing or damaged.
            UnknownName: for a single word that is like the name of a trained run.
        """
        path = self.path / "run.json"
        try:
            content = unsealed(read_json(path, RunError), path)
        except (FileNotFoundError, NotADirectoryError):
            if is_portable(where(self.path)):
                raise RunError(
                    f"{self.path} is an export",
                    got=self.path,
                    expected="a run's directory, with its training and its data",
                    advice="an export acts, predicts and is verified: wmplay play, wmplay eval --verify, "
                    "wmplay simulate --run; wmplay report shows its card, with the command that trained it",
                ) from None
            raise RunError(f"{self.path} is not a run: it has no run.json", got=self.path) from None
        try:
            msgspec.convert(content, _Content)
        except msgspec.ValidationError as error:
            raise DamagedError(f"{path} is damaged: {error}; restore it from a copy", got=path) from error
        return content

    def update(self, **fields: Any) -> None:
        """Replace fields of ``run.json``."""
        write_sealed_json(self.path / "run.json", {**self.read(), **fields})

    def status(self) -> str:
        """Return "running", "finished", "failed", "interrupted", or "stopped" for a killed run."""
        status = str(self.read().get("status", ""))
        return "stopped" if status == "running" and not is_claimed(self.path / LOCK) else status

    # ---- its config ----------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Return the config as plain values.

        Raises:
            RunError: if it cannot be read.
        """
        path = self.path / "config.yaml"
        try:
            return read_config(path)
        except FileNotFoundError:
            raise RunError(f"{self.path} is not a whole run: it has no config.yaml") from None

    def config_is_as_written(self) -> bool:
        """Return whether the config is unchanged since the run wrote it."""
        noted = self.read().get("config_sha256")
        return noted is None or noted == _digest(self.path / "config.yaml")

    def change_settings(self, settings: Settings, /, **change: Any) -> None:
        """Write other settings, and record in ``run.json`` what was changed, and when.

        Args:
            settings: from here on.
            change: entries to record: the overrides, and the position of the run.
        """
        when = datetime.now().isoformat(timespec="seconds")
        write_config(self.path / "config.yaml", settings.config())
        changes = [*self.read().get("changes", []), {"when": when, **change}]
        self.update(config_sha256=_digest(self.path / "config.yaml"), changes=changes)

    # ---- its checkpoints -------------------------------------------------------------------------------

    def checkpoints(self) -> list[Path]:
        """Return the checkpoints, oldest first."""
        return self._checkpoints.paths()

    def save_checkpoint(self, state: Mapping[str, Any]) -> Path:
        """Write the next checkpoint. Raise WriteError."""
        return self._checkpoints.save(state)

    def read_checkpoint(self) -> dict[str, Any]:
        """Return the last checkpoint that is not damaged.

        Raises:
            RunError: if no checkpoint exists; DamagedError if all are damaged.
        """
        return self._checkpoints.read()


# ---- a new run -----------------------------------------------------------------------------------


def _unused(folder: Path) -> Path:
    """Make ``<folder>/<date-time>``, with a number if two runs begin in the same second."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for number in count():
        path = folder / (f"{stamp}-{number}" if number else stamp)
        with explained(path), suppress(FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir()  # which only one process can
            return path
    raise AssertionError("unreachable")


def _claim(path: Path) -> tuple[Path, bool]:
    """Make the chosen directory; return whether it is new. Raise RunError or WriteError."""
    if path.exists() and not _is_free(path, (path / LOCK).exists()):
        raise RunError(_taken(path), got=path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.mkdir()
        except FileExistsError:
            return path, False
        return path, True


def _is_free(path: Path, begun: bool) -> bool:
    """Return whether a directory is empty, or has only files that a killed run writes before ``run.json``."""
    if not path.is_dir():
        return False
    known = {LOCK, *(BEFORE_RUN_JSON if begun else ())}
    checkpoints = path / "checkpoints"
    return all(each.name in known or is_beside(each) for each in path.iterdir()) and not (
        checkpoints.is_dir() and any(checkpoints.iterdir())
    )


def _taken(path: Path) -> str:
    if (path / "run.json").exists():
        return f"{path} is a run: go on with it by run={path}, or choose another dir=<path>"
    return f"{path} exists, and is not a run to go on with: choose another dir=<path>"


def _busy(path: Path) -> str:
    return f"{path} is in use by {holder(path / LOCK)}: wait for its end, stop it, or choose another run"


def _write_new(path: Path, settings: Settings, overrides: Sequence[str]) -> None:
    with explained(path):
        (path / "checkpoints").mkdir(exist_ok=True)
    write_config(path / "config.yaml", settings.config())
    content = {
        "name": settings.name,
        "seed": settings.seed,
        "overrides": list(overrides),
        "command": " ".join(["wmplay train", *overrides]),
        "plugins": registry.plugins_of(settings),
        "versions": _versions(),
        "git": _git_commit(),
        "machine": _machine(),
        "started": datetime.now().isoformat(timespec="seconds"),
        "status": "running",
        "wall": {},
        "config_sha256": _digest(path / "config.yaml"),
    }
    write_sealed_json(path / "run.json", content)


@contextmanager
def _undone(path: Path) -> Iterator[None]:
    """Remove the files that ``_write_new`` made if the block fails."""
    try:
        yield
    except BaseException:
        for name in ("run.json", "config.yaml"):
            (path / name).unlink(missing_ok=True)
        _remove_empty(path / "checkpoints")
        raise


def _remove_empty(path: Path) -> None:
    with suppress(OSError):  # something is in it by now
        path.rmdir()


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _versions() -> dict[str, str]:
    versions = {"python": sys.version.split()[0]}
    for package in ("wmplay", "torch", "numpy", "gymnasium", "box2d", "hydra-core"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def _machine() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _git_commit() -> str | None:
    """Return the commit of the checkout that the code runs from, with "+changes" if it was edited."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
