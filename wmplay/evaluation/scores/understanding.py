"""Scores of a model's knowledge: violations of expectation, and what its features hold."""

from __future__ import annotations

from dataclasses import dataclass

from wmplay.evaluation.scores.curves import MODEL, Count, Curve, with_ends
from wmplay.evaluation.statistics import Interval


@dataclass(frozen=True)
class KindViolation:
    """The pairs of one kind of event, in which one episode is impossible."""

    what: str  # happens, in words
    pairs: Count
    accuracy: dict[str, Interval]  # of each predictor: share of pairs; ties count one half
    sets: dict[str, Interval]  # the same of sets of two pairs that exchange their endings


@dataclass(frozen=True)
class ViolationScore:
    """The share of pairs, and of sets of two pairs, in which the impossible surprises more, by kind."""

    unit: str  # of the model's surprise
    event: Count  # the moment of the event
    kinds: dict[str, KindViolation]

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``vanishes``, ``turns_back``, ... (of sets)."""
        return {name: kind.sets[MODEL].value for name, kind in self.kinds.items()}


@dataclass(frozen=True)
class KeyProbe:
    """The part of a vector that linear probes read from the features (R2), in episodes held out from them."""

    r2: Interval  # mean over the entries that vary; jackknife over episodes
    entries: list[float]  # R2 of each entry; NaN = it never varies
    untrained: Interval | None  # the same for a model that has learned nothing
    untrained_entries: list[float] | None = None


@dataclass(frozen=True)
class FeatureScore:
    """The features of a model on held-out clips, and its predictions of them under the true actions.

    Errors are squared distances between predicted and real latents, divided by the latents' total variance:
    always guessing the mean latent has an error of about 1.
    """

    context: Count
    horizon: Count
    clips: Count
    size: Count  # number of features
    seed: Count
    rank: float  # effective rank of the latents; 1 = they are constant
    untrained_rank: float | None
    keys: dict[str, KeyProbe]
    error: Curve
    copy_last: Curve  # the error of the last latent of the context
    # part of the clips in which the next frame of another clip is a greater surprise than the real one
    jumps: Interval
    untrained_jumps: Interval | None

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``rank``, ``place/r2``, ``jumps``, ``error@20``, ..."""
        named = {f"{key}/r2": each.r2 for key, each in self.keys.items()}
        ends = {"rank": self.rank, f"error@{self.horizon}": self.error.mean[-1]}
        return {**with_ends({**named, "jumps": self.jumps}), **ends}
