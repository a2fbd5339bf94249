"""Properties of policies, one function each; those of policies that learn are in ``learners``.

A policy acts on recorded episodes, and receives the recorded actions, not its own, as the executed ones.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.check.compare import global_generators_at_rest, same, shown
from wmplay.check.fixtures.fitted_model import ROWS
from wmplay.check.fixtures.scripts import ANEW, BEFORE, Acting, exchanged, flat, pick
from wmplay.check.learners import LEARNING, Practised
from wmplay.check.report import Broken, NotTried, Property, Report, examine
from wmplay.config.kinds import KINDS
from wmplay.contracts import StoreView, WorldModel, missing_methods

MANY = 97  # copies of a row, enough to see rare draws
TRIES = 23  # seeds to try, so that equal draws of all rows are no accident


def check_policy(
    policy: Any,
    env: gymnasium.Env[Any, Any],
    *,
    model: WorldModel | None = None,
    store: StoreView | None = None,
    seed: int = 0,
    verbose: bool = False,
    quick: bool = False,
) -> Report:
    """Check all properties of a policy.

    Args:
        policy: on the CPU. A policy that learns is copied, and not changed.
        env: a single env, with the observations and actions that the policy is made for. A policy that learns
            practises in an artificial world of these observations and actions.
        model, store: for a policy that learns from them (see ``Practice``).
        seed: of all random draws. The caller's random state is not changed.
        verbose: whether to print each finding at once.
        quick: whether to leave out slow properties.

    Raises:
        SpaceError: if the env's episodes are too short.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if missing_methods(policy, ("improve",)):
            return examine(type(policy).__name__, ACTING, Acting(policy, env, seed), verbose, quick)
        learner = Practised(policy, env, seed, model, store)
        return examine(type(policy).__name__, (*ACTING, *LEARNING), learner, verbose, quick)


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
                f"{float(low[entry]):.4g} to {float(high[entry]):.4g} ({_mode(explore)})",
                "clamp it, or squash it into the space, before it is returned",
            )


def batch_invariance(trial: Acting) -> None:
    """Check that the action of a row depends on that row alone."""
    advice = (
        "let no operation mix the rows: statistics over dim 0, view() that swaps axes, BatchNorm in train"
    )
    for explore, usual in trial.usual.items():
        for changed in (ANEW, ~ANEW):
            got = trial.play(exchanged(trial.script(), changed), explore=explore)
            others = f"what rows {_rows(changed)} see changes what another does"
            same(_only(got, ~changed), _only(usual, ~changed), f"{others} ({_mode(explore)})", advice)
        if trial.draws[explore]:
            continue  # alone, a row draws other numbers
        for row in range(ROWS):
            alone = trial.play(pick(trial.script(), slice(row, row + 1)), explore=explore)
            problem = f"row {row} alone acts differently than among {ROWS} rows ({_mode(explore)})"
            same(alone, usual[row : row + 1], problem, advice)


def rows_draw_for_themselves(trial: Acting) -> None:
    """Check that rows with equal observations draw different actions, so that a batch explores more than one
    env."""
    drawing = [explore for explore, draws in trial.draws.items() if draws]
    if not drawing:
        raise NotTried("it draws nothing")
    script = pick(trial.script(), torch.zeros(ROWS, dtype=torch.long))
    for attempt in range(TRIES):  # rare draws of discrete actions may be equal by chance
        actions = trial.play(script, explore=drawing[-1], seed=trial.seed + attempt)
        if not torch.equal(actions, actions[:1].expand_as(actions)):
            return
    raise Broken(
        f"{ROWS} rows with the same observations always draw the same action ({_mode(drawing[-1])})",
        "draw numbers of the batch's shape, [B, ...], not one for all rows",
    )


