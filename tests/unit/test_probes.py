"""What the features of a model hold, on data where the answer is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wmplay.contracts import Prediction, Segment, Trajectory
from wmplay.evaluation.clips import ClipSet, cut_clips
from wmplay.evaluation.files import load_evaluation, save_evaluation
from wmplay.evaluation.metrics.actions import evaluate_actions
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.metrics.probes import effective_rank, evaluate_features, observable_share, probe

EPISODES, STEPS, CONTEXT, HORIZON = 23, 11, 3, 5


class Walk(nn.Module):
    """A model of ``place`` [2], which moves by its action; without a picture, it knows the place exactly.

    Its features are a linear map of the place, or of something else entirely.
    """

    predicted = ()

    def __init__(self, knows: str = "place") -> None:
        super().__init__()
        self.knows = knows
        self.map = torch.tensor([[1.0, 2.0, -1.0], [0.5, -3.0, 2.0]])

    def initial(self, observation: dict[str, Tensor]) -> Tensor:
        return observation["place"]

    def observe(self, belief: Tensor, action: Tensor, observation: dict[str, Tensor]) -> Tensor:
        return observation["place"][:, -1]

    def predict(self, belief: Tensor, action: Tensor, *, generator: Any = None) -> Prediction:
        places = belief.unsqueeze(1) + action.cumsum(1)
        return Prediction(places @ self.map, None, None, places[:, -1], self.decode)

    def decode(self, latent: Tensor) -> dict[str, Tensor]:
        return {}

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        raise NotImplementedError

    def features(self, belief: Tensor) -> Tensor:
        if self.knows == "nothing":
            return torch.ones(len(belief), 3)
        return belief @ self.map

    def track(self, segment: Segment) -> Tensor:
        return segment.observation["place"].flatten(0, 1)


def walks(episodes: int = EPISODES) -> ClipSet:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(episodes):
        action = rng.normal(size=(STEPS, 2)).astype(np.float32)
        place = np.concatenate([rng.normal(size=(1, 2)), action]).cumsum(0).astype(np.float32)
        other = rng.normal(size=(STEPS + 1, 5)).astype(np.float32)
        seen = {"place": place, "other": other, "still": np.ones((STEPS + 1, 1), np.float32)}
        zero = np.zeros(STEPS, np.float32)
        found.append(Trajectory(seen, action, zero, zero > 1, zero > 1))
    return cut_clips(found, CONTEXT, HORIZON)


def test_what_is_a_linear_map_is_read_whole_and_noise_not_at_all() -> None:
    score = evaluate_features(Walk(), walks(), Walk("nothing"))
    assert score is not None
    place, other = score.keys["place"], score.keys["other"]
    assert place.r2.value == pytest.approx(1, abs=1e-5)
    assert place.entries == pytest.approx([1, 1], abs=1e-5)
    assert abs(other.r2.value) < 0.2
    assert other.r2.low < 0
    assert place.untrained is not None
    assert place.untrained.value < 0.01
    assert place.untrained_entries is not None
    assert np.mean(place.untrained_entries) == pytest.approx(place.untrained.value)
    assert math.isnan(score.keys["still"].r2.value), "what never changes has no R2"
    assert (score.size, score.clips, score.untrained_rank) == (3, EPISODES, pytest.approx(1, abs=1e-3))
    assert 1 < score.rank <= 2 + 1e-6


def test_an_exact_model_has_no_latent_error_and_notices_every_jump() -> None:
    score = evaluate_features(Walk(), walks())
    assert score is not None
    assert max(score.error.mean) < 1e-9
    assert min(score.copy_last.mean) > 0.01
    assert score.copy_last.mean[-1] > score.copy_last.mean[0]
    assert (score.jumps.value, score.untrained_jumps) == (1, None)
    assert score.row()["place/r2"] == score.keys["place"].r2.value


def test_a_probe_is_scored_on_other_episodes_than_it_is_fitted_on() -> None:
    """As many features as frames explain everything that they were fitted on, and nothing else."""
    torch.manual_seed(0)
    r2, entries = probe(torch.randn(11, 3, 40), torch.randn(11, 3, 2))
    assert r2.value < 0.3
    assert len(entries) == 2


@pytest.mark.parametrize("rank", [1, 3, 7])
def test_the_effective_rank_of_k_dimensions_is_k(rank: int) -> None:
    torch.manual_seed(rank)
    spread, _ = torch.linalg.qr(torch.randn(59, rank + 1) + 0.0)
    centred, _ = torch.linalg.qr((spread - spread.mean(0))[:, :rank])
    axes, _ = torch.linalg.qr(torch.randn(11, rank))
    data = 3 * centred @ axes.T
    assert effective_rank(data) == pytest.approx(rank, rel=1e-4)
    assert effective_rank(data + 1000) == pytest.approx(1, abs=0.01), "next to a constant"
    assert effective_rank(torch.full((59, 11), 0.3)) == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.zeros(59, 11)) == 0


class Rewarding(Walk):
    """A walk that predicts a reward: of the place it sees, or of a place that it does not see."""

    predicted = ("place",)

    def __init__(self, rewards: str = "place") -> None:
        super().__init__()
        self.rewards = rewards

    def predict(self, belief: Tensor, action: Tensor, *, generator: Any = None) -> Prediction:
        places = belief.unsqueeze(1) + action.cumsum(1) * (self.rewards != "its own way")
        reward = None if self.rewards == "none" else places.sum(-1)
        return Prediction(places, reward, None, places[:, -1], lambda latent: {"place": latent})


def test_actions_are_read_from_predictions_that_follow_them() -> None:
    follows, ignores = (evaluate_actions(Rewarding(way), walks(61)) for way in ("place", "its own way"))
    assert follows is not None
    assert ignores is not None
    assert (follows.row()["error"], follows.clips) == (pytest.approx(follows.row()["real"], abs=1e-4), 31)
    assert follows.row()["error"] < 0.3 < 0.7 < ignores.row()["error"]
    assert ignores.row()["real"] == follows.row()["real"]
    assert evaluate_actions(Walk(), walks()) is None, "no observation is predicted"
    assert evaluate_actions(Rewarding(), walks(3)) is None


def test_the_share_of_rewards_in_what_is_observed() -> None:
    class Hidden(Rewarding):
        """Half of the features are noise by the place, and rewards depend on this half alone."""

        def features(self, belief: Tensor) -> Tensor:
            return torch.cat([belief, (belief * 1e4).sin()], -1)

        def predict(self, belief: Tensor, action: Tensor, *, generator: Any = None) -> Prediction:
            future = super().predict(belief, action, generator=generator)
            hidden = self.features(future.belief)[:, 2:].sum(-1, keepdim=True)
            return Prediction(future.latent, hidden, None, future.belief, future.decode)

    clips = walks()
    clips.segment.observation.pop("other")
    seen, hidden = observable_share(Rewarding(), clips), observable_share(Hidden(), clips)
    assert seen == pytest.approx(1, abs=1e-3)
    assert hidden is not None
    assert hidden < 0.2
    assert observable_share(Rewarding("none"), clips) is None


def test_models_without_features_and_single_clips_have_no_score() -> None:
    class Blind(Walk):
        features = None  # type: ignore[assignment]

    assert evaluate_features(Blind(), walks()) is None
    assert evaluate_features(Walk(), walks(1)) is None


def test_the_score_is_kept_whole(tmp_path: Any) -> None:
    clips = walks()
    score = evaluate_features(Walk(), clips, Walk("nothing"))
    save_evaluation(tmp_path, features=score, prediction=evaluate_prediction(Walk(), clips))
    again = load_evaluation(tmp_path)
    assert again is not None
    assert again.features is not None
    assert again.prediction is not None
    assert again.prediction.keys == {}
    assert repr(again.features) == repr(score)
