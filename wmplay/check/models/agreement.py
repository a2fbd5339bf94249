"""Agreement of a model's loss with what it says after ``observe``: one belief, whether fitted or used."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from wmplay.check.fixtures.fitted_model import SEEN, Trial, numbers, pulls
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Segment

FELT = 1e-3  # part of a pull by which a change in the past must move it to count
MEMORY = 5  # steps back
MOST = 7  # entries, or numbers, of an action
NOTHING = 1e-7  # change of a prediction, in units of the largest number in it


def observe_agrees_with_the_loss(trial: Trial) -> None:
    """Check that what the loss takes from the past, observe takes as well: each action, each key."""
    whole = trial.segment.steps(0, SEEN + 1)
    usual, expected = _pull(trial, whole), _predicted(trial, whole)
    seen = {key: frames.clone() for key, frames in whole.observation.items()}
    for frames in seen.values():
        frames[:, SEEN] = frames[:, SEEN].roll(1, 0)
    elsewhere = replace(whole, observation=seen)
    for step in range(SEEN - 1, SEEN - 1 - MEMORY, -1):
        action = whole.action.clone()
        action[:, step] = trial.other(action[:, step])
        changed, both = replace(whole, action=action), replace(elsewhere, action=action)
        # a loss of unrolled steps, each from a frame of its own, is a sum in which the two do not meet
        felt = _pull(trial, both) - _pull(trial, elsewhere) - _pull(trial, changed) + usual
        if _exceeds(felt, usual, FELT) and not _exceeds(
            _predicted(trial, changed) - expected, expected, NOTHING
        ):
            raise Broken(f"another action[{step}] {_UNHEARD}", _ONE_BELIEF)
    for key, frames in seen.items():
        changed = replace(whole, observation={**whole.observation, key: frames})
        felt = _pull(trial, changed) - usual
        if _exceeds(felt, usual, FELT) and not _exceeds(
            _predicted(trial, changed) - expected, expected, NOTHING
        ):
            raise Broken(f"another '{key}' in frame {SEEN} {_UNHEARD}", _ONE_BELIEF)


def predict_agrees_with_the_loss(trial: Trial) -> None:
    """Check that predict tells all actions apart that the loss tells apart: in each entry, over its range."""
    row = trial.segment.steps(0, SEEN + 1).rows(slice(0, 1))
    action, names = _levels(trial, row.action[0, SEEN])
    count = len(action)
    whole = Segment(
        {key: value.expand(count, *value.shape[1:]).clone() for key, value in row.observation.items()},
        torch.cat([row.action[:, :SEEN].expand(count, SEEN, *row.action.shape[2:]), action.unsqueeze(1)], 1),
        row.reward.expand(count, -1).clone(),
        row.terminated.expand(count, -1),
        row.mask.expand(count, -1),
        None if row.first is None else row.first.expand(count),
    )
    pull, said = _pull(trial, whole), _predicted(trial, whole)
    for one, two, name in names:
        felt, told = pull[one] - pull[two], said[one] - said[two]
        if _exceeds(felt, pull, FELT) and not _exceeds(told, said, NOTHING):
            raise Broken(
                f"{name} are the same to predict, but not to the loss",
                "let predict encode actions as the loss does: units, clipping, one-hot numbers, all entries",
            )


@torch.no_grad()
def predict_remembers_as_observe_does(trial: Trial) -> None:
    """Check that a part of the belief which observe makes without the last frame is the same after predict.

    Parts that make no difference to what is predicted then do not count.
    """
    model, belief, now = trial.model, trial.believe(trial.model), slice(SEEN, SEEN + 1)
    action, frames = trial.segment.action[:, now], trial.frames(SEEN + 1, SEEN + 2)
    others = {key: value.roll(1, 0) for key, value in frames.items()}
    seen, elsewhere = (tree_leaves(model.observe(belief, action, each)) for each in (frames, others))
    after, form = tree_flatten(model.predict(belief, action).belief)
    if [leaf.shape for leaf in after] != [leaf.shape for leaf in seen]:
        raise NotTried("predict returns a belief of another form than observe")
    usual = trial.outcome(model, tree_unflatten(after, form))
    for number, (one, two, said) in enumerate(zip(seen, elsewhere, after, strict=True)):
        made_without = bool(one.numel()) and torch.equal(one, two)
        if not made_without or not _exceeds(one.double() - said.double(), one.double(), FELT):
            continue
        mended = tree_unflatten([*after[:number], one, *after[number + 1 :]], form)
        if _exceeds(trial.outcome(model, mended) - usual, usual, FELT):
            raise Broken(
                f"part {number} of the belief, of shape {list(one.shape)}, is another after predict than "
                "after observe, which makes it of the same past and action",
                "let predict carry the memory on from step to step as observe and the loss do",
            )


def _levels(trial: Trial, usual: Tensor) -> tuple[Tensor, list[tuple[int, int, str]]]:
    """Return actions [R, A], or [R] int64, and pairs of them that differ in a single entry, with a name."""
    low, high = trial.choices
    if trial.discrete:
        numbers = torch.arange(int(low), min(int(high), int(low) + MOST) + 1)
        pairs = [
            (i, i + 1, f"actions {int(numbers[i])} and {int(numbers[i + 1])}")
            for i in range(len(numbers) - 1)
        ]
        return numbers, pairs
    rows, pairs = [], []
    for entry in range(min(len(usual), MOST)):
        for part in (0.0, 0.5, 1.0):
            rows.append(usual.clone())
            rows[-1][entry] = low[entry] + part * (high[entry] - low[entry])
        last = len(rows) - 1
        for one, two in ((last - 2, last - 1), (last - 1, last)):
            values = " and ".join(f"{float(rows[i][entry]):.2g}" for i in (one, two))
            pairs.append((one, two, f"the values {values} of action[{SEEN}, {entry}]"))
    return torch.stack(rows), pairs


def _exceeds(difference: Tensor, unit: Tensor, part: float) -> bool:
    return bool(difference.abs().max() > part * (NOTHING + unit.abs().max()))


_UNHEARD = f"changes what the loss expects of step {SEEN}, but not what predict says of it after observe"
_ONE_BELIEF = "let observe take the same steps as the loss: each frame with the action that led to it"


def _predicted(trial: Trial, segment: Segment) -> Tensor:
    """Return what is predicted of the segment's last step after all others, [B, N]."""
    seen = copy.copy(trial)
    seen.segment = segment
    with torch.no_grad():
        future = trial.model.predict(seen.believe(trial.model), segment.action[:, SEEN : SEEN + 1])
    return numbers(future)[:, 0]


def _pull(trial: Trial, segment: Segment) -> Tensor:
    """Return the gradient of the loss with respect to the last reward and the last vectors, [B, N]."""
    reward, vectors = pulls(trial.model, segment, trial.seed)
    last = torch.cat([reward[:, -1:], *(pull[:, -1].flatten(1) for pull in vectors.values())], 1)
    if not bool(last.any()):
        raise NotTried("its loss has no gradient with respect to rewards or vectors, by which this is tried")
    return last
