"""Properties of what a policy heeds: the frames, the executed actions and ``explore``; one function each.

A policy may leave each of them alone. What is tried is what cannot be meant: weights that no frame reaches,
an action of its own remembered in place of the executed one.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from wmplay.check.compare import claim
from wmplay.check.fixtures.fitted_model import ROWS, has_weights
from wmplay.check.fixtures.scripts import Acting, Changes, flat
from wmplay.check.policies.planning import flown
from wmplay.check.report import Broken, NotTried, Property

MOST = 5  # entries of a vector that are tried one by one
FEW = 6  # changed actions that are not there by chance
NUDGES = (0.1, 0.7)  # of the range of actions
STIR = 3.0  # standard deviation of what is added to a carry


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
        if has_weights(trial.policy)
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
    for what, key, part in _parts(trial):
        now, late = _now_and_late(trial.reactions_to(key, part))
        if not now and late >= FEW:
            raise Broken(
                f"{what} makes no difference to the action of its own step, but to later ones: it is that "
                "of the frame before",
                advice,
            )


def what_was_executed_counts(trial: Acting) -> None:
    """Check that it remembers the executed actions, if it remembers actions at all, not its own.

    It may hold its own action, or smooth its actions, unless what it keeps lacks its own noise or clipping.
    """
    if any(changes.deed.any() for changes in _changes(trial)):
        return
    advice = "take last_action, which is what was executed, with noise and clipping"
    for own in (*_noisy(trial), *_own_in_the_carry(trial)):
        if not _copied(own) or (own.meant and not _held(own, trial.bounds)):
            raise Broken(
                f"the action that it returned itself ({own.how}) changes what it does next; last_action, "
                "what was executed, does not",
                advice,
            )
    raise NotTried("no earlier action makes a difference to what it does, but to be held")


def explore_is_heeded(trial: Acting) -> None:
    """Check that without ``explore`` nothing is drawn, unless it is random, plans, or claims
    ``stochastic``, and that exploring moves entries of an action apart."""
    draws = trial.draws
    if True in draws:
        if draws[False] and not draws[True]:
            raise Broken("it draws without explore, and not with it", "see whether the flag is turned round")
        _expect_noise_for_each_entry(trial)
        return
    if not draws[False]:
        raise NotTried("it never draws: an explorer around it explores")
    if claim(trial.policy, "stochastic"):
        raise NotTried("it claims to be stochastic")
    if trial.parts.planners or trial.parts.models:
        raise NotTried("it plans, and may draw for that")
    own: dict[str, Any] = claim(trial.policy, "__dict__", {})
    settings = [x for x in own if ("explor" in x or "epsilon" in x) and isinstance(own[x], int | float)]
    if not has_weights(trial.policy) and not settings:
        raise NotTried("it draws by nature, as a law without weights may")
    raise Broken(
        "it acts the same, drawn, with and without explore"
        + (f", by its setting '{settings[0]}'" if settings else ""),
        "return the most likely action unless explore is True; a policy that means to be evaluated with its "
        "draws says so by the attribute stochastic = True",
    )


def memory_is_used(trial: Acting) -> None:
    """Check that a carry that counts for what it does changes, and that one that tells of frames counts."""
    if trial.parts.models or not _floats(trial.policy.initial(ROWS)):
        raise NotTried("it carries no numbers, or beliefs of a model")
    script, draws = trial.script()[:2], torch.Generator().manual_seed(trial.seed)
    moves = tells = matters = False
    for explore in trial.usual:
        begin = trial.policy.initial(ROWS)
        _, carry = trial.act(begin, script[0], explore, trial.seed)
        _, other = trial.act(begin, trial.script(past=1)[0], explore, trial.seed)
        _, again = trial.act(carry, script[1], explore, trial.seed)
        usual = flat(trial.act(carry, script[1], explore, trial.seed)[0])
        moves = moves or _differ(begin, carry) or _differ(carry, again)
        tells = tells or _differ(carry, other)

        def drawn(x: Any) -> Any:
            floats = isinstance(x, Tensor) and x.is_floating_point()
            return x + STIR * torch.randn(x.shape, generator=draws, dtype=x.dtype) if floats else x

        for changed in (*(tree_map(drawn, carry) for _ in range(FEW)), other, again):
            action = flat(trial.act(changed, script[1], explore, trial.seed)[0])
            matters = matters or not torch.equal(action, usual)
    if matters and not moves:
        raise Broken(
            "what it carries counts for what it does, but never changes: it remembers nothing",
            "return the new memory: (action, carry)",
        )
    if tells and not matters and has_weights(trial.policy):
        raise Broken(
            "it carries what it saw, but nothing of that makes a difference to what it does next",
            "begin the memory anew where first is True only, and let the carry that act is given enter it",
        )


SEEING: tuple[Property[Any], ...] = (
    Property(frames_matter),
    Property(the_first_frame_matters, after=(frames_matter,)),
    Property(frames_act_in_their_own_step, after=(frames_matter,)),
    Property(memory_is_used, after=(frames_matter,)),
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


def _parts(trial: Acting) -> Iterator[tuple[str, str, Tensor | None]]:
    """Yield (name, key, part) of the keys of a frame, if it has more than one, and of a vector's entries."""
    for key, space in trial.spaces.items():
        if len(trial.spaces) > 1:
            yield f"'{key}'", key, None
        size = space.shape[0] if len(space.shape) == 1 else 1
        for entry in range(min(size, MOST) if size > 1 else 0):
            yield f"entry {entry} of '{key}'", key, torch.arange(size) == entry


