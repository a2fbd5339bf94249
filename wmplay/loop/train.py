"""THE loop: collect, fit, improve, evaluate, repeatedly; everything else is config.

PlaNet, offline learning, planning in a learned model and policy learning in a learned simulator are this loop
with other numbers. The loop owns optimisers, devices, seeds and checkpoints (``wmplay.loop.session``); models
own only their loss.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np

from wmplay import registry
from wmplay.config.overrides import refuse_hydras
from wmplay.config.settings import Settings
from wmplay.contracts import Learner, Policy, Practice, Trajectory
from wmplay.envs import build_env
from wmplay.errors import ConfigError
from wmplay.evaluation import assess, flat, given_episodes, save_evaluation
from wmplay.loop.changes import note_changes
from wmplay.loop.fitter import segment_length
from wmplay.loop.lending import lending
from wmplay.loop.pace import Pace, measure
from wmplay.loop.rehearsal import rehearse
from wmplay.loop.session import PHASES, Session
from wmplay.nets.units import measure_units, to_measure
from wmplay.policies.random import RandomPolicy
from wmplay.report import duration, wall_times, write_report
from wmplay.runs.compatibility import check_spaces
from wmplay.runs.directory import RunDirectory
from wmplay.runs.episodes import run_episodes
from wmplay.runs.load import Run
from wmplay.runs.pieces import env_config
from wmplay.runs.resume import continued_settings, read_settings, run_to_continue
from wmplay.runs.worlds import practice_env, real_env, steps_of_starts
from wmplay.simulation import simulate_blocks
from wmplay.store.provenance import origin_of
from wmplay.system.device import seed_draws, use_threads
from wmplay.system.processes import joined
from wmplay.system.progress import bar, episodes_bar, tell

MEASURED = 1024  # segments that give a model its units, where bounds do not


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

    def prepare() -> Pace:
        """Measure this machine's speed at the run; a mistake is reported before anything is written."""
        session.actors.check()
        with lending(session.parts, "rehearse"):
            rehearse(session.settings, session.parts, session.device, goes_on=run is not None)
        return measure(session.settings, session.parts, session.device, choose=run is None and team.size == 1)

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
        pace = team.lead(prepare)
        minutes = session.settings.fit.minutes
        steps = pace.updates_in(minutes, session.settings.iterations) if minutes else None
        session.settle(pace.threads, steps)
        directory = RunDirectory(team.lead(begin))
        before = None if run is None else read_settings(directory)
        with session.opened(directory):
            if before is not None and team.leads:
                note_changes(directory, before, session.settings, overrides, session.state)
            tell_duration(session, pace)
            loop(session)
            if session.settings.report:
                session.note("finished")  # which the report says
                team.lead(lambda: write_report(directory.path))
    return Run(directory.path)


def tell_duration(s: Session, pace: Pace) -> None:
    """Print how long the remaining run takes on this machine."""
    state = s.state
    seconds = pace.expected(s.settings, state.iteration, state.phase, state.updates)
    if s.team.leads:
        times = wall_times({"wall": seconds})
        tell(f"about {duration(sum(seconds.values()))} on this machine: {times}")


def loop(s: Session) -> None:
    """Run all phases of all iterations from the run's position; each begins with a checkpoint.

    Several processes fit together; in the other phases the first one works alone.
    """
    phases = {"collect": collect, "improve": improve, "evaluate": evaluate}
    while s.state.iteration < s.settings.iterations:
        for name in PHASES[PHASES.index(s.state.phase) :]:
            with s.phase(name), lending(s.parts, name):
                if name == "fit":
                    fit(s)
                else:
                    s.led(phases[name])
        s.state.iteration, s.state.phase = s.state.iteration + 1, PHASES[0]
    s.save()


def collect(s: Session) -> None:
    """Collect episodes by the policy with exploration; before the first iteration, given data and random
    episodes."""
    before = s.state.real_steps
    if s.state.iteration == 0:
        if s.settings.given.data is not None:
            s.keep(given_episodes(s.settings, s.parts.env, s.directory))
        held = s.settings.collect.held
        policy = RandomPolicy(s.parts.env.action_space, held) if held else None
        _collect(s, s.settings.collect.random_episodes, policy, "collect at random")
    _collect(s, s.settings.collect.episodes, s.parts.explorer, "collect")
    cfg = s.settings.fit
    s.state.fit_from = s.state.updates
    s.state.fit_until = s.state.updates + cfg.steps + round(cfg.replay_ratio * (s.state.real_steps - before))


def _collect(s: Session, episodes: int, policy: Policy | None, purpose: str) -> None:
    if episodes == 0:
        return
    collected = _over_ray if s.settings.collect.over_ray else _here
    returns: list[float] = []
    steps = 0

    def kept() -> Iterator[Trajectory]:
        nonlocal steps
        for trajectory in collected(s, episodes, policy, s.seed_for(purpose, s.state.iteration)):
            returns.append(float(trajectory.reward.sum()))
            steps += len(trajectory)
            yield trajectory

    s.keep(kept(), origin_of(env_config(s.settings, s.settings.collect.env)))
    s.state.real_steps += steps
    s.log("collect", {"return": float(np.mean(returns)), "episodes": episodes, "steps": steps})


