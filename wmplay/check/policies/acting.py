"""Properties of all that acts, policies and explorers, one function each.

It acts on recorded episodes, and receives the recorded actions, not its own, as the executed ones.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.check.compare import global_generators_at_rest, same, shown
from wmplay.check.fixtures.fitted_model import ROWS
from wmplay.check.fixtures.scripts import ANEW, BEFORE, Acting, exchanged, flat, pick
from wmplay.check.report import Broken, NotTried, Property
from wmplay.config.kinds import KINDS
from wmplay.contracts import missing_methods

MANY = 97  # copies of a row, enough to see rare draws
CONSTANT = 1e-5  # between what is added in two steps
ATTEMPTS = 11  # seeds, of plays of whole scripts
TRIES = 23  # seeds to try, so that equal draws of all rows are no accident


# ---- the properties ------------------------------------------------------------------------------


def shapes_and_types(trial: Acting) -> None:
    """Check that actions have the contract's shape and dtype and are finite, and carries are tensors, batch
    first."""
    missing = missing_methods(trial.policy, KINDS["policy"].methods)
    if missing:
        raise Broken(f"it has no {missing[0]}()", "see Policy in wmplay/contracts")
    discrete = isinstance(trial.space, Discrete)
    shape = (ROWS,) if discrete else (ROWS, *(trial.space.shape or ()))
    for explore in (False, True):
        carry = trial.policy.initial(ROWS)
        for step, scene in enumerate(trial.script()):
            action, carry = trial.act(carry, scene, explore, trial.seed_of(step))
            right_type = action.dtype == torch.int64 if discrete else action.is_floating_point()
            if tuple(action.shape) != shape or not right_type:
                kind = "an int64" if discrete else "a float"
                raise Broken(f"the action is {shown(action)}", f"return {kind} tensor {list(shape)}")
            if not action.isfinite().all():
                raise Broken(
                    f"an action is not finite in step {step}", "look for a log or a division of 0 in it"
                )
            for leaf in tree_leaves(carry):
                if leaf is not None and not (isinstance(leaf, Tensor) and leaf.shape[:1] == (ROWS,)):
                    raise Broken(
                        f"the carry of {ROWS} rows holds {shown(leaf)}",
                        f"keep only tensors with the batch first ([{ROWS}, ...]) in it, in tuples or dicts: "
                        "rows begin their episodes at different times",
                    )


def acting_leaves_it_as_it_is(trial: Acting) -> None:
    """Check that acting changes no weight and no buffer."""
    before = _state(trial.policy)
    trial.play(trial.script(), explore=list(trial.usual)[-1])
    changed = [name for name, x in _state(trial.policy).items() if not torch.equal(x, before[name])]
    if changed:
        raise Broken(
            f"act changes '{changed[0]}' of the policy", "change weights and statistics in improve only"
        )


def bounds_are_kept(trial: Acting) -> None:
    """Check that actions are within the space: clipping at execution would change them silently."""
    low, high = trial.bounds
    for explore in trial.usual:
        many = MANY if explore else 1  # a planner is slow, and most likely acts the same with explore
        rows = torch.arange(ROWS).repeat(many)
        start = pick(trial.script()[:1], rows)
        actions = torch.cat([trial.usual[explore].flatten(0, 1), trial.play(start, explore=explore)[:, 0]])
        span = (high - low).nan_to_num(posinf=0.0)
        over = (actions - high - 1e-5 * span).clamp(min=0) + (low - 1e-5 * span - actions).clamp(min=0)
        if over.any():
            row, entry = (int(index) for index in (over > 0).nonzero()[0])
            raise Broken(
                f"entry {entry} of an action is {float(actions[row, entry]):.4g}, the space is "
                f"{float(low[entry]):.4g} to {float(high[entry]):.4g} ({mode_of(explore)})",
                "clamp it, or squash it into the space, before it is returned",
            )


def batch_invariance(trial: Acting) -> None:
    """Check that the action of a row depends on that row alone."""
    advice = (
        "let no operation mix the rows: statistics over dim 0, view() that swaps axes, BatchNorm in train, "
        "noise that was drawn once for the rows of a batch"
    )
    for explore, usual in trial.usual.items():
        for changed in (ANEW, ~ANEW):
            got = trial.play(exchanged(trial.script(), changed), explore=explore)
            others = f"what rows {rows_of(changed)} see changes what another does"
            same(_only(got, ~changed), _only(usual, ~changed), f"{others} ({mode_of(explore)})", advice)
        if trial.draws[explore]:
            continue  # alone, a row draws other numbers
        for row in range(ROWS):
            alone = trial.play(pick(trial.script(), slice(row, row + 1)), explore=explore)
            problem = f"row {row} alone acts differently than among {ROWS} rows ({mode_of(explore)})"
            same(alone, usual[row : row + 1], problem, advice)


def rows_draw_for_themselves(trial: Acting) -> None:
    """Check that rows with equal observations draw different actions, so that a batch explores more than one
    env."""
    drawing = [explore for explore, draws in trial.draws.items() if draws]
    if not drawing:
        raise NotTried("it draws nothing")
    script = pick(trial.script(), torch.zeros(ROWS, dtype=torch.long))
    plays = []
    for attempt in range(TRIES):  # rare draws of discrete actions may be equal by chance
        plays.append(trial.play(script, explore=drawing[-1], seed=trial.seed + attempt))
        if not torch.equal(plays[-1], plays[-1][:1].expand_as(plays[-1])):
            return
    if all(torch.equal(each, plays[0]) for each in plays):  # a search that finds the best action every time
        raise NotTried("no draw changes what rows with these observations do")
    raise Broken(
        f"{ROWS} rows with the same observations always draw the same action ({mode_of(drawing[-1])})",
        "draw numbers of the batch's shape, [B, ...], not one for all rows",
    )


def draws_go_on(trial: Acting) -> None:
    """Check that calls go on in the generator that they are given: in the same place, not always the same
    draw."""
    advice = "draw with generator=generator: no seed, no generator and no table of its own"
    explore = list(trial.usual)[-1]
    rows = torch.arange(ROWS).repeat(MANY // ROWS if explore else 1)  # a planner is slow
    scene = pick(trial.script()[:1], rows)[0]
    generator, actions = torch.Generator().manual_seed(trial.seed), list[Tensor]()
    for _ in range(TRIES):  # draws may be rare
        begin = trial.policy.initial(len(rows))
        with torch.no_grad():
            action, _ = trial.policy.act(begin, *scene, explore=explore, generator=generator)
        actions.append(flat(action))
        if not trial.draws[explore] or not torch.equal(actions[-1], actions[0]):
            break
    if generator.initial_seed() != trial.seed:
        raise Broken(f"act gives the generator a seed ({mode_of(explore)})", advice)
    if trial.draws[explore]:
        if all(torch.equal(action, actions[0]) for action in actions[1:]):
            other = trial.play(trial.script(), explore=explore, seed=trial.seed + 1)
            if torch.equal(trial.usual[explore][:, 0], other[:, 0]):
                raise NotTried("it draws nothing in the first step of an episode")
            raise Broken(f"each call draws the same numbers ({mode_of(explore)})", advice)
        return
    if explore and not isinstance(trial.space, Discrete):
        low, high = trial.bounds
        inside = ((trial.usual[True] > low) & (trial.usual[True] < high)).all(-1)
        added = (trial.usual[True] - trial.usual[False])[inside]
        if len(added) > ROWS and float((added - added[0]).abs().max()) < CONSTANT:
            raise Broken("exploring adds the same numbers in every step, and draws nothing", advice)
    raise NotTried("it draws nothing")


def episodes_are_apart(trial: Acting) -> None:
    """Check that a row that begins an episode acts as after ``initial``."""
    advice = "where first is True, begin that row's memory anew: torch.where(first, beginning, carried)"
    for explore in trial.usual:
        one, other = (
            trial.play(trial.script(past=past, anew=ANEW), explore=explore)[ANEW, BEFORE:] for past in (0, 1)
        )
        problem = "an episode's actions depend on the episode before it"
        same(one, other, f"{problem} ({mode_of(explore)})", advice)
        script = trial.script(anew=torch.ones(ROWS, dtype=torch.bool))
        later = trial.play(script, explore=explore)[:, BEFORE:]
        fresh = trial.play(script[BEFORE:], explore=explore, start=BEFORE)
        problem = "after an episode it acts differently than after initial()"
        same(later, fresh, f"{problem} ({mode_of(explore)})", advice)


def memory_is_kept(trial: Acting) -> None:
    """Check that a row remembers its episode while others begin a new one."""
    matters = False
    for explore, usual in trial.usual.items():
        remembering, kept = [], False
        for attempt in range(ATTEMPTS if trial.draws[explore] else 1):  # chance may hide a difference
            seed = trial.seed + attempt
            same_past, other_past, one, other = (
                trial.play(trial.script(past=past, anew=anew), explore=explore, seed=seed)
                for anew in (None, ANEW)
                for past in (0, 1)
            )
            remembering += rows_of((same_past != other_past)[:, BEFORE:].flatten(1).any(1) & ~ANEW)
            kept = kept or bool(((one != other)[:, BEFORE:].flatten(1).any(1) & ~ANEW).any())
            if kept:
                break
        matters = matters or kept or bool(remembering)
        if len(remembering) >= (2 if trial.draws[explore] else 1) and not kept:
            raise Broken(
                f"when rows {rows_of(ANEW)} begin a new episode, row {remembering[0]} forgets its own "
                f"({mode_of(explore)})",
                "treat first row by row: torch.where(first, beginning, carried), never `if first.any()`",
            )
        if not trial.draws[explore]:
            problem = (
                f"it acts differently because rows {rows_of(ANEW)} begin an episode ({mode_of(explore)})"
            )
            same(_only(one, ~ANEW), _only(usual, ~ANEW), problem, "treat first row by row")
    if not matters:
        raise NotTried("what came before makes no difference to what it does")


def isolation(trial: Acting) -> None:
    """Check that calls change neither their arguments nor later answers."""
    fresh = "keep nothing in the policy between calls: what is remembered belongs into the carry"
    aside = pick(trial.script(past=2), slice(0, 3))  # other envs, in which it acts in between
    for explore, usual in trial.usual.items():
        carry, other = trial.policy.initial(ROWS), trial.policy.initial(3)
        actions = []
        for step, scene in enumerate(trial.script()):
            given = (carry, *scene)
            kept = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, given)
            action, following = trial.act(carry, scene, explore, trial.seed_of(step))
            _unchanged(kept, given)
            _, other = trial.act(other, aside[step], explore, trial.seed_of(step))
            again, carry = trial.act(carry, scene, explore, trial.seed_of(step))
            problem = f"step {step} of the same carry is another after a call in between ({mode_of(explore)})"
            same(flat(again).unsqueeze(1), flat(action).unsqueeze(1), problem, fresh)
            carry = following
            actions.append(flat(action))
        problem = f"it acts differently while it acts in other envs, too ({mode_of(explore)})"
        same(torch.stack(actions, 1), usual, problem, fresh)


def same_seed_same_numbers(trial: Acting) -> None:
    """Check that all draws come from the given generator."""
    advice = "draw with generator=generator, and with nothing else"
    for explore, usual in trial.usual.items():
        with global_generators_at_rest("act", advice):
            again = trial.play(trial.script(), explore=explore)
        same(again, usual, f"the same generator gives two actions ({mode_of(explore)})", advice, tolerance=0)


ACTING: tuple[Property[Any], ...] = (
    Property(shapes_and_types, decisive=True),
    Property(acting_leaves_it_as_it_is, decisive=True),
    Property(same_seed_same_numbers, decisive=True),
    Property(bounds_are_kept),
    Property(batch_invariance),
    Property(rows_draw_for_themselves),
    Property(draws_go_on, after=(rows_draw_for_themselves,)),
    Property(isolation),
    Property(episodes_are_apart, after=(batch_invariance,)),
    Property(memory_is_kept, after=(batch_invariance,)),
)


# ---- helpers ------------------------------------------------------------------------------------


def _only(actions: Tensor, rows: Tensor) -> Tensor:
    """Return actions [B, T, N] with zeros in all other rows, so that rows keep their numbers."""
    return torch.where(rows.reshape(-1, 1, 1), actions, 0.0)


def mode_of(explore: bool) -> str:
    """Return the name of a mode, for messages."""
    return "exploring" if explore else "not exploring"


def rows_of(mask: Tensor) -> list[int]:
    """Return the rows that a mask marks."""
    return [int(row) for row in mask.nonzero().squeeze(1)]


def _state(policy: Any) -> dict[str, Tensor]:
    if not isinstance(policy, torch.nn.Module):
        return {}
    return {name: x.clone() for name, x in [*policy.named_parameters(), *policy.named_buffers()]}


def _unchanged(before: Any, after: Any) -> None:
    names = ("carry", "observation", "last_action", "first")
    for name, was, now in zip(names, before, after, strict=True):
        one, other = tree_leaves(was), tree_leaves(now)
        equal = all(_as_it_was(x, y) for x, y in zip(one, other, strict=False) if isinstance(x, Tensor))
        if len(one) != len(other) or not equal:
            raise Broken(f"act changes the {name} that it is given", "change nothing in place")


def _as_it_was(before: Tensor, now: Tensor) -> bool:
    """Return whether two tensors are equal; a carry may mark what is missing by NaN."""
    return before.shape == now.shape and bool(((before == now) | (before.isnan() & now.isnan())).all())
