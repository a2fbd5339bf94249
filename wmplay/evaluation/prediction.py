"""How good is it: returns and success of a policy, errors of a world model by horizon, with intervals.

The independent unit is the episode: a policy is scored on whole episodes, a model on one window of each
held-out episode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import GOAL_PREFIX, Trajectory, WorldModel
from wmplay.evaluation.clips import Episodes, batches, cut_windows, some_episodes
from wmplay.evaluation.gallery import Clips
from wmplay.evaluation.metrics import Metric, fit_baselines, measure, metric_of
from wmplay.evaluation.scores import MODEL, Curve, KeyScore, PolicyScore, PredictionScore
from wmplay.evaluation.statistics import mean_interval, success_rate
from wmplay.simulation.rollout import observe, predict

# Policies ---------------------------------------------------------------------------------------------


def score_episodes(trajectories: Sequence[Trajectory], seed: int) -> PolicyScore:
    """The score of whole episodes. Where observations hold a goal, ending terminated is success."""
    returns = [float(trajectory.reward.sum(dtype=np.float64)) for trajectory in trajectories]
    lengths = [len(trajectory) for trajectory in trajectories]
    has_goal = any(key.startswith(GOAL_PREFIX) for t in trajectories for key in t.observation)
    successes = [bool(t.terminated.any()) for t in trajectories] if has_goal else None
    return PolicyScore(
        episodes=len(trajectories),
        seed=seed,
        mean_return=mean_interval(np.array(returns)),
        mean_length=mean_interval(np.array(lengths)),
        success=None if successes is None else success_rate(sum(successes), len(successes)),
        returns=returns,
        lengths=lengths,
        successes=successes,
    )


# Predictions ------------------------------------------------------------------------------------------


@torch.no_grad()
def evaluate_prediction(
    model: WorldModel,
    store: Episodes,
    *,
    context: int = 3,
    horizon: int = 20,
    clips: int = 256,
    seed: int = 0,
    samples: int = 0,
    reference: Episodes | None = None,
    device: torch.device | str = "cpu",
) -> PredictionScore:
    """Scores a model's predictions by horizon, beside baselines on the same clips.

    Args:
        model: any world model.
        store: held-out episodes.
        context: frames shown before predicting.
        horizon: steps predicted.
        clips: windows, at most one of each episode so that they are independent.
        seed: chooses the windows and draws the samples.
        samples: N > 0 also scores sampled futures: one, the mean of N, and the best of N (the sample
            with the best mean over the horizon, chosen for each clip and key with the truth in hand).
        reference: episodes that the marginal and the mean are fitted on; None = the held-out ones
            themselves, which can only flatter those baselines.
        device: where the model is.

    Raises:
        WmplayError: if no episode is long enough.
    """
    windows = cut_windows(store, context, horizon, clips, seed)
    metrics = {key: metric_of(frames) for key, frames in windows.observation.items()}
    rng = np.random.default_rng(seed)
    fitted_on = some_episodes(store if reference is None else reference, clips, rng)
    baselines = fit_baselines(fitted_on, metrics, rng)
    generator = torch.Generator(device).manual_seed(seed)
    scored: list[dict[str, dict[str, Tensor]]] = []  # {key: {predictor: [B, H]}} of each
    for batch in batches(windows, device):
        belief = observe(model, batch, context)
        actions = batch.action[:, context - 1 :]
        future = predict(model, belief, actions).observation
        sampled = [predict(model, belief, actions, generator=generator).observation for _ in range(samples)]
        scored.append(
            {
                key: _score_key(
                    metrics[key],
                    batch.observation[key],
                    context,
                    guess,
                    {name: frame.to(device) for name, frame in baselines[key].items()},
                    [sample[key] for sample in sampled],
                )
                for key, guess in future.items()
                if key in metrics
            }
        )
    keys = {
        key: KeyScore(
            metrics[key], {name: Curve.over(torch.cat([b[key][name] for b in scored])) for name in names}
        )
        for key, names in scored[0].items()
    }
    return PredictionScore(context, horizon, len(windows.action), seed, keys)


@torch.no_grad()
def predict_clips(
    model: WorldModel,
    store: Episodes,
    *,
    context: int = 3,
    horizon: int = 20,
    clips: int = 6,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Clips:
    """Predictions of the first windows that ``evaluate_prediction`` scores with the same seed."""
    windows = cut_windows(store, context, horizon, clips, seed).to(device)
    belief = observe(model, windows, context)
    future = predict(model, belief, windows.action[:, context - 1 :]).observation
    keys = [key for key in future if key in windows.observation]
    return Clips(
        context,
        truth={key: windows.observation[key].cpu().numpy() for key in keys},
        prediction={key: future[key].float().cpu().numpy() for key in keys},
    )


def _score_key(
    metric: Metric,
    frames: Tensor,
    context: int,
    guess: Tensor,
    baselines: Mapping[str, Tensor],
    samples: Sequence[Tensor],
) -> dict[str, Tensor]:
    """{predictor: [B, H]} of one key: frames [B, context + H, ...], guess and each sample [B, H, ...]."""
    truth = frames[:, context:]
    guesses = {MODEL: guess, "copy-last": frames[:, context - 1 : context], **baselines}
    scores = {name: measure(metric, guess, truth) for name, guess in guesses.items()}
    if samples:
        n = len(samples)
        each = torch.stack([measure(metric, sample, truth) for sample in samples])  # [N, B, H]
        total = each.mean(-1)
        best = total.argmax(0) if metric == "iou" else total.argmin(0)  # [B]
        scores["1 sample"] = each[0]
        scores[f"mean of {n}"] = measure(metric, torch.stack(list(samples)).mean(0), truth)
        scores[f"best of {n}"] = each[best, torch.arange(len(best), device=best.device)]
    return scores
