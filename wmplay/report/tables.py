"""The tables of results, built once for the terminal and the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from wmplay.evaluation.scores import (
    MODEL,
    REAL,
    ActionScore,
    AgreementScore,
    ArbiterScore,
    CalibrationScore,
    Curve,
    Evaluation,
    FactorScore,
    FactorSweep,
    FeatureScore,
    KeyScore,
    PolicyScore,
    PredictionScore,
    RewardScore,
    SpreadScore,
    SurpriseScore,
    ViolationScore,
    selected_horizons,
)
from wmplay.evaluation.statistics import Interval
from wmplay.report.colours import PREDICTORS
from wmplay.report.labels import (
    AGREEMENTS,
    DISTANCES,
    METRICS,
    POLICIES,
    RANDOM,
    SAMPLED,
    SURPRISE_BASELINES,
    policy_label,
)
from wmplay.report.numbers import broken, counted, interval, number, percent, plus_minus
from wmplay.report.verdict import main_policy


@dataclass(frozen=True)
class Grid:
    """A table of words: the first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def policy_grid(policies: dict[str, PolicyScore]) -> Grid | None:
    """Return a table with a row for each policy (success, return, length), or None without any."""
    if not policies:
        return None
    columns = ["", "return", "steps", "episodes"]
    rows = [
        [
            policy_label(name),
            broken(interval(score.mean_return)),
            number(score.mean_length.value),
            f"{score.episodes:,}",
        ]
        for name, score in policies.items()
    ]
    if any(score.success is not None for score in policies.values()):
        columns.insert(1, "success")
        for row, score in zip(rows, policies.values(), strict=True):
            row.insert(1, broken(percent(score.success)) if score.success is not None else "–")
    note = "95% intervals over episodes: success Wilson's, means Student's t."
    if any(score.mean_cost is not None for score in policies.values()):
        columns.insert(-2, "cost")
        for row, score in zip(rows, policies.values(), strict=True):
            row.insert(-2, broken(interval(score.mean_cost)) if score.mean_cost is not None else "–")
        note += " Cost: the sum over an episode; lower is better."
    for name, (label, meaning) in POLICIES.items():
        if name in policies or name + SAMPLED in policies:
            note += f" {label[0].upper()}{label[1:]}: {meaning}."
    return Grid("Policies", columns, rows, note)


def prediction_grids(score: PredictionScore) -> list[Grid]:
    """Return a table for each key: predictors by horizon."""
    return [_prediction_grid(key, result, score) for key, result in score.keys.items()]


def _prediction_grid(key: str, result: KeyScore, score: PredictionScore) -> Grid:
    direction = "higher is better" if result.higher_is_better else "lower is better"
    return _curve_grid(f"{key}: {METRICS[result.metric]} ({direction})", result.curves, score)


def _curve_grid(
    title: str,
    curves: Mapping[str, Curve],
    score: ActionScore | PredictionScore | RewardScore,
    more: str = "",
) -> Grid:
    """Return a table of predictors by horizon."""
    horizons = selected_horizons(score.horizon)
    rows = []
    for name, curve in curves.items():
        label = PREDICTORS[name][2] if name in PREDICTORS else name
        rows.append([label, *(number(curve.at(h).value) for h in horizons)])
        if name == MODEL:
            rows.append(["  95% interval", *(plus_minus(curve.at(h)) for h in horizons)])
    columns = ["steps predicted", *(str(h) for h in horizons)]
    note = f"{score.context} frames of context, {score.clips:,} held-out episodes with one clip each.{more}"
    return Grid(title, columns, rows, note)


def model_grids(evaluation: Evaluation) -> list[Grid]:
    """Return all tables about the world model for which scores exist."""
    grids = prediction_grids(evaluation.prediction) if evaluation.prediction is not None else []
    if evaluation.rewards is not None:
        more = " The best constant is the median of these very rewards."
        title = f"reward: {METRICS['mae']} (lower is better)"
        grids.append(_curve_grid(title, evaluation.rewards.curves, evaluation.rewards, more))
    if evaluation.actions is not None:
        unit = "share of wrong ones" if evaluation.actions.discrete else "squared error by variance"
        more = (
            " A network reads them, which learned it on other real frames: below its error on these is luck."
        )
        title = f"actions read from predicted frames: {unit} (lower is better)"
        grids.append(_curve_grid(title, evaluation.actions.curves, evaluation.actions, more))
    if evaluation.features is not None:
        grids.append(_feature_grid(evaluation.features))
    if evaluation.surprise is not None:
        grids.append(_surprise_grid(evaluation.surprise))
    if evaluation.spread is not None:
        grids.append(_spread_grid(evaluation.spread))
    if evaluation.calibration is not None:
        grids.append(_calibration_grid(evaluation.calibration))
    if evaluation.agreement is not None:
        grids.append(_agreement_grid(evaluation.agreement))
    if evaluation.arbiter is not None:
        grids.append(_arbiter_grid(evaluation.arbiter))
    if evaluation.violation is not None:
        grids.append(_violation_grid(evaluation.violation))
    if evaluation.factors is not None:
        grids += [
            _sweep_grid(name, sweep, evaluation.factors) for name, sweep in evaluation.factors.sweeps.items()
        ]
    return grids


