"""The card of an exported run: data for programs (``card.json``) and a page for people (``card.md``)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from wmplay.errors import DamagedError
from wmplay.evaluation.statistics import Interval
from wmplay.report.numbers import interval, number
from wmplay.runs.disk.portable import CARD, PortableDirectory


@dataclass(frozen=True)
class Number:
    """A score with its 95% interval, next to the scores of baselines on the same episodes."""

    value: float | None  # None = the data does not determine it, as for both ends
    low: float | None
    high: float | None
    n: int  # independent units: episodes, or clips of one episode each
    beside: dict[str, float | None]  # values of the baselines, by name

    @property
    def interval(self) -> Interval:
        """The value and the ends of its interval, NaN where they are unknown."""
        return Interval(*(math.nan if x is None else x for x in (self.value, self.low, self.high)))


@dataclass(frozen=True)
class Episodes:
    """The episodes of a manifest, one by one, in the order of its seeds."""

    returns: list[float]
    successes: list[bool] | None
    held: list[bool] | None  # at the goal after the last step


@dataclass(frozen=True)
class Card:
    """The content of ``card.json``.

    Attributes:
        name: of the exported folder.
        pieces: {kind: the piece's name}.
        world: in words.
        weights: number of weights of each part.
        data: ``real_steps`` taken for learning, ``episodes`` in the store, ``recorded``: data was given.
        work: ``updates`` of the model, ``gflop`` of all updates (None = unknown), ``practice_steps`` of a
            policy outside the real env.
        evaluate: the settings of the evaluation, as in the config.
        manifest: digest of the starts and goals of the policy's episodes; None = no policy was scored.
        held_out: digest of the first frames of the held-out episodes; None = no model was scored.
        numbers: by name, for example ``policy/success`` and ``prediction/lcd/iou@5``.
        episodes: of each policy that was scored.
        licence: of the weights.
        train: the command that trained the run.
        verify: the command that scores it again; None = the episodes that it was scored on are not at hand.
        made: versions of packages, the commit, the date.
    """

    name: str
    pieces: dict[str, str]
    world: str
    weights: dict[str, int]
    data: dict[str, int | bool | None]
    work: dict[str, float | None]
    evaluate: dict[str, Any]
    manifest: str | None
    held_out: str | None
    numbers: dict[str, Number]
    episodes: dict[str, Episodes]
    licence: str
    train: str
    verify: str | None
    made: dict[str, Any]


def read_card(directory: PortableDirectory) -> Card | None:
    """Return the card of an exported run; None for an export by version 0.1, which wrote none.

    Raises:
        RunError: if a file of the card is missing, or changed since it was written.
    """
    content = directory.card()
    if content is None:
        return None
    try:
        return msgspec.convert(content, Card)
    except msgspec.ValidationError as error:
        raise DamagedError(f"{directory.path / CARD} is damaged ({error})") from error


def page(card: Card) -> str:
    """Return the card as Markdown."""
    return "\n".join(_lines(card)) + "\n"


def _lines(card: Card) -> Iterator[str]:
    yield f"# {card.name}"
    yield ""
    pieces = ", ".join(f"{kind} `{name}`" for kind, name in card.pieces.items() if kind != "env")
    weights = ", ".join(f"{count:,} in the {part}" for part, count in card.weights.items())
    yield f"A run of wmplay in the world {card.world}: {pieces}. Weights: {weights or 'none'}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in _facts(card):
        yield f"| {name} | {value} |"
    yield ""
    yield "## Numbers"
    yield ""
    if not card.numbers:
        yield "None: neither the model nor the policy of this run is evaluated."
        return
    yield "| | value [95% interval] | episodes | next to |"
    yield "|---|---|---|---|"
    for name, score in card.numbers.items():
        beside = ", ".join(f"{other} {number(x)}" for other, x in score.beside.items() if x is not None)
        yield f"| {name} | {interval(score.interval)} | {score.n} | {beside} |"
    yield ""
    yield (
        "The intervals are over episodes (Student's t; success: Wilson's), of one run with one seed: they "
        "say nothing about other seeds. High is good for `iou`, `r2`, success and return; low for errors "
        "(`mae`, `mse`, `error`) and bits."
    )


def _facts(card: Card) -> Iterator[tuple[str, str]]:
    """Yield the names and values of a card's facts."""
    data, work = card.data, card.work
    given = " of given data" if data["recorded"] else ""
    stored = "" if data["episodes"] is None else f", {data['episodes']:,} episodes in its store{given}"
    yield "data", f"{data['real_steps'] or 0:,} real steps{stored}"
    flop = "" if work["gflop"] is None else f" ({number(work['gflop'])} GFLOP in products and convolutions)"
    steps = work["practice_steps"]
    practice = f", {steps:,.0f} steps of practice outside the real env" if steps else ""
    yield "work", f"{work['updates'] or 0:,.0f} updates of the model{flop}{practice}"
    yield "trained by", f"`{card.train}`"
    yield "manifest", f"`{card.manifest}`" if card.manifest else "none: no policy was scored"
    yield "held-out episodes", f"`{card.held_out}`" if card.held_out else "none: no model was scored"
    reason = "not possible: the recorded episodes that it was scored on are not in the export"
    yield "verify by", f"`{card.verify}`" if card.verify else reason
    yield "licence", card.licence
    yield "made with", ", ".join(f"{name} {value}" for name, value in card.made.items() if value)


def finite(interval: Interval) -> tuple[float | None, float | None, float | None]:
    """Return an interval with None for numbers that are not finite, which JSON lacks."""
    value, low, high = (x if math.isfinite(x) else None for x in interval)
    return value, low, high


def counted(n: int, score: Interval, beside: Mapping[str, Interval]) -> Number:
    """Return a card's number from the interval of a score, and those of baselines."""
    return Number(*finite(score), n, {name: finite(each)[0] for name, each in beside.items()})
