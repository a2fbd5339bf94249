"""Properties of seeds and episodes: what determines an episode, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from gymnasium.utils import seeding

from wmplay.check.compare import global_generators_at_rest
from wmplay.check.fixtures.played_env import (
    LIMIT,
    SEEDS,
    SHORT,
    EnvTrial,
    Moment,
    copied,
    expect_equal,
    fingerprint,
    moments,
    play,
    same_observation,
)
from wmplay.check.report import Broken, NotTried

FAR = (1024, 100_003)  # seeds that lie further away than those that follow one another
GLIMPSE = 11  # steps
MANY, FEW = 5, 2  # episodes that differ


def same_seed_same_numbers(trial: EnvTrial) -> None:
    """Check that seed and actions determine episodes bit for bit, without the global generators."""
    advice = "draw from self.np_random alone, which super().reset(seed=seed) makes"
    actions = trial.actions(0)
    with global_generators_at_rest("it", advice):
        plays = []
        if trial.make is None:
            play(trial.env, trial.seed + 1, actions[:SHORT])  # what is carried over is another property's
        for _ in range(2):
            with trial.another() as env:
                play(env, trial.seed + 1, actions[:SHORT])
                plays.append(play(env, trial.seed, actions))
        expect_equal(plays[0], plays[1], f"two plays under seed {trial.seed} differ", advice)


def seeds_differ(trial: EnvTrial) -> None:
    """Check that other seeds give other episodes, each its own, and so does a reset without a seed."""
    seeds = [trial.seed + number for number in (*range(SEEDS), *FAR)]
    found, states = zip(*(_glimpse(trial, seed) for seed in seeds), strict=True)
    untouched = seeding.np_random(seeds[-1])[0].bit_generator.state
    different = _different(found)
    if different == 1:
        if states[-1] == untouched or not _looks_drawn(found[0][0]):
            raise NotTried("all its episodes begin alike")
        raise Broken(
            f"under {len(seeds)} seeds from {seeds[0]} on all episodes are alike",
            "begin from what self.np_random draws",
        )
    for one, other in combinations(range(len(seeds)), 2):
        if states[one] == states[other]:
            raise Broken(
                f"seeds {seeds[one]} and {seeds[other]} are the same one: np_random is alike after both",
                "pass the seed on as it is: super().reset(seed=seed)",
            )
    trial.env.reset(seed=trial.seed)
    following = [_glimpse(trial)[0] for _ in seeds]
    _expect_many(trial, _different(following), different, len(seeds))


def _expect_many(trial: EnvTrial, following: int, seeded: int, tried: int) -> None:
    if following >= MANY and seeded <= FEW:
        raise Broken(
            f"{tried} seeds give only {seeded} different episodes, {tried} resets without one {following}",
            "draw all that differs from self.np_random, which every seed makes anew",
        )
    if seeded >= MANY and following <= FEW:
        raise Broken(
            f"after reset(seed={trial.seed}), {tried} calls of reset() begin only {following} episodes",
            "seed only when a seed is given: super().reset(seed=seed), and draw from self.np_random",
        )


def _different(plays: Sequence[Sequence[Moment]]) -> int:
    return len({tuple(fingerprint(moment) for moment in each) for each in plays})


def _looks_drawn(moment: Moment) -> bool:
    """Return whether a vector has a number that nobody would write down, as random draws are."""
    vectors = [value for value in moment.observation.values() if value.dtype.kind == "f"]
    return any((np.abs(1e4 * each - np.round(1e4 * each)) > 0.01).any() for each in vectors)


def _glimpse(trial: EnvTrial, seed: int | None = None) -> tuple[list[Moment], Any]:
    """Return the first moments of an episode that begins with a seed, or of the next one without, and the
    state of its generator when it began."""
    found = [Moment(copied(trial.env.reset(seed=seed)[0]))]
    state = trial.env.unwrapped.np_random.bit_generator.state
    for action in trial.actions(0, GLIMPSE):
        seen, _, terminated, truncated, _ = trial.env.step(action)
        found.append(Moment(copied(seen), terminated=terminated, truncated=truncated))
        if found[-1].over:
            break
    return found, state


def reset_forgets_the_episode(trial: EnvTrial) -> None:
    """Check that an episode does not depend on earlier ones."""
    actions = trial.actions(0)
    with trial.another() as env:
        usual = play(env, trial.seed, actions)
        for history in (5, LIMIT):
            play(env, trial.seed + 1, trial.actions(1, history))
            expect_equal(
                usual,
                play(env, trial.seed, actions),
                f"seed {trial.seed} gives another episode after {history} steps of another",
                "begin everything anew in reset(): velocities, counters, what is carried",
            )


def no_start_is_skipped(trial: EnvTrial) -> None:
    """Check that an episode's end leaves the next start to reset(), and does not take it itself."""
    ended = [each for each in trial.plays if each.episodes[0][0][-1].over]
    if not ended:
        raise NotTried("no episode ended")
    for each in ended:
        trial.env.reset(seed=each.seed)
        starts = [Moment(copied(trial.env.reset()[0])) for _ in range(2)]
        for _ in moments(trial.env, each.seed, each.episodes[0][1]):
            pass
        found = Moment(copied(trial.env.reset()[0]))
        if same_observation(*starts) or not same_observation(found, starts[1]):
            return
    raise Broken(
        "after an episode reset() begins the start after the next: every second start is skipped",
        "do not call reset() in step(): whoever steps the env calls it",
    )


def instances_are_apart(trial: EnvTrial) -> None:
    """Check that two envs do not affect each other."""
    if trial.make is None:
        raise NotTried("it takes make=..., to make a second env")
    mine, theirs = trial.actions(0, SHORT), trial.actions(1, SHORT)
    with trial.another() as env:
        usual = play(env, trial.seed, mine)
    with trial.another() as one, trial.another() as two:
        beside = zip(moments(one, trial.seed, mine), moments(two, trial.seed + 1, theirs), strict=False)
        together = [moment for moment, _ in beside]
    expect_equal(
        usual[: len(together)],
        together,
        "an env plays differently beside another",
        "keep everything in self: nothing in the class, the module or a default argument",
    )
