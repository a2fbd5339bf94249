"""Properties of world models that concern random draws: each sampled future has noise of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from wmplay.check.compare import TOLERANCE, same
from wmplay.check.fixtures.fitted_model import Trial, features, loss_value, sample
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Belief, capabilities

COPIES = 127  # equal rows
NEARER = 0.9  # part of the squared distance of samples to the most likely future
COLD = 1e-6  # a temperature next to 0
OFTEN = 0.05  # part of the rows; rarer values may be drawn for the same rows by chance
ROUNDING = 1e-6  # of equal rows in one product of matrices
CALLS, TOGETHER = 3, 3.0  # further ones; times the variance of means of independent rows
ALIKE = 0.5  # difference of Fisher's z: 4 standard errors where a single number is drawn
FROM_GENERATOR = "draw with generator=generator, and take the most likely future where it is None"


@torch.no_grad()
def same_seed_same_numbers(trial: Trial) -> None:
    """Check that draws come only from the given generator, and those of the loss from torch's global one."""
    model = trial.model
    belief = trial.believe(model)
    state = torch.get_rng_state()
    one, two = (sample(model, belief, trial.future, trial.seed) for _ in range(2))
    same(one, two, "the same generator gives two futures", FROM_GENERATOR, tolerance=0)
    one, two = (trial.outcome(model, belief) for _ in range(2))
    same(one, two, "without a generator, predict gives two futures", FROM_GENERATOR, tolerance=0)
    if not torch.equal(torch.get_rng_state(), state):
        raise Broken("observe or predict draws from torch's global generator", FROM_GENERATOR)
    for stage in trial.stages:
        first, second = (loss_value(stage.loss, trial.segment, trial.seed) for _ in range(2))
        if first != second:
            raise Broken(
                f"under the same seed the loss of '{stage.name}' is {first:.6g}, then {second:.6g}",
                "draw from torch's global generator only, and keep nothing between calls",
            )


def draws_are_independent(trial: Trial) -> None:
    """Check that equal rows, calls, generators and steps each have noise of their own."""
    dice = Dice(trial)
    generator = dice.generator(1)
    one, again, other = dice.throw(generator), dice.throw(generator), dice.throw(dice.generator(2))
    if not _differ(one, dice.mode) and not _differ(other, dice.mode):
        if capabilities(trial.model).temperature:
            raise Broken(
                "it takes a temperature, but with a generator it predicts the most likely future",
                "draw the noise that the temperature scales",
            )
        raise NotTried("it draws nothing: with a generator it predicts as without one")
    advice = "draw noise of the whole shape [B, ...] anew for each step, from the generator that is given"
    if not _differ(one, other):
        raise Broken("two generators with different seeds give the same future", advice)
    if not _differ(one, again):
        raise Broken("two calls with one generator give the same future", advice)
    by_row, by_seed = torch.maximum(_spread(one), _spread(other)), _gap(one, other)  # [H, N]
    if ((by_seed > TOLERANCE) & (by_row < ROUNDING)).any():
        raise Broken(f"{COPIES} equal rows draw the same noise", advice)
    often = (one != one.roll(1, 0)).float().mean(0) > OFTEN
    if (often & (by_row > TOLERANCE) & (by_seed < ROUNDING)).any():
        raise Broken("a part of what differs between equal rows is the same under any generator", advice)
    calls = [one, again, other, *(dice.throw(dice.generator(4 + number), steps=1) for number in range(CALLS))]
    if _together(calls) > TOGETHER / 2:
        calls += [dice.throw(dice.generator(4 + CALLS + number), steps=1) for number in range(3 * CALLS)]
        if (times := _together(calls)) > TOGETHER:
            raise Broken(
                f"{COPIES} equal rows draw a part of their noise together: from call to call their mean "
                f"varies by {times**0.5:.2g} times what it would if each row drew by itself",
                "draw for each row, also a network or a code: torch.randint(members, (B,), generator=...)",
            )
    step = dice.chained()
    noisy = (_spread(one)[:2] > TOLERANCE).all(0) & (_spread(step) > TOLERANCE).all(0)
    if noisy.any():
        gap = float((_tie(one[:, :2, noisy]) - _tie(step[:, :, noisy])).mean())
        if abs(gap) > ALIKE:
            raise Broken(
                "two steps of one call draw the same noise: they go together otherwise than two calls of one "
                "step each",
                advice,
            )


