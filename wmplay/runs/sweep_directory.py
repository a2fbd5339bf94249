"""A sweep on disk: the directory of each job, its state, and its lock.

A job is identified by its settings: its directory's name is a digest of them. So a sweep that runs again
finds its jobs, whatever their numbers; and two processes that run the same sweep share its jobs.
"""

from __future__ import annotations

import hashlib
import json
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from itertools import count
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.types import Override
from rich.markup import escape

from wmplay import registry
from wmplay.config.kinds import PIECE, TARGET
from wmplay.config.overrides import is_hydras, parse
from wmplay.config.plugins import in_one_line
from wmplay.config.references import as_first_written
from wmplay.config.run_config import check_data
from wmplay.config.settings import Settings
from wmplay.errors import DamagedError, RunError, WmplayError
from wmplay.runs.disk.directory import LOCK, RunDirectory
from wmplay.system.files import check_links, explained, is_beside, unsealed, write_sealed_json, written_beside
from wmplay.system.locks import claimed, holder, is_claimed
from wmplay.system.progress import console
from wmplay.system.reading import read_bytes, read_json

SWEEP_FILE = "sweep.json"
FAILURE_FILE = "failure.txt"  # in the directory of a job that failed: why, and the traceback
LOCKS = ".locks"  # a file for each job, locked as long as a process is at it
PATIENCE = 10.0  # seconds, against others who write the sweep's file
ASIDE = ".aside"  # jobs that could not go on, and were begun anew
ELSEWHERE = ("dir", "run")  # where a run is written is no part of what it is
# Settings that came after the first release: at these values a job is the one that it was without them.
LATER_SETTINGS: Mapping[str, Any] = {
    "collect.drift": {},
    "collect.steps": 0,
    "env.action_limit": None,
    "env.factors": {},
    "env.hazard": None,
    "env.screen": "outwards",
    "env.sound": False,
    "evaluate.factors": {},
    "evaluate.policy.imagined": False,
    "evaluate.policy.starts": "resets",
    "evaluate.prediction.actions": False,
    "evaluate.violation": {"pairs": 0},
    "fit.agc": None,
    "fit.ends": False,
    "fit.minutes": None,
    "fit.optimizer": "adamw",
    "model.blocks": 0,
    "model.goals": False,
    "model.keys": None,
    "model.reward_from": "latent",
    "model.two_hot": False,
    "objective.bootstrap": False,
    "planner.explores": False,
    "planner.momentum": 0.0,
    "planner.particles": 0,
    "planner.proposed": 0.05,
    "planner.returns": "best",
    "planner.truncated": False,
    "policy.anneal": False,
    "policy.changes": False,
    "policy.prior": None,
    "policy.prior_settings": {},
    "policy.screens": False,
}
SAMPLER = re.compile(r"hydra\.sweeper\.sampler\._target_=optuna\.samplers\.\w+Sampler")
HYDRAS = re.compile(  # what a sweep that goes on takes over of Hydra's own overrides
    rf"hydra/(sweeper|launcher)=\w+|{SAMPLER.pattern}"
    r"|hydra\.sweeper\.(metric|direction|n_trials|n_jobs|sampler\.[a-z]\w*)=[^${}()\[\],]+"
)
LONGEST, BRACKETS = 20_000, 200  # characters and opening brackets of an override in a sweep's file
LONGEST_FAILURE = 1 << 20  # bytes of a failure's text
DIGITS = 12  # of a digest: with a million jobs, the chance of two alike is about one in 500

State = Literal["new", "running", "finished", "failed", "stopped"]


