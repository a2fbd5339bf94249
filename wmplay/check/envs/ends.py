"""Properties of the ends of episodes: the world's are terminated, the clock's truncated."""

from __future__ import annotations

from functools import partial
from itertools import islice, pairwise

import numpy as np
import torch

from wmplay.check.compare import TOLERANCE
from wmplay.check.fixtures.explained import Transitions, transitions, unexplained
from wmplay.check.fixtures.played_env import (
    LIMIT,
    LONG,
    SEEDS,
    EnvTrial,
    Moment,
    Play,
    fork,
    moments,
    same_observation,
)
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Array, HasReward, env_spec

FEW, ENOUGH = 3, 5  # ends
MOST = 0.8  # of the ends
HEAP = 4  # times as many ends as after any number of steps that is a little smaller
TOLD = 0.02  # part of the time that frames leave unexplained where they tell it


def terminated_is_no_clock(trial: EnvTrial) -> None:
    """Check that the end of the world is terminated, and the time limit truncated."""
    clock = env_spec(trial.env).max_steps
    ends: list[Moment] = []
    for play in trial.plays:
        beyond = next((each for each in play.moments if clock is not None and each.step > clock), None)
        if beyond is not None:
            raise Broken(
                f"its max_steps is {clock}, and an episode (seed {play.seed}) goes on after that",
                "return truncated=True from that step on: evaluation waits for the end of each episode",
            )
        ends += [one[-1] for one, _ in play.ended]
    if not ends:
        raise NotTried(f"no episode ended within {LONG} steps")
    _expect_one_cause(ends, bool(trial.claims("fixed_length")))
    _expect_flags_in_their_roles(trial, ends)


def _expect_one_cause(ends: list[Moment], fixed_length: bool) -> None:
    """Raise Broken if all ends by the clock are terminated as well."""
    cut = [end for end in ends if end.truncated]
    lengths = {end.step for end in cut}
    if len(cut) < FEW or lengths == {1} or (fixed_length and len(lengths) == 1):
        return
    if all(end.terminated for end in cut):
        raise Broken(
            f"all {len(cut)} ends of episodes that are truncated are terminated at once",
            "return terminated where the world brings an end about, truncated where only the time is over",
        )


def _expect_flags_in_their_roles(trial: EnvTrial, ends: list[Moment]) -> None:
    terminated = [end.step for end in ends if end.terminated and not end.truncated]
    truncated = [end.step for end in ends if end.truncated and not end.terminated]
    longest = max(end.step for end in ends)
    if terminated.count(longest) > max(FEW, 10 * truncated.count(longest)) and longest > 1:
        _expect_no_clock_terminates(trial, longest, terminated, truncated)
    elif truncated and not terminated and len(set(truncated)) > 1 and _depends_on_actions(trial):
        raise Broken(
            f"episodes end as truncated after steps {_listed(truncated)}, as actions have it, and never as "
            "terminated",
            "return terminated where the world brings an end about; truncated is the clock's",
        )


def _expect_no_clock_terminates(
    trial: EnvTrial, longest: int, terminated: list[int], truncated: list[int]
) -> None:
    """Raise Broken if the clock's number of steps, or the same number in many episodes, terminates them."""
    heaped = terminated.count(longest) >= SEEDS and all(
        HEAP * terminated.count(longest - fewer) <= terminated.count(longest) for fewer in range(1, SEEDS)
    )
    usual = longest == env_spec(trial.env).max_steps or heaped
    for action in trial.extremes()[:5]:
        for number in range(FEW):
            end = _first_end(trial, trial.seed + number, [action] * (longest + 1))
            if end is None or end.step > longest:
                return
            (truncated if end.truncated else terminated).append(end.step)
    if len(set(truncated)) > 1 and set(terminated) == {longest}:
        raise Broken(
            f"episodes end as terminated after {longest} steps, and as truncated before that, such as after "
            f"{_listed(truncated)}",
            "swap them: terminated is the end that the world brings about, truncated the clock's",
        )
    if not usual or trial.claims("fixed_length") or _frames_tell_time(trial):
        return
    raise Broken(
        f"{terminated.count(longest)} episodes end as terminated after step {longest}, and none lasts longer",
        "return truncated, not terminated, where only the time is over; if the task itself has that many "
        "steps, put 'fixed_length': True into metadata",
    )


def _listed(lengths: list[int]) -> str:
    return ", ".join(map(str, sorted(set(lengths))[:5]))


def _depends_on_actions(trial: EnvTrial) -> bool:
    """Return whether an episode lasts longer, or less long, under other actions: its limit is not drawn."""
    for play in trial.plays[:FEW]:
        first = play.episodes[0][0][-1]
        if first.truncated:
            random = list(islice(trial.draws(play.seed + SEEDS), first.step + 1))
            held = [[action] * (first.step + 1) for action in trial.extremes()[:3]]
            others = [_first_end(trial, play.seed, actions) for actions in (random, *held)]
            if any(end is None or end.step != first.step for end in others):
                return True
    return False