def _now_and_late(found: list[Changes]) -> tuple[int, int]:
    """Return how many actions change with the frame of their own step, and with an earlier one."""
    now = late = 0
    for changes in found:
        for step, seen in enumerate(changes.frame):
            if step:
                now, late = now + int(seen[:, step].sum()), late + int(seen[:, step + 1 :].sum())
    return now, late


def _expect_noise_for_each_entry(trial: Acting) -> None:
    """Raise Broken if exploring moves all entries of continuous actions by the same number."""
    low, high = trial.bounds
    if isinstance(trial.space, Discrete) or len(low) < 2 or trial.draws[False]:
        return
    inside = torch.stack([((x > low) & (x < high)).all(-1) for x in trial.usual.values()]).all(0)
    added = (trial.usual[True] - trial.usual[False])[inside]
    if len(added) > 1 and bool(added.any(1).all()) and bool(((added - added[:, :1]).abs() < 1e-6).all()):
        raise Broken(
            "exploring moves all entries of an action by the same number",
            "draw noise of the action's whole shape, [B, A]",
        )


class _Own(NamedTuple):
    """An action of its own, [ROWS, N] twice, and what the change does to the next one."""

    how: str
    before: Tensor
    after: Tensor
    usual: Tensor  # [ROWS, N], the next action
    changed: Tensor  # [ROWS, N], the next action after the change
    meant: bool = False  # True if it is kept without the noise, or the clipping, of what was returned


def _noisy(trial: Acting) -> list[_Own]:
    """Return how other noise of its own in one step changes the next action."""
    if not trial.draws.get(True) or trial.draws[False]:
        return []
    script, actions, following = trial.script()[:2], [], []
    for seed in (trial.seed, trial.seed + 1):
        action, carry = trial.act(trial.policy.initial(len(script[0].first)), script[0], True, seed)
        after, _ = trial.act(carry, script[1], False, trial.seed)
        actions.append(flat(action))
        following.append(flat(after))
    return [_Own("drawn", actions[0], actions[1], following[0], following[1])]


def _own_in_the_carry(trial: Acting) -> list[_Own]:
    """Return the same for a carry that holds the action returned last, changed a little in each entry."""
    script, found = trial.script()[:2], []
    low, high = (bound.clamp(-1e2, 1e2) for bound in trial.bounds)
    begin = trial.policy.initial(len(script[0].first))
    action, carry = trial.act(begin, script[0], False, trial.seed)
    noisy, explored = trial.act(begin, script[0], True, trial.seed)
    leaves, spec = tree_flatten(carry)
    usual = flat(trial.act(carry, script[1], False, trial.seed)[0])
    for number, (leaf, other) in enumerate(zip(leaves, tree_flatten(explored)[0], strict=False)):
        if (
            not isinstance(leaf, Tensor)
            or leaf.shape != action.shape
            or not torch.equal(flat(leaf).clamp(low, high), flat(action))  # before it was clipped, or after
        ):
            continue
        meant = not torch.equal(leaf, action) or not torch.equal(other, noisy)
        for entry, part in itertools.product(range(flat(leaf).shape[1]), NUDGES):
            moved = flat(leaf).clone()
            step = torch.ones(()) if isinstance(trial.space, Discrete) else part * (high - low)[entry]
            up = moved[:, entry] + step <= high[entry]
            moved[:, entry] = (moved[:, entry] + torch.where(up, step, -step)).clamp(low[entry], high[entry])
            held = [*leaves[:number], moved.reshape(leaf.shape).to(leaf.dtype), *leaves[number + 1 :]]
            after = flat(trial.act(tree_unflatten(held, spec), script[1], False, trial.seed)[0])
            found.append(_Own("kept in its carry", flat(leaf), moved, usual, after, meant))
    return found


def _copied(own: _Own) -> bool:
    """Return whether a change of an earlier action passes into the next one, as it is or in part, entry by
    entry: it is held, or smoothed."""
    change, later = own.after - own.before, own.changed - own.usual
    part = torch.where(change.abs() > 1e-6, later / torch.where(change.abs() > 1e-6, change, 1), 0)
    explained = (later - part * change).abs() < 1e-5
    return bool((explained & (part > -1e-4) & (part < 1 + 1e-4)).all())


def _held(own: _Own, bounds: tuple[Tensor, Tensor]) -> bool:
    """Return whether the next action is the earlier one itself, clipped or not, where it changes with it."""
    kept = own.changed - own.after.clamp(*bounds)
    return bool(((own.changed == own.usual) | (kept.abs() < 1e-5)).all())


def _floats(carry: Any) -> list[Tensor]:
    return [x for x in tree_leaves(carry) if isinstance(x, Tensor) and x.is_floating_point() and x.numel()]


def _differ(one: Any, two: Any) -> bool:
    """Return whether the floats of two carries differ."""
    pairs = zip(_floats(one), _floats(two), strict=False)
    return any(not torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)
