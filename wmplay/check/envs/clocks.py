"""Properties of what no frame tells: the number of the step, and what stays the same for an episode."""

from __future__ import annotations

import numpy as np

from wmplay.check.envs.rewards import CLEARLY, FAIRLY, Explained
from wmplay.check.fixtures.explained import (
    FEWEST,
    Transitions,
    features_of,
    guessed,
    narrowed,
    placed,
    transitions,
    unexplained_each,
)
from wmplay.check.fixtures.played_env import EnvTrial, moments, same_key
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Array
from wmplay.contracts.data import GOAL_PREFIX

PERIODS = (2, 3, 4, 5)  # steps
PARTS = (0.25, 0.5, 0.75)  # of the longest episode
NUMBERS = 64  # of steps
MOST = 1200  # steps that are explained
NOISE = 1e-3  # part that frames and actions leave unexplained where there is chance
FEW = 11  # steps of an episode from which it is explained by itself
RESETS = 151
HALF = 0.5
HELPS = 0.9  # part that is left unexplained with a goal, of what is left without it


def the_same_step_is_the_same_at_any_time(trial: EnvTrial) -> None:
    """Check that what a step does follows from frame, action and chance, not from the number of the step.

    What grows with that number may follow from a velocity that is hidden.
    """
    if trial.claims("passive"):
        raise NotTried("its metadata claim that it is passive")
    steps = transitions(trial.plays, trial.env.action_space)
    if len(steps.rows) < FEWEST:
        raise NotTried(f"there are fewer than {FEWEST} steps with a step before them")
    chosen = np.random.default_rng(trial.seed).permutation(len(steps.rows))[:MOST]
    steps = Transitions([steps.rows[row] for row in chosen], trial.env.action_space)
    time = np.array([step for *_, step in steps.rows])
    phases = [time % period == phase for period in PERIODS for phase in range(period)]
    parts = [time > part * time.max() for part in PARTS]
    turned = np.concatenate([steps.actions() * each[:, None] for each in (*phases, *parts)], axis=1)
    numbers = (time[:, None] == np.arange(NUMBERS)).astype(np.float64)
    features = features_of([*steps.frames(0), steps.actions(), time[:, None]])
    changes = _changes(steps)

    def left(*more: Array) -> Array:
        return unexplained_each(changes, np.concatenate([features, *more], axis=1), steps.group)

    usual = left()
    clearly = CLEARLY / 2 * left(turned, numbers) < usual
    for extra, least, what in (
        (turned, FAIRLY, "what an action does changes with"),
        (numbers, NOISE, "chance is the same in each episode: it follows from"),
    ):
        if (clearly & (usual > least)).any() and (clearly & (CLEARLY / 2 * left(extra) < usual)).any():
            raise Broken(
                f"{what} the number of the step, which no frame tells",
                "let a step do the same in the same state at any time; draw chance from self.np_random, "
                "which goes on from episode to episode",
            )


def _changes(steps: Transitions) -> Array:
    """Return how far each number that changes moves in each step, [N, K], goals left out."""
    keys = [key for key in steps.keys if not key.startswith(GOAL_PREFIX)]
    after, before = (np.concatenate([placed(steps.values(k, at)) for k in keys], 1) for at in (1, 0))
    change = np.asarray(after - before)
    return change[:, change.std(axis=0) > 0]


def no_key_is_left_behind(trial: EnvTrial) -> None:
    """Check that no key stays as it began, if other keys tell it then and something else later."""
    episodes = [one for each in trial.plays for one, _ in each.episodes if len(one) > 1]
    keys = [] if not episodes else list(episodes[0][0].observation)
    still = [k for k in keys if all(same_key(one[0], now, k) for one in episodes for now in one[1:])]
    suspect = [k for k in still if not k.startswith(GOAL_PREFIX)]
    others = [k for k in keys if k not in still]
    if not suspect or not others or trial.claims("passive"):
        raise NotTried("each key changes, or shows a goal")
    begun = [next(moments(trial.env, trial.seed + number, ())) for number in range(RESETS)]
    moved = [one[-1] for one in episodes]
    told = [*begun, *moved]
    features = features_of([narrowed(np.stack([each.observation[k] for each in told])) for k in others])
    for key in suspect:
        value = placed(np.stack([each.observation[key] for each in told]))
        value = value[:, np.ptp(value[:RESETS], axis=0) > 0]
        first, last = value[:RESETS], value[RESETS:]
        left = unexplained_each(first, features[:RESETS], np.arange(RESETS))
        guesses = guessed(first, features[:RESETS], features[RESETS:])
        wrong = np.min([np.square(last - guess).mean(axis=0) for guess in guesses], axis=0) / first.var(
            axis=0
        )
        if ((left < HALF) & (wrong > 2 * left)).any():
            raise Broken(
                f"observation '{key}' stays as it is in reset(): then other keys tell it, later they do not",
                "make all keys of a frame of one state, in step() as in reset()",
            )


def goals_are_paid(trial: EnvTrial) -> None:
    """Check that where rewards follow a thing that stays the same for an episode, ``goal_`` keys tell it."""
    steps = transitions(trial.plays, trial.env.action_space).without_ends()
    goals = [key for key in steps.vectors if key.startswith(GOAL_PREFIX)] if steps.rows else []
    if not goals:
        raise NotTried("it has no goal_ vectors")
    long = [row for row in steps.rows if len(row[2]) >= FEW]
    steps = Transitions(long, trial.env.action_space)
    if len(long) < FEWEST or np.ptp(steps.rewards()) == 0:
        raise NotTried(f"there are fewer than {FEWEST} steps of long episodes, or no rewards")
    others = [key for key in steps.vectors if key not in goals]
    told, untold = (Explained(steps, keys).by_own for keys in (steps.vectors, others))
    if told < FAIRLY or told < HELPS * untold:
        return
    if CLEARLY / 2 * _left_by_episodes(steps, others) < told:
        raise Broken(
            f"rewards follow something that stays the same for an episode, and {', '.join(goals)} "
            f"{'does' if len(goals) == 1 else 'do'} not tell it",
            "pay for the goal that is shown, or show the one that is paid",
        )


def _left_by_episodes(steps: Transitions, keys: list[str]) -> float:
    """Return the part of the rewards that steps leave unexplained, explained in each episode by itself: by
    even steps in odd ones, and the other way round."""
    reward = steps.rewards()
    inputs = np.concatenate([*steps.frames(1, keys), steps.actions()], axis=1)
    scaled = (inputs - inputs.mean(axis=0)) / np.maximum(inputs.std(axis=0), 1e-9)
    features = np.concatenate([np.ones((len(scaled), 1)), scaled, np.square(scaled)], axis=1)
    episode = np.unique([f"{group} {one[0].episode}" for group, one, *_ in steps.rows], return_inverse=True)[
        1
    ]
    odd = np.array([step % 2 for *_, step in steps.rows])
    error = 0.0
    for number in range(episode.max() + 1):
        for side in (0, 1):
            fitted, tried = ((episode == number) & (odd == part) for part in (side, 1 - side))
            if fitted.any() and tried.any():
                guesses = guessed(reward[fitted], features[fitted], features[tried])
                error += min(np.square(reward[tried] - guess).sum() for guess in guesses[1:])
    return float(error / (len(reward) * reward.var()))
