"""The scores of an evaluation, as plain data. A number that the data cannot give is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Meta
from torch import Tensor

from wmplay.evaluation.observation_metrics import BASELINES, Metric
from wmplay.evaluation.statistics import Interval, mean_intervals

MODEL = "model"  # the name of the model's own most likely future among the predictors
REAL = "real"  # the name of the true futures among what an arbiter judges

Count: TypeAlias = Annotated[int, Meta(ge=0)]


@dataclass(frozen=True)
class PolicyScore:
    """A policy's episodes: means with t intervals, success with a Wilson interval, and the raw numbers."""

    episodes: Count
    seed: Count  # of the episodes: scores with equal seeds are paired
    mean_return: Interval
    mean_length: Interval
    success: Interval | None  # None without a goal
    returns: list[float]  # of each episode: the plain sum of rewards
    lengths: list[Count]
    successes: list[bool] | None
    # of an evaluation by a manifest, in which episodes go on at the goal:
    manifest: str | None = None  # its digest
    success_at_end: Interval | None = None
    held: list[bool] | None = None  # at the goal after the last step

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``return``, ``return_low``, ``return_high``, ``success``, ..."""
        named = {"return": self.mean_return, "length": self.mean_length}
        if self.success is not None:
            named["success"] = self.success
        if self.success_at_end is not None:
            named["success_at_end"] = self.success_at_end
        return {"episodes": float(self.episodes), **_with_ends(named)}


@dataclass(frozen=True)
class Curve:
    """A mean over clips at each horizon 1 .. H, with the ends of its 95% t interval."""

    mean: list[float]
    low: list[float]
    high: list[float]

    @classmethod
    def over(cls, clips: Tensor) -> Curve:
        """Return the curve of values [clips, H]."""
        mean, low, high = mean_intervals(clips.double().cpu().numpy())
        return cls(mean.tolist(), low.tolist(), high.tolist())

    def at(self, horizon: int) -> Interval:
        """Return the interval at a horizon, counted from 1."""
        return Interval(self.mean[horizon - 1], self.low[horizon - 1], self.high[horizon - 1])


@dataclass(frozen=True)
class KeyScore:
    """The errors of the predictions of one observation key, by predictor.

    The metric follows from the key's content: ``iou`` for a binary screen (intersection over union of the lit
    pixels at threshold .5; two empty frames agree: 1), ``mse`` for images (of values scaled to 0 .. 1),
    ``mae`` for vectors. The baselines know only the context and the reference episodes: ``copy-last``, then
    ``background`` and ``marginal`` for screens, ``mean`` for other keys.
    """

    metric: Metric
    curves: dict[str, Curve]  # "model", the baselines, then "1 sample", "mean of N", "best of N"

    @property
    def higher_is_better(self) -> bool:
        """True if the metric is a similarity rather than an error."""
        return self.metric == "iou"

    @property
    def baselines(self) -> list[str]:
        """The names of the predictors that have learned nothing from time."""
        return [name for name in self.curves if name in BASELINES]

    def ahead_until(self) -> int:
        """Return the last horizon up to which the model beats every baseline, with disjoint intervals."""
        horizon = len(self.curves[MODEL].mean)
        return next((h - 1 for h in range(1, horizon + 1) if not self._ahead(h)), horizon)

    def ahead_from(self) -> int | None:
        """Return the first horizon from which the model beats every baseline to the end, or None."""
        horizon = len(self.curves[MODEL].mean)
        behind = next((h for h in range(horizon, 0, -1) if not self._ahead(h)), 0)
        return behind + 1 if behind < horizon else None

    def _ahead(self, h: int) -> bool:
        ours, others = self.curves[MODEL].at(h), [self.curves[name].at(h) for name in self.baselines]
        if self.higher_is_better:
            return all(ours.low > theirs.high for theirs in others)
        return all(ours.high < theirs.low for theirs in others)


@dataclass(frozen=True)
class PredictionScore:
    """Open-loop predictions under the true actions: ``context`` frames shown, ``horizon`` steps predicted."""

    context: Count
    horizon: Count
    clips: Count  # each of another episode; fewer than asked for if episodes are too few
    seed: Count
    keys: dict[str, KeyScore]

    def row(self) -> dict[str, float]:
        """Return flat metrics of the model for a log, at horizons 1, 2, 5, 10, ...: ``lcd/iou@5``."""
        return {
            f"{key}/{score.metric}@{h}": score.curves[MODEL].mean[h - 1]
            for key, score in self.keys.items()
            for h in selected_horizons(self.horizon)
        }


@dataclass(frozen=True)
class RewardScore:
    """The mean absolute error of expected rewards, in the env's unit, under the true actions."""

    context: Count
    horizon: Count
    clips: Count
    seed: Count
    curves: dict[str, Curve]  # MODEL; "constant", the best one; "copy-last", after a context of two frames

    def row(self) -> dict[str, float]:
        """Return flat metrics of the model for a log, at horizons 1, 2, 5, 10, ...: ``error@5``; ``error`` is
        the mean over all horizons."""
        mean = self.curves[MODEL].mean
        by_horizon = {f"error@{h}": mean[h - 1] for h in selected_horizons(self.horizon)}
        return {"error": sum(mean) / len(mean), **by_horizon}


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
        return _with_ends(named)


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


