import numpy as np
import pytest
from refusals import refused

from wmplay.errors import ArbiterError
from wmplay.evaluation.arbiter.set_distances import distances, frechet_distance, likeness, precision_recall

D = 3


def normal(n, *, mean=0.0, scale=1.0, seed=0):
    return mean + scale * np.random.default_rng(seed).normal(size=(n, D))


def standardised(n, seed=0):
    """Points with mean 0 and the identity as covariance, exactly."""
    points = normal(n, seed=seed)
    points -= points.mean(0)
    return points @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T


# Frechet distance -------------------------------------------------------------------------------------


def test_gaussians_whose_distance_is_known():
    a, b = standardised(53), standardised(47, seed=1)
    assert frechet_distance(a, b) == pytest.approx(0, abs=1e-12)
    # independent dimensions: the sum of (difference of means)^2 + (difference of standard deviations)^2
    moved = b * [1.0, 2.0, 5.0] + [0.0, 3.0, -7.0]
    assert frechet_distance(a, moved) == pytest.approx(0 + (9 + 1) + (49 + 16))


def test_covariances_that_do_not_commute():
    a, b = (
        normal(101) @ np.diag([1.0, 3.0, 0.5]),
        normal(97, seed=1) @ np.array([[2.0, 1, 0], [0, 1, 1], [0, 0, 3]]),
    )
    values, vectors = np.linalg.eigh(np.cov(a.T))
    root = vectors * np.sqrt(values) @ vectors.T
    overlap = np.sqrt(np.linalg.eigvalsh(root @ np.cov(b.T) @ root)).sum()
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * overlap
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_it_is_a_sum_over_dimensions_and_not_a_mean():
    a, b = standardised(53), standardised(53) + 1.0
    twice = (
        np.concatenate([a, standardised(53, seed=2)], axis=1),
        np.concatenate([b, standardised(53, seed=2) + 1], 1),
    )
    assert frechet_distance(a, b) == pytest.approx(D)
    assert frechet_distance(*twice) == pytest.approx(2 * D)


def test_points_that_do_not_vary():
    still = np.full((53, D), 2.0)
    assert frechet_distance(still, still) == 0
    assert frechet_distance(standardised(53), still) == pytest.approx(D * 4 + D)


def test_a_set_is_at_no_distance_from_itself():
    points = normal(53, mean=1e3)
    assert frechet_distance(points, points) == pytest.approx(0, abs=1e-8)


def test_too_few_points_for_a_covariance_of_full_rank():
    with refused(ArbiterError, got=3, expected="4"):
        frechet_distance(normal(3), normal(53))
    with refused(ArbiterError, got=2):
        frechet_distance(normal(53), normal(2))
    frechet_distance(normal(4), normal(5))


# Precision and recall ---------------------------------------------------------------------------------


def compared(real, generated, *neighbours):
    apart = distances(real, real), distances(generated, generated), distances(generated, real)
    return precision_recall(*apart, *neighbours)


def test_neighbours_by_hand():
    real, generated = np.array([[0.0], [1], [3], [10]]), np.array([[0.5], [4], [40], [41]])
    numbers = compared(real, generated, [1])
    # real balls: 0 +- 1, 1 +- 1, 3 +- 2, 10 +- 7: 0.5 is in two, 4 in two (the last reaches down to 3)
    assert numbers["precision@1"] == 0.5
    assert numbers["density@1"] == 4 / 4
    # generated balls: 0.5 +- 3.5, 4 +- 3.5, 40 +- 1, 41 +- 1: all reals but 10 are in one
    assert numbers["recall@1"] == 0.75
    assert numbers["f1@1"] == pytest.approx(0.6)


def test_equal_sets_have_all_of_it():
    numbers = compared(normal(53), normal(53))
    assert all(numbers[f"{name}@{k}"] == 1 for name in ("precision", "recall", "f1") for k in (3, 5))


def test_sets_apart_have_nothing_of_it():
    numbers = compared(normal(53), normal(47, mean=100))
    assert set(numbers.values()) == {0.0}
    assert len(numbers) == 8


def test_a_lost_mode_costs_recall_and_a_new_one_precision():
    one, both = normal(60, seed=1), np.concatenate([normal(30), normal(30, mean=50)])
    lost, made_up = compared(both, one), compared(one, both)
    assert lost["precision@5"] > 0.8
    assert 0.3 < lost["recall@5"] < 0.55
    assert made_up["precision@5"] == lost["recall@5"]
    assert made_up["recall@5"] == lost["precision@5"]


def test_equal_distributions_have_a_density_of_one():
    numbers = compared(normal(500), normal(500, seed=1))
    assert numbers["density@3"] == pytest.approx(1, abs=0.1)
    assert numbers["density@5"] == pytest.approx(1, abs=0.1)


def test_too_few_points_for_so_many_neighbours():
    with refused(ArbiterError, "5 clips", got=5, expected="6"):
        compared(normal(53), normal(5))


def test_equal_points_are_nowhere_apart():
    points = normal(53, mean=1e4)
    assert not np.diagonal(distances(points, points)).any()


# Intervals --------------------------------------------------------------------------------------------


def windows(n, clips=2, *, mean=0.0, seed=0):
    """[n, clips, D]; the clips of a window are much alike."""
    rng = np.random.default_rng(seed)
    return mean + rng.normal(size=(n, 1, D)) + 0.1 * rng.normal(size=(n, clips, D))


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """A shift of 1 in each dimension, so a distance of 3 (and a bias of about .1), from correlated clips."""
    numbers = [
        likeness(windows(60, seed=2 * seed), windows(60, mean=1.0, seed=2 * seed + 1))["frechet"]
        for seed in range(60)
    ]
    held = np.mean([low <= 3.1 <= high for _, low, high in numbers])
    assert 0.87 <= held <= 1
    width = np.mean([high - low for _, low, high in numbers])
    assert width == pytest.approx(2 * 2.09 * np.std([value for value, _, _ in numbers]), rel=0.25)


def test_all_numbers_have_intervals_within_their_range():
    numbers = likeness(windows(40), windows(40, seed=1))
    assert next(iter(numbers)) == "frechet"
    assert len(numbers) == 9
    for name, (value, low, high) in numbers.items():
        assert 0 <= low < value <= high, name
        assert high <= 1 or name.startswith(("frechet", "density")), name


def test_intervals_need_full_rank_without_any_group():
    likeness(windows(3, 3), windows(3, 3, seed=1))
    with refused(ArbiterError, got=3):
        likeness(windows(2, 3), windows(2, 3, seed=1))