def _here(s: Session, episodes: int, policy: Policy | None, seed: int) -> Iterable[Trajectory]:
    return run_episodes(
        real_env(s.settings, episodes, s.settings.collect.env),
        policy,
        episodes,
        seed,
        "collect",
        device=s.device,
        explore=True,
        max_steps=s.settings.collect.max_episode_steps,
        check=s.interrupt.check,
    )


def _over_ray(s: Session, episodes: int, policy: Policy | None, seed: int) -> Iterable[Trajectory]:
    cfg = s.settings.collect
    make_env = partial(build_env, env_config(s.settings, cfg.env), num_envs=min(cfg.num_envs, episodes))
    with episodes_bar("collect", episodes, s.interrupt.check) as progress:
        yield from simulate_blocks(
            make_env,
            policy,
            episodes,
            seed,
            actors=s.actors,
            explore=True,
            max_steps=cfg.max_episode_steps,
            device=s.device,
            progress=progress,
        )


def fit(s: Session) -> None:
    """Update the model on segments of the store."""
    cfg, end = s.settings.fit, s.state.fit_until
    if s.fitter is None or s.state.updates >= end:
        return
    if s.store is None:
        raise ConfigError("there is nothing to fit: collect episodes, or give a store with env.data=<store>")
    length = segment_length(s.settings, s.parts.model)
    if to_measure(s.parts.model):
        measure_units(s.parts.model, s.store.sample(MEASURED, length, s.seed_for("units")).to(s.device))
    s.parts.model.train()
    s.team.align(s.parts.model)  # the first process may have changed it
    with bar("fit", end, "updates", start=s.state.updates) as advance:
        while s.state.updates < end:
            s.check_together()
            seed = s.seed_for("update", s.state.updates)
            # the model's loss draws from torch's global generator: something else in each process
            own = f"update in process {s.team.rank}"
            seed_draws(seed if s.team.leads else s.seed_for(own, s.state.updates))
            rng = np.random.default_rng(seed)
            segment = s.store.sample(cfg.batch_size, length, rng, part=s.team.part())
            metrics = s.fitter.update(segment.to(s.device), s.state.updates, (s.state.fit_from, end))
            s.state.updates += 1
            if s.state.updates % cfg.log_every == 0 or s.state.updates == end:
                s.log("fit", metrics)
                advance(s.state.updates, f"loss {metrics['loss/total']:.3f}")
            s.save_when_due()
    s.parts.model.eval()


def improve(s: Session) -> None:
    """Let a policy that learns practise, in the real or the learned world; do nothing for other policies."""
    cfg, policy = s.settings.improve, s.parts.policy
    if cfg.steps == 0:
        return
    s.state.real_steps += steps_of_starts(s.settings)
    real, learned = s.state.real_steps, s.state.learned_steps
    seed = s.seed_for("improve", s.state.iteration)
    assert isinstance(policy, Learner)  # it was rehearsed
    with (
        closing(practice_env(s.settings, s.parts, s.store, s.device, seed)) as env,
        bar("improve", cfg.steps, "steps") as advance,
    ):

        def tell(steps: int, metrics: Mapping[str, float]) -> None:
            s.interrupt.check()
            s.state.real_steps = real + steps * (cfg.world == "real")
            s.state.learned_steps = learned + steps * (cfg.world == "learned")
            s.log("improve", dict(metrics))
            note = "reward" if "reward" in metrics else next(iter(metrics), None)
            advance(min(steps, cfg.steps), "" if note is None else f"{note} {metrics[note]:.3f}")

        policy.improve(Practice(env, cfg.steps, seed, s.device, s.store, s.parts.model, tell))
    for module in s.parts.modules().values():
        module.eval()


def evaluate(s: Session) -> None:
    """Evaluate the model on held-out episodes, and the policy, when due; at the end with further policies."""
    done = s.state.iteration + 1
    if done % s.settings.evaluate.every and done < s.settings.iterations:
        return
    scores = assess(
        s.settings,
        s.parts,
        s.directory,
        s.device,
        reference=s.store,
        baselines=done >= s.settings.iterations,
        check=s.interrupt.check,
    )
    save_evaluation(s.directory.path, **scores)
    s.log("evaluate", flat(scores))


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
        with closing(build_env(env_config(settings))) as env:
            check_spaces(env, run.env, f"the policy of {run.path}")
        reference = run.trajectories if run.directory.trajectories.exists() else None
        scores = assess(settings, run.parts, run.directory, run.device, reference=reference)
        save_evaluation(run.path, **scores)
        write_report(run.path)
