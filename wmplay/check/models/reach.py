"""Properties of world models over many steps: long episodes, gradients from the last step to the first."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from wmplay.check.compare import same
from wmplay.check.fixtures.fitted_model import AHEAD, SEEN, STEPS, Trial, has_weights, numbers
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Prediction

LONG = 50  # steps
MEMORY = 4  # steps back
CUT = 0.1  # part of the true slope below which a gradient counts as cut
SMOOTH = 0.3  # part by which the slopes of a step and of its half may differ


@torch.no_grad()
def long_episodes(trial: Trial) -> None:
    """Check that episodes and plans of 50 steps are taken in whole, and to their last step."""
    model, rows = trial.model, slice(0, 2)
    turns = -(-LONG // STEPS)
    action = torch.cat([trial.segment.action[rows]] * turns, 1)[:, :LONG]
    frames = {key: value[rows] for key, value in trial.segment.observation.items()}
    frames = {key: torch.cat([value[:, :1], *[value[:, 1:]] * turns], 1) for key, value in frames.items()}
    later = {key: value[:, 1 : LONG + 1] for key, value in frames.items()}
    first = model.initial({key: value[:, 0] for key, value in frames.items()})
    advice = "let tables of positions, windows and caches slide along with the episode"

    try:
        belief = model.observe(first, action, later)
        prediction = model.predict(belief, action)
        future = numbers(prediction)
    except Exception as error:  # any error of the model's own code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise Broken(f"{LONG} steps of observe and of predict raised {text}", advice) from error
    if not future.isfinite().all():
        raise Broken(f"after {LONG} steps, {LONG} predicted ones are not all finite", advice)
    parts = first
    for part in (slice(0, 19), slice(19, 37), slice(37, LONG)):
        parts = model.observe(parts, action[:, part], {key: value[:, part] for key, value in later.items()})
    same(
        trial.outcome(model, parts, action[:, :AHEAD]),
        trial.outcome(model, belief, action[:, :AHEAD]),
        f"observing {LONG} steps in three parts leaves another belief than at once",
        advice,
    )
    changed = action.clone()
    changed[:, -1] = trial.other(changed[:, -1])
    discount = prediction.discount
    goes_on = discount is None or bool((discount[:, :-1] > 0).all(1).any())  # no action counts after an end
    if goes_on and torch.equal(numbers(model.predict(belief, changed))[:, -1], future[:, -1]):
        raise Broken(f"action[{LONG - 1}] of a plan changes nothing of what is predicted", advice)
    for back in range(1, MEMORY):
        early, late = (_remembers(trial, action[:, :steps], frames, steps - back) for steps in (SEEN, LONG))
        if early and not late:
            raise Broken(
                f"after {SEEN} steps it remembers the frame of {back} steps before, after {LONG} not", advice
            )


def _remembers(trial: Trial, action: Tensor, later: dict[str, Tensor], step: int) -> bool:
    """Return whether another action and frame ``step`` change what is predicted after all of them."""
    steps, model = action.shape[1], trial.model

    def after(action: Tensor, frames: dict[str, Tensor]) -> Tensor:
        first = model.initial({key: value[:, 0] for key, value in frames.items()})
        belief = model.observe(first, action, {key: value[:, 1 : steps + 1] for key, value in frames.items()})
        return trial.outcome(model, belief, action[:, :1])

    other = {key: value.clone() for key, value in later.items()}
    for value in other.values():
        value[:, step] = value[:, step].roll(1, 0)
    moved = action.clone()
    moved[:, step - 1] = trial.other(moved[:, step - 1])
    return not torch.equal(after(moved, other), after(action, later))


def gradients_go_through(trial: Trial) -> None:
    """Check that where the last predicted step follows the first action smoothly, so does the gradient."""
    if trial.discrete:
        raise NotTried("discrete actions have no gradient")
    if not has_weights(trial.model):
        raise NotTried("it has no weights: a simulator promises no gradient")
    model = trial.model
    with torch.no_grad():
        belief = trial.believe(model)
    low, high = trial.choices
    push = 0.01 * (high - low) * torch.where(trial.future[:, 0] > (low + high) / 2, -1, 1)

    def futures(by: float) -> Prediction:
        action = trial.future.clone()
        action[:, 0] += by * push
        future: Prediction = model.predict(belief, action)
        return future

    action = trial.future.clone().requires_grad_()
    predicted = model.predict(belief, action)
    with torch.no_grad():
        near, far = ([futures(sign * by) for sign in (1, -1)] for by in (0.5, 1.0))
    for name, last in _heads(predicted).items():
        half, whole = (last(pair[0]) - last(pair[1]) for pair in (near, far))
        slope = whole.sum(-1)  # [B], for a push of twice the length
        if not slope.norm() > 1e-3 * (1 + last(predicted).detach().norm()):
            continue
        if not (2 * half - whole).norm() < SMOOTH * whole.norm():
            continue
        value = last(predicted)
        gradient = None
        if value.requires_grad:
            (gradient,) = torch.autograd.grad(value.sum(), action, retain_graph=True, allow_unused=True)
        reached = torch.zeros(()) if gradient is None else (2 * gradient[:, 0] * push).sum(-1)
        if reached.norm() < CUT * slope.norm():
            raise Broken(
                f"{name} of step {AHEAD - 1} follows action[0], but has no gradient with respect to it",
                "let predict run without no_grad, detach() or numpy from step to step: planners and actors "
                "may climb its gradient",
            )


def _heads(prediction: Prediction) -> dict[str, Callable[[Prediction], Tensor]]:
    """Return {what a future predicts: a function to its last step, [B, N]}."""
    heads: dict[str, Callable[[Prediction], Tensor]] = {}
    if prediction.reward is not None:
        heads["the reward"] = lambda future: future.reward[:, -1:]  # type: ignore[index]
    for key in prediction.observation:
        heads[f"'{key}'"] = lambda future, key=key: future.observation[key][:, -1].flatten(1)  # type: ignore[misc]
    return heads