def _with_ends(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Return intervals as metrics: ``<name>``, ``<name>_low``, ``<name>_high`` of each."""
    return {
        f"{name}{end}": number
        for name, interval in intervals.items()
        for end, number in zip(("", "_low", "_high"), interval, strict=True)
    }


def selected_horizons(horizon: int) -> list[int]:
    """Return the horizons that tables and film strips show: 1, 2, 5, 10, 20, 50, ... and the last."""
    steps = [m * 10**e for e in range(len(str(horizon))) for m in (1, 2, 5)]
    return sorted({*(h for h in steps if h < horizon), horizon})


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
        return _with_ends({"bits": self.bits})


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
        return {**_with_ends({**named, "jumps": self.jumps}), **ends}


@dataclass(frozen=True)
class FactorSweep:
    """Scores by the value of one factor; all other factors are as the run has them."""

    values: list[float]
    trained: list[float]  # [low, high] of the run itself
    model: dict[str, Curve]  # by value: the error at the last horizon of each key
    copy_last: dict[str, Curve]
    policies: dict[str, Curve]  # by value: "policy", "random"


@dataclass(frozen=True)
class FactorScore:
    """Predictions and policies at several values of factors, inside and outside of the run's own range."""

    horizon: Count
    seed: Count
    metrics: dict[str, Metric]  # of each key
    measure: Literal["success", "return"] | None  # of policies
    sweeps: dict[str, FactorSweep]  # by factor

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``gravity=5/lcd/iou@20``, ``gravity=5/success``."""
        found = {}
        for name, sweep in self.sweeps.items():
            for i, value in enumerate(sweep.values):
                for key, curve in sweep.model.items():
                    found[f"{name}={value:g}/{key}/{self.metrics[key]}@{self.horizon}"] = curve.mean[i]
                if "policy" in sweep.policies:
                    found[f"{name}={value:g}/{self.measure}"] = sweep.policies["policy"].mean[i]
        return found


@runtime_checkable
class HasRow(Protocol):
    """A score with numbers for a log."""

    def row(self) -> dict[str, float]:
        """Return flat metrics by name."""


@dataclass(frozen=True)
class Evaluation:
    """The numbers of one evaluation; parts that were not asked for are None."""

    prediction: PredictionScore | None = None
    rewards: RewardScore | None = None
    spread: SpreadScore | None = None
    surprise: SurpriseScore | None = None
    agreement: AgreementScore | None = None
    arbiter: ArbiterScore | None = None
    violation: ViolationScore | None = None
    features: FeatureScore | None = None
    calibration: CalibrationScore | None = None
    factors: FactorScore | None = None
    policies: dict[str, PolicyScore] = field(default_factory=dict)  # "policy", then "random" and others

    def numbers(self) -> dict[str, float]:
        """Return all numbers by their logged names: ``policy/success``, ``arbiter/frechet``."""
        model = {name: score for name, score in vars(self).items() if name != "policies"}
        return flat({**model, **self.policies})


def flat(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of scores as metrics: ``policy/success``, ``prediction/lcd/iou@5``, ..."""
    rows = {name: score.row() for name, score in scores.items() if isinstance(score, HasRow)}
    return {f"{name}/{key}": value for name, row in rows.items() for key, value in row.items()}