@torch.no_grad()
def draws_are_lived(trial: Trial) -> None:
    """Check that a step that was drawn is where the next one begins: rows that drew otherwise go on
    otherwise."""
    dice = Dice(trial)
    first = trial.model.predict(dice.belief, dice.action[:, :1], generator=dice.generator(1))
    drawn = torch.cat([leaf.reshape(COPIES, 1, -1).float() for leaf in tree_leaves(first.latent)], -1)
    if not (_spread(drawn) > TOLERANCE).any():
        raise NotTried("its latents are not drawn")
    following = features(trial.model.predict(first.belief, dice.action[:, 1:2]))
    if not (_spread(following) > ROUNDING).any():
        raise Broken(
            "what is drawn in a step makes no difference to the next one: rows that drew otherwise are "
            "predicted alike",
            "let the next step, and the belief, begin with the state that was drawn, not with its mean",
        )


def temperature_is_heeded(trial: Trial) -> None:
    """Check that samples spread less at a lower temperature, and are the most likely future next to 0."""
    if not capabilities(trial.model).temperature:
        raise NotTried("its predict takes no temperature")
    dice = Dice(trial)
    warm, cold = (dice.throw(dice.generator(1), temperature=value) for value in (1.0, COLD))
    advice = "multiply the noise by it (the logits of classes are divided by it)"
    if not _differ(warm, cold):
        raise Broken(f"temperature {COLD:g} and temperature 1 give the same future", advice)
    spreads = [float(_spread(x).nan_to_num(torch.inf).mean()) for x in (cold, warm)]
    if not spreads[0] < spreads[1]:
        raise Broken(
            f"at temperature {COLD:g} equal rows spread by {spreads[0]:.2g}, at temperature 1 by "
            f"{spreads[1]:.2g}",
            advice,
        )
    if dice.mode.shape[1:] != warm.shape[1:]:
        return  # its samples are made otherwise than its most likely future, as those of an ensemble
    try:
        zero = dice.throw(dice.generator(1), temperature=0.0)
    except Exception:  # it may refuse 0: a division
        zero = cold
    for value, sampled in ((COLD, cold), (0.0, zero)):  # expectations may be closer to the mode than samples
        away, usually = (float((x - dice.mode).square().mean()) for x in (sampled, warm))
        if away >= NEARER * usually:  # False for what a division by 0 gives
            raise Broken(f"at temperature {value:g} it samples other than its most likely future", advice)


class Dice:
    """Samples of one belief in many equal rows; only latents and outcomes, from which all else is decoded."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        with torch.no_grad():
            one = trial.believe(trial.model, slice(0, 1))
        self.belief: Belief = tree_map(lambda x: x.repeat_interleave(COPIES, 0), one)
        self.action = trial.future[:1, :2].repeat_interleave(COPIES, 0)
        self.mode = self.throw(None)[:1]  # [1, H, N]

    def generator(self, seed: int) -> torch.Generator:
        """Return a generator of this trial."""
        return torch.Generator().manual_seed(self.trial.seed + seed)

    @torch.no_grad()
    def throw(self, generator: torch.Generator | None, steps: int = 2, **settings: Any) -> Tensor:
        """Return the numbers of a future of all rows, [COPIES, H, N]."""
        action = self.action[:, :steps]
        return features(self.trial.model.predict(self.belief, action, generator=generator, **settings))

    @torch.no_grad()
    def chained(self) -> Tensor:
        """Return the numbers of two steps, sampled by two calls, [COPIES, 2, N]."""
        model, generator = self.trial.model, self.generator(3)
        first = model.predict(self.belief, self.action[:, :1], generator=generator)
        second = model.predict(first.belief, self.action[:, 1:2], generator=generator)
        return torch.cat([features(first), features(second)], 1)


def _together(calls: list[Tensor]) -> float:
    """Return how many times the means of rows in calls [COPIES, H, N] vary as much as those of independent
    rows: the median over what is drawn in the first step."""
    first = torch.stack([each[:, 0] for each in calls]).double()  # [calls, COPIES, N]
    within = first.var(1).mean(0)
    drawn = within.sqrt() > TOLERANCE * (1 + first.abs().amax((0, 1)))
    times = len(first[0]) * first.mean(1).var(0)[drawn] / within[drawn]
    return float(times.median()) if len(times) else 0.0


def _gap(one: Tensor, two: Tensor) -> Tensor:
    """Return the largest difference over the rows, in units of the values, [H, N]."""
    return (one - two).abs().amax(0) / (1 + one.abs().amax(0))


def _differ(one: Tensor, two: Tensor) -> bool:
    if one.shape[1:] != two.shape[1:]:
        return True
    return bool((_gap(one, two) > TOLERANCE).any())


def _spread(x: Tensor) -> Tensor:
    """Return the standard deviation over the rows, in units of the values, [H, N]."""
    return x.double().std(0) / (1 + x.abs().amax(0))


def _tie(x: Tensor) -> Tensor:
    """Return Fisher's z of the correlation of two steps [COPIES, 2, N] over the rows, [N]."""
    centred = (x - x.mean(0)).double()
    both = centred.prod(1).mean(0) / centred.square().mean(0).sqrt().prod(0)
    return torch.atanh(both.clamp(-0.999, 0.999))
