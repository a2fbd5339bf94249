"""Properties of a world model's loss: what it takes, counts and sees, in evaluation and in training mode."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import torch
from torch.utils._pytree import tree_leaves

from wmplay.check.compare import TOLERANCE, listed, same
from wmplay.check.fixtures.fitted_model import ROWS, SEEN, STEPS, Trial, fitted_stages, padded, scrambled
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Segment, Valued, capabilities

MODES = {False: "evaluation", True: "training"}
MIDDLE = STEPS // 2


def the_loss_is_a_finite_scalar(trial: Trial) -> None:
    """Check that the loss is a finite scalar that depends on the weights."""
    fitted_stages(trial.model)
    if trial.fit_failed is not None:
        raise trial.fit_failed


def the_loss_takes_any_segment(trial: Trial) -> None:
    """Check that the loss is finite where ``first`` is unknown, an episode has one step, or a segment is as
    short as claimed, and that it leaves the segment as it is."""
    fitted_stages(trial.model)
    whole = trial.segment
    alone = torch.tensor([1, *[STEPS] * (ROWS - 1)]).unsqueeze(1)
    variants = {
        "where segment.first is None": replace(whole, first=None),
        "where segment.first is False": replace(whole, first=torch.zeros(ROWS, dtype=torch.bool)),
        "with an episode of one step, padded": padded(whole, torch.arange(STEPS) < alone),
    }
    least = capabilities(trial.model).least_length
    if 1 < least < STEPS:
        variants[f"of segments of least_length = {least} steps"] = whole.steps(0, least)
    for name, segment in variants.items():
        before = [x.clone() for x in tree_leaves(vars(segment)) if isinstance(x, torch.Tensor)]
        try:
            values = trial.loss_values(segment)
        except Exception as error:  # any error of the model's own code
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise Broken(
                f"the loss {name} raised {text}", "see Segment in wmplay/contracts/data.py"
            ) from error
        other = replace(scrambled(whole, _late(MIDDLE)), first=segment.first)
        if "first" in name and values == trial.loss_values(other):
            problem = f"the loss {name} is the same whatever is in the segment"
            raise Broken(problem, "count each step with enough frames before it")
        wrong = [f"'{stage}' is {value}" for stage, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise Broken(f"the loss {name}: {listed(wrong)}", "divide by the steps that count, one at least")
        after = [x for x in tree_leaves(vars(segment)) if isinstance(x, torch.Tensor)]
        if not all(torch.equal(x, y) for x, y in zip(before, after, strict=True)):
            raise Broken("the loss writes into the segment that it is given", "change no tensor in place")


def every_weight_is_trained(trial: Trial) -> None:
    """Check that the loss, or the losses of all stages together, have a gradient for each parameter."""
    fitted_stages(trial.model)
    if trial.untrained:
        raise Broken(
            f"no gradient reaches {listed(trial.untrained)}",
            "use them in the loss, take away a detach(), or delete them",
        )


def padding_counts_for_nothing(trial: Trial) -> None:
    """Check that the loss depends neither on steps outside ``mask`` nor on the frames after them, also in
    training mode; of the very next step, ``the_loss_looks_no_step_ahead`` tells."""
    _compare_padding(trial, SEEN + 1)


def _compare_padding(trial: Trial, known: int) -> None:
    """Compare losses of rows of SEEN steps, padded, that differ after ``known`` steps."""
    lengths = torch.tensor([STEPS, *[SEEN] * (ROWS - 1)]).unsqueeze(1)
    clean = replace(trial.segment, mask=torch.arange(STEPS) < lengths)
    junk = replace(scrambled(clean, _late(known - 1) & (lengths < STEPS)), mask=clean.mask)
    for training, mode in MODES.items():
        wanted = trial.loss_values(clean, training)
        for stage, got in trial.loss_values(junk, training).items():
            if not math.isclose(got, wanted[stage], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                raise Broken(
                    f"in {mode} mode, other {_guilty(trial, clean, junk, training)} after step {known}, "
                    f"where mask is False, take the loss of '{stage}' from {wanted[stage]:.4g} to {got:.4g}",
                    "multiply each step's loss by segment.mask and divide by its sum; if you do, a step is "
                    "explained by later ones (a roll() that wraps around? attention without a causal mask? "
                    "statistics over time?)",
                )


def _guilty(trial: Trial, clean: Segment, junk: Segment, training: bool) -> str:
    """Return which kind of junk changes the loss by itself."""
    usual = trial.loss_values(clean, training)
    for name, values in (("actions", {"action": junk.action}), ("frames", {"observation": junk.observation})):
        if trial.loss_values(replace(clean, **values), training) != usual:
            return name
    return "rewards and ends"


def every_step_counts(trial: Trial) -> None:
    """Check that rewards and ends count in a slice's last step, in one that ends its episode, and in one that
    begins it, as in the middle."""
    real = torch.tensor([STEPS, SEEN, *[STEPS] * (ROWS - 2)]).unsqueeze(1)
    ended = torch.arange(STEPS) == torch.tensor([-1, SEEN - 1, *[-1] * (ROWS - 2)]).unsqueeze(1)
    whole = replace(trial.segment, mask=torch.arange(STEPS) < real, terminated=ended)
    usual = trial.loss_values(whole)
    future = trial.model.predict(trial.believe(trial.model), trial.future)

    def matters(name: str, row: int, step: int) -> bool:
        reward, terminated = whole.reward.clone(), whole.terminated.clone()
        if name == "reward":
            reward[row, step] += 10
        else:
            terminated[row, step] ^= True
        return trial.loss_values(replace(whole, reward=reward, terminated=terminated)) != usual

    for name, predicted in (("reward", future.reward), ("terminated", future.discount)):
        if not matters(name, 0, MIDDLE):
            if name == "terminated" and predicted is not None and _is_learned(predicted):
                raise Broken(
                    "predict returns a discount that is learned, but the loss reads no ends",
                    "compare it with ~segment.terminated in each step that mask keeps",
                )
            continue
        if predicted is None:
            if name == "reward":
                problem = "the loss reads rewards, but predict returns reward=None"
                raise Broken(problem, "return the head that the loss trains")
            if (head := _trained_on_ends_alone(trial, whole)) is not None:
                raise Broken(
                    f"the loss trains '{head}' on ends, which changes nothing that is predicted",
                    "return the head that the loss trains, as discount: the probability to go on",
                )
            continue  # the loss may read ends for something else
        once = [(STEPS - 1, 0, "the slice's last"), (SEEN - 1, 1, "which ends its episode")]
        if matters(name, 0, 1):  # else it may leave out some steps at first, of which it has seen too little
            once.append((0, 0, "the first of its episode"))
        for step, row, what in once:
            if not matters(name, row, step):
                raise Broken(
                    f"the loss reads {name}[{MIDDLE}], but not {name}[{step}], {what}",
                    "let each step that mask keeps count with its own reward and end; a cut is no end",
                )


def _is_learned(discount: torch.Tensor) -> bool:
    """Return whether discounts [B, H] are those of a head: a known rule says 0 or 1, or always the same."""
    return bool(((discount > 0) & (discount < 1)).all()) and bool(discount.std() > 0)


def _trained_on_ends_alone(trial: Trial, segment: Segment) -> str | None:
    """Return the name of a weight whose gradient follows ends, and which no prediction depends on."""
    if isinstance(trial.model, Valued):
        return None  # ends are for its values
    terminated = segment.terminated.clone()
    terminated[0, MIDDLE] ^= True
    usual, changed = (trial.slopes(x) for x in (segment, replace(segment, terminated=terminated)))
    predicted = trial.outcome(trial.model)
    for name, slope in usual.items():
        if not torch.equal(slope, changed[name]):
            model = copy.deepcopy(trial.model)
            with torch.no_grad():
                model.get_parameter(name).add_(1)
            if torch.equal(trial.outcome(model), predicted):
                return name
    return None


def rows_are_apart_in_the_loss(trial: Trial) -> None:
    """Check that what the loss makes of a row's rewards does not depend on other rows."""
    others = scrambled(trial.segment, (torch.arange(ROWS) > 0).unsqueeze(1).expand(-1, STEPS))
    others = replace(others, terminated=trial.segment.terminated)  # a mean may be over steps before an end
    _compare_pulls(trial, others, (slice(1), slice(None)), "other rows change", _APART)


