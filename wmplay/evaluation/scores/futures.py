"""Scores of sampled futures: realism, spread, calibration, likelihood and consistency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from wmplay.evaluation.observation_metrics import Metric
from wmplay.evaluation.scores.curves import MODEL, Count, Curve, with_ends
from wmplay.evaluation.statistics import Interval


@dataclass(frozen=True)
class Likeness:
    """The similarity of clips to real ones in an arbiter's latents, with jackknife intervals over
    episodes."""

    frechet: Interval  # squared, between latents, of which real ones have variance 1 in each dimension
    neighbours: dict[str, Interval]  # "precision@k", "recall@k", "f1@k", "density@k" for k = 3 and 5
    action_error: Interval | None  # mean squared error of decoded actions; None without a robot

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``frechet``, ``frechet_low``, ``frechet_high``, ``precision@3``,
        ..."""
        named = {"frechet": self.frechet, **self.neighbours}
        if self.action_error is not None:
            named["action_error"] = self.action_error
        return with_ends(named)


@dataclass(frozen=True)
class ArbiterScore:
    """Sampled futures under the real actions, compared by an arbiter, next to the ends of its scale.

    All entries of ``likeness`` are against the same real clips, of other episodes, and with equally many
    clips: a Frechet distance depends on their number, so that scores are comparable only at equal ``clips``
    and ``arbiter``.
    """

    arbiter: str  # "luxo-v1"
    digest: str  # of the arbiter's weights
    context: Count
    horizon: Count
    clips: Count  # in each of the sets
    episodes: Count  # that each of the sets is cut from
    seed: Count
    likeness: dict[str, Likeness]  # MODEL; REAL, the true futures: the floor; "copy-last": the ceiling
    chance: float | None  # the action error of always guessing the mean action

    def row(self) -> dict[str, float]:
        """Return flat metrics of the model for a log: ``frechet``, ``frechet_low``, ``frechet_high``, ..."""
        return self.likeness[MODEL].row()


@dataclass(frozen=True)
class KeySpread:
    """The distances of several sampled futures of one start, for one observation key.

    The distance is the key's metric as an error: 1 - IoU for screens. For a model with the right uncertainty
    the real future is like one more sample: ``among`` equals ``to_truth``; less is too certain.
    """

    metric: Metric
    among: Curve  # mean distance of two futures of the same start, under the same actions
    to_truth: Curve  # mean distance of a future to the real one
    unrelated: Curve  # distance of the real futures of two unrelated clips: the scale


@dataclass(frozen=True)
class SpreadScore:
    """Duplicate generation: several sampled ``futures`` of the same start, for each of ``clips`` starts."""

    context: Count
    horizon: Count
    clips: Count
    futures: Count
    seed: Count
    keys: dict[str, KeySpread]

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``lcd/among@20``, ``lcd/to_truth@20``, ... at the last horizon."""
        return {
            f"{key}/{name}@{self.horizon}": curve.mean[-1]
            for key, spread in self.keys.items()
            for name, curve in (("among", spread.among), ("to_truth", spread.to_truth))
        }


@dataclass(frozen=True)
class Diagram:
    """A reliability diagram of one horizon: probabilities of pixels, and how often these are lit."""

    forecast: list[float]  # the mean probability of each bin that has pixels
    observed: list[Interval]  # how often they are lit; jackknife over clips


@dataclass(frozen=True)
class ScreenCalibration:
    """The reliability of pixels whose probability is neither near 0 nor near 1."""

    error: Curve  # mean distance of probability and frequency; 0 = reliable
    judged: list[float]  # part of all pixels, at each horizon
    diagrams: dict[str, Diagram]  # by horizon


@dataclass(frozen=True)
class VectorCalibration:
    """The calibration of a vector, or of the centre of a screen's lit pixels."""

    ratio: Curve  # of the futures' spread to the error of their mean; 1 = calibrated, below = too certain
    crps: Curve  # mean continuous ranked probability score, in the vector's unit
    copy_last: Curve  # the same of the last frame shown: its mean absolute error


@dataclass(frozen=True)
class CalibrationScore:
    """The calibration of several sampled ``futures`` of each of ``clips`` starts."""

    context: Count
    horizon: Count
    clips: Count
    futures: Count
    seed: Count
    screens: dict[str, ScreenCalibration]
    vectors: dict[str, VectorCalibration]

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log at the last horizon: ``lcd/reliability@20``, ``proprio/crps@20``."""
        found = {f"{key}/reliability": each.error for key, each in self.screens.items()}
        found |= {f"{key}/spread_skill": each.ratio for key, each in self.vectors.items()}
        found |= {f"{key}/crps": each.crps for key, each in self.vectors.items()}
        return {f"{name}@{self.horizon}": curve.mean[-1] for name, curve in found.items()}


@dataclass(frozen=True)
class SurpriseScore:
    """Bits that the binary screens of held-out episodes cost, each given all frames before it.

    Means over the episodes with t intervals. ``baselines``: ``marginal``, independent pixels that are lit as
    often as in the reference episodes, and ``copy-last``, the last frame with one chance to flip for all.
    """

    kind: Literal["exact", "bound"]
    clips: Count
    frames: Count  # scored of each clip
    pixels: Count
    seed: Count
    bits: Interval  # per frame
    baselines: dict[str, Interval]

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``bits``, ``bits_low``, ``bits_high``."""
        return with_ends({"bits": self.bits})


@dataclass(frozen=True)
class AgreementScore:
    """The agreement of a predicted future's screen with its vectors, at each horizon.

    The world's own renderer draws the predicted positions. ``iou`` compares the two images; ``covered``, used
    if the screen shows objects that the vectors leave out, is the part of the drawn pixels that is lit.
    """

    measure: Literal["iou", "covered"]
    key: str  # the key of the vectors that were drawn
    context: Count
    horizon: Count
    clips: Count
    seed: Count
    model: Curve  # of one sampled future of each clip
    ceiling: Curve  # the same of real frames
    floor: Curve  # the predicted screen of one clip with the vectors of another

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``iou@20`` at the last horizon."""
        return {f"{self.measure}@{self.horizon}": self.model.mean[-1]}
