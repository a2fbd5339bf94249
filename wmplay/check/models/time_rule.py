"""The time rule of world models: each step is predicted at its own place, and only from what came before
it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.check.compare import TOLERANCE, same
from wmplay.check.fixtures.fitted_model import AHEAD, Trial, numbers, sample
from wmplay.check.models.oracle import ROUNDS, asked, heads_without_time, off_scale, off_time, untold
from wmplay.check.report import Broken, NotTried

MISPLACED = 0.2  # part of the entries
MOST = 12  # entries, or numbers, of actions that are tried one by one
_PLACES = "see whether decode gives each entry its own place: axes, channels, the order of keys, units"
RULE = "the time rule: action[t] leads from observation[t] to observation[t + 1], with reward[t]"


def no_peeking(trial: Trial) -> None:
    """Check that predictions up to step t do not depend on later actions.

    The actions are changed, and the gradient with respect to them is compared with zero.
    """
    model = trial.model
    advice = (
        "make the prediction of step t depend on action[: t + 1] alone (a causal mask, a loop over steps)"
    )
    usual = trial.outcome(model)
    for step in range(1, AHEAD):
        changed = trial.future.clone()
        changed[:, step:] = trial.other(changed[:, step:])
        same(
            trial.outcome(model, action=changed)[:, :step],
            usual[:, :step],
            f"changing action[{step}:] changes what is predicted before",
            advice,
        )
    if trial.discrete:
        return
    action = trial.future.clone().requires_grad_()
    predicted = numbers(model.predict(trial.believe(model), action))
    for step in range(AHEAD - 1):
        if not predicted.requires_grad:
            return
        (slope,) = torch.autograd.grad(predicted[:, step].sum(), action, retain_graph=True, allow_unused=True)
        if slope is not None and bool((slope[:, step + 1 :].abs() > TOLERANCE).any()):
            raise Broken(f"step {step} has a gradient with respect to later actions", advice)


def actions_matter(trial: Trial) -> None:
    """Check that after a short fit action[t] changes the prediction of the step that it leads to."""
    model = trial.model
    belief = trial.believe(model)

    def futures(action: Tensor) -> Tensor:
        sampled = sample(model, belief, action, trial.seed)
        return torch.cat([trial.outcome(model, belief, action), sampled], -1)

    usual = futures(trial.future)
    for step in range(AHEAD):
        changed = trial.future.clone()
        changed[:, step] = trial.other(changed[:, step])
        moved = (futures(changed) - usual).abs().amax(dim=(0, 2)) > TOLERANCE  # [H]
        if not moved[step]:
            late = ": it works one step late" if bool(moved[step + 1 : step + 2].any()) else ""
            early = ": it works one step early" if step and bool(moved[step - 1]) else ""
            raise Broken(
                f"another action[{step}] leaves the prediction of step {step}, to which it leads, as it "
                f"was{late or early}",
                f"see that each action enters before its own step is predicted, and {RULE}",
            )
    held = {name: futures(action) for name, action in _held_actions(trial)}
    for (name, one), (other, two) in combinations(held.items(), 2):
        alike = name.partition(" = ")[0] == other.partition(" = ")[0]  # values of the same part of the action
        if alike and torch.equal(one, two):
            raise Broken(
                f"{name} and {other}, held for {AHEAD} steps, lead to the same predictions to the last bit",
                "let every entry and every number of the action enter: see slices, clamps and one-hot sizes",
            )


def _held_actions(trial: Trial) -> Iterator[tuple[str, Tensor]]:
    """Yield the actions of ``future`` with an entry held at a bound, or one discrete action in all steps."""
    if isinstance(trial.action_space, Discrete):
        start = int(trial.action_space.start)
        for number in range(start, start + min(int(trial.action_space.n), MOST)):
            yield f"action = {number}", torch.full_like(trial.future, number)
        return
    for entry in range(min(trial.future.shape[-1], MOST)):
        for name, bound in zip(("low", "high"), trial.choices, strict=True):
            action = trial.future.clone()
            action[..., entry] = bound[entry]
            yield f"action[{entry}] = {name}", action


def predictions_are_on_time(trial: Trial) -> None:
    """Check that a model fitted to a world whose numbers encode their place predicts each for its own
    step."""
    oracle = asked(trial)
    told = oracle.told
    if not told:
        raise NotTried("it predicts neither observations nor rewards nor ends")
    advice = f"see which steps loss, observe and predict put together, and {RULE}"
    for (who, what), when in off_time(told).items():
        step = "t - 1" if when == "late" else "t + 1"
        raise Broken(
            f"{who} is one step {when}: its entry t tells the {what} that belongs to step {step}", advice
        )
    for kind in untold(told):
        shift = oracle.found_when_moved(kind)
        if shift is not None:
            raise Broken(
                f"predictions tell nothing of the {kind}: the loss takes it one step {shift}", advice
            )
    for kind in untold(told):
        nothing = f"after {ROUNDS[-1]} updates on a world that tells it, they tell nothing of the {kind}"
        if kind != "time":  # may be a slow learner; actions_matter checks it directly
            raise NotTried(nothing)
        raise Broken(nothing, f"see whether predict does what the loss trains, and {RULE}")


def each_head_tells_what_the_loss_knows(trial: Trial) -> None:
    """Check that each predicted key, the reward and the discount have the sign, the scale and the places of
    what the loss compares them with."""
    oracle = asked(trial)
    if off := off_scale(oracle.told, oracle.off_level):
        vague = ("reward", "discount") if oracle.heads_read_vague_frames() else ()
        for problem, advice in off_scale(oracle.told, oracle.off_level, vague) if vague else off:
            raise Broken(problem, advice)
    for kind in untold(oracle.told):
        if oracle.loss_tells(kind):
            raise Broken(
                f"predictions tell nothing of the {kind}, although the loss does",
                "let predict read actions as the loss does: their order, units, one-hot numbers",
            )
    if (other := oracle.off_the_loss()) is not None:
        raise Broken(
            other,
            "let predict read what the loss reads, in the same units, and return what the loss trains: "
            "frames, memory, scales, clamps",
        )
    if (lowest := oracle.reward_is_cut_off()) is not None:
        raise Broken(
            f"predicted rewards are cut off at {lowest:.2g}: none is lower, whatever its weights are",
            "return the head as the loss trains it, also where rewards are negative",
        )
    for who, gap in oracle.off_by_parts().items():
        if gap > TOLERANCE:
            raise Broken(
                f"{who} of the second of two steps is another than after the first alone, by {gap:.2g}",
                "predict each step's own reward and its own probability to go on, not sums or products",
            )
    for who, part in oracle.misplaced.items():
        if part > MISPLACED:
            raise Broken(f"{part:.0%} of {who} vary otherwise than the time that they should tell", _PLACES)
    for who in heads_without_time(oracle.told):
        if who == "reward" and not untold(oracle.told):
            raise Broken(
                f"after {ROUNDS[-1]} updates the reward tells nothing of the time, but frames do",
                "see whether predict returns the head that the loss trains, and from which features",
            )
        if who != "reward" and oracle.loss_should_tell(who.strip("'")):
            raise Broken(
                f"{who} tells nothing of the time: the loss knows another time's from its own, or does not "
                "compare it at all",
                f"{_PLACES}; see that its error has a weight",
            )
