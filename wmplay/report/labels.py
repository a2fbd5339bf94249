"""Numbers and names in words, and the one-sentence verdict on a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from wmplay.evaluation.scores import MODEL, Evaluation, KeyScore, PolicyScore, PredictionScore
from wmplay.evaluation.statistics import Interval
from wmplay.report.record import Record
from wmplay.report.style import METRICS

POLICY = "policy"  # the name of the run's own policy among the scores
RANDOM = "random"
SAMPLED = "_sampled"  # ends the name of a score whose actions were sampled, as the policy learned

POLICIES: Mapping[str, tuple[str, str]] = {  # what to call other scores, and what they are
    "learned": ("learned world", "the policy in the world model that it practised in"),
    "untrained": ("untrained", "a policy of the same kind that has learned nothing"),
    "real": ("trained in reality", "a policy of another run, which practised in the real world"),
    RANDOM: ("random", "actions drawn evenly"),
}


def number(value: float) -> str:
    """Return three significant digits, without exponents in the middle range; a dash for NaN and infinity."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e7:
        return f"{value:.2e}"
    decimals = 0 if size >= 1000 else 1 if size >= 100 else 2 if size >= 10 else 3 if size >= 0.1 else 4
    return f"{value:,.{decimals}f}"


def interval(x: Interval) -> str:
    """Return ``0.742 [0.731, 0.753]``, to two digits of the uncertainty, without unknown ends."""
    return _alike(x, x.value) + (f" [{_alike(x, x.low)}, {_alike(x, x.high)}]" if _known(x) else "")


def broken(text: str) -> str:
    """Return an interval with its bracket on a second line, for narrow columns."""
    return text.replace(" [", "\n[")


def plus_minus(x: Interval) -> str:
    """Return ``±0.011``, half of an interval's width, or a dash if the ends are unknown."""
    return f"±{_alike(x, (x.high - x.low) / 2)}" if _known(x) else "–"


def _alike(x: Interval, value: float) -> str:
    """Return one of an interval's numbers, with as many decimals as the others."""
    half = (x.high - x.low) / 2
    decimals = 1 - math.floor(math.log10(half)) if _known(x) and half > 0 else math.inf
    return f"{value:,.{max(0, int(decimals))}f}" if decimals < 6 else number(value)


def percent(x: Interval) -> str:
    """Return ``98.4% [95.9, 99.4]``."""
    if not math.isfinite(x.value):
        return "–"
    return f"{100 * x.value:.1f}%" + (f" [{100 * x.low:.1f}, {100 * x.high:.1f}]" if _known(x) else "")


def _known(x: Interval) -> bool:
    return math.isfinite(x.low) and math.isfinite(x.high)


def duration(seconds: float) -> str:
    """Return ``0.8 s``, ``47 s``, ``2 min 05 s`` or ``3 h 07 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def wall_times(info: Mapping[str, Any]) -> str:
    """Return the time of each phase of a run, as ``collect 12 s, fit 1 min 05 s``, without those near
    zero."""
    wall: Mapping[str, float] = info.get("wall") or {}
    return ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in wall.items() if seconds >= 0.05)


def counted(n: int, what: str) -> str:
    """Return ``1 step`` or ``2 steps``."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def verdict(record: Record) -> str:
    """Return the run's main results in one sentence."""
    evaluation = record.evaluation or Evaluation()
    parts = []
    if evaluation.prediction is not None and evaluation.prediction.keys:
        parts.append(_prediction(evaluation.prediction))
    main = main_policy(evaluation)
    if main is not None:
        parts.append(_policy(main, evaluation.policies))
    if parts:
        text = "; ".join(parts)
        return f"{text[0].upper()}{text[1:]}."
    steps = max((int(line["step"]) for line in record.metrics if line.get("phase") == "fit"), default=0)
    return f"Not evaluated yet: {counted(steps, 'model update')} so far."


def main_policy(evaluation: Evaluation) -> PolicyScore | None:
    """Return the score of the run's own policy, or the first that is not the random one's."""
    others = (score for name, score in evaluation.policies.items() if name != RANDOM)
    return evaluation.policies.get(POLICY) or next(others, None)


def policy_label(name: str) -> str:
    """Return the label of a policy's score: "policy, sampled" for "policy_sampled"."""
    plain = name.removesuffix(SAMPLED)
    label = POLICIES[plain][0] if plain in POLICIES else plain.replace("_", " ")
    return label + (", sampled" if name.endswith(SAMPLED) else "")


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
    return f"Shown {shown}, the model predicts {key} with a {metric} of {first}{last}, {ahead}"


def _ahead(result: KeyScore, horizon: int) -> str:
    """Return a description of the horizons at which the model is better than all baselines."""
    if not result.baselines:
        return "with no baseline beside it"
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
