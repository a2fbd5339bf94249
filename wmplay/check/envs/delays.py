"""Properties of the time rule: an action shows in the frame that it leads to, in every key, to the last step.

Most are tried by forks: two plays under one seed that differ in a single action. What differs afterwards is
that action's effect alone, however noisy the world is.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations, pairwise

import numpy as np
from gymnasium.spaces import Box, Discrete

from wmplay.check.fixtures.explained import FEWEST, placed, transitions, unexplained
from wmplay.check.fixtures.played_env import (
    AFTERWARDS,
    FORKED_AT,
    LIMIT,
    SEEDS,
    EnvTrial,
    Fork,
    Moment,
    difference,
    first_difference,
    fork,
    moments,
    play,
    same_key,
    same_observation,
)
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Array, observation_spaces
from wmplay.contracts.data import GOAL_PREFIX

ENOUGH = 5  # forks that must agree
MOST_BUTTONS = 18
STALE = 0.01  # part of an entry that the frame before leaves unexplained where the entry is a step late
AT_ONCE = 1.25  # growth of an effect after its first step, up to which it is no inertia


def actions_show_in_their_own_step(trial: EnvTrial) -> None:
    """Check that action[t] changes the observation at t + 1."""
    if trial.claims("passive"):
        raise NotTried("its metadata claim that it is passive")
    late = [found for found in (each.first_seen for each in trial.forks) if found is not None]
    if not late:
        _expect_any_effect(trial)
    allowed = int(trial.claims("delay") or 0)
    if min(late) <= allowed:
        _expect_every_step_counts(trial)
        return
    steps = f"{min(late)} step{'s' * (min(late) > 1)} late, never in its own"
    if min(late) > 1:
        raise NotTried(f"an action first shows {steps}: put 'delay': {min(late)} into metadata if it shall")
    if _growth(trial.forks) > AT_ONCE:
        raise NotTried(f"an action first shows {steps}, as it does where velocities are hidden")
    raise Broken(
        f"an action changes what is seen {steps}",
        "step() first acts and then observes; if it shall be late, put 'delay': 1 into metadata",
    )


def _expect_every_step_counts(trial: EnvTrial) -> None:
    """Raise Broken if the first action of an episode, or every second one, has no effect, and others have."""
    by_step: dict[int, list[Fork]] = {}  # by the number of steps before it in its episode
    for each in trial.forks:
        by_step.setdefault(each.pairs[0][0].step - 1, []).append(each)
    silent = {at for at, forks in by_step.items() if not any(each.any_difference for each in forks)}
    if silent and silent in [{at for at in by_step if at % 2 == odd} for odd in (0, 1)]:
        raise Broken("every second action of an episode changes nothing", "use the action of each step")
    if silent == {0} and not any(
        fork(trial.env, seed, [first, *trial.actions(seed, AFTERWARDS)], 0, other).any_difference
        for first, *others in [trial.extremes()]
        for other in others
        for seed in range(trial.seed, trial.seed + SEEDS)
    ):
        raise Broken(
            f"the first action of an episode changes nothing in {AFTERWARDS} steps, and later ones do",
            "let step() act from the first step on",
        )


def _expect_any_effect(trial: EnvTrial) -> None:
    """Raise Broken if no action ever makes a difference, NotTried where it makes one to rewards or late."""
    if any(each.any_difference for each in trial.forks):
        raise NotTried("actions change rewards or ends, and nothing that is seen")
    first, *others = trial.extremes()
    for other in others:
        for seed in (trial.seed, trial.seed + 1):
            plays = [play(trial.env, seed, [action] * LIMIT) for action in (first, other)]
            if len(plays[0]) != len(plays[1]) or first_difference(*plays) is not None:
                raise NotTried(f"an action shows nothing within {AFTERWARDS} steps, and something in time")
    raise Broken(
        f"no action changes anything that is seen within {LIMIT} steps",
        "use the action in step(); if there is nothing to move, put 'passive': True into metadata",
    )


def _growth(forks: list[Fork], key: str | None = None) -> float:
    """Return by how much the effect of an action is larger a step after it is first seen, in the entry where
    it grows least; infinity if that cannot be told.

    A picture tells only by the place of what it shows, and only if every action shows as soon: small moves of
    a slow thing are first seen sooner or later.
    """
    firsts = [each.first(partial(_differs, key=key)) for each in forks]
    seen = [(each, first) for each, first in zip(forks, firsts, strict=True) if first is not None]
    whole = [(each, first) for each, first in seen if first + 1 < len(each.pairs)]
    as_soon = len(seen) >= 0.9 * len(forks) and all(first == 1 for _, first in seen)
    by_entry = []
    for name in forks[0].pairs[0][0].observation if key is None else (key,):
        effects = [[_effect(*each.pairs[first + shift], name) for each, first in whole] for shift in (0, 1)]
        if as_soon or forks[0].pairs[0][0].observation[name].dtype.kind == "f":
            by_entry += [
                np.median(after[at > 0] / at[at > 0])
                for at, after in zip(*(np.array(each).T for each in effects), strict=True)
                if np.count_nonzero(at > 0) >= ENOUGH
            ]
    return float(min(by_entry, default=np.inf))


def _differs(one: Moment, other: Moment, key: str | None) -> bool:
    return not same_observation(one, other) if key is None else not same_key(one, other, key)


def _effect(one: Moment, other: Moment, key: str) -> Array:
    """Return the differences [D] of two vectors, or of the places of what two pictures show."""
    values = [each.observation[key] for each in (one, other)]
    if values[0].dtype.kind != "f" and values[0].ndim > 1:
        values = [placed(value[None]) for value in values]
    return np.abs(values[0].astype(np.float64) - values[1]).ravel()


def each_key_is_on_time(trial: EnvTrial) -> None:
    """Check that no key, and no entry of a vector, shows the state of the step before while the others show
    the present one."""
    keys = list(observation_spaces(trial.env.observation_space))
    if trial.claims("passive") or trial.claims("delay"):
        raise NotTried("it does not promise when actions show")
    _expect_entries_on_time(trial)
    first = {
        key: [delay for each in trial.forks if (delay := each.first(partial(_differs, key=key))) is not None]
        for key in keys
    }
    on_time = [key for key in keys if 0 in first[key]]
    for key in keys:
        if on_time and len(first[key]) >= ENOUGH and min(first[key]) == 1 and _is_late(trial, key, on_time):
            raise Broken(
                f"observation '{key}' shows each action a step later than {_listed(on_time)}",
                f"make all keys of a frame of one state, also '{key}'; if it shall be late, put 'delay': 1 "
                "into metadata",
            )


def _expect_entries_on_time(trial: EnvTrial) -> None:
    """Raise Broken if an entry of a vector shows actions a step late, and tells of the other entries, or of
    their changes, as they were a step before.

    What another entry was is a frame kept on purpose. Steps at a wall, where a change is cut, do not count.
    """
    steps = transitions(trial.plays, trial.env.action_space)
    if len(steps.rows) < FEWEST:
        return
    first = {key: _first_shown(trial, key) for key in steps.vectors}
    prompt = [(key, at) for key, each in first.items() for at, found in enumerate(each) if found[:1] == [0]]
    late = [
        (key, at)
        for key, each in first.items()
        for at, found in enumerate(each)
        if len(found) >= ENOUGH and found[0] == 1
    ]
    if not prompt or not late:
        return

    def entries(names: list[tuple[str, int]], shift: int) -> Array:
        found = [steps.values(key, shift).reshape(len(steps.rows), -1)[:, at] for key, at in names]
        return np.stack(found, axis=1)

    told = np.stack([entries(prompt, shift) for shift in (1, 0, -1)])  # [3, N, entries]
    free = ((told > told.min(axis=(0, 1))) & (told < told.max(axis=(0, 1)))).all(axis=(0, 2))
    if np.count_nonzero(free) < FEWEST:
        return
    now, before, earlier = told[:, free]
    for (key, at), value in zip(late, entries(late, 1)[free].T[..., None], strict=True):
        if (value == before).all(axis=0).any():
            continue
        left = unexplained(value, [before, before - earlier], steps.group[free])
        if left < STALE and 10 * left < unexplained(value, [now, now - before], steps.group[free]):
            raise Broken(
                f"entry {at} of observation '{key}' is a step late: it tells of the frame before",
                "make all entries of a frame of one state",
            )


def _first_shown(trial: EnvTrial, key: str) -> list[list[int]]:
    """Return for each entry of a key after how many steps actions first show in it, in order."""
    found: list[list[int]] = [[] for _ in trial.plays[0].moments[0].observation[key].ravel()]
    for each in trial.forks:
        one, other = (np.stack([pair[i].observation[key].ravel() for pair in each.pairs]) for i in (0, 1))
        differs = one != other  # [steps, entries]
        for entry in np.flatnonzero(differs.any(axis=0)):
            found[entry].append(int(differs[:, entry].argmax()))
    return [sorted(each) for each in found]


def _is_late(trial: EnvTrial, key: str, others: list[str]) -> bool:
    """Return whether a key tells of the other keys' last frame, or moves at once a step after them.

    A position that is moved by the velocity of the frame before responds as late, but not at once: its
    changes are explained by the other keys.
    """
    steps = transitions(trial.plays, trial.env.action_space)
    if len(steps.rows) < FEWEST:
        return False
    value = placed(steps.values(key, 1))
    for known in (others, *([other] for other in others if len(others) > 1)):
        seen = [steps.frames(shift, known) for shift in (0, 1)]
        by_last, by_own = (unexplained(value, frames, steps.group) for frames in seen)
        if by_last < 0.6 and by_last < 0.7 * by_own:
            with_itself = unexplained(value, [*seen[0], *steps.frames(0, [key])], steps.group)
            if by_last < 2 * with_itself + 0.02:  # else it has a life of its own
                return True
    by_own = unexplained(value, steps.frames(1, others), steps.group)
    change = value - placed(steps.values(key, 0))
    return (
        by_own > 0.5
        and unexplained(change, steps.frames(0, others), steps.group) > 0.5
        and _growth(trial.forks, key) <= AT_ONCE
    )


def goals_stand(trial: EnvTrial) -> None:
    """Check that ``goal_`` keys show the same all through an episode: models take the goal as it is."""
    goals = [key for key in observation_spaces(trial.env.observation_space) if key.startswith(GOAL_PREFIX)]
    if not goals:
        raise NotTried("it has no goal_ keys")
    for key in goals:
        moved = [each.first(partial(_differs, key=key)) for each in trial.forks]
        if len(moved) >= ENOUGH and np.mean([delay == 0 for delay in moved]) > 0.8:
            raise Broken(
                f"observation '{key}' changes with every action",
                "show where the goal is, not how far: goal_ keys stay as they are while a model imagines",
            )
        for each in trial.plays:
            for episode, _ in each.episodes:
                moved_at = [now for now in episode[1:-1] if not same_key(episode[0], now, key)]
                if moved_at:
                    raise Broken(
                        f"observation '{key}' changes within an episode (seed {each.seed}, {moved_at[0]})",
                        "draw a goal in reset() alone, or show it in a key without goal_: models predict it",
                    )


def each_entry_of_the_action_counts(trial: EnvTrial) -> None:
    """Check that each entry of a continuous action makes a difference while the others stay as they are, and
    so do both halves of its range."""
    space = trial.env.action_space
    if not isinstance(space, Box):
        raise NotTried("actions have no entries")
    if trial.claims("passive"):
        raise NotTried("its metadata claim that it is passive")
    unused = set(trial.claims("unused_actions") or ())
    used = [entry for entry in range(int(np.prod(space.shape))) if entry not in unused]
    dead = [entry for entry in used if _does_the_same(trial, entry, *trial.extremes())]
    if dead and len(used) > 1:
        raise Broken(
            f"entry {dead[0]} of the action changes nothing in {LIMIT} steps: no frame, no reward",
            f"use it in step(); if it has no use, put 'unused_actions': {dead} into metadata",
        )
    _expect_both_halves_count(trial, [entry for entry in used if entry not in dead])


def _expect_both_halves_count(trial: EnvTrial, entries: list[int]) -> None:
    """Raise Broken if the lower, or the upper, half of an entry does what its middle does."""
    (low, high), unused = trial.extremes(), trial.claims("unused_half")
    if unused is True or not np.array_equal(low, -high):
        return
    for entry in sorted(set(entries) - set(unused or ())):
        for what, extreme in (("lower", low), ("upper", high)):
            if _does_the_same(trial, entry, extreme, np.zeros_like(extreme)):
                raise Broken(
                    f"the {what} half of entry {entry} of the action does what 0 does, in {LIMIT} steps",
                    "see how step() clips the action; if half of the range shall have no use, put "
                    f"'unused_half': [{entry}] into metadata",
                )


def _forked(trial: EnvTrial, seed: int, at: int, one: Array, other: Array) -> Fork:
    usual = trial.actions(seed, at + AFTERWARDS)
    usual[at] = one
    return fork(trial.env, seed, usual, at, other)


def buttons_differ(trial: EnvTrial) -> None:
    """Check that no two discrete actions do the same: one of them is another's by mistake.

    Actions that change no frame may be alike, and whole sets of actions may, as those of a joystick do with
    and without its button.
    """
    space = trial.env.action_space
    if not isinstance(space, Discrete) or space.n < 3:
        raise NotTried("there are no three discrete actions")
    if trial.claims("passive"):
        raise NotTried("its metadata claim that it is passive")
    unused = set(trial.claims("unused_actions") or ())
    buttons = [int(button) for button in trial.extremes() if int(button) not in unused]
    if space.n > MOST_BUTTONS:
        raise NotTried(f"there are more than {MOST_BUTTONS} actions")
    alike = [pair for pair in combinations(buttons, 2) if not _tell_apart(trial, *pair)]
    if len(alike) != 1 or not _moves(trial, alike[0][0]):
        return
    raise Broken(
        f"actions {alike[0][0]} and {alike[0][1]} do the same, in {SEEDS * LIMIT} steps",
        "see how step() reads the action: a table with one entry twice, a remainder, a comparison; if they "
        f"shall do the same, put 'unused_actions': [{alike[0][1]}] into metadata",
    )


def _tell_apart(trial: EnvTrial, one: int, other: int) -> bool:
    """Return whether random plays differ in which one action is always replaced by another."""
    for each in trial.plays:
        chosen = np.array(each.actions)
        replaced = np.where(chosen == one, other, chosen)
        changed = moments(trial.env, each.seed, list(replaced))
        if any(difference(*pair) is not None for pair in zip(each.moments, changed, strict=False)):
            return True
    return False


def _moves(trial: EnvTrial, button: int) -> bool:
    """Return whether an action changes the frame."""
    return any(
        int(action) == button and not same_observation(*pair)
        for each in trial.plays
        for episode, actions in each.episodes
        for pair, action in zip(pairwise(episode), actions, strict=True)
    )


def _does_the_same(trial: EnvTrial, entry: int, *bounds: Array) -> bool:
    """Return whether nothing differs where an entry is at one of two bounds: in one step, or all along."""
    for number, at in enumerate(FORKED_AT):
        seed = trial.seed + number
        one, other = (_with_entry(trial.actions(seed, at + 1)[at], entry, bound) for bound in bounds)
        if _forked(trial, seed, at, one, other).any_difference:
            return False
    for seed in range(trial.seed, trial.seed + 3):
        actions = trial.actions(seed)
        plays = [
            play(trial.env, seed, [_with_entry(action, entry, bound) for action in actions])
            for bound in bounds
        ]
        if len(plays[0]) != len(plays[1]) or first_difference(*plays) is not None:
            return False
    return True


def _with_entry(action: Array, entry: int, source: Array) -> Array:
    changed = np.array(action)
    changed.flat[entry] = source.flat[entry]
    return changed


def _listed(keys: list[str]) -> str:
    return ", ".join(f"'{key}'" for key in keys)
