"""The manifest of an evaluation: the starts and goals that every policy gets, and two rules of success.

Each episode begins from a reset with a seed of its own, so that the starts do not depend on the number of
slots. Starts at which the goal is reached already are left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv

from wmplay.config.settings import Settings
from wmplay.contracts import GOAL_PREFIX, Reachable, Trajectory, env_spec
from wmplay.errors import ConfigError
from wmplay.evaluation.metrics.policy import policy_score, score_episodes
from wmplay.evaluation.scores import PolicyScore
from wmplay.evaluation.statistics import success_rate
from wmplay.runs.worlds import real_env
from wmplay.vector.stepping import Stepper

MOST_DRAWN = 100  # starts drawn for each one that is kept
DIGITS = 16  # of the digest


@dataclass(frozen=True)
class Manifest:
    """The starts and goals of an evaluation.

    Attributes:
        digest: of the world, the seeds, every start and goal as observed, and the distance of success.
        world: its provenance.
        seeds: of the reset of each episode.
        has_goal: whether observations hold a goal.
        solved: number of starts left out, because their goal was reached already.
    """

    digest: str
    world: Mapping[str, Any]
    seeds: list[int]
    has_goal: bool
    solved: int

    def content(self) -> dict[str, Any]:
        """Return the manifest as plain values for a JSON file."""
        return asdict(self)


def draw_manifest(settings: Settings) -> Manifest:
    """Return the manifest of a run's evaluation: equal for equal worlds, ``evaluate.seed`` and episodes.

    Raises:
        ConfigError: if nearly all starts are solved already.
    """
    wanted, seed = settings.evaluate.policy.episodes, settings.evaluate.seed
    content, seeds, solved = hashlib.sha256(), list[int](), 0
    with closing(evaluation_env(settings)) as env:
        stepper, spec = Stepper(env), env_spec(env)
        slots, task = stepper.num_envs, spec.task
        for first in range(0, MOST_DRAWN * wanted, slots):
            drawn = [_seed(seed, number) for number in range(first, first + slots)]
            stepper.reset(drawn)
            reached = np.zeros(slots, np.bool_)
            if isinstance(task, Reachable):
                reached = np.asarray(task.distance(stepper.frames)) < task.threshold
            kept = np.flatnonzero(~reached)[: wanted - len(seeds)]
            seeds += [drawn[row] for row in kept]
            for row in kept:
                for key in sorted(stepper.frames):
                    content.update(np.ascontiguousarray(stepper.frames[key][row]).tobytes())
            if len(seeds) == wanted:
                solved += int(reached[: kept[-1]].sum())
                break
            solved += int(reached.sum())
    if len(seeds) < wanted:
        raise ConfigError(
            f"of {MOST_DRAWN * wanted:,} starts only {len(seeds)} are not solved already",
            got=len(seeds),
            expected=f"{wanted}",
            advice="choose a harder task, or a smaller goal_threshold",
        )
    world = dict(spec.provenance or {})
    threshold = task.threshold if isinstance(task, Reachable) else None
    content.update(json.dumps([world, seeds, threshold], sort_keys=True, default=str).encode())
    has_goal = any(key.startswith(GOAL_PREFIX) for key in stepper.spaces)
    return Manifest(content.hexdigest()[:DIGITS], world, seeds, has_goal, solved)


def evaluation_env(settings: Settings) -> VectorEnv[Any, Any, Any]:
    """Return the vector env in which a manifest's episodes take place; reaching the goal does not end one."""
    alone = replace(settings, collect=replace(settings.collect, num_workers=0, workers="local"))
    env = real_env(alone, settings.evaluate.policy.episodes)
    task = env_spec(env).task
    if isinstance(task, Reachable):
        task.ends = False
    return env


def score_manifest(episodes: Sequence[Trajectory], manifest: Manifest, seed: int, task: Any) -> PolicyScore:
    """Score the episodes of a manifest.

    Success is reaching the goal at any step, and the return and the length are those up to this step. Success
    at the end is being at the goal after the last step of the episode, for tasks that measure the distance.
    """
    if not isinstance(task, Reachable):
        return replace(score_episodes(episodes, seed), manifest=manifest.digest)
    cut, held = [], []
    for episode in episodes:
        at_goal = np.asarray(task.distance(episode.observation))[1:] < task.threshold
        steps = int(at_goal.argmax()) + 1 if at_goal.any() else len(episode)
        cut.append((episode.steps(0, steps), bool(at_goal.any())))
        held.append(bool(at_goal[-1]))
    score = policy_score([each for each, _ in cut], [ever for _, ever in cut], seed)
    rate = success_rate(sum(held), len(held))
    return replace(score, manifest=manifest.digest, success_at_end=rate, held=held)


def _seed(seed: int, number: int) -> int:
    """Return the reset seed of a candidate start."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
