"""Distances of two sets of points: Frechet distance, and precision and recall by nearest neighbours.

All are in float64, on points [N, D], for example the latents of clips. Every number depends on N (the Frechet
distance between two samples of one distribution is above zero, and larger for fewer points), so that numbers
can be compared only at equal N.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from wmplay.contracts import Array
from wmplay.errors import ArbiterError
from wmplay.evaluation.statistics import Interval, jackknife

NEIGHBOURS = (3, 5)  # the k that are published
GROUPS = 20  # of windows, left out in turn for the intervals


def likeness(real: Array, generated: Array) -> dict[str, Interval]:
    """Return all numbers of this module with intervals, from the latents of clips.

    Args:
        real: [W, C, D], C clips of each of W windows. Windows must be independent of each other, the clips of
            one need not be.
        generated: [W, C, D].

    Returns:
        {"frechet", "precision@3", ...}, each with its jackknife interval over windows.

    Raises:
        ArbiterError: for too few clips.
    """
    assert real.shape == generated.shape, f"{real.shape} and {generated.shape}: numbers depend on the number"
    windows, clips, dimensions = real.shape
    check_enough(windows, clips, dimensions)
    groups = min(GROUPS, windows)
    group = np.repeat(np.arange(windows) * groups // windows, clips)
    real, generated = (np.asarray(x, np.float64).reshape(windows * clips, -1) for x in (real, generated))
    apart = distances(real, real), distances(generated, generated), distances(generated, real)

    def numbers(kept: Array) -> dict[str, float]:
        rr, gg, gr = (each[np.ix_(kept, kept)] for each in apart)
        return {"frechet": frechet_distance(real[kept], generated[kept]), **precision_recall(rr, gg, gr)}

    whole = numbers(np.arange(windows * clips))
    without = [numbers(np.flatnonzero(group != number)) for number in range(groups)]
    intervals = {
        name: jackknife(value, np.array([each[name] for each in without])) for name, value in whole.items()
    }
    return {name: _within(interval, *_range(name)) for name, interval in intervals.items()}


def frechet_distance(a: Array, b: Array) -> float:
    """Return the squared Frechet distance between Gaussians fitted to points a [N, D] and b [M, D].

    |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) with covariances A and B, summed over all dimensions
    (Dowson & Landau 1982; Heusel et al. 2017, arXiv 1706.08500). With A = S^T S and B = T^T T the trace of (A
    B)^(1/2) is the sum of the singular values of S T^T, so that no matrix root is computed.

    Raises:
        ArbiterError: if a set has no more points than dimensions, because its covariance is then singular.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.ndim == 2, a.shape
    assert a.shape[1:] == b.shape[1:], f"{a.shape} and {b.shape}"
    for points in (a, b):
        _check_rank(*points.shape)
    root_a, root_b = _root(a), _root(b)
    shift = a.mean(0) - b.mean(0)
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    distance = shift @ shift + (root_a**2).sum() + (root_b**2).sum() - 2 * overlap
    return max(float(distance), 0.0)  # of equal sets, rounding can leave it just below


def precision_recall(
    real: Array, generated: Array, across: Array, neighbours: Sequence[int] = NEIGHBOURS
) -> dict[str, float]:
    """Return precision, recall, their F1 and density of M generated points against N real ones.

    A set's manifold is the union of balls around its points, each with the distance to the point's k-th
    neighbour in the set as radius. Precision: the part of the generated points on the real manifold; recall:
    the part of the real points on the generated one (Kynkaanniemi et al. 2019, arXiv 1904.06991). Density:
    the number of real balls around a generated point, over k; about 1 for equal distributions, and robust
    against an isolated real point with a large ball (Naeem et al. 2020, arXiv 2002.09797).

    Args:
        real: [N, N], distances within the real set.
        generated: [M, M], those within the generated one.
        across: [M, N], from generated to real points.
        neighbours: the k.

    Returns:
        {"precision@k", "recall@k", "f1@k", "density@k"} for each k.

    Raises:
        ArbiterError: if a set has no more than k points.
    """
    most = max(neighbours)
    if min(across.shape) <= most:
        raise ArbiterError(
            f"{most} nearest neighbours among {min(across.shape)} clips",
            got=min(across.shape),
            expected=f"at least {most + 1}",
            advice="give it more episodes",
        )
    # a point is its own nearest neighbour, at place 0
    real_radii = np.sort(np.partition(real, most, axis=1)[:, : most + 1], axis=1)
    generated_radii = np.sort(np.partition(generated, most, axis=1)[:, : most + 1], axis=1)
    numbers = {}
    for k in neighbours:
        on_real = across <= real_radii[:, k]
        precision = float(on_real.any(1).mean())
        recall = float((generated_radii[:, k] >= across.T).any(1).mean())
        both = precision + recall
        numbers[f"precision@{k}"] = precision
        numbers[f"recall@{k}"] = recall
        numbers[f"f1@{k}"] = 2 * precision * recall / both if both else 0.0
        numbers[f"density@{k}"] = float(on_real.sum(1).mean()) / k
    return numbers


def distances(a: Array, b: Array) -> Array:
    """Return Euclidean distances [N, M] of points a [N, D] and b [M, D]; equal points are exactly 0 apart."""
    first, second = (torch.from_numpy(np.asarray(x, np.float64)) for x in (a, b))
    result: Array = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    return result


def check_enough(windows: int, clips: int, dimensions: int) -> None:
    """Raise ArbiterError if ``likeness`` needs more than ``windows`` of ``clips`` clips each."""
    _check_rank(windows * clips - math.ceil(windows / min(GROUPS, windows)) * clips, dimensions)


def _check_rank(points: int, dimensions: int) -> None:
    if points <= dimensions:
        raise ArbiterError(
            f"a Frechet distance in {dimensions} dimensions from {points} clips",
            got=points,
            expected=(f"at least {dimensions + 1}: their covariance has no full rank; give it more episodes"),
        )


def _range(name: str) -> tuple[float, float]:
    """Return the least and the largest possible value of a number."""
    return 0.0, math.inf if name.startswith(("frechet", "density")) else 1.0


def _within(interval: Interval, least: float, most: float) -> Interval:
    value, low, high = interval
    return Interval(value, max(low, least), min(high, most))


def _root(points: Array) -> Array:
    """Return R [D, D] with R^T R the covariance of points [N, D]."""
    return np.linalg.qr((points - points.mean(0)) / np.sqrt(len(points) - 1)).R
