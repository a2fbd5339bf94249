"""Scores of open-loop predictions, next to baselines."""

from __future__ import annotations

from dataclasses import dataclass

from wmplay.evaluation.observation_metrics import BASELINES, Metric
from wmplay.evaluation.scores.curves import MODEL, REAL, Count, Curve, selected_horizons


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
    # part of the rewards' gradient by the features that lies where the observation is decoded from; None of a
    # model without features, and unless ``evaluate.prediction.actions`` asks for it
    observable: float | None = None

    def row(self) -> dict[str, float]:
        """Return flat metrics of the model for a log, at horizons 1, 2, 5, 10, ...: ``error@5``; ``error`` is
        the mean over all horizons."""
        mean = self.curves[MODEL].mean
        by_horizon = {f"error@{h}": mean[h - 1] for h in selected_horizons(self.horizon)}
        share = {} if self.observable is None else {"observable": self.observable}
        return {"error": sum(mean) / len(mean), **by_horizon, **share}


@dataclass(frozen=True)
class ActionScore:
    """The error of actions that a network reads from frames, which it learned on real ones.

    Of discrete actions the share of wrong ones, of others the mean squared error, divided by their variance.
    """

    context: Count
    horizon: Count
    clips: Count  # on which the network was not fitted
    seed: Count
    discrete: bool
    curves: dict[str, Curve]  # MODEL: read from predicted frames; REAL: from real ones, the floor

    def row(self) -> dict[str, float]:
        """Return flat metrics for a log: ``error`` and ``error@5``; ``real``, the error of real frames."""
        predicted, real = (self.curves[name].mean for name in (MODEL, REAL))
        means = {"error": sum(predicted) / len(predicted), "real": sum(real) / len(real)}
        return means | {f"error@{h}": predicted[h - 1] for h in selected_horizons(self.horizon)}
