"""THE loop: collect, fit, improve, evaluate, repeatedly; everything else is config.

PlaNet, offline learning, planning in a learned model and policy learning in a learned simulator are this loop
with other numbers. The loop owns optimisers, devices, seeds and checkpoints (``wmplay.loop.session``); models
own only their loss. The phases are in ``wmplay.loop.phases``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from wmplay import registry, report
from wmplay.config.overrides import refuse_hydras
from wmplay.config.settings import Settings
from wmplay.evaluation import assess, save_evaluation
from wmplay.loop.changes import note_changes
from wmplay.loop.lending import lending
from wmplay.loop.pace import Pace, measure
from wmplay.loop.phases import PHASES, Phase
from wmplay.loop.rehearsal import observed, rehearse
from wmplay.loop.session import Session
from wmplay.loop.state import PHASE_NAMES
from wmplay.runs.compatibility import adopt_settings
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.load import Run
from wmplay.runs.resume import continued_settings, read_settings, run_to_continue
from wmplay.system.device import use_threads
from wmplay.system.processes import joined
from wmplay.system.progress import tell


def train(overrides: Sequence[str] = (), *, dir: str | Path | None = None) -> Run:
    """Train as ``wmplay train`` does: a new run from Hydra overrides, or a continued one (``run=<dir>``).

    Several processes started by ``torchrun`` fit the model together.

    Args:
        overrides: for example ``["experiment=quickstart", "seed=1"]``.
        dir: directory of a new run; None is the config's ``dir``.

    Returns:
        The finished run.

    Raises:
        WmplayError: for any mistake that the user can fix; one line.
        Interrupted: after Ctrl-C, with the run saved.
    """
    refuse_hydras(overrides)
    run = run_to_continue(overrides)
    swaps: list[str] = []  # what to say of them, once it is known that there will be a run
    threads = None if run is None else RunDirectory(run).read().get("machine", {}).get("threads")

    def settings() -> Settings:
        if run is not None:
            return continued_settings(RunDirectory(run), overrides)
        return registry.compose(overrides, swaps.append)

    def begin() -> Path:
        """Return the run's directory."""
        if run is not None:
            return run
        for line in swaps:
            tell(line)
        new = RunDirectory.created(session.settings, overrides, dir or session.settings.dir)
        created = held.enter_context(new)
        created.update(fit_minutes=minutes, expected=pace.expected(session.settings))
        return created.path

    def hold() -> None:
        if run is not None:
            held.enter_context(RunDirectory(run).held())

    with joined() as team, ExitStack() as held:
        team.lead(hold)
        session = team.each(lambda: Session(settings(), team, threads))
        pace = team.lead(lambda: prepare(session, continued=run is not None))
        minutes = session.settings.fit.minutes
        steps = pace.updates_in(minutes, session.settings.iterations) if minutes else None
        session.adopt_pace(pace.threads, steps)
        directory = RunDirectory(team.lead(begin))
        before = None if run is None else read_settings(directory)
        with session.opened(directory):
            if before is not None and team.leads:
                note_changes(directory, before, session.settings, overrides, session.state)
            tell_duration(session, pace)
            loop(session, PHASES)
            if session.settings.report:
                session.note("finished")  # which the report says
                team.lead(lambda: report.write_report(directory.path))
    return Run(directory.path)


def prepare(s: Session, *, continued: bool) -> Pace:
    """Rehearse the run, so that a mistake is reported before anything is written, and measure its pace."""
    with observed(s.settings, s.parts):
        with lending(s.parts, "rehearse"):
            rehearse(s.settings, s.parts, s.device, continued=continued)
        return measure(s.settings, s.parts, s.device, choose=not continued and s.team.size == 1)


def tell_duration(s: Session, pace: Pace) -> None:
    """Print how long the remaining run takes on this machine."""
    state = s.state
    seconds = pace.expected(s.settings, state.iteration, state.phase, state.updates)
    if s.team.leads:
        times = report.wall_times({"wall": seconds})
        tell(f"about {report.duration(sum(seconds.values()))} on this machine: {times}")


def loop(s: Session, phases: Sequence[Phase]) -> None:
    """Run all phases of all iterations from the run's position; each begins with a checkpoint.

    Several processes fit together; in the other phases the first one works alone.

    Args:
        s: the run.
        phases: of an iteration, named as in ``PHASE_NAMES``.
    """
    while s.state.iteration < s.settings.iterations:
        for phase in phases[PHASE_NAMES.index(s.state.phase) :]:
            name = phase.__name__
            with s.phase(name), lending(s.parts, name):
                if name == "fit":
                    phase(s)
                else:
                    s.in_first_process(phase)
        s.state.iteration, s.state.phase = s.state.iteration + 1, PHASE_NAMES[0]
    s.save()


def evaluate_again(path: str | Path, overrides: Sequence[str] = ()) -> None:
    """Evaluate a run's last checkpoint as ``wmplay eval`` does; rewrite its evaluation and report.

    Args:
        path: of the run.
        overrides: single values, for example ``["evaluate.policy.episodes=1000"]``.

    Raises:
        WmplayError: for any mistake that the user can fix; one line.
    """
    run = Run(Path(path))
    with run.directory.held():
        settings = continued_settings(run.directory, overrides)
        use_threads(settings.threads or "auto", run.directory.read().get("machine", {}).get("threads"))
        adopt_settings(run, settings)
        reference = run.trajectories if run.directory.trajectories.exists() else None
        scores = assess(settings, run.parts, run.directory.held_out, run.device, reference=reference)
        save_evaluation(run.path, **scores)
        report.write_report(run.path)
