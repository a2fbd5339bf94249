"""A run on disk: what is where, and checkpoints that a kill at any moment leaves whole."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from wmplay import registry
from wmplay.errors import RunError
from wmplay.files import check_links, explained, write_json, written_beside
from wmplay.reading import read_json
from wmplay.saved import read_config, write_config

CHECKPOINT_FORMAT = 2  # 1: before policies learned
CHECKPOINT_PARTS = {"state", "weights", "fitter", "learner", "store", "metrics"}
KEPT_CHECKPOINTS = 2  # the last one, and the one before in case the last is damaged


class RunDirectory:
    """The directory of a run: ``config.yaml``, ``run.json``, ``metrics.jsonl``, ``trajectories/``, ...

    Raises:
        RunError: if there is no run at the path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.trajectories = path / "trajectories"
        self.held_out = path / "held_out"
        self.read()

    @classmethod
    def create(
        cls, config: DictConfig, overrides: Sequence[str], path: str | Path | None = None
    ) -> RunDirectory:
        """The directory of a new run.

        Args:
            config: of the whole run.
            overrides: as typed; they name the run among the jobs of a sweep.
            path: where; None is ``runs/<name>/<date-time>``.

        Raises:
            RunError: if there is something at that path.
            WriteError: no space, no permission; nothing is left behind.
        """
        path = _unused(Path("runs") / config.name) if path is None else Path(path)
        if (path / "run.json").exists():
            raise RunError(f"{path} is a run: go on with it by run={path}, or choose another dir=<path>")
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise RunError(f"{path} exists, and is not a run to go on with: choose another dir=<path>")
        content = {
            "name": config.name,
            "seed": config.seed,
            "overrides": list(overrides),
            "command": " ".join(["wmplay train", *overrides]),
            "plugins": registry.plugins_of(config),
            "versions": _versions(),
            "git": _git_commit(),
            "machine": _machine(),
            "started": datetime.now().isoformat(timespec="seconds"),
            "status": "running",
            "wall": {},
        }
        try:
            with explained(path):
                (path / "checkpoints").mkdir(parents=True)
            write_config(path / "config.yaml", config)
            write_json(path / "run.json", content)
        except BaseException:
            shutil.rmtree(path, ignore_errors=True)  # there was nothing in it
            raise
        return cls(path)

    def read(self) -> dict[str, Any]:
        """``run.json``.

        Raises:
            RunError: if there is none, or it is damaged.
        """
        path = self.path / "run.json"
        try:
            content = read_json(path, RunError)
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.path} is not a run: it has no run.json") from None
        if not isinstance(content, dict):
            raise RunError(f"{path} is damaged: it holds a {type(content).__name__}, expected an object")
        return content

    def check_links(self) -> None:
        """Raises RunError for a link that leads out of the directory, through which a run would write."""
        check_links(self.path, RunError)

    def update(self, **fields: Any) -> None:
        """Replaces fields of ``run.json``."""
        write_json(self.path / "run.json", {**self.read(), **fields})

    def config(self) -> DictConfig:
        """The resolved config.

        Raises:
            RunError: if it cannot be read.
        """
        path = self.path / "config.yaml"
        try:
            return read_config(path)
        except FileNotFoundError:
            raise RunError(f"{self.path} is not a whole run: it has no config.yaml") from None

    # ---- checkpoints -------------------------------------------------------------------------------

    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("[0-9]*.pt"))

    def save_checkpoint(self, state: Mapping[str, Any]) -> Path:
        """Writes the next checkpoint beside, renames it, and lets go of the oldest.

        Args:
            state: tensors, numbers, strings, lists and dicts: ``torch.load(weights_only=True)`` reads it.

        Raises:
            WriteError: no space, no permission; the checkpoints before are untouched.
        """
        existing = self.checkpoints()
        number = int(existing[-1].stem) + 1 if existing else 1
        path = self.path / "checkpoints" / f"{number:06d}.pt"
        with written_beside(path) as beside, beside.open("wb") as file:
            try:
                torch.save({"format": CHECKPOINT_FORMAT, **state}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None  # torch hides the system's error behind its own
                raise
        for old in existing[: 1 - KEPT_CHECKPOINTS]:
            old.unlink(missing_ok=True)
        return path

    def read_checkpoint(self) -> dict[str, Any]:
        """The last checkpoint that can be read.

        Raises:
            RunError: if there is none, or it is of another format.
        """
        damaged = ""
        for path in reversed(self.checkpoints()):
            try:
                state: Any = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:  # a damaged file fails in many ways
                damaged += f"; {path.name} is damaged ({type(error).__name__})"
                continue
            if not (
                isinstance(state, dict)
                and state.get("format") == CHECKPOINT_FORMAT
                and state.keys() >= CHECKPOINT_PARTS
            ):
                raise RunError(f"{path} is not a checkpoint of format {CHECKPOINT_FORMAT}")
            return state
        raise RunError(
            f"{self.path} has no checkpoint that can be read{damaged}: restore one from a copy, or train anew"
        )


def _unused(folder: Path) -> Path:
    """``<folder>/<date-time>``, with a number behind it where two runs begin in the same second."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    path, number = folder / stamp, 1
    while path.exists():
        path, number = folder / f"{stamp}-{number}", number + 1
    return path


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
    """The commit of the checkout that the code runs from, "+changes" if it was edited."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return None
