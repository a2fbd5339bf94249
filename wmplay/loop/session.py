"""A run in progress: its pieces, its data and its position."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch

from wmplay.config.settings import Settings
from wmplay.contracts import Provenance, Trajectory
from wmplay.errors import DivergedError
from wmplay.loop.checkpoints import Checkpoints
from wmplay.loop.fitter import make_fitter
from wmplay.loop.journal import Journal, ending_noted
from wmplay.loop.state import Seeds, State
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.pieces import assemble
from wmplay.simulation import RayPool
from wmplay.store import Store, load_trajectories, save_trajectories
from wmplay.store.manifest import exists as is_store
from wmplay.system.device import choose_device, use_threads
from wmplay.system.processes import Stopped, Team
from wmplay.system.progress import Interrupt, Interrupted


class Session:
    """A run in progress. The constructor builds every piece, and writes nothing.

    ``threads`` is torch's number of threads so far in a continued run. In a team, each process has a session.
    All hold the same model; only that of the first process writes.

    Attributes:
        settings: of the run.
        team: the processes that fit the model together.
        device: of its tensors.
        parts: env, model, policy, explorer.
        fitter: the model's optimiser; None if nothing is fitted.
        store: the collected episodes; None before the first one.
        state: position of the run.
        seeds: of its random draws.
        journal: of its metrics, written by the first process.
        actors: the pool that collects over Ray, if any; it lives as long as the run is ``opened``.
        directory: of the run, once ``opened``.
        checkpoints: of the run, once ``opened``.
        interrupt: whether Ctrl-C was pressed.
    """

    directory: RunDirectory
    checkpoints: Checkpoints

    def __init__(
        self,
        settings: Settings,
        team: Team = Team(),  # noqa: B008 (frozen)
        threads: int | None = None,
    ) -> None:
        use_threads(settings.threads, threads)
        self.settings = settings
        self.team = team
        self.device = choose_device(settings.device, team.local_rank if team.size > 1 else None)
        self.seeds = Seeds(settings.seed)
        self.journal = Journal()
        self.state = State()
        self.store: Store | None = None
        self.interrupt = Interrupt()
        workers = settings.collect.num_workers if settings.collect.over_ray else 0
        self.actors = RayPool(workers) if workers else None
        torch.manual_seed(self.seeds.of("weights"))
        self.parts = assemble(settings, self.device)
        for module in self.parts.modules().values():
            module.eval()  # but for the time of fitting: also where a run goes on after that
        fits = self.parts.model is not None and (settings.fit.steps > 0 or settings.fit.replay_ratio > 0)
        self.fitter = make_fitter(settings, self.parts.model, self.device, team) if fits else None

    def adopt_pace(self, threads: int, steps: int | None) -> None:
        """Take over the measured pace: torch's threads if they are open, and the updates in
        ``fit.minutes``."""
        use_threads(self.settings.threads, threads)
        if steps is not None:
            self.settings = replace(self.settings, fit=replace(self.settings.fit, steps=steps, minutes=None))
            self.fitter = make_fitter(self.settings, self.parts.model, self.device, self.team)

    def keep(self, trajectories: Iterable[Trajectory], origin: Provenance | None = None) -> None:
        """Append to the store, and drop the oldest episodes beyond its limit."""
        # the rehearsal has refused data of another world, unless env.other_world allows it
        how: dict[str, Any] = {
            "max_steps": self.settings.collect.max_steps,
            "env": origin,
            "other_world": True,
        }
        if self.store is None:
            self.store = save_trajectories(trajectories, self.directory.trajectories, **how)
        else:
            self.store = self.store.append(trajectories, **how)

    def in_first_process(self, phase: Callable[[Session], None]) -> None:
        """Run a phase in the first process alone; the others wait, and take over the resulting state."""

        def work() -> State:
            phase(self)
            return self.state

        self.state = self.team.lead(work)
        if not self.team.leads and is_store(self.directory.trajectories):
            self.store = load_trajectories(self.directory.trajectories)

    def check_together(self) -> None:
        """Raise Interrupted, in all processes at once, if Ctrl-C was pressed in one."""
        if self.team.any(self.interrupt.pressed):
            raise Interrupted

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Enter a phase of an iteration: save a checkpoint first, and count its seconds at the end."""
        self.state.phase = name
        self.save()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.state.wall[name] += time.perf_counter() - began

    # ---- on disk -----------------------------------------------------------------------------------

    @contextmanager
    def opened(self, directory: RunDirectory) -> Iterator[None]:
        """Continue the run from its last checkpoint within the block; its lock is held.

        In any case ``run.json`` records how the run ended, and its files are closed.
        """
        self.directory = directory
        self.checkpoints = Checkpoints(directory, self.parts, self.fitter)
        if not self.team.leads:
            self.team.each(self._restore)
            with self.interrupt.listening():
                try:
                    yield
                except DivergedError:  # in all processes alike
                    raise Stopped from None
            return
        with ExitStack() as files:
            if self.actors is not None:
                files.callback(self.actors.close)
            self.team.each(self._restore)
            with ending_noted(directory, self.note, self._save_if_fitting), self.interrupt.listening():
                files.enter_context(self.journal.opened(directory, self.settings))
                yield

    def _save_if_fitting(self) -> None:
        if self.state.phase == "fit":  # the other phases begin again
            self.save()

    def note(self, status: str) -> None:
        """Record in ``run.json`` the run's status and times. Raise WriteError."""
        if self.team.leads:
            self.directory.update(status=status, wall=self.state.wall)

    def save(self) -> None:
        """Save a checkpoint of all state that the remaining run depends on, in the first process."""
        if self.team.leads:
            self.checkpoints.save(self.state, self.store, self.journal.jsonl.position())

    def save_when_due(self) -> None:
        """Save a checkpoint if the last one is old enough, during a long phase."""
        if self.team.leads and self.checkpoints.age > self.settings.checkpoint.every:
            self.save()

    def _restore(self) -> None:
        """Take over the last checkpoint, if there is one."""
        restored = self.checkpoints.restore(write=self.team.leads)
        if restored is not None:
            self.state, self.store = restored

    def log(self, phase: str, metrics: dict[str, float]) -> None:
        """Write a line of ``metrics.jsonl``, and send it to the other logger."""
        if self.team.leads:
            self.journal.log(phase, metrics, self.state)
