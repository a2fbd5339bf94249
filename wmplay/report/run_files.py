"""The data of a report: all files of a run directory that exist."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wmplay.contracts import Trajectory
from wmplay.errors import RunError
from wmplay.evaluation.files import load_evaluation
from wmplay.evaluation.gallery import ShownClips, ShownPairs, load_clips, load_episodes, load_pairs
from wmplay.evaluation.scores import Evaluation
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.disk.metrics_file import Lines, read_metrics
from wmplay.system.reading import YAML_BYTES, read_bytes


@dataclass(frozen=True)
class RunFiles:
    """The files of a run; those that do not exist are empty or None."""

    path: Path
    info: dict[str, Any]  # run.json
    config: str  # config.yaml, as text
    metrics: Lines
    evaluation: Evaluation | None
    clips: ShownClips | None
    unprompted: ShownClips | None
    duplicate: ShownClips | None
    episodes: list[Trajectory]  # of the policy, images only
    learned_episodes: list[Trajectory]  # in the learned world, from the same starts
    pairs: ShownPairs  # of possible and impossible episodes

    @property
    def name(self) -> str:
        """The title of the run."""
        return str(self.info.get("name", self.path.name))

    @property
    def log(self) -> list[dict[str, Any]]:
        """The sound lines of ``metrics.jsonl``."""
        return self.metrics.sound


def read_run_files(run_dir: Path) -> RunFiles:
    """Read a run directory.

    Raises:
        RunError: if it is not a run's (no ``run.json``), or if a file is damaged.
    """
    directory = RunDirectory(run_dir)
    try:
        config = read_bytes(run_dir / "config.yaml", RunError, YAML_BYTES).decode(errors="replace")
    except FileNotFoundError:
        config = ""
    return RunFiles(
        path=run_dir,
        info={**directory.read(), "status": directory.status()},
        config=config,
        metrics=read_metrics(directory.metrics),
        evaluation=load_evaluation(run_dir),
        clips=load_clips(run_dir),
        unprompted=load_clips(run_dir, "unprompted"),
        duplicate=load_clips(run_dir, "duplicate"),
        episodes=load_episodes(run_dir),
        learned_episodes=load_episodes(run_dir, "learned_episodes"),
        pairs=load_pairs(run_dir),
    )
