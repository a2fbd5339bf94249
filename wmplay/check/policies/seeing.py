"""Properties of what a policy heeds: the frames, the executed actions and ``explore``; one function each.

A policy may leave each of them alone. What is tried is what cannot be meant: weights that no frame reaches,
an action of its own remembered in place of the executed one.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from wmplay.check.compare import claim
from wmplay.check.fixtures.scripts import Acting, Changes, flat
from wmplay.check.policies.planning import flown
from wmplay.check.report import Broken, NotTried, Property

FEW = 6  # changed actions that are not there by chance
NUDGE = 0.1  # of the range of actions


# ---- the properties ------------------------------------------------------------------------------


def frames_matter(trial: Acting) -> None:
    """Check that other frames lead to other actions, unless it has nothing to look with, or claims
    ``open_loop``."""
    if any(seen.any() for changes in _changes(trial) for seen in changes.frame):
        return
    if claim(trial.policy, "open_loop"):
        raise NotTried("it claims to be open_loop")
    if trial.reacts_to_extremes:
        return
    if isinstance(trial.space, Discrete) and all((x == x[0, 0]).all() for x in trial.usual.values()):
        raise NotTried("it always chooses the same action here")
    what = (
        "it has weights"
        if _has_weights(trial.policy)
        else "it holds a model"
        if trial.parts.models
        else "it reads last_action"
        if any(changes.deed.any() for changes in _changes(trial))
        else None
    )
    if what is None:
        raise NotTried("it acts without looking, and has nothing to look with")
    raise Broken(
        f"{what}, but no frame makes a difference to its actions",
        "see that the observation reaches the action: the belief after observe, not the one that was "
        "predicted; a policy that means to act without looking says so by the attribute open_loop = True",
    )


def the_first_frame_matters(trial: Acting) -> None:
    """Check that an episode's first frame makes a difference, at once or later, where later ones do."""
    amounts = [[int(seen.sum()) for seen in changes.frame] for changes in _changes(trial)]
    if not any(map(any, amounts)):
        raise NotTried("no frame makes a difference")
    later = [sum(each) for each in list(zip(*amounts, strict=True))[1:]]
    often = sum(amount >= 2 for amount in later) >= len(later) - 1  # no discrete action that rarely changes
    if often and not any(first for first, *_ in amounts):
        raise Broken(
            "an episode's first frame makes no difference to its actions, later ones do",
            "where first is True, the observation is that of the new episode: begin the memory with it",
        )


def frames_act_in_their_own_step(trial: Acting) -> None:
    """Check that a later frame, and each key of it, makes a difference to the action of its own step, not
    only to the next."""
    now, late = _now_and_late(_changes(trial))
    if not now + late:
        raise NotTried("no frame after the first makes a difference")
    advice = "choose the action after the observation has entered the memory"
    if not now and late >= FEW:
        raise Broken(
            "frames make no difference to the action of their own step, but to later ones: it acts on the "
            "frame of the step before",
            advice,
        )
    for key in trial.spaces if len(trial.spaces) > 1 else ():
        now, late = _now_and_late(trial.reactions_to(key))
        if not now and late >= FEW:
            raise Broken(
                f"'{key}' makes no difference to the action of its own step, but to later ones: it is that "
                "of the frame before",
                advice,
            )


def what_was_executed_counts(trial: Acting) -> None:
    """Check that it remembers the executed actions, if it remembers actions at all, not its own."""
    if any(changes.deed.any() for changes in _changes(trial)):
        return
    advice = "take last_action, which is what was executed, with noise and clipping"
    for how, (before, after, later) in (*_noisy(trial), *_own_in_the_carry(trial)):
        if not _copied(before, after, later):
            raise Broken(
                f"the action that it returned itself ({how}) changes what it does next; last_action, what "
                "was executed, does not",
                advice,
            )
    raise NotTried("no earlier action makes a difference to what it does, but to be held")


