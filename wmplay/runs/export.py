"""Export of a run as one portable folder."""

from __future__ import annotations

from pathlib import Path

from wmplay.contracts import provenance_of
from wmplay.errors import RunError
from wmplay.runs.disk.portable import write_portable
from wmplay.runs.load import Run
from wmplay.runs.weights import weights_of

TOLD = (
    "name",
    "seed",
    "command",
    "plugins",
    "versions",
    "git",
    "started",
)  # of run.json, and told in an export


def export_run(path: Path, out: Path) -> None:
    """Write a run's last checkpoint as one portable folder; see ``wmplay.runs.disk.portable``.

    Args:
        path: of the run.
        out: a path that is free.

    Raises:
        RunError: if the path is not a run, if the run has no checkpoint, or if ``out`` is taken.
        ConfigError: if the run cannot be built here.
        SpaceError: if its spaces cannot be written.
        WriteError: no space, no permission; nothing is written.
    """
    run = Run(path)
    if out.exists():
        raise RunError(f"{out} is there already", advice="choose another --out, or move it away")
    weights = weights_of(run.parts.modules())
    config = {**run.settings.config(), "device": "auto"}  # it may act on another machine
    env = run.env
    about = {key: value for key, value in run.directory.read().items() if key in TOLD}
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    write_portable(out, config, weights, spaces, {**about, "made_with": provenance_of(env)})