def _sweep_grid(name: str, sweep: FactorSweep, score: FactorScore) -> Grid:
    curves = {f"{key} {METRICS[score.metrics[key]]}": curve for key, curve in sweep.model.items()}
    curves |= {f"{score.measure}, {who}": curve for who, curve in sweep.policies.items()}
    rows = [
        [f"{value:g}", *(interval(curve.at(i + 1)) for curve in curves.values())]
        for i, value in enumerate(sweep.values)
    ]
    low, high = sweep.trained
    learned = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return Grid(
        f"In worlds with another {name}",
        [name, *curves],
        rows,
        f"The run learned at {learned}. Predictions at {score.horizon} steps; 95% intervals over episodes.",
    )


def _feature_grid(score: FeatureScore) -> Grid:
    rows = [[f"R2 of {key}", interval(each.r2), _or_dash(each.untrained)] for key, each in score.keys.items()]
    before = "–" if score.untrained_rank is None else number(score.untrained_rank)
    rows.append(["effective rank", number(score.rank), before])
    rows.append(["jumps noticed", percent(score.jumps), _or_dash(score.untrained_jumps, percent)])
    last = f"latent error at {counted(score.horizon, 'step')}"
    rows.append([last, interval(score.error.at(score.horizon)), "–"])
    rows.append(["  copy last latent", interval(score.copy_last.at(score.horizon)), "–"])
    note = (
        f"{counted(score.size, 'feature')}, {counted(score.clips, 'held-out clip')}. R2: the part of a "
        "vector that a linear probe reads from the features, on episodes held out from it (jackknife "
        "intervals). Jumps noticed: how often another clip's next frame is further from the prediction than "
        "the real one. Latent errors are parts of the latents' variance."
    )
    return Grid("Features", ["", "model", "untrained"], rows, note)


def _or_dash(value: Interval | None, words: Callable[[Interval], str] = interval) -> str:
    return "–" if value is None else words(value)


def _surprise_grid(score: SurpriseScore) -> Grid:
    label = "model (at most)" if score.kind == "bound" else "model"
    named = {label: score.bits, **{SURPRISE_BASELINES[name]: x for name, x in score.baselines.items()}}
    rows = [[name, interval(bits), number(bits.value / score.pixels)] for name, bits in named.items()]
    bound = " The model's is an upper bound of the exact number." if score.kind == "bound" else ""
    note = (
        f"Negative log-likelihood of a screen given all earlier ones: {counted(score.frames, 'frame')} of "
        f"each of {counted(score.clips, 'held-out clip')}. 95% intervals over clips.{bound}"
    )
    return Grid("Surprise (lower is better)", ["", "bits per frame", "bits per pixel"], rows, note)


def _spread_grid(score: SpreadScore) -> Grid:
    rows = [
        [f"{key} ({DISTANCES[spread.metric]})"]
        + [
            broken(interval(curve.at(score.horizon)))
            for curve in (spread.among, spread.to_truth, spread.unrelated)
        ]
        for key, spread in score.keys.items()
    ]
    note = (
        f"{counted(score.futures, 'sampled future')} of each of {counted(score.clips, 'beginning')}, under "
        "the same actions. If the model's uncertainty is right, the first two columns are equal; if the "
        "first is much smaller, the model is too certain."
    )
    columns = ["", "future to future", "future to truth", "unrelated clips"]
    return Grid(f"Distance of sampled futures after {counted(score.horizon, 'step')}", columns, rows, note)


def _calibration_grid(score: CalibrationScore) -> Grid:
    horizons = selected_horizons(score.horizon)
    curves = [(f"{key}: reliability error", each.error) for key, each in score.screens.items()]
    for key, vector in score.vectors.items():
        curves.append((f"{key}: spread to skill", vector.ratio))
        curves.append((f"{key}: CRPS", vector.crps))
        curves.append(("  copy last frame", vector.copy_last))
    rows = []
    for name, curve in curves:
        rows.append([name, *(number(curve.at(h).value) for h in horizons)])
        rows.append(["  95% interval", *(plus_minus(curve.at(h)) for h in horizons)])
    judged = [f"{100 * score.screens[key].judged[-1]:.0f}% of {key}" for key in score.screens]
    pixels = f", of pixels with probabilities of 1 to 99% ({', '.join(judged)} at the end)" if judged else ""
    note = (
        f"{counted(score.futures, 'sampled future')} of each of {counted(score.clips, 'beginning')}. "
        f"Reliability error: mean distance of probability and frequency{pixels}; 0 is reliable. Spread to "
        "skill: spread of the futures by the error of their mean; 1 is calibrated, below is too certain. "
        "CRPS: lower is better."
    )
    return Grid("Calibration", ["steps predicted", *(str(h) for h in horizons)], rows, note)


