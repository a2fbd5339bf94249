"""Whether a model keeps the time rule: each step is predicted where it belongs, and from what came before."""

from __future__ import annotations

import torch
from torch import Tensor

from wmplay.check.compare import TOLERANCE, same
from wmplay.check.result import Broken, NotTried
from wmplay.check.trial import AHEAD, SEEN, UPDATES, Trial, numbers, sample

STILL = 0.2  # of the variance: where copying does better, there is little to predict
NEAR = 0.1  # of the true movement
RULE = "the time rule: action[t] leads from observation[t] to observation[t + 1], with reward[t]"


def more_than_a_copy(trial: Trial) -> None:
    """After a short fit predictions leave the last frame: a loss that is given the answer teaches to stay."""
    last, truth = trial.frames(SEEN, SEEN + 1), trial.frames(SEEN + 1, SEEN + AHEAD + 1)
    guess = trial.guess(trial.model)
    copied = {key: trial.error_of(key, last[key]) for key in guess if last[key].ndim == 3}
    moving = [key for key, error in copied.items() if error > STILL]
    if trial.errors is None or not moving:
        raise NotTried("no vector of the env changes enough: take one that moves, such as env=luxo")
    for key in moving:
        moved, meant = (float((x[key] - last[key]).square().mean()) for x in (guess, truth))
        if moved < NEAR * meant:
            raise Broken(
                f"after {UPDATES} updates on one batch what it predicts of '{key}' is nearly the last frame: "
                f"it moves by {moved:.3g}, the truth by {meant:.3g} (mean squares)",
                "see whether the loss is given what it should predict (frames, actions or rewards of later "
                "steps among its inputs), or predict something else than the loss",
            )


def no_peeking(trial: Trial) -> None:
    """What is predicted up to step t does not depend on the actions after it: by changing them, and by
    their gradient."""
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
    """After a short fit, action[t] changes what is predicted of the step that it leads to."""
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
