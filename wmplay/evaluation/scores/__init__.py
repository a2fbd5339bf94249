"""The scores of an evaluation, as plain data. A number that the data cannot give is NaN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from wmplay.evaluation.scores.curves import MODEL, REAL, Count, Curve, selected_horizons
from wmplay.evaluation.scores.futures import (
    AgreementScore,
    ArbiterScore,
    CalibrationScore,
    Diagram,
    KeySpread,
    Likeness,
    ScreenCalibration,
    SpreadScore,
    SurpriseScore,
    VectorCalibration,
)
from wmplay.evaluation.scores.policies import FactorScore, FactorSweep, PolicyScore
from wmplay.evaluation.scores.predictions import ActionScore, KeyScore, PredictionScore, RewardScore
from wmplay.evaluation.scores.understanding import FeatureScore, KeyProbe, KindViolation, ViolationScore

__all__ = [
    "MODEL",
    "REAL",
    "ActionScore",
    "AgreementScore",
    "ArbiterScore",
    "CalibrationScore",
    "Count",
    "Curve",
    "Diagram",
    "Evaluation",
    "FactorScore",
    "FactorSweep",
    "FeatureScore",
    "HasRow",
    "KeyProbe",
    "KeyScore",
    "KeySpread",
    "KindViolation",
    "Likeness",
    "PolicyScore",
    "PredictionScore",
    "RewardScore",
    "ScreenCalibration",
    "SpreadScore",
    "SurpriseScore",
    "VectorCalibration",
    "ViolationScore",
    "flat",
    "selected_horizons",
]


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
    actions: ActionScore | None = None
    policies: dict[str, PolicyScore] = field(default_factory=dict)  # "policy", then "random" and others

    def numbers(self) -> dict[str, float]:
        """Return all numbers by their logged names: ``policy/success``, ``arbiter/frechet``."""
        model = {name: score for name, score in vars(self).items() if name != "policies"}
        return flat({**model, **self.policies})


def flat(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of scores as metrics: ``policy/success``, ``prediction/lcd/iou@5``, ..."""
    rows = {name: score.row() for name, score in scores.items() if isinstance(score, HasRow)}
    return {f"{name}/{key}": value for name, row in rows.items() for key, value in row.items()}