def the_loss_sees_no_future(trial: Trial) -> None:
    """Check that what the loss makes of a step's reward depends on no later step than the next one."""
    later = _otherwise_after(trial, MIDDLE + 1)
    _compare_pulls(trial, later, _SO_FAR, f"frames and actions after step {MIDDLE + 1} change", _CAUSAL)


def the_loss_looks_no_step_ahead(trial: Trial) -> None:
    """Check that the loss takes no reward, end or frame of the step after, neither within a row nor behind
    its end."""
    _compare_padding(trial, SEEN)
    later = _otherwise_after(trial, MIDDLE)
    what = f"the frame and action after step {MIDDLE} change"
    _compare_pulls(trial, later, _SO_FAR, what, f"{_CAUSAL}; or is it the reward of another step?")


def _compare_pulls(trial: Trial, other: Segment, part: tuple[slice, slice], what: str, advice: str) -> None:
    if part == _SO_FAR and capabilities(trial.model).smooths:
        raise NotTried("it smooths: its loss infers a latent from the whole segment")
    for training, mode in MODES.items():
        usual = trial.pull(trial.segment, training)
        if usual is None:
            raise NotTried("its loss reads no rewards, by which this is tried")
        got = trial.pull(other, training)
        if got is None:
            raise Broken(f"in {mode} mode, other data takes the gradient from all rewards", advice)
        made, expected = (x[part].unsqueeze(-1) / float(usual.abs().max()) for x in (got, usual))
        same(
            made, expected, f"in {mode} mode, {what} what the loss makes of a reward", advice, tolerance=1e-3
        )


def _late(step: int) -> torch.Tensor:
    """Return which steps, [B, T] bool, come after a step."""
    return (torch.arange(STEPS) > step).expand(ROWS, -1)


def _otherwise_after(trial: Trial, step: int) -> Segment:
    """Return the segment with other frames, actions and rewards after a step."""
    later = scrambled(trial.segment, _late(step))
    return replace(later, terminated=trial.segment.terminated)  # a mean may be over steps before an end


_SO_FAR = slice(None), slice(MIDDLE + 1)
_CAUSAL = "compute each step from what came before it: no statistics over time, attention under a causal mask"
_APART = "let no operation mix the rows: no statistics over the batch, of frames or of rewards"
