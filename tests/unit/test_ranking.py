"""Ranking of policies: prediction-powered means are calibrated, the order is counted by hand."""

import numpy as np
import pytest
from episodes import episode

from wmplay.evaluation.ranking.inference import powered_mean
from wmplay.evaluation.ranking.scoring import Outcomes, progress, reversed_pairs, score_ranking

TRUTH, SIMULATED, REAL, MORE = 3.0, 2000, 60, 600


def simulated(correlation, bias=0.7, scale=2.0, success=False):
    """Simulate outcomes of a known mean, and a model that correlates with them, of another mean and scale."""
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(2, SIMULATED, REAL + MORE))
    guess = correlation * common + np.sqrt(1 - correlation**2) * own
    if success:
        real, guess = common < 0, guess < bias - 0.5
        return real[:, :REAL].astype(float), guess[:, :REAL].astype(float), guess[:, REAL:].astype(float)
    return TRUTH + common[:, :REAL], *np.split(bias + scale * guess, [REAL], axis=1)


@pytest.mark.parametrize("success", [False, True], ids=["return", "success"])
@pytest.mark.parametrize("correlation", [1.0, 0.9, 0.0, -0.6])
def test_prediction_powered_means_cover_the_truth_as_often_as_they_say(correlation, success):
    real, paired, imagined = simulated(correlation, success=success)
    found = powered_mean(real, paired, imagined)
    truth = 0.5 if success else TRUTH
    assert np.mean((found.low <= truth) & (truth <= found.high)) == pytest.approx(0.95, abs=0.02)
    assert found.value.mean() == pytest.approx(truth, abs=0.01)


@pytest.mark.parametrize("correlation", [1.0, 0.9, 0.0])
def test_widths_are_those_of_the_closed_form(correlation):
    # of the variance of n real outcomes remains 1 - rho^2 / (1 + n / N), for the best weight
    real, paired, imagined = simulated(correlation)
    found, alone = (powered_mean(real, guess, imagined) for guess in (paired, np.zeros_like(real)))
    ratio = (found.high - found.low) / (alone.high - alone.low)
    assert np.all(ratio <= 1 + 1e-9), "never wider than the real outcomes alone"
    assert np.mean(ratio**2) == pytest.approx(1 - correlation**2 / (1 + REAL / MORE), abs=0.03)
    assert found.weight.mean() == pytest.approx(correlation / 2 / (1 + REAL / MORE), abs=0.01)


def test_a_model_that_says_the_same_everywhere_is_ignored():
    real = np.array([1.0, 2, 3])
    found = powered_mean(real, np.full(3, 8.0), np.full(5, 8.0))
    assert (found.value, found.weight) == (2, 0)
    assert found.high - found.value == pytest.approx(4.3027 / 3**0.5, abs=1e-4)


def test_reversed_pairs_by_hand():
    real = np.array([0.0, 1, 2, 2])
    assert reversed_pairs(real, real) == 0
    assert reversed_pairs(real, -real) == 1
    assert reversed_pairs(real, np.zeros(4)) == 0.5
    assert reversed_pairs(real, np.array([0.0, 3, 2, 2])) == pytest.approx(2 / 5)  # the tie does not count
    assert np.isnan(reversed_pairs(np.ones(4), real))


def test_outcomes_up_to_each_step_last_to_the_end():
    episodes = [episode(number=1, length=3), episode(number=2, length=5)]  # the first one terminates
    returns = progress(episodes, 5, "return")
    for row, each in zip(returns, episodes, strict=True):
        assert row[: len(each)] == pytest.approx(np.cumsum(each.reward))
    assert (returns[0, 3:] == returns[0, 2]).all()
    assert progress(episodes, 5, "success").tolist() == [[0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]


def outcomes(real, imagined):
    return Outcomes(np.array(real, float)[:, None], np.array(imagined, float)[:, None], 3.0, 1.0)


def test_a_perfect_model_and_one_that_is_the_wrong_way_round():
    rng = np.random.default_rng(0)
    true = {f"policy{level}": rng.normal(level, 0.1, size=50) for level in range(6)}
    right = score_ranking({name: outcomes(y[:9], y) for name, y in true.items()}, "return", 7, "digest")
    wrong = score_ranking({name: outcomes(y[:9], -y) for name, y in true.items()}, "return", 7, "digest")
    assert (right.kendall.value, right.spearman.value) == pytest.approx((1, 1))
    assert (wrong.kendall.value, wrong.spearman.value) == pytest.approx((-1, -1))
    assert (right.reversed.mean, wrong.reversed.mean) == ([0], [1])
    for name, rank in right.policies.items():
        assert rank.optimism == (0, 0, 0)
        assert rank.width < 0.75 * rank.real_width
        assert rank.same_time_width == pytest.approx(rank.real_width * (9 / (9 + 50 / 3)) ** 0.5)
        assert wrong.policies[name].optimism.value == pytest.approx(-2 * rank.real.value)
        assert wrong.policies[name].estimate == pytest.approx(rank.estimate), "its bias is known"


def test_successes_without_exception_keep_wilsons_interval():
    always = outcomes(np.ones(8), np.r_[np.ones(8), np.zeros(30)])
    never = outcomes(np.zeros(8), np.ones(38))
    found = score_ranking({"always": always, "never": never}, "success", 0, "digest").policies
    assert found["always"].estimate == found["always"].real
    assert found["never"].estimate == found["never"].real
    assert found["never"].estimate.high > 0.2
    assert found["never"].optimism.value == 1
    mixed = outcomes([1, 0, 0, 0, 0, 0, 0, 0], np.zeros(38))
    low = score_ranking({"mixed": mixed, "never": never}, "success", 0, "digest").policies["mixed"].estimate
    assert 0 <= low.low <= low.value <= low.high <= 1
