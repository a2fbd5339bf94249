"""The runs of a study, started or resumed, on any launcher."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from wmplay.errors import RunError
from wmplay.studies.analysis import analyse
from wmplay.studies.directory import StudyDirectory
from wmplay.studies.findings.ranking import rank_policies
from wmplay.studies.jobs import plan_jobs
from wmplay.studies.question import Question, read
from wmplay.studies.results import read_results
from wmplay.sweeps import launch
from wmplay.system.progress import tell


def run(
    file: str | Path, *, dir: str | Path | None = None, launcher: Sequence[str] = (), changed: bool = False
) -> Path:
    """Run the unfinished jobs of a study, seeds first, and stop where its stopping rule says so.

    Args:
        file: of the study, or the name of a built-in one.
        dir: of the study; None is ``runs/studies/<name>``.
        launcher: overrides of Hydra's launcher, as for ``wmplay train -m``.
        changed: whether the question may differ from the one that was frozen by the first run.

    Returns:
        The study's directory.

    Raises:
        WmplayError: for any mistake that the user can fix; if jobs failed, after all have ended.
        KeyboardInterrupt: after Ctrl-C; the same call goes on.
    """
    asked = read(file)
    study = StudyDirectory(directory_of(asked, dir))
    planned = plan_jobs(asked)
    study.freeze(asked, planned.jobs, changed=changed)
    study.write_manifests(planned.manifests)
    again = f"wmplay study run {shlex.quote(str(file))}" + (f" dir={shlex.quote(str(dir))}" if dir else "")
    if planned.policies:
        launch([job.overrides for job in planned.policies], study.jobs, launcher, again)
    for number in asked.stops:
        seeds = asked.all_seeds[:number]
        jobs = {job.directory: job.overrides for job in planned.jobs if job.seed in seeds}
        launch(list(jobs.values()), study.jobs, launcher, again)
        rank_policies(planned, study, seeds)
        if number < len(asked.all_seeds) and analyse(read_results(asked, study)).decided:
            tell(f"all comparisons are decided after {number} seeds: the study stops here")
            break
    return study.path


def directory_of(asked: Question, dir: str | Path | None) -> Path:
    """Return the directory of a study. Raise RunError if it holds something else."""
    path = Path("runs/studies") / asked.name if dir is None else Path(dir)
    taken = path.exists() and not StudyDirectory(path).exists
    if taken and any(each.name != ".lock" for each in path.iterdir()):
        raise RunError(f"{path} exists, and is no study", got=path, advice="choose another dir=<path>")
    return path