def explore_is_heeded(trial: Acting) -> None:
    """Check that without ``explore`` nothing is drawn, unless it is random, plans, or claims
    ``stochastic``."""
    draws = trial.draws
    if True in draws:
        if draws[False] and not draws[True]:
            raise Broken("it draws without explore, and not with it", "see whether the flag is turned round")
        return
    if not draws[False]:
        raise NotTried("it never draws: an explorer around it explores")
    if claim(trial.policy, "stochastic"):
        raise NotTried("it claims to be stochastic")
    if trial.parts.planners or trial.parts.models:
        raise NotTried("it plans, and may draw for that")
    if not _has_weights(trial.policy):
        raise NotTried("it draws by nature, as a law without weights may")
    raise Broken(
        "it acts the same, drawn, with and without explore",
        "return the most likely action unless explore is True; a policy that means to be evaluated with its "
        "draws says so by the attribute stochastic = True",
    )


SEEING: tuple[Property[Any], ...] = (
    Property(frames_matter),
    Property(the_first_frame_matters, after=(frames_matter,)),
    Property(frames_act_in_their_own_step, after=(frames_matter,)),
    Property(what_was_executed_counts),
    Property(explore_is_heeded, after=(frames_matter,)),
)


# ---- helpers ------------------------------------------------------------------------------------


def _changes(trial: Acting) -> list[Changes]:
    """Return which actions change with what it is told. Raise NotTried if an exact model has shown it."""
    try:
        flown(trial)
    except NotTried:
        return list(trial.reactions.values())
    raise NotTried("an exact model has shown what it believes")


def _now_and_late(found: list[Changes]) -> tuple[int, int]:
    """Return how many actions change with the frame of their own step, and with an earlier one."""
    now = late = 0
    for changes in found:
        for step, seen in enumerate(changes.frame):
            if step:
                now, late = now + int(seen[:, step].sum()), late + int(seen[:, step + 1 :].sum())
    return now, late


def _has_weights(policy: Any) -> bool:
    return isinstance(policy, torch.nn.Module) and any(True for _ in policy.parameters())


def _noisy(trial: Acting) -> list[tuple[str, tuple[Tensor, Tensor, Tensor]]]:
    """Return how other noise of its own in one step, [ROWS, N] twice, changes the next action, [ROWS, N]."""
    if not trial.draws.get(True) or trial.draws[False]:
        return []
    script, actions, following = trial.script()[:2], [], []
    for seed in (trial.seed, trial.seed + 1):
        action, carry = trial.act(trial.policy.initial(len(script[0].first)), script[0], True, seed)
        after, _ = trial.act(carry, script[1], False, trial.seed)
        actions.append(flat(action))
        following.append(flat(after))
    return [("drawn", (actions[0], actions[1], following[1] - following[0]))]


def _own_in_the_carry(trial: Acting) -> list[tuple[str, tuple[Tensor, Tensor, Tensor]]]:
    """Return the same for a carry that holds the action returned last, changed a little in each entry."""
    script, found = trial.script()[:2], []
    low, high = (bound.clamp(-1e2, 1e2) for bound in trial.bounds)
    action, carry = trial.act(trial.policy.initial(len(script[0].first)), script[0], False, trial.seed)
    leaves, spec = tree_flatten(carry)
    usual = flat(trial.act(carry, script[1], False, trial.seed)[0])
    for number, leaf in enumerate(leaves):
        if (
            not isinstance(leaf, Tensor)
            or leaf.shape != action.shape
            or not torch.equal(flat(leaf).clamp(low, high), flat(action))  # before it was clipped, or after
        ):
            continue
        for entry in range(flat(leaf).shape[1]):
            moved = flat(leaf).clone()
            step = torch.ones(()) if isinstance(trial.space, Discrete) else NUDGE * (high - low)[entry]
            up = moved[:, entry] + step <= high[entry]
            moved[:, entry] += torch.where(up, step, -step)
            held = [*leaves[:number], moved.reshape(leaf.shape).to(leaf.dtype), *leaves[number + 1 :]]
            after = flat(trial.act(tree_unflatten(held, spec), script[1], False, trial.seed)[0])
            found.append(("kept in its carry", (flat(leaf), moved, after - usual)))
    return found


def _copied(before: Tensor, after: Tensor, later: Tensor) -> bool:
    """Return whether a change of an earlier action passes into the next one, as it is or in part, entry by
    entry: it is held, or smoothed."""
    change = after - before
    part = torch.where(change.abs() > 1e-6, later / torch.where(change.abs() > 1e-6, change, 1), 0)
    explained = (later - part * change).abs() < 1e-5
    return bool((explained & (part > -1e-4) & (part < 1 + 1e-4)).all())
