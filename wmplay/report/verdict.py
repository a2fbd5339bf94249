"""The one-sentence verdict on a run, and the score that it is about."""

from __future__ import annotations

import math
from collections.abc import Mapping

from wmplay.evaluation.scores import (
    MODEL,
    Evaluation,
    FeatureScore,
    KeyScore,
    PolicyScore,
    PredictionScore,
    ViolationScore,
)
from wmplay.evaluation.statistics import Interval
from wmplay.report.labels import METRICS, POLICY, RANDOM, SAMPLED
from wmplay.report.numbers import counted, interval, number, percent
from wmplay.report.run_files import RunFiles

CHANCE = 0.5  # part of the sets in which impossible events surprise more by chance


def verdict(run: RunFiles) -> str:
    """Return the run's main results in one sentence."""
    evaluation = run.evaluation or Evaluation()
    parts = []
    if evaluation.prediction is not None and evaluation.prediction.keys:
        parts.append(_prediction(evaluation.prediction))
    elif evaluation.features is not None:
        parts.append(_features(evaluation.features))
    if evaluation.violation is not None:
        parts.append(_violation(evaluation.violation))
    main = main_policy(evaluation)
    if main is not None:
        parts.append(_policy(main, evaluation.policies))
    if parts:
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}."
    steps = max((int(line["step"]) for line in run.log if line.get("phase") == "fit"), default=0)
    return f"Not evaluated yet: {counted(steps, 'model update')} so far."


def main_key(prediction: PredictionScore) -> str:
    """Return the observation key of the verdict: a screen if one exists, then an image, then a vector."""
    order = list(METRICS)
    return min(prediction.keys, key=lambda key: order.index(prediction.keys[key].metric))


def _prediction(score: PredictionScore) -> str:
    key = main_key(score)
    result = score.keys[key]
    metric = METRICS[result.metric].partition(" (")[0]
    curve = result.curves[MODEL]
    first = f"{number(curve.mean[0])} at 1 step"
    last = f", {number(curve.mean[-1])} at {score.horizon}" if score.horizon > 1 else ""
    shown, ahead = counted(score.context, "frame"), _ahead(result, score.horizon)
    return f"After {shown} of context, the model predicts {key} with a {metric} of {first}{last}, {ahead}"


def _features(score: FeatureScore) -> str:
    read = " and ".join(f"{number(each.r2.value)} of {key}" for key, each in score.keys.items())
    text = f"a linear probe reads {read} (R2) from the features" if read else "the model has features"
    return f"{text}, and the latents have an effective rank of {number(score.rank)}"


def _violation(score: ViolationScore) -> str:
    noticed = [name for name, kind in score.kinds.items() if kind.sets[MODEL].low > CHANCE]
    names = f" ({', '.join(name.replace('_', ' ') for name in noticed)})" if noticed else ""
    return (
        f"the model notices {len(noticed)} of {counted(len(score.kinds), 'kind')} of impossible events{names}"
    )


def _ahead(result: KeyScore, horizon: int) -> str:
    """Return a description of the horizons at which the model is better than all baselines."""
    if not result.baselines:
        return "without a baseline"
    until = result.ahead_until()
    side = "above" if result.higher_is_better else "below"
    if until == 0:
        since = result.ahead_from()
        only = "even at 1 step" if since is None else f"at 1 step, but from {counted(since, 'step')} on"
        return f"not clearly {side} every baseline {only}"
    if until == horizon:
        return f"{side} every baseline at all horizons"
    return f"{side} every baseline up to {counted(until, 'step')}"


def _policy(score: PolicyScore, policies: Mapping[str, PolicyScore]) -> str:
    random = policies.get(RANDOM)
    episodes = counted(score.episodes, "episode")
    if score.success is None:
        text = f"the policy's return is {interval(score.mean_return)} over {episodes}"
        return text + (f", a random one's {interval(random.mean_return)}" if random else "")
    ways = {
        POLICY + SAMPLED: "with sampled actions",
        "learned": "in the learned world",
        "learned" + SAMPLED: "sampled in the learned world",
    }
    beside = [
        f"{percent(Interval(other.success.value, math.nan, math.nan))} {ways[name]}"
        for name, other in policies.items()
        if name in ways and other.success is not None
    ]
    text = f"the policy reaches the goal in {percent(score.success)} of {episodes}"
    text += f" ({', '.join(beside)})" if beside else ""
    return text + (f", a random one in {percent(random.success)}" if random and random.success else "")


def main_policy(evaluation: Evaluation) -> PolicyScore | None:
    """Return the score of the run's own policy, or the first that is not the random one's."""
    others = (score for name, score in evaluation.policies.items() if name != RANDOM)
    return evaluation.policies.get(POLICY) or next(others, None)
