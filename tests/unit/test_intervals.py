import math

import numpy as np
import pytest
from scipy import stats

from wmplay.evaluation.statistics import (
    interquartile_mean,
    mean_interval,
    mean_intervals,
    rank_correlation,
    stratified_bootstrap,
    student_t,
    success_rate,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # the published rates of the lamp and the urchin, and textbook values
        (955, 1000, 0.940, 0.966),
        (988, 1000, 0.979, 0.993),
        (5, 10, 0.2366, 0.7634),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
    ],
)
def test_wilson_gives_known_values(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-4)


def test_wilson_without_trials_knows_nothing():
    assert wilson(0, 0) == (0.0, 1.0)
    assert math.isnan(success_rate(0, 0).value)


def test_wilson_narrows_with_less_confidence():
    low, high = wilson(5, 10)
    narrow = wilson(5, 10, confidence=0.5)
    assert low < narrow[0] < 0.5 < narrow[1] < high


@pytest.mark.parametrize(
    ("dof", "t"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (7, 2.365), (30, 2.042), (255, 1.969)],
)
def test_student_t_matches_the_table(dof, t):
    assert student_t(dof, 0.95) == pytest.approx(t, abs=1e-3)


def test_mean_interval_by_hand():
    # 1, 2, 3: mean 2, standard error 1 / sqrt(3), t(2) = 4.3027
    assert mean_interval(np.array([1, 2, 3])) == pytest.approx(
        (2, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), abs=1e-4
    )


def test_mean_interval_of_one_or_no_unit_has_no_ends():
    value, low, high = mean_interval(np.array([7.0]))
    assert value == 7
    assert math.isnan(low)
    assert math.isnan(high)
    assert all(math.isnan(x) for x in mean_interval(np.array([])))


def test_columns_are_intervals_of_their_own():
    values = np.random.default_rng(0).normal(size=(7, 3))
    mean, low, high = mean_intervals(values)
    for h in range(3):
        assert (mean[h], low[h], high[h]) == pytest.approx(mean_interval(values[:, h]))


def test_mean_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [mean_interval(rng.normal(size=5)) for _ in range(1000)]
    assert 0.93 < np.mean([low <= 0 <= high for _, low, high in intervals]) < 0.97


def test_interquartile_mean_cuts_a_quarter_at_each_end():
    assert interquartile_mean(np.array([[-100.0, 2], [4, 900]])) == 3
    assert interquartile_mean(np.arange(10)) == 4.5
    assert interquartile_mean(np.array([0, 1, 2, 3, 4, 5, 60])) == 3  # 7 // 4 = 1 at each end
    assert interquartile_mean(np.array([0.0, 0, 9])) == 3  # too few to cut


def test_interquartile_mean_along_an_axis():
    scores = np.random.default_rng(0).normal(size=(3, 11, 5))
    found = interquartile_mean(scores, axis=1)
    assert found.shape == (3, 5)
    assert found[2, 4] == interquartile_mean(scores[2, :, 4])


def test_bootstrap_of_two_seeds_by_hand():
    # the mean of two draws is low, middle or high with probabilities 1/4, 1/2 and 1/4
    assert stratified_bootstrap(np.array([[3.0], [7.0]])) == (5, 3, 7)
    narrow = stratified_bootstrap(np.array([[3.0], [7.0]]), confidence=0.4)  # from 0.3 to 0.7
    assert narrow == (5, 5, 5)


def test_bootstrap_draws_the_seeds_of_each_task_on_their_own():
    means = []

    def mean(scores, axis=None):
        means.append(np.mean(scores, axis=axis))
        return means[-1]

    # a sum of 0, 1 or 2 in the first task, and of 0, 10 or 20 in the second: in all combinations
    stratified_bootstrap(np.array([[0.0, 0.0], [1.0, 10.0]]), mean)
    assert set(means[1]) == {(one + other) / 4 for one in (0, 1, 2) for other in (0, 10, 20)}


