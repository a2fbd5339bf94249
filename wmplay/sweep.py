"""Many runs from one command line (``-m model=rssm,mlp seed=0,1,2``), by Hydra's sweepers and launchers."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from rich.markup import escape

from wmplay import registry
from wmplay.configuration import lenient, parse, search_path
from wmplay.errors import ConfigError, WmplayError
from wmplay.files import written_beside
from wmplay.progress import console
from wmplay.report.sweep import print_sweep
from wmplay.train import train

FAILURE = "failure.txt"  # in the directory of a job that failed: why, and the traceback


def multirun(overrides: Sequence[str]) -> Path:
    """Runs every combination of a sweep; jobs go where ``hydra/launcher`` sends them.

    At the end a table over the jobs is printed, those of earlier launches into the same directory
    (``hydra.sweep.dir=<dir>``) included.

    Returns:
        The sweep's directory, with one run directory per job.

    Raises:
        WmplayError: if the sweep cannot be composed, or, when all jobs are done, if some failed.
    """
    _check(overrides)
    directory = _directory(overrides)
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2("wmplay", search_path())
    try:
        hydra.multirun(
            config_name="train",
            task_function=job,
            overrides=[*lenient(overrides), f"hydra.sweep.dir={directory}"],
            with_log_configuration=False,
        )
    finally:
        GlobalHydra.instance().clear()
    if any(directory.rglob("run.json")):
        print_sweep(directory)
    failed = sorted(directory.glob(f"*/{FAILURE}"))
    if failed:
        first = failed[0].read_text(encoding="utf-8").splitlines()[0]
        raise WmplayError(f"{len(failed)} jobs of the sweep failed, such as {failed[0].parent}: {first}")
    return directory


def job(config: DictConfig) -> None:
    """One run of a sweep; a failure is written down and leaves the other jobs running."""
    here = HydraConfig.get()
    directory = Path(here.runtime.output_dir)
    overrides = [text.removeprefix("++") for text in here.overrides.task]
    console.rule(f"{directory.name}: {' '.join(overrides)}")
    try:
        train(overrides, dir=directory)
    except Exception as error:
        console.print(f"[red]failed:[/red] {escape(str(error))}", soft_wrap=True)
        with written_beside(directory / FAILURE) as beside:
            beside.write_text(
                f"{type(error).__name__}: {error}\n\n{traceback.format_exc()}", encoding="utf-8"
            )


def _check(overrides: Sequence[str]) -> None:
    """Composes the first job, and one for each other value that is swept over, before any job starts."""
    parsed = parse(overrides)
    if any(override.key_or_group == "run" for override in parsed):
        raise ConfigError("a sweep makes new runs: leave out run=, or go on with that run without -m")
    registry.prepare(overrides)
    values = {
        i: [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        for i, override in enumerate(parsed)
        if override.is_choice_sweep() or override.is_range_sweep()
    }
    first = [values[i][0] if i in values else text for i, text in enumerate(overrides)]
    registry.compose(first)
    for i, others in values.items():
        for other in others[1:]:
            registry.compose([*first[:i], other, *first[i + 1 :]])


def _directory(overrides: Sequence[str]) -> Path:
    """``runs/<name>/<date-time>-sweep``, unless the user chose a directory."""
    parsed = parse(overrides)
    for override in parsed:
        if override.key_or_group == "hydra.sweep.dir":
            return Path(str(override.value()))
    fixed = [
        text for text, override in zip(overrides, parsed, strict=True) if not override.is_sweep_override()
    ]
    name = str(registry.compose([text for text in fixed if not text.startswith("hydra")]).name)
    return Path("runs") / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-sweep"