def _first_end(trial: EnvTrial, seed: int, actions: list[object]) -> Moment | None:
    return next((each for each in moments(trial.env, seed, actions) if each.over), None)


def _frames_tell_time(trial: EnvTrial) -> bool:
    """Return whether the number of the step follows from a frame, so that the end is the world's own."""
    steps = transitions(trial.plays, trial.env.action_space, first=0)
    time = np.array([[step] for *_, step in steps.rows], np.float64)
    return unexplained(time, steps.frames(0), steps.group) < TOLD


def ends_are_told_at_once(trial: EnvTrial) -> None:
    """Check that an end is the one of the frame that it leads to, not of the frame before.

    A frame shows the cause of an end where a number of it is beyond that of all frames without an end.
    """
    steps, over = _ended_steps(trial, trial.plays)
    if 0 < over.sum() < ENOUGH:
        steps, over = _ended_steps(trial, [*trial.plays, *map(partial(_held, trial), range(SEEDS))])
    if over.sum() < ENOUGH or over.all() or not steps.vectors:
        raise NotTried("too few episodes were terminated in time, or no vector shows why")
    before, after = (_beyond(steps.frames(shift, steps.vectors), over) for shift in (0, 1))
    late = before > MOST and after < 1 - MOST
    if late or (_a_region_ends_them(steps, over) and not _any_averted(trial, steps, over)):
        raise Broken(
            "episodes are terminated a step late: the frame before shows what ends them, and no other frame "
            "that is acted on does",
            "return terminated with the step that brings the end about",
        )


def _a_region_ends_them(steps: Transitions, over: Array) -> bool:
    """Return whether all frames acted on in a box end the episode, and frames in the box of what they lead to
    need not. First frames do not count: no step led to them."""
    later = np.array([step > 0 for *_, step in steps.rows])
    within = []
    for shift in (0, 1):
        values = np.concatenate(steps.frames(shift, steps.vectors), axis=1)
        low, high = values[over & later].min(axis=0), values[over & later].max(axis=0)
        inside = ((values >= low) & (values <= high)).all(axis=1)
        within.append(np.count_nonzero(inside & later & ~over))
    return bool(within[0] == 0 and within[1] >= FEW)


def _any_averted(trial: EnvTrial, steps: Transitions, over: Array) -> bool:
    """Return whether another action in place of the last one goes on, or too few of them show anything."""
    tried = 0
    plays = {id(moments): play for play in trial.plays for moments, _ in play.ended}
    for row in np.flatnonzero(over):
        _, episode, actions, step = steps.rows[row]
        play = plays.get(id(episode))
        if play is None or step + 1 != len(actions):
            continue
        at = sum(len(others) for each, others in play.episodes if each[0].episode < episode[0].episode) + step
        for other in trial.extremes()[:2]:
            ends = fork(trial.env, play.seed, play.actions[: at + 1], at, other).pairs[0]
            if not same_observation(*ends):
                if not all(end.terminated for end in ends):
                    return True
                tried += 1
        if tried >= 2 * ENOUGH:
            break
    return tried < ENOUGH


def _ended_steps(trial: EnvTrial, plays: list[Play]) -> tuple[Transitions, Array]:
    """Return the steps of plays, and which of them [N] terminate an episode."""
    steps = transitions(plays, trial.env.action_space, first=0)
    return steps, np.array([bool(moments[step + 1].terminated) for _, moments, _, step in steps.rows])


def _held(trial: EnvTrial, number: int) -> Play:
    """Return a play of a random action that is held: it goes further than actions that change."""
    actions = trial.actions(trial.seed + number, 1) * LIMIT
    return Play(number, list(moments(trial.env, trial.seed + number, actions)), actions)


def _beyond(frames: list[Array], over: Array) -> float:
    """Return the part of the rows [N] that are ``over`` with a number beyond those of all other rows."""
    values = np.concatenate([each.reshape(len(each), -1) for each in frames], axis=1)
    low, high = values[~over].min(axis=0), values[~over].max(axis=0)
    return float(((values[over] < low) | (values[over] > high)).any(axis=1).mean())


def its_task_agrees(trial: EnvTrial) -> None:
    """Check that ``env.task.reward_and_terminated``, which a learned env uses, agrees with step()."""
    task = env_spec(trial.env).task
    if not isinstance(task, HasReward):
        raise NotTried("it has no task.reward_and_terminated")
    for before, after in pairwise(trial.plays[0].moments):
        if after.step == 0:
            continue
        reward, terminated = task.reward_and_terminated(_row(before), _row(after))
        said, did = (float(reward[0]), bool(terminated[0])), (float(after.reward), bool(after.terminated))
        if abs(said[0] - did[0]) > TOLERANCE or said[1] != did[1]:
            raise Broken(
                f"task.reward_and_terminated says {said[0]:.4g} and {said[1]} where step() returned "
                f"{did[0]:.4g} and {did[1]} ({after})",
                "let step() ask the task, about the observations before and after",
            )


def _row(moment: Moment) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value[None]) for key, value in moment.observation.items()}
