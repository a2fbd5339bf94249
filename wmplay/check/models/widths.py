"""Widths of what a world model draws, against the known noise of an artificial world."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from wmplay.check.compare import TOLERANCE
from wmplay.check.fixtures.alignment_episodes import SAFE
from wmplay.check.fixtures.fitted_model import Trial
from wmplay.check.models.oracle import ASKED, Oracle, asked
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Segment

LEVELS = torch.tensor([0.03, 0.12])  # of the entries of a vector by turns, in units of half their range
UPDATES, STEPS = 45, 6  # of the fit, and of its segments
LEARNED = 2.4  # ratio of the spreads of noisy and quiet entries from which on widths count as learned
OFF = 1.5  # times too wide, or too narrow
VARIES = 0.01  # between rows, part of the mean
ROWS = 29  # of episodes, by which it is told whether widths differ
MIXED = 0.2  # of an entry's rise, by another entry: the head of rewards may read the last frame as well


def draws_spread_as_fitted(trial: Trial) -> None:
    """Check that what is drawn spreads as the noise to which the loss has fitted its widths.

    Widths that did not come to tell the quiet entries of a vector from the noisy ones are not judged.
    """
    oracle = asked(trial)
    scored = _scored_by_widths(oracle)
    if not scored:
        raise NotTried("its loss weighs no vector by a width that differs from row to row")
    generator = torch.Generator().manual_seed(trial.seed)

    def wander(segment: Segment) -> Segment:
        segment = segment.steps(0, STEPS)
        rows, steps = segment.reward.shape
        frames = oracle.world.wandering(rows, steps, LEVELS, generator)
        return replace(segment, observation=frames)

    model = oracle.fitted(UPDATES, change=wander)
    frames = oracle.world.wandering(ASKED, SAFE + 2, LEVELS, generator)
    judged = False
    for key, spread in oracle.world.spreads(*oracle.drawn(model, frames)).items():
        if key not in scored or len(spread) < len(LEVELS):
            continue
        drawn = torch.stack([spread[k :: len(LEVELS)].median() for k in range(len(LEVELS))])
        if not drawn[1] > LEARNED * drawn[0]:
            continue
        judged = True
        if bool(((drawn / LEVELS).log().abs() > torch.tensor(OFF).log()).all()):
            raise Broken(
                f"fitted to vectors whose noise is {_numbers(LEVELS)} by turns, draws of '{key}' spread by "
                f"{_numbers(drawn)}",
                "draw with the width that the loss scores: a standard deviation, no variance, no logarithm",
            )
    if not judged:
        raise NotTried(f"in {UPDATES} updates it learns no width")


def _scored_by_widths(oracle: Oracle) -> set[str]:
    """Return the keys that are drawn, and that the loss weighs by a width of each row."""
    spreads = oracle.world.spreads(*oracle.drawn(oracle.model, oracle.asked.segment.observation))
    drawn = {key for key, spread in spreads.items() if bool((spread > TOLERANCE).all())}
    rises = {key: rise for key, (_, rise) in (oracle.squares(MIXED, slice(ROWS)) if drawn else {}).items()}
    return {
        key
        for key, rise in rises.items()
        if key in drawn and bool((rise.std(0) / rise.mean(0)).median() > VARIES)
    }


def _numbers(values: Tensor) -> str:
    return " and ".join(f"{float(value):.2g}" for value in values)