def _agreement_grid(score: AgreementScore) -> Grid:
    horizons = selected_horizons(score.horizon)
    curves = {"predicted": score.model, "true frames": score.ceiling, "of another clip": score.floor}
    rows = []
    for name, curve in curves.items():
        rows.append([name, *(number(curve.at(h).value) for h in horizons)])
        if curve is score.model:
            rows.append(["  95% interval", *(plus_minus(curve.at(h)) for h in horizons)])
    note = (
        f"The screen and the {score.key} of one sampled future of each of {counted(score.clips, 'clip')}: "
        f"the world's renderer draws the {score.key}, and the drawing is compared with the screen."
    )
    title = f"Agreement of screen and {score.key}: {AGREEMENTS[score.measure]} (higher is better)"
    return Grid(title, ["steps predicted", *(str(h) for h in horizons)], rows, note)


def _arbiter_grid(score: ArbiterScore) -> Grid:
    labels = {MODEL: "model", REAL: "real (floor)", "copy-last": "copy last (ceiling)"}
    metrics = {"Frechet distance": [x.frechet for x in score.likeness.values()]}
    for name in score.likeness[MODEL].neighbours:
        what, _, k = name.partition("@")
        label = f"{'F1' if what == 'f1' else what}, k = {k}"
        metrics[label] = [x.neighbours[name] for x in score.likeness.values()]
    rows = [[name, *(broken(interval(x)) for x in values)] for name, values in metrics.items()]
    errors = [x.action_error for x in score.likeness.values()]
    chance = ""
    if all(error is not None for error in errors):
        rows.append(["action error", *(broken(interval(x)) for x in errors if x is not None)])
        chance = f" The mean action has an error of {number(score.chance or 0)}."
    note = (
        "Frechet distance and action error: lower is better. Precision: the part of generated clips near "
        f"real ones; recall: the part of real clips near generated ones. Arbiter {score.arbiter}, "
        f"{counted(score.clips, 'clip')} of five frames in each set, from "
        f"{counted(score.episodes, 'episode')}, {counted(score.context, 'frame')} of context and "
        f"{counted(score.horizon, 'step')}. 95% jackknife intervals over episodes.{chance}"
    )
    columns = ["", *(labels.get(name, name) for name in score.likeness)]
    return Grid("Realism, by the arbiter", columns, rows, note)


def _violation_grid(score: ViolationScore) -> Grid:
    names = list(next(iter(score.kinds.values())).sets)
    rows = [
        [
            event.replace("_", " "),
            *(broken(percent(kind.sets[name])) for name in names),
            broken(percent(kind.accuracy[MODEL])),
        ]
        for event, kind in score.kinds.items()
    ]
    sets = min(kind.pairs for kind in score.kinds.values()) // 2
    note = (
        f"The part of {counted(sets, 'set')} of each kind in which two impossible episodes surprise more "
        f"than two possible ones ({score.unit}, summed over the steps after the event). All consist of the "
        "same frames and differences of frames, so that 50% is chance. 95% Wilson intervals. The oracle "
        "knows the possible episode. Last column: pairs of one possible and one impossible episode, in "
        "which an ending that is harder to predict counts, too."
    )
    return Grid("Violation of expectation (higher is better)", ["", *names, f"{MODEL}, pairs"], rows, note)


def headline(evaluation: Evaluation) -> dict[str, Interval]:
    """Return the main numbers of a run: success and return, and each key at the first and last step.

    ``success`` is that of the run's policy; others are named ``success (policy, sampled)``, ``success (in the
    learned world)`` and so on.
    """
    found: dict[str, Interval] = {}
    score = main_policy(evaluation)
    if score is not None:
        if score.success is not None:
            found["success"] = score.success
        found["return"] = score.mean_return
        if score.mean_cost is not None:
            found["cost"] = score.mean_cost
    for name, other in evaluation.policies.items():
        if other is not score and name != RANDOM and other.success is not None:
            found[f"success ({policy_label(name)})"] = other.success
    if evaluation.surprise is not None:
        found["bits per frame"] = evaluation.surprise.bits
    if evaluation.arbiter is not None:
        found["Frechet distance"] = evaluation.arbiter.likeness[MODEL].frechet
    if evaluation.features is not None and not (evaluation.prediction and evaluation.prediction.keys):
        found |= {f"{key} R2": each.r2 for key, each in evaluation.features.keys.items()}
    if evaluation.prediction is not None:
        for key, result in evaluation.prediction.keys.items():
            for h in sorted({1, evaluation.prediction.horizon}):
                found[f"{key} {result.metric}@{h}"] = result.curves[MODEL].at(h)
    return found
