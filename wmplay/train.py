"""THE loop: collect, fit, improve, evaluate, over and over; everything else is config.

PlaNet, offline learning, planning in a learned model, policy learning in a learned simulator are this
loop with other numbers. The loop owns optimisers, devices, seeds and checkpoints; models own only their
loss.

Every random draw of a phase follows from the run's seed, what it is for and how far the run is, never
from what was drawn before: a run that goes on from a checkpoint gives the numbers of an unbroken one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig

from wmplay import registry
from wmplay.assess import assess, flat, run_episodes
from wmplay.configuration import plain
from wmplay.contracts import Policy, Trajectory
from wmplay.device import choose_device
from wmplay.errors import ConfigError, DivergedError
from wmplay.fit import Fitter
from wmplay.loggers import Guarded, Jsonl
from wmplay.progress import Interrupt, Interrupted, bar, console
from wmplay.report import write_report
from wmplay.run import Run, assemble, continued_config, load_weights
from wmplay.run_directory import RunDirectory
from wmplay.scores import save_evaluation
from wmplay.store import Store, load_trajectories, save_trajectories

PHASES = ("collect", "fit", "improve", "evaluate")


def train(overrides: Sequence[str] = (), *, dir: str | Path | None = None) -> Run:
    """What ``wmplay train`` does: a run from Hydra overrides, or the rest of one (``run=<dir>``).

    Args:
        overrides: such as ``["experiment=quickstart", "seed=1"]``.
        dir: where to write a new run; None is the config's ``dir``.

    Returns:
        The finished run.

    Raises:
        WmplayError: for whatever the user can mend, in one line.
        Interrupted: after Ctrl-C, with the run saved.
    """
    config = registry.compose(overrides)
    if config.run is not None:
        directory = RunDirectory(Path(config.run))
        trainer = Trainer(continued_config(directory, overrides))
    else:
        trainer = Trainer(config)  # builds every piece: a mistake shows before anything is written
        directory = RunDirectory.create(config, overrides, dir or config.dir)
    with trainer.opened(directory):
        trainer.run()
    if trainer.config.report:
        write_report(directory.path)
    return Run(directory.path)


def evaluate(path: str | Path, overrides: Sequence[str] = ()) -> None:
    """What ``wmplay eval`` does: scores a run's last checkpoint anew and rewrites its evaluation and report.

    Args:
        path: of the run.
        overrides: single values, such as ``["evaluate.policy.episodes=1000"]``.

    Raises:
        WmplayError: for whatever the user can mend, in one line.
    """
    run = Run(Path(path))
    config = continued_config(run.directory, overrides)
    reference = run.trajectories if run.directory.trajectories.exists() else None
    scores = assess(config, run.parts, run.directory, run.device, reference=reference)
    save_evaluation(run.path, **scores)
    write_report(run.path)


@dataclass
class State:
    """How far a run is."""

    iteration: int = 0
    phase: str = PHASES[0]  # to do next, or to go on with
    updates: int = 0  # of the model, over all iterations
    wall: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))  # seconds by phase


class Trainer:
    """A run in progress."""

    def __init__(self, config: DictConfig) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.config = config
        self.device = choose_device(config.device)
        self.state = State()
        self.store: Store | None = None
        self.interrupt = Interrupt()
        torch.manual_seed(self.seed_for("weights"))
        self.parts = assemble(config, self.device)
        self.fitter = None if self.parts.model is None else self.make_fitter()

    # ---- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """All phases of all iterations; a checkpoint after each phase."""
        while self.state.iteration < self.config.iterations:
            for phase in PHASES[PHASES.index(self.state.phase) :]:
                self.state.phase = phase
                self.save()
                began = time.perf_counter()
                getattr(self, phase)()
                self.state.wall[phase] += time.perf_counter() - began
            self.state.iteration, self.state.phase = self.state.iteration + 1, PHASES[0]
        self.save()

    def collect(self) -> None:
        """New episodes by the present policy with exploration; before the first, by the random one."""
        if self.state.iteration == 0:
            if self.config.env.data is not None:
                self.keep(load_trajectories(self.config.env.data))
            self.gather(self.config.collect.random_episodes, None, "collect at random")
        self.gather(self.config.collect.episodes, self.parts.explorer, "collect")

    def fit(self) -> None:
        """Updates of the model on segments of the store."""
        cfg = self.config.fit
        end = (self.state.iteration + 1) * cfg.steps
        if self.fitter is None or self.state.updates >= end:
            return
        if self.store is None:
            raise ConfigError(
                "there is nothing to fit: collect episodes, or give a store with env.data=<store>"
            )
        self.parts.model.train()
        with bar("fit", end, "updates", start=self.state.updates) as advance:
            while self.state.updates < end:
                self.interrupt.check()
                seed = self.seed_for("update", self.state.updates)
                torch.manual_seed(seed)  # the model's loss draws from torch's global generator
                segment = self.store.sample(cfg.batch_size, cfg.length, np.random.default_rng(seed))
                metrics = self.fitter.update(segment.to(self.device), self.state.updates)
                self.state.updates += 1
                if self.state.updates % cfg.log_every == 0 or self.state.updates == end:
                    self.log("fit", metrics)
                    advance(self.state.updates, f"loss {metrics['loss/total']:.3f}")
                self.save_when_due()
        self.parts.model.eval()

    def improve(self) -> None:
        """A policy that learns practises; a planner does nothing here."""
        learn = getattr(self.parts.policy, "improve", None)
        if learn is not None:
            self.log("improve", learn(self.parts.model, self.store, self.parts.env, **self.config.improve))

    def evaluate(self) -> None:
        """Prediction on held-out episodes, and the policy beside the random one, when due."""
        cfg = self.config.evaluate
        done = self.state.iteration + 1
        if done % cfg.every and done < self.config.iterations:
            return
        scores = assess(
            self.config,
            self.parts,
            self.directory,
            self.device,
            reference=self.store,
            check=self.interrupt.check,
        )
        save_evaluation(self.directory.path, **scores)
        self.log("evaluate", flat(scores))

    # ---- parts of the phases -----------------------------------------------------------------------

    def gather(self, episodes: int, policy: Policy | None, purpose: str) -> None:
        """Appends episodes of a policy (None = random) to the store."""
        if episodes == 0:
            return
        seed = self.seed_for(purpose, self.state.iteration)
        trajectories = run_episodes(
            self.config,
            policy,
            episodes,
            seed,
            "collect",
            self.device,
            overrides=self.config.collect.env,
            explore=True,
            check=self.interrupt.check,
        )
        self.keep(trajectories)
        returns = [float(trajectory.reward.sum()) for trajectory in trajectories]
        steps = sum(len(trajectory) for trajectory in trajectories)
        self.log("collect", {"return": float(np.mean(returns)), "episodes": episodes, "steps": steps})

    def keep(self, trajectories: Iterable[Trajectory]) -> None:
        """Appends to the store; the oldest go where there is a limit."""
        limit = self.config.collect.max_steps
        if self.store is None:
            self.store = save_trajectories(trajectories, self.directory.trajectories, max_steps=limit)
        else:
            self.store = self.store.append(trajectories, max_steps=limit)

    def make_fitter(self) -> Fitter:
        """The optimiser of the model."""
        cfg = plain(self.config.fit)
        total = self.config.iterations * cfg.pop("steps")
        settings = {
            key: value for key, value in cfg.items() if key not in ("batch_size", "length", "log_every")
        }
        return Fitter(self.parts.model, self.device, total, **settings)

    def seed_for(self, purpose: str, number: int = 0) -> int:
        """A seed that follows from the run's seed, a purpose and a number, and from nothing else."""
        entropy = [self.config.seed, number, *purpose.encode()]
        return int(np.random.SeedSequence(entropy).generate_state(1)[0])

    # ---- the run on disk ---------------------------------------------------------------------------

    @contextmanager
    def opened(self, directory: RunDirectory) -> Iterator[None]:
        """Takes up the run where its last checkpoint left it; whatever happens, its files are closed."""
        self.directory = directory
        self.restore()
        self.jsonl = Jsonl(directory.metrics)
        config = plain(self.config)
        self.logger = Guarded(registry.build(config["logger"], run_dir=directory.path, config=config))
        console.print(f"run in {directory.path}")
        status = "failed"
        try:
            with self.interrupt.listening():
                yield
            status = "finished"
        except Interrupted:
            status = "interrupted"
            if self.state.phase == "fit":  # the other phases begin again
                self.save()
            console.print(f"stopped; go on with: [bold]wmplay train run={directory.path}[/bold]")
            raise
        except DivergedError as error:
            raise DivergedError(
                f"{error}; the last good checkpoint is {directory.checkpoints()[-1]}"
            ) from error
        finally:
            self.jsonl.close()
            self.logger.close()
            directory.update(status=status, wall=self.state.wall)

    def save(self) -> None:
        """A checkpoint of everything that the rest of the run depends on."""
        self.saved_at = time.monotonic()
        self.directory.save_checkpoint(
            {
                "state": asdict(self.state),
                "weights": {name: module.state_dict() for name, module in self.parts.modules().items()},
                "fitter": None if self.fitter is None else self.fitter.state_dict(),
                "store": None if self.store is None else self.store.snapshot(),
                "metrics": self.jsonl.position(),
            }
        )
        if self.store is not None:
            self.store.vacuum()  # not earlier: the checkpoint before refers to what was dropped

    def save_when_due(self) -> None:
        """A checkpoint now and then during a long phase."""
        if time.monotonic() - self.saved_at > self.config.checkpoint.every:
            self.save()

    def restore(self) -> None:
        """The state of the last checkpoint; a run without one begins at the beginning."""
        saved = self.directory.read_checkpoint() if self.directory.checkpoints() else None
        if saved is not None:
            load_weights(self.parts.modules(), saved["weights"], self.directory.path)
            self.state = State(**saved["state"])
            if self.fitter is not None:
                self.fitter.load_state_dict(saved["fitter"])
        snapshot = saved["store"] if saved is not None else None
        if snapshot is not None:
            self.store = Store.restore(self.directory.trajectories, snapshot)
        else:
            shutil.rmtree(self.directory.trajectories, ignore_errors=True)
        Jsonl.cut(self.directory.metrics, saved["metrics"] if saved is not None else 0)

    def log(self, phase: str, metrics: dict[str, float]) -> None:
        """A line of ``metrics.jsonl``, and the same to the other logger."""
        named = {name if "/" in name else f"{phase}/{name}": value for name, value in metrics.items()}
        where = {"phase": phase, "iteration": self.state.iteration, "time": round(time.time(), 3)}
        self.jsonl.log({**where, **named}, self.state.updates)
        self.logger.log(named, self.state.updates)
