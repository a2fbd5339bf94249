"""The phases of an iteration: collect, fit, improve, evaluate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from typing import TypeAlias

import numpy as np

from wmplay.contracts import Policy, Practice, Trajectory, learner_of
from wmplay.envs import build_env
from wmplay.errors import ConfigError
from wmplay.evaluation import assess, flat, given_episodes, save_evaluation
from wmplay.loop.fitter import segment_length
from wmplay.loop.session import Session
from wmplay.nets.units import measure_units, to_measure
from wmplay.policies.random import RandomPolicy
from wmplay.runs.episodes import run_episodes, run_steps
from wmplay.runs.pieces import env_config
from wmplay.runs.worlds import collected_in, longest_episode, practice_env, real_env, steps_of_starts
from wmplay.store.provenance import origin_of
from wmplay.system.device import seed_draws
from wmplay.system.progress import bar

MEASURED = 1024  # segments that give a model its units, where bounds do not

Phase: TypeAlias = Callable[[Session], None]
Collecting: TypeAlias = Callable[[int], Iterator[Trajectory]]  # by a seed


def collect(s: Session) -> None:
    """Collect episodes by the policy with exploration.

    Before those of the first iteration, take the given data, and collect random episodes.
    """
    before = s.state.real_steps
    if s.state.iteration == 0:
        if s.settings.recorded.data is not None:
            s.keep(given_episodes(s.settings, s.parts.env, s.directory.held_out))
        held = s.settings.collect.held
        policy = RandomPolicy(s.parts.env.action_space, held) if held else None
        number = s.settings.collect.random_episodes
        _collect(s, partial(_episodes, s, number, policy) if number else None, "collect at random")
    explored: Collecting | None = None
    if s.settings.collect.steps:
        explored = partial(_steps, s)
    elif s.settings.collect.episodes:
        explored = partial(_episodes, s, s.settings.collect.episodes, s.parts.explorer)
    _collect(s, explored, "collect")
    cfg = s.settings.fit
    s.state.fit_from = s.state.updates
    s.state.fit_until = s.state.updates + cfg.steps + round(cfg.replay_ratio * (s.state.real_steps - before))


def _collect(s: Session, collecting: Collecting | None, purpose: str) -> None:
    if collecting is None:
        return
    returns: list[float] = []
    steps = 0

    def kept() -> Iterator[Trajectory]:
        nonlocal steps
        for trajectory in collecting(s.seeds.of(purpose, s.state.iteration)):
            returns.append(float(trajectory.reward.sum()))
            steps += len(trajectory)
            yield trajectory

    s.keep(kept(), origin_of(env_config(s.settings, collected_in(s.settings, s.state.iteration))))
    s.state.real_steps += steps
    s.log("collect", {"return": float(np.mean(returns)), "episodes": len(returns), "steps": steps})


def _steps(s: Session, seed: int) -> Iterator[Trajectory]:
    """Simulate ``collect.steps`` steps by the explorer."""
    cfg = s.settings.collect
    here = collected_in(s.settings, s.state.iteration)
    with closing(build_env(env_config(s.settings, here))) as env:
        longest = longest_episode(s.settings, env) or cfg.steps
    slots = max(1, cfg.steps // longest)
    return run_steps(
        real_env(s.settings, slots, here),
        s.parts.explorer,
        cfg.steps,
        longest,
        seed,
        "collect",
        device=s.device,
        explore=True,
        check=s.interrupt.check,
    )


def _episodes(s: Session, episodes: int, policy: Policy | None, seed: int) -> Iterator[Trajectory]:
    """Simulate episodes as ``collect`` asks for: here, or in Ray actors that build their own envs."""
    cfg = s.settings.collect
    here = collected_in(s.settings, s.state.iteration)
    make_env = partial(build_env, env_config(s.settings, here), num_envs=min(cfg.num_envs, episodes))
    return run_episodes(
        make_env if cfg.over_ray else real_env(s.settings, episodes, here),
        policy,
        episodes,
        seed,
        "collect",
        device=s.device,
        explore=True,
        max_steps=cfg.max_episode_steps,
        check=s.interrupt.check,
        actors=s.actors,
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
        measure_units(s.parts.model, s.store.sample(MEASURED, length, s.seeds.of("units")).to(s.device))
    s.parts.model.train()
    s.team.align(s.parts.model)  # the phases before ran in the first process only
    with bar("fit", end, "updates", start=s.state.updates) as advance:
        while s.state.updates < end:
            s.check_together()
            seed = s.seeds.of("update", s.state.updates)
            # the model's loss draws from torch's global generator: something else in each process
            own = f"update in process {s.team.rank}"
            seed_draws(seed if s.team.leads else s.seeds.of(own, s.state.updates))
            rng = np.random.default_rng(seed)
            segment = s.store.sample(cfg.batch_size, length, rng, part=s.team.part(), ends=cfg.ends)
            metrics = s.fitter.update(segment.to(s.device), s.state.updates, (s.state.fit_from, end))
            s.state.updates += 1
            if s.state.updates % cfg.log_every == 0 or s.state.updates == end:
                s.log("fit", metrics)
                advance(s.state.updates, f"loss {metrics['loss/total']:.3f}")
            s.save_when_due()
    s.parts.model.eval()


def improve(s: Session) -> None:
    """Let a policy that learns practise, in the real or the learned world; do nothing for other policies."""
    cfg, learner = s.settings.improve, learner_of(s.parts.policy)
    if cfg.steps == 0:
        return
    s.state.real_steps += steps_of_starts(s.settings)
    real, learned = s.state.real_steps, s.state.learned_steps
    seed = s.seeds.of("improve", s.state.iteration)
    assert learner is not None  # it was rehearsed
    with (
        closing(practice_env(s.settings, s.parts, s.store, s.device, seed)) as env,
        bar("improve", cfg.steps, "steps") as advance,
    ):

        def tell(steps: int, metrics: Mapping[str, float]) -> None:
            s.interrupt.check()
            s.state.real_steps = real + steps * (cfg.world == "real")
            s.state.learned_steps = learned + steps * (cfg.world != "real")
            s.log("improve", dict(metrics))
            note = "reward" if "reward" in metrics else next(iter(metrics), None)
            advance(min(steps, cfg.steps), "" if note is None else f"{note} {metrics[note]:.3f}")

        learner.improve(Practice(env, cfg.steps, seed, s.device, s.store, s.parts.model, tell))
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
        s.directory.held_out,
        s.device,
        reference=s.store,
        baselines=done >= s.settings.iterations,
        check=s.interrupt.check,
    )
    save_evaluation(s.directory.path, **scores)
    s.log("evaluate", flat(scores))


PHASES: tuple[Phase, ...] = (collect, fit, improve, evaluate)