def episodes_are_apart(trial: Acting) -> None:
    """Check that a row that begins an episode acts as after ``initial``."""
    advice = "where first is True, begin that row's memory anew: torch.where(first, beginning, carried)"
    for explore in trial.usual:
        one, other = (
            trial.play(trial.script(past=past, anew=ANEW), explore=explore)[ANEW, BEFORE:] for past in (0, 1)
        )
        problem = "an episode's actions depend on the episode before it"
        same(one, other, f"{problem} ({_mode(explore)})", advice)
        script = trial.script(anew=torch.ones(ROWS, dtype=torch.bool))
        later = trial.play(script, explore=explore)[:, BEFORE:]
        fresh = trial.play(script[BEFORE:], explore=explore, start=BEFORE)
        problem = "after an episode it acts differently than after initial()"
        same(later, fresh, f"{problem} ({_mode(explore)})", advice)


def memory_is_kept(trial: Acting) -> None:
    """Check that a row remembers its episode while others begin a new one."""
    matters = False
    for explore, usual in trial.usual.items():
        other = trial.play(trial.script(past=1), explore=explore)
        remembering = (other != usual)[:, BEFORE:].flatten(1).any(1) & ~ANEW
        if not remembering.any():
            continue
        matters = True
        one, other = (trial.play(trial.script(past=past, anew=ANEW), explore=explore) for past in (0, 1))
        kept = (one != other)[:, BEFORE:].flatten(1).any(1)
        if not (kept & remembering).any():
            raise Broken(
                f"when rows {_rows(ANEW)} begin a new episode, row {_rows(remembering)[0]} forgets its own "
                f"({_mode(explore)})",
                "treat first row by row: torch.where(first, beginning, carried), never `if first.any()`",
            )
        if not trial.draws[explore]:
            problem = f"it acts differently because rows {_rows(ANEW)} begin a new episode ({_mode(explore)})"
            same(_only(one, ~ANEW), _only(usual, ~ANEW), problem, "treat first row by row")
    if not matters:
        raise NotTried("what came before makes no difference to what it does")


def isolation(trial: Acting) -> None:
    """Check that calls change neither their arguments nor the policy."""
    fresh = "keep nothing in the policy between calls: what is remembered belongs into the carry"
    aside = pick(trial.script(past=2), slice(0, 3))  # other envs, in which it acts in between
    before = _state(trial.policy)
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
            problem = f"step {step} of the same carry is another after a call in between ({_mode(explore)})"
            same(flat(again).unsqueeze(1), flat(action).unsqueeze(1), problem, fresh)
            carry = following
            actions.append(flat(action))
        problem = f"it acts differently while it acts in other envs, too ({_mode(explore)})"
        same(torch.stack(actions, 1), usual, problem, fresh)
    changed = [name for name, value in _state(trial.policy).items() if not torch.equal(value, before[name])]
    if changed:
        raise Broken(
            f"act changes '{changed[0]}' of the policy", "change weights and statistics in improve only"
        )


def same_seed_same_numbers(trial: Acting) -> None:
    """Check that all draws come from the given generator."""
    advice = "draw with generator=generator, and with nothing else"
    for explore, usual in trial.usual.items():
        with global_generators_at_rest("act", advice):
            again = trial.play(trial.script(), explore=explore)
        same(again, usual, f"the same generator gives two actions ({_mode(explore)})", advice, tolerance=0)


ACTING: tuple[Property[Any], ...] = (
    Property(shapes_and_types),
    Property(bounds_are_kept),
    Property(batch_invariance),
    Property(rows_draw_for_themselves),
    Property(episodes_are_apart),
    Property(memory_is_kept),
    Property(isolation),
    Property(same_seed_same_numbers),
)


# ---- helpers ------------------------------------------------------------------------------------


def _only(actions: Tensor, rows: Tensor) -> Tensor:
    """Return actions [B, T, N] with zeros in all other rows, so that rows keep their numbers."""
    return torch.where(rows.reshape(-1, 1, 1), actions, 0.0)


def _mode(explore: bool) -> str:
    return "exploring" if explore else "not exploring"


def _rows(mask: Tensor) -> list[int]:
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
