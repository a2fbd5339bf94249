"""Statistics of studies against published examples, and calibrated on simulated studies."""

import math

import numpy as np
import pytest
from scipy import stats

from wmplay.evaluation.statistics import Interval, stratified_bootstrap
from wmplay.studies.statistics import (
    bootstrapped,
    expanded,
    gap,
    holm,
    improvement,
    interquartile_means,
    level,
    paired,
    power,
    profile,
    ranks,
    seeds_needed,
    variances,
)

# Hours of sleep gained by ten patients under two drugs (Cushny and Peebles 1905; "Student" 1908)
FIRST = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
SECOND = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])

STUDIES = 500
EPISODES = 100


def test_students_own_example():
    found = paired(FIRST - SECOND)
    assert found.mean == pytest.approx(-1.58)
    assert (found.low, found.high) == (pytest.approx(-2.4598858), pytest.approx(-0.7001142))
    assert found.p == pytest.approx(0.002833, abs=1e-6)


def test_two_one_sided_tests_of_the_same_data():
    # t(9) = -2.777 against the lower bound -0.5 (TOSTER's first example)
    found = paired(FIRST - SECOND, margin=0.5)
    assert found.p_equivalent == pytest.approx(0.9892, abs=1e-4)
    assert paired(SECOND - FIRST, margin=0.5).p_equivalent == pytest.approx(found.p_equivalent)
    assert paired(np.zeros((3, 5)), margin=0.1).p_equivalent == pytest.approx(np.zeros(3))
    assert paired(FIRST - SECOND).p_equivalent == 1


def test_one_seed_says_nothing_and_equal_differences_say_all():
    found = paired(np.array([[3.0]]), margin=9.0)
    assert math.isnan(found.low[0])
    assert (found.p[0], found.p_equivalent[0]) == (1, 1)
    assert paired(np.full(5, 2.0)).p == 0
    assert paired(np.zeros(5)).p == 1


def test_holm_by_hand():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([[0.5, 0.9], [0.03, 0.02]])) == pytest.approx(np.array([[1, 1], [0.04, 0.04]]))
    assert holm(np.array([0.02])) == pytest.approx([0.02])


def test_mann_whitney_of_aesops_race():
    # THHHHHTTTTTH: of 36 pairs a tortoise is ahead in 11
    tortoise, hare = np.array([12, 6, 5, 4, 3, 2.0]), np.array([11, 10, 9, 8, 7, 1.0])
    assert improvement(tortoise[:, None], hare[:, None]) == pytest.approx(11 / 36)
    assert improvement(hare[:, None], tortoise[:, None]) == pytest.approx(25 / 36)
    assert improvement(np.ones((3, 2)), np.ones((5, 2))) == 0.5


def test_interquartile_means_are_scipys_trimmed_means():
    scores = np.random.default_rng(0).normal(size=(2, 7, 3))
    assert interquartile_means(scores) == pytest.approx(stats.trim_mean(scores.reshape(2, -1), 0.25, axis=1))


def test_profiles_and_ranks_by_hand():
    scores = np.array([[[1.0, 5], [3, 5]], [[2.0, 6], [2, 6]], [[0.0, 5], [0, 5]]])  # arms, seeds, worlds
    assert profile(scores[0], np.array([0.0, 1, 2.5, 5])).tolist() == [1, 0.75, 0.75, 0]
    assert ranks(scores).tolist() == [(1.5 + 2.5) / 2, (1.5 + 1) / 2, (3 + 2.5) / 2]


def test_the_bootstrap_without_expansion_is_the_percentile_one(monkeypatch):
    monkeypatch.setattr("wmplay.studies.statistics.expanded", lambda confidence, units, strata: confidence)
    scores = np.random.default_rng(3).normal(size=(11, 2))
    value, low, high = (float(each[0]) for each in bootstrapped(interquartile_means, scores[None]))
    other = stratified_bootstrap(scores)
    assert value == pytest.approx(other.value)
    assert (low, high) == (pytest.approx(other.low, abs=0.05), pytest.approx(other.high, abs=0.05))


def test_arms_that_are_drawn_together_keep_their_difference():
    noise = np.random.default_rng(0).normal(size=(1, 7, 2))
    scores = np.concatenate([noise, noise + 1])
    _, low, high = bootstrapped(
        lambda x: x[:, 1].mean((-2, -1)) - x[:, 0].mean((-2, -1)), scores, together=True
    )
    assert (low, high) == (pytest.approx(1), pytest.approx(1))
    assert math.isnan(bootstrapped(interquartile_means, scores[:, :1])[1][0])


def test_an_expanded_interval_of_few_units_is_wider():
    # one-sided 0.0010 and 0.0086 for 5 and 10 units (Hesterberg 2015)
    assert [round((1 - expanded(0.95, n)) / 2, 4) for n in (5, 10)] == [0.001, 0.0086]


