"""Verification of an exported run: its files, its starts, and its scores against those on its card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from wmplay.cards.card import Card, Episodes, read_card
from wmplay.cards.scoring import OWN, digest_of_held_out, episodes_of, numbers, score
from wmplay.config.settings import Settings, settings_of
from wmplay.errors import CardError, RunError, UsageError
from wmplay.evaluation.manifest import draw_manifest
from wmplay.evaluation.statistics import Interval, mean_interval, success_rate
from wmplay.runs.disk.portable import is_portable
from wmplay.runs.load import ExportedRun
from wmplay.runs.shipped import where
from wmplay.system.device import use_threads


@dataclass(frozen=True)
class Comparison:
    """A number on a card and its value here, of the same episodes."""

    name: str
    card: Interval
    here: Interval

    @property
    def agrees(self) -> bool:
        """True if the two 95% intervals have a point in common, or if neither value is known.

        Two scores of one policy agree in 99.4% of all cases, if they are independent draws.
        """
        unknown = np.isnan([self.card.value, self.here.value])
        if unknown.any():
            return bool(unknown.all())
        (low, high), (least, most) = _ends(self.card), _ends(self.here)
        return max(low, least) <= min(high, most) + 1e-6 * max(1.0, abs(high))  # up to rounding


def verify(path: Path, episodes: int | None = None) -> list[Comparison]:
    """Score an exported run again, on the episodes of its card, and compare every number.

    Args:
        path: of the export, or the name of a run that comes with wmplay.
        episodes: starts of the manifest to act from, the first ones: two or more, or 0 for predictions
            alone; None = all. Predictions are always scored on all held-out episodes.

    Raises:
        UsageError: for one episode, which has no interval.
        CardError: if the export has no card, or one without numbers; if its starts are others here.
        RunError: if the path is no export, or if a file changed since it was written.
    """
    if episodes == 1:
        raise UsageError("episodes is 1", got=1, expected="0 for predictions alone, or at least 2")
    path = where(path)
    if not is_portable(path):
        raise RunError(
            f"{path} is no exported run, and only these have a card",
            advice=f"wmplay export {path} --out DIR, then wmplay eval DIR --verify",
        )
    run = ExportedRun(path)
    card = read_card(run.directory)
    if card is None:
        raise CardError(f"{path} has no card", advice="it is of an older version: export the run anew")
    if not card.numbers or card.verify is None:
        why = (
            "no numbers" if not card.numbers else "numbers of recorded episodes, which are not in the export"
        )
        raise CardError(f"the card of {path} has {why}", advice="evaluate the run that it was exported from")
    settings = settings_of({**run.directory.config(), "evaluate": card.evaluate})
    use_threads(settings.threads or "auto")
    _check_starts(path, card, settings)
    if episodes is not None and episodes < settings.evaluate.policy.episodes:
        shorter = replace(settings.evaluate.policy, episodes=episodes)
        settings = replace(settings, evaluate=replace(settings.evaluate, policy=shorter))
    with TemporaryDirectory() as folder:
        held_out = Path(folder)
        scores = score(settings, run.parts, run.device, held_out, reference=None, baselines=False)
        _check_digest(
            path, "held-out episodes", card.held_out, digest_of_held_out(settings, held_out, run.device)
        )
    return list(_comparisons(card, scores, settings.evaluate.policy.episodes))


def check_agreement(path: Path, comparisons: list[Comparison]) -> None:
    """Raise CardError, in one line, if a number is not as on the card."""
    differing = [each for each in comparisons if not each.agrees]
    if differing:
        first = differing[0]
        raise CardError(
            f"{path} does not agree with its card in {len(differing)} of {len(comparisons)} numbers: "
            f"{first.name} is {_shown(first.here)} here, {_shown(first.card)} on the card",
            got=[each.name for each in differing],
            advice="compare the versions on the card with those here; the weights are as they were exported",
        )


def _check_starts(path: Path, card: Card, settings: Settings) -> None:
    if card.manifest is not None:
        _check_digest(path, "manifest", card.manifest, draw_manifest(settings).digest)


def _check_digest(path: Path, what: str, on_card: str | None, here: str | None) -> None:
    if on_card != here:
        raise CardError(
            f"{path} was scored on other episodes than those here: the {what} is {here}",
            got=here,
            expected=f"{on_card}, as on its card",
            advice="the world has changed since; use the version of wmplay on the card",
        )


def _comparisons(card: Card, scores: dict[str, Any], episodes: int) -> Iterator[Comparison]:
    here = numbers(scores)
    again = episodes_of(scores)
    for name, number in card.numbers.items():
        policy, _, quantity = name.partition("/")
        if policy in OWN and not episodes:
            continue
        if policy in OWN and policy in again:
            first = _of_first(card.episodes[policy], episodes)
            yield Comparison(name, first[quantity], _of_first(again[policy], episodes)[quantity])
        elif name in here:
            yield Comparison(name, number.interval, here[name].interval)
        else:
            yield Comparison(name, number.interval, Interval(*[np.nan] * 3))


def _of_first(each: Episodes, number: int) -> dict[str, Interval]:
    """Return the numbers of a policy's first episodes."""
    rates = {"success": each.successes, "success_at_end": each.held}
    found = {
        name: success_rate(sum(r[:number]), len(r[:number])) for name, r in rates.items() if r is not None
    }
    return {**found, "return": mean_interval(np.array(each.returns[:number]))}


def _ends(interval: Interval) -> tuple[float, float]:
    """Return the ends of an interval; the value for unknown ones."""
    low, high = (interval.value if np.isnan(x) else x for x in interval[1:])
    return low, high


def _shown(interval: Interval) -> str:
    return f"{interval.value:.4g} [{interval.low:.4g}, {interval.high:.4g}]"