def test_bootstrap_is_seeded_and_stratified():
    # tasks of constant scores: only a draw that mixes tasks could vary
    scores = np.tile([1.0, 5.0], (7, 1))
    assert stratified_bootstrap(scores, np.mean) == (3, 3, 3)
    scores = np.random.default_rng(1).normal(size=(5, 3))
    one = stratified_bootstrap(scores, seed=3)
    assert one == stratified_bootstrap(scores, seed=3) != stratified_bootstrap(scores, seed=4)
    assert one.low < one.value < one.high


def test_bootstrap_resembles_the_normal_interval_of_a_mean():
    scores = np.random.default_rng(2).normal(size=(200, 1))
    half = 1.96 * scores.std(ddof=1) / 200**0.5
    result = stratified_bootstrap(scores, np.mean)
    assert result.low == pytest.approx(result.value - half, abs=0.02)
    assert result.high == pytest.approx(result.value + half, abs=0.02)


def test_bootstrap_of_one_seed_has_no_ends():
    result = stratified_bootstrap(np.array([[0.5]]))
    assert result.value == 0.5
    assert math.isnan(result.low)


def ones(count):
    return [str(i) for i in range(count)]


def test_rank_correlation_sees_order_only():
    x = np.arange(7.0)
    assert rank_correlation(x, np.exp(x), ones(7)).value == pytest.approx(1)
    assert rank_correlation(x, -(x**3), ones(7)).value == pytest.approx(-1)


def test_ties_are_at_their_mean_rank():
    # ranks 0.5 0.5 2 3 4 and 0 1 2 3.5 3.5
    x, y = np.array([1, 1, 2, 3, 4]), np.array([1, 2, 3, 4, 4])
    assert rank_correlation(x, y, ones(5)).value == pytest.approx(9 / 9.5)


def test_what_is_all_equal_has_no_order():
    assert all(math.isnan(end) for end in rank_correlation(np.ones(7), np.arange(7), ones(7)))


def test_few_groups_have_no_interval():
    x, y = np.arange(11.0), np.arange(11.0) % 5
    assert math.isnan(rank_correlation(x[:3], y[:3], ones(3)).low)
    assert math.isnan(rank_correlation(x, y, ["a", "b"] * 5 + ["a"]).low)
    assert math.isfinite(rank_correlation(x, y, ones(11)).low)


def test_pairs_that_come_in_groups_say_less():
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(13, 2))
    x, y = np.repeat(centres, 17, axis=0).T + 0.01 * rng.normal(size=(2, 13 * 17))
    groups = np.repeat(ones(13), 17).tolist()
    alone, together = rank_correlation(x, y, ones(len(x))), rank_correlation(x, y, groups)
    assert together.value == alone.value
    assert together.high - together.low > 2 * (alone.high - alone.low)


def test_rank_correlation_covers_what_is_true():
    """Of independent pairs, 95% intervals hold 0 in about 95% of cases."""
    rng = np.random.default_rng(5)
    found = [rank_correlation(*rng.normal(size=(2, 31)), ones(31), seed=i, resamples=200) for i in range(60)]
    assert 0.85 <= np.mean([low <= 0 <= high for _, low, high in found]) <= 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("n", [5, 13])
def test_perfect_order_has_no_interval(n, sign):
    x = np.random.default_rng(n).permutation(n).astype(float)
    rho = rank_correlation(x, sign * np.exp(x), [str(i) for i in range(n)])
    assert rho.value == pytest.approx(sign)
    assert math.isnan(rho.low)
    assert math.isnan(rho.high)


def test_nearly_perfect_order_has_a_wide_one():
    rho = rank_correlation(np.arange(5.0), np.array([1, 0, 2, 3, 4.0]), list("abcde"))
    assert rho.value == pytest.approx(0.9)
    assert rho.low < 0.5
    assert rho.high == pytest.approx(1)


@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_rank_correlations_are_scipys(kind):
    known = {"kendall": stats.kendalltau, "spearman": stats.spearmanr}[kind]
    x, y = np.random.default_rng(0).integers(5, size=(2, 17))  # with ties
    found = rank_correlation(x, y, [str(i) for i in range(17)], kind=kind)
    assert found.value == pytest.approx(known(x, y).statistic)
    assert found.low < found.value < found.high
    assert math.isnan(rank_correlation(np.zeros(5), y[:5], list("abcde"), kind=kind).value)