class SweepDirectory:
    """The directory of a sweep: ``sweep.json`` and a run directory for each job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    # ---- the sweep ---------------------------------------------------------------------------------

    def overrides(self) -> list[str]:
        """Return the overrides of the sweep's last launch.

        Raises:
            RunError: if the directory is not a sweep's, or if ``sweep.json`` is damaged.
        """
        path = self.path / SWEEP_FILE
        try:
            overrides = unsealed(read_json(path, DamagedError), path).get("overrides")
        except (FileNotFoundError, NotADirectoryError):
            raise RunError(f"{self.path} is not a sweep: it has no {SWEEP_FILE}") from None
        if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
            raise DamagedError(
                f"{path} is damaged (it lists no overrides)",
                got=path,
                advice="restore it, or sweep into another directory",
            )
        for text in overrides:
            if len(text) > LONGEST or sum(map(text.count, "([{")) > BRACKETS:
                raise RunError(
                    f"{path} is damaged (an override is {text[:50]!r} ...)", advice="restore it from a copy"
                )
        return overrides

    def check(self, overrides: Sequence[str]) -> None:
        """Raise RunError unless a sweep of these overrides may be, or continue, in this directory.

        It may differ in the values that it sweeps over, in seeds and in the launcher, but in nothing else.

        Raises:
            RunError: if the directory has another content.
        """
        if not self.path.exists():
            return
        check_links(self.path, RunError)
        advice = "choose another hydra.sweep.dir=<path>"
        if not (self.path.is_dir() and self._is_sweep_or_free()):
            raise RunError(f"{self.path} exists, and is not a sweep to go on with: {advice}")
        if not (self.path / SWEEP_FILE).exists():
            return
        here, wanted = _identity(self.overrides()), _identity(overrides)
        if here != wanted:
            theirs, ours = (", ".join(sorted(only)) or "nothing" for only in (here - wanted, wanted - here))
            raise RunError(
                f"{self.path} is another sweep: besides what both have, it has {theirs}, this one {ours}",
                got=self.path,
                advice=advice,
            )

    def _is_sweep_or_free(self) -> bool:
        """Return whether the directory is a sweep, or has only files written before one."""
        return (self.path / SWEEP_FILE).exists() or all(
            each.name == LOCKS or is_beside(each) for each in self.path.iterdir()
        )

    def write(self, overrides: Sequence[str], *, new: bool = False) -> None:
        """Make the directory, and record what is swept over.

        Raises:
            RunError: if the directory has other content by now, or if it must be new and another sweep made
                it in the same second.
            WriteError: no space, no permission.
        """
        with explained(self.path):
            try:
                self.path.mkdir(parents=True, exist_ok=not new)
            except FileExistsError:
                raise RunError(
                    f"{self.path} is another sweep, begun in the same second",
                    got=self.path,
                    advice="try again",
                ) from None
        with claimed(self.path / LOCKS / SWEEP_FILE, PATIENCE) as free:
            if not free:
                who = holder(self.path / LOCKS / SWEEP_FILE)
                raise RunError(f"{self.path} is being written to by {who}", advice="try again")
            self.check(overrides)
            write_sealed_json(self.path / SWEEP_FILE, {"overrides": list(overrides)})

    # ---- its jobs ----------------------------------------------------------------------------------

    def job(self, settings: Settings) -> Path:
        """Return the directory of the job with these settings, whether it exists or not."""
        return self.path / digest(settings)

    def claimed(self, job: Path) -> AbstractContextManager[bool]:
        """Keep other processes from a job within the block; yield whether none of them runs it."""
        return claimed(self._lock(job), patience=1.0)

    def is_finished(self, job: Path) -> bool:
        """Return whether a job is finished."""
        return _status(job) == "finished"

    def state(self, job: Path) -> State:
        """Return the state of a job. A killed job is "stopped", like an interrupted one."""
        status = _status(job)
        if status == "finished":
            return "finished"
        if is_claimed(self._lock(job)) or is_claimed(job / LOCK):
            return "running"
        if (job / FAILURE_FILE).exists() or status == "failed":
            return "failed"
        return "stopped" if job.exists() else "new"

    def failure(self, job: Path) -> str:
        """Return the reason of a job's failure, in one line."""
        lines = _failure(job)
        return lines[0] if lines else "for a reason that it could not write down"  # it was killed meanwhile

    def begun(self) -> Iterator[Path]:
        """Yield the directories with a run, or with the reason why it failed to start."""
        found = {path.parent for name in ("run.json", FAILURE_FILE) for path in self.path.rglob(name)}
        for path in sorted(found):
            if not any(part.startswith(".") for part in path.relative_to(self.path).parts):
                yield path

    def failed_with(self, job: Path) -> list[str]:
        """Return the overrides of a job that failed before its run existed. Raise RunError."""
        try:
            overrides = json.loads(_failure(job)[1])
        except (IndexError, ValueError, RecursionError):
            overrides = None
        if not isinstance(overrides, list) or not all(isinstance(text, str) for text in overrides):
            raise DamagedError(f"{job / FAILURE_FILE} is damaged: it does not say what the job was run with")
        parse(overrides)
        return overrides

    def _lock(self, job: Path) -> Path:
        return self.path / LOCKS / job.name


def _failure(job: Path) -> list[str]:
    """Return the lines of a job's failure file."""
    try:
        content = read_bytes(job / FAILURE_FILE, RunError, LONGEST_FAILURE)
    except (FileNotFoundError, RunError):
        return []
    return content.decode(errors="replace").splitlines()


def _status(job: Path) -> str | None:
    try:
        return str(RunDirectory(job).read().get("status"))
    except RunError:
        return None


