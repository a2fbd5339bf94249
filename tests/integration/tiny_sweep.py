"""Jobs that take half a second, and what a sweep's directory holds of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import wmplay

TINY = [
    "experiment=tiny",
    "iterations=1",
    "model=mlp",
    "fit.steps=3",
    "report=false",
    "collect.episodes=0",
    "collect.random_episodes=3",
    "collect.env.max_steps=11",
    "evaluate.prediction.episodes=3",
    "evaluate.prediction.horizon=2",
    "evaluate.generation.clips=0",
    "evaluate.policy.episodes=0",
]

# A model that counts its updates in a file, and fails, or waits in its second one, where files say so.
PLUGIN = """
import os, time
from pathlib import Path
import wmplay
from wmplay.models.mlp import MLP

@wmplay.register("model", "watched")
class Watched(MLP):
    def __init__(self, observation_space, action_space, *, hidden: int = 11, name: str = "a"):
        super().__init__(observation_space, action_space, hidden=hidden)
        self.name = name

    def __setstate__(self, state):
        super().__setstate__(state)
        self.is_copy = True  # on which the speed of this machine is measured

    def loss(self, segment):
        if hasattr(self, "is_copy"):
            return super().loss(segment)
        with open(f"updates-{self.name}", "a") as file:
            file.write(f"{os.getpid()}\\n")
        if Path(f"fail-{self.name}").exists():
            raise RuntimeError(f"as {self.name} was told")
        second = Path(f"updates-{self.name}").read_text().split().count(str(os.getpid())) == 2
        while second and Path(f"wait-{self.name}").exists():
            time.sleep(0.02)
        return super().loss(segment)
"""


def write_plugin() -> None:
    """Makes ``model=watched`` available from the present directory."""
    Path("plugins").mkdir()
    Path("plugins/watched.py").write_text(PLUGIN)


def runs(directory: Path) -> list[wmplay.Run]:
    """The runs of a sweep, by their seed and their overrides."""
    found = [wmplay.load_run(path.parent) for path in directory.glob("*/run.json")]
    return sorted(found, key=lambda run: (run.config.seed, run.directory.read()["overrides"]))


def timeless(run: wmplay.Run) -> list[dict[str, Any]]:
    """A run's metrics without the time of day."""
    return [{key: value for key, value in line.items() if key != "time"} for line in run.metrics]