@pytest.mark.parametrize(("effect", "seeds"), [(0.5, 34), (0.8, 15), (0.2, 199)])
def test_power_is_that_of_the_tables(effect, seeds):
    # two-sided paired t test, alpha .05, power .8 (Cohen 1988; G*Power)
    assert seeds_needed(effect, 1.0) == seeds
    assert power(effect, 1.0, seeds - 1) < 0.8 <= power(effect, 1.0, seeds)


def test_power_at_its_ends():
    assert seeds_needed(100.0, 1.0) == 5
    assert seeds_needed(1e-3, 1.0) is None
    assert power(0.0, 1.0, 7) == pytest.approx(0.05)


def test_variances_of_a_pilot():
    rng = np.random.default_rng(0)
    runs = rng.normal(0, 0.1, size=(2, 400)) + 0.5
    scores = rng.binomial(50, np.clip(runs, 0, 1)) / 50
    found = variances(scores[0] - scores[1], (scores * (1 - scores)).ravel(), 50)
    assert found.seeds == pytest.approx(0.02, rel=0.3)
    assert found.deviation(50) == pytest.approx(np.std(scores[0] - scores[1]), rel=0.1)
    assert found.deviation(5000) < found.deviation(50)


def test_a_gap_has_the_sides_of_both_intervals():
    assert gap(Interval(1.0, 0.7, 1.0), Interval(0.5, 0.5, 0.9)) == pytest.approx((0.5, 0.0, 0.5))


# ---- calibration ----------------------------------------------------------------------------------------


def simulated(truth, seeds, worlds=1, studies=STUDIES, spread=0.04):
    """Successes of two arms [studies, arms, seeds, worlds] of 100 episodes; paired seeds are alike."""
    rng = np.random.default_rng([round(1000 * truth) + 999, seeds, worlds])
    shared = rng.normal(0, spread, size=(studies, 1, seeds, worlds))
    own = rng.normal(0, spread, size=(studies, 2, seeds, worlds))
    rates = 0.5 + np.array([truth, 0])[:, None, None] + shared + own
    return rng.binomial(EPISODES, np.clip(rates, 0, 1)) / EPISODES


@pytest.mark.parametrize("seeds", [5, 10])
@pytest.mark.parametrize("truth", [0.0, 0.02, 0.3])
def test_simulated_studies_reject_and_cover_as_often_as_they_say(truth, seeds):
    scores = simulated(truth, seeds)
    found = paired((scores[:, 0] - scores[:, 1])[..., 0])
    covered = np.mean((found.low <= truth) & (truth <= found.high))
    assert covered == pytest.approx(0.95, abs=0.02)
    rejected = np.mean(found.p < 0.05)
    if truth == 0:
        assert rejected == pytest.approx(0.05, abs=0.02)
    elif truth == 0.3:
        assert rejected > 0.95
    else:  # a small difference is found as often as the computed power says
        deviation = math.sqrt(2 * (0.04**2 + 0.25 / EPISODES))
        assert rejected == pytest.approx(power(truth, deviation, seeds), abs=0.04)


@pytest.mark.parametrize(("truth", "accepted"), [(0.1, 0.05), (-0.1, 0.05), (0.0, None)])
def test_simulated_studies_find_equivalence_as_often_as_they_say(truth, accepted):
    scores = simulated(truth, 10)
    found = np.mean(paired((scores[:, 0] - scores[:, 1])[..., 0], margin=0.1).p_equivalent < 0.05)
    assert found > 0.8 if accepted is None else found == pytest.approx(accepted, abs=0.02)


def test_several_comparisons_err_together_as_often_as_one():
    p = np.stack(
        [paired((s[:, 0] - s[:, 1])[..., 0]).p for s in (simulated(0.0, n) for n in (5, 6, 7, 8))], -1
    )
    assert np.mean(p.min(-1) < 0.05) > 0.12  # without adjustment
    assert np.mean(holm(p).min(-1) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_several_looks_err_together_no_more_often_than_one():
    scores = simulated(0.0, 20)
    p = np.stack([paired((scores[:, 0] - scores[:, 1])[:, :n, 0]).p for n in (5, 10, 20)], -1)
    assert np.mean(p.min(-1) < level(3)) <= 0.07
    assert np.mean(p.min(-1) < 0.05) > 0.07  # without the rule


@pytest.mark.parametrize(("seeds", "worlds"), [(5, 1), (10, 1), (5, 3)])
def test_simulated_interquartile_means_are_covered(seeds, worlds):
    scores = simulated(0.0, seeds, worlds, studies=1000)[:, 0]
    ends = [bootstrapped(interquartile_means, study[None], resamples=400)[1:] for study in scores]
    covered = np.mean([low[0] <= 0.5 <= high[0] for low, high in ends])
    assert covered == pytest.approx(0.95, abs=0.02)