def prepare_to_continue(job: Path) -> bool:
    """Prepare a job that did not finish for its next start; its lock must be held.

    Returns:
        Whether it can continue. A job without an undamaged checkpoint is set aside as a whole.

    Raises:
        RunError: for a job that cannot be read, or is of another version; it is not changed.
    """
    (job / FAILURE_FILE).unlink(missing_ok=True)
    if not (job / "run.json").exists():
        return False
    directory = RunDirectory(job)
    try:
        if directory.checkpoints():
            directory.read_checkpoint()
    except DamagedError as error:
        aside = _set_aside(job)
        console.print(escape(f"{error}; it begins anew, and is kept as {aside}"), soft_wrap=True)
        return False
    return True


def _set_aside(job: Path) -> Path:
    folder = job.parent / ASIDE
    with explained(folder):
        folder.mkdir(exist_ok=True)
        aside = next(path for i in count(1) if not (path := folder / f"{job.name}-{i}").exists())
        return job.rename(aside)


def write_failure(job: Path, overrides: Sequence[str], error: Exception) -> None:
    """Record why a job failed: in one line, its overrides as a JSON list, and the traceback."""
    with explained(job):
        job.mkdir(exist_ok=True)
    known = isinstance(error, WmplayError)
    why = f"{type(error).__name__}: {' '.join(str(error).split())}" if known else in_one_line(error)
    text = f"{why}\n{json.dumps(list(overrides))}\n\n{traceback.format_exc()}"
    with written_beside(job / FAILURE_FILE) as beside:
        beside.write_text(text, encoding="utf-8")


def digest(settings: Settings) -> str:
    """Return the identity of a run's settings: equal for equal values, however they were written."""
    content = {key: value for key, value in settings.config().items() if key not in ELSEWHERE}
    pieces = {kind: content[kind] for kind in registry.KINDS if content.get(kind) is not None}
    content |= {kind: as_first_written(piece) for kind, piece in pieces.items()}
    for path, value in LATER_SETTINGS.items():
        *parents, last = path.split(".")
        node = reduce(lambda within, key: within.get(key) or {}, parents, content)
        if last in node and node[last] == value:
            del node[last]
    if content.get("threads") == "auto":
        content["threads"] = None  # the default before
    return hashlib.sha256(json.dumps(canonical(content), sort_keys=True).encode()).hexdigest()[:DIGITS]


def canonical(value: Any) -> Any:
    """Return a value with 3.0 replaced by 3, which mean the same."""
    if isinstance(value, Mapping):
        return {str(key): canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def alike(every: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the overrides of several jobs in one order, with equal values as they were first written.

    So jobs with the same settings have the same texts, whichever launch of a sweep began them.
    """
    settled: list[dict[str, tuple[str, str]]] = []  # {key: (its value, as it was written)}
    for texts in every:
        settled.append({})
        for text, override in zip(texts, parse(texts), strict=True):  # of a key the last one counts
            if override.key_or_group not in ELSEWHERE:
                value = json.dumps(canonical(override.value()), sort_keys=True, default=str)
                settled[-1][override.key_or_group] = value, text
    first: dict[tuple[str, str], str] = {}
    for one in settled:
        for key, (value, text) in one.items():
            first.setdefault((key, value), text)
    keys = dict.fromkeys(key for key, _ in first)
    return [[first[key, one[key][0]] for key in keys if key in one] for one in settled]


def check_own(source: Path, overrides: Sequence[str]) -> None:
    """Check overrides that come from a sweep's file and not from the user: they may only choose and set.

    Raises:
        RunError: for an override that names a class, a module or an interpolation, moves a group, or sets
            more of Hydra than the sweeper, the launcher and the arguments of ``OptunaSweeper``.
    """
    for text, override in zip(overrides, parse(overrides), strict=True):
        key = override.key_or_group
        fine = HYDRAS.fullmatch(text) if is_hydras(key) else override.package is None and "/" not in key
        if not fine or (any(word in text for word in ("${", PIECE, TARGET)) and not SAMPLER.fullmatch(text)):
            raise RunError(
                f"{source} gives {text[:99]!r}, which does more than choose and set: type it again to mean it"
            )
        *above, last = key.split(".")
        for value in _each(override):
            check_data(source, {last: value}, tuple(above))


def _each(override: Override) -> list[Any]:
    """Return the values of an override, except for ranges of numbers."""
    if not override.is_sweep_override():
        return [override.value()]
    if override.is_interval_sweep() or override.is_range_sweep():
        return []
    return [parse([f"value={text}"])[0].value() for text in override.sweep_string_iterator()]


def _identity(overrides: Sequence[str]) -> set[str]:
    """Return the identity of a sweep: the overrides that all its jobs share, and the keys that it sweeps
    over.

    Seeds are repetitions, and Hydra's own overrides control how jobs run: both may change.
    """
    # of several overrides of a key the last one counts
    last = {override.key_or_group: override for override in parse(overrides)}
    return {
        f"{key} swept" if override.is_sweep_override() else str(override.input_line)
        for key, override in last.items()
        if not is_hydras(key) and key != "seed"
    }
