"""The ranking of a run: policies act in the real world and in the run's model, from the same starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium.vector import VectorEnv

from wmplay import registry
from wmplay.contracts import Array, Policy, Trajectory
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import first_frames
from wmplay.errors import ConfigError, UnknownName, UsageError
from wmplay.evaluation.files import load_numbers, save_numbers
from wmplay.evaluation.manifest import Manifest, draw_manifest
from wmplay.evaluation.ranking.scoring import Measure, Outcomes, Ranking, progress, score_ranking
from wmplay.runs.compatibility import adopt_settings, check_policy, check_spaces
from wmplay.runs.load import Run, load_run
from wmplay.runs.resume import continued_settings
from wmplay.runs.worlds import longest_episode, real_env
from wmplay.simulation import simulate_blocks
from wmplay.system.device import use_threads
from wmplay.system.progress import episodes_bar

RANKING_FILE = "ranking.json"
Acted: TypeAlias = tuple[Array, float]  # outcomes of episodes, and the seconds that one takes
RANDOM, OWN = "random", "own"  # names of the random policy, and of the run's own


def rank_run(
    path: str | Path,
    policies: Sequence[str] | Mapping[str, str],
    overrides: Sequence[str] = (),
    imagined: int | None = None,
    acted: dict[str, Acted] | None = None,
) -> Ranking:
    """Rank policies by the world model of a run and by the real world; write ``ranking.json`` into the run.

    Args:
        path: of the run with the model.
        policies: each "random", "own" (the run's policy), the path of a run or of an export, or the name of a
            planner, which then plans with the run's model to the run's objective. A mapping gives each a
            name of its own.
        overrides: single values, for example ``["evaluate.policy.episodes=100"]``, the number of real
            episodes of each policy.
        imagined: number of imagined episodes of each policy; None is eleven times that of real ones.
        acted: real outcomes by the name of a policy, from runs with the same evaluation and another model;
            what is not known is added.

    Raises:
        UsageError: for fewer than two policies, fewer than two real or further imagined episodes.
        UnknownName: for a policy that is none of these.
        WorldError, SpaceError: for a policy of another world.
        WmplayError: for any other mistake that the user can fix; one line.
    """
    run = Run(Path(path))
    with run.directory.held():
        adopt_settings(run, continued_settings(run.directory, overrides))
        real = run.settings.evaluate.policy.episodes
        total = 11 * real if imagined is None else imagined
        sources = policies if isinstance(policies, Mapping) else {name: name for name in policies}
        _check_numbers(list(policies), real, total)
        use_threads(run.threads, run.directory.read().get("machine", {}).get("threads"))
        acting = {name: _policy(run, source) for name, source in sources.items()}
        ranking = _Worlds(run, real, total).rank(acting, {} if acted is None else acted)
        save_numbers(run.path / RANKING_FILE, ranking)
    return ranking


def load_ranking(run_dir: Path) -> Ranking | None:
    """Return the ranking in a run directory, None without one. Raise RunError if it is damaged."""
    return load_numbers(run_dir / RANKING_FILE, Ranking)


def _check_numbers(policies: Sequence[str], real: int, total: int) -> None:
    if len(set(policies)) < 2 or len(set(policies)) < len(policies):
        raise UsageError(
            f"policies are {', '.join(policies) or 'none'}",
            got=list(policies),
            expected="two or more different ones",
            advice="for example policies=own,random,cem",
        )
    if real < 2:
        raise UsageError(
            f"evaluate.policy.episodes is {real}",
            got=real,
            expected="at least 2 real episodes of each policy, better 100",
        )
    if total < real + 2:
        raise UsageError(
            f"imagined is {total}", got=total, expected=f"at least {real + 2}, more than the real episodes"
        )


def _policy(run: Run, name: str) -> Policy | None:
    """Return a policy by its name; None is the random one."""
    if name == RANDOM:
        return None
    if name == OWN:
        return run.acting()
    if Path(name).exists():
        other = load_run(name)
        check_policy(other, run.env, "rank policies of this one")
        return other.policy
    if len(Path(name).parts) > 1:
        raise ConfigError(f"{name} does not exist", expected="a run or an export")
    if name not in registry.names("planner"):
        raise UnknownName("policy", name, (RANDOM, OWN, *registry.names("planner")))
    if run.parts.objective is None or run.model is None:
        raise ConfigError(f"{run.path} has no objective to plan to", advice=f"leave out '{name}'")
    parts = {"env": run.env, "model": run.model, "objective": run.parts.objective}
    planner = registry.build(registry.piece_config("planner", name), **parts)
    policy: Policy = registry.build(registry.piece_config("policy", "mpc"), planner=planner, **parts)
    return policy


class _Worlds:
    """The real world and a run's model of it, in which episodes begin at the same starts.

    Args:
        run: with the model.
        real: number of real episodes.
        total: number of imagined ones.

    Raises:
        ConfigError: if the run has no model, or if an episode has no limit.
    """

    def __init__(self, run: Run, real: int, total: int) -> None:
        settings = run.settings
        if run.model is None:
            raise ConfigError(f"{run.path} has no world model", advice="choose a run with one")
        steps = longest_episode(settings, run.env)
        if steps is None:
            raise ConfigError("an episode has no limit of steps", advice="give collect.max_episode_steps")
        self.run, self.real, self.steps = run, real, steps
        self.slots = min(settings.collect.num_envs, real)
        evaluate = settings.evaluate
        chosen = replace(
            settings, evaluate=replace(evaluate, policy=replace(evaluate.policy, episodes=total))
        )
        self.manifest: Manifest = draw_manifest(chosen)
        self.measure: Measure = "success" if self.manifest.has_goal else "return"
        self.frames = self._first_frames(total)
        check_spaces(self._learned(0), run.env, "acting in the model")

    def rank(self, policies: dict[str, Policy | None], acted: dict[str, Acted]) -> Ranking:
        """Return the ranking of policies by name; real outcomes of others than the run's own are kept."""
        outcomes = {
            name: self._outcomes(name, policy, {} if name == OWN else acted)
            for name, policy in policies.items()
        }
        return score_ranking(outcomes, self.measure, self._seed, self.manifest.digest)

    @property
    def _seed(self) -> int:
        return self.run.settings.evaluate.seed

    def _outcomes(self, name: str, policy: Policy | None, acted: dict[str, Acted]) -> Outcomes:
        if name not in acted:
            with closing(real_env(self.run.settings, self.real)) as env:
                seeds = self.manifest.seeds[: self.real]
                acted[name] = self._timed(f"{name}, real", policy, self.real, lambda _: env, seeds)
        real = acted[name]
        imagined = self._timed(f"{name}, imagined", policy, len(self.manifest.seeds), self._learned)
        return Outcomes(real[0], imagined[0], real[1], imagined[1])

    def _timed(self, *given: Any) -> Acted:
        """Return the outcomes of ``_episodes``, and the seconds that one takes."""
        began = time.perf_counter()
        found = list(self._episodes(*given))
        seconds = (time.perf_counter() - began) / len(found)
        return progress(found, self.steps, self.measure), seconds

    def _episodes(
        self,
        title: str,
        policy: Policy | None,
        total: int,
        world: Callable[[int], VectorEnv[Any, Any, Any]],
        resets: Sequence[int] | None = None,
    ) -> Iterator[Trajectory]:
        """Yield episodes from the first ``total`` starts, with the same slots and draws in either world."""
        taken = 0
        with episodes_bar(title, total) as advance:
            for first in range(0, total, self.slots):
                for episode in simulate_blocks(
                    world(first),
                    policy,
                    min(self.slots, total - first),
                    self._seed ^ first,
                    max_steps=self.steps,
                    device=self.run.device,
                    progress=_after(advance, first, taken),
                    resets=resets and resets[first : first + self.slots],
                ):
                    taken += len(episode)
                    yield episode

    def _learned(self, first: int) -> LearnedVectorEnv:
        """Return the model as an env; its first episodes begin at the starts from ``first`` on."""
        cfg, seed = self.run.settings.learned, self._seed ^ first
        frames = {key: value[first : first + self.slots] for key, value in self.frames.items()}
        return LearnedVectorEnv(
            self.run.model,
            self.run.env,
            first_frames(frames, self.run.env.action_space),
            self.slots,
            reward=cfg.reward,
            temperature=cfg.temperature,
            max_steps=self.steps,
            device=self.run.device,
            seed=seed,
        )

    def _first_frames(self, total: int) -> dict[str, Array]:
        """Return the real frames {key: [total, ...]} at the manifest's starts."""
        with closing(real_env(self.run.settings, total)) as env:
            looks = simulate_blocks(env, None, total, resets=self.manifest.seeds, max_steps=1)
            frames = [{key: value[0] for key, value in look.observation.items()} for look in looks]
        return {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}


def _after(advance: Callable[[int, int], None], done: int, taken: int) -> Callable[[int, int], None]:
    return lambda episodes, steps: advance(done + episodes, taken + steps)
