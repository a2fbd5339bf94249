"""Calibration of sampled futures: golden numbers, and models that are known to be right or wrong."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conveyor import Conveyor, episodes
from torch import Tensor

from wmplay.contracts import Prediction, Segment
from wmplay.evaluation import load_evaluation, save_evaluation
from wmplay.evaluation.clips import ClipSet, cut_clips
from wmplay.evaluation.metrics.calibration import (
    BINS,
    Counts,
    by_horizon,
    centre,
    count,
    crps,
    diagram,
    evaluate_calibration,
    reliability_error,
    spread_skill,
)
from wmplay.evaluation.scores import CalibrationScore
from wmplay.report.plots.calibration import calibration_plot
from wmplay.report.tables import model_grids

B, N, H = 4001, 7, 3


def gauss(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_crps_and_spread_of_gaussians_have_their_closed_forms(width: float) -> None:
    """The truth has a standard deviation of 1, and futures have another width (Gneiting & Raftery 2007)."""
    samples, truth = width * gauss(B, N, H, 1, seed=0), gauss(B, H, 1, seed=1)
    expected = math.sqrt(1 + width**2) * math.sqrt(2 / math.pi) - width / math.sqrt(math.pi)
    assert crps(samples, truth).mean() == pytest.approx(expected, abs=0.02)
    variance, error = samples.var(1).mean(-1), (samples.mean(1) - truth).square().mean(-1)
    ratio = spread_skill(variance, error, N)
    assert ratio.shape == (H,)
    mean_error = math.sqrt(1 + width**2 / N)
    assert torch.allclose(ratio, torch.full_like(ratio, width * math.sqrt(1 + 1 / N) / mean_error), atol=0.05)


def test_crps_by_hand() -> None:
    samples = torch.tensor([1.0, 4.0, 2.0]).reshape(1, 3, 1, 1)
    # mean distance to 3: (2 + 1 + 1) / 3; of two different samples: (3 + 1 + 2) / 3
    assert crps(samples, torch.tensor(3.0).reshape(1, 1, 1)).item() == pytest.approx(4 / 3 - 1)
    one = torch.full((1, 3, 1, 1), 5.0)
    assert crps(one, torch.tensor(3.0).reshape(1, 1, 1)).item() == pytest.approx(2)


@pytest.mark.parametrize(("power", "error"), [(1.0, 0.0), (2.0, 1 / 6)])
def test_reliability_of_known_probabilities(power: float, error: float) -> None:
    """Pixels are lit with probability p ** power where p was said: the mean distance is that of p and p²."""
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(401, 2, 11, 13, generator=generator)
    lit = torch.rand(p.shape, generator=generator) < p**power
    counts = count(p, lit)
    found = reliability_error(counts)
    assert torch.allclose(found, torch.full_like(found, error), atol=0.01)
    drawn = diagram(Counts(*(each[:, 0] for each in counts)))
    assert len(drawn.forecast) == BINS
    assert np.allclose([each.value for each in drawn.observed], np.array(drawn.forecast) ** power, atol=0.03)
    assert all(each.low < each.value < each.high for each in drawn.observed)


def test_trivial_pixels_are_left_out() -> None:
    p = torch.tensor([0.0, 0.005, 0.011, 0.5, 0.989, 0.999, 1.0]).reshape(1, 1, 1, 7)
    assert count(p, p > 2).pixels.sum() == 3


def test_centres_of_screens() -> None:
    screens = torch.zeros(2, 5, 7, dtype=torch.bool)
    screens[0, 1, 2] = screens[0, 3, 2] = True
    assert torch.equal(centre(screens), torch.tensor([[2.0, 2.0], [3.0, 2.0]], dtype=torch.float64))


def test_intervals_of_a_mean_are_those_of_its_clips() -> None:
    values = gauss(20, H, seed=2)
    curve = by_horizon(lambda kept: values[kept].mean(0), 20)
    assert np.allclose(curve.mean, values.mean(0))
    error = values.std(0) / math.sqrt(20)
    assert np.allclose(np.subtract(curve.high, curve.mean), 2.093 * error, rtol=1e-3)
    assert all(math.isnan(end) for end in by_horizon(lambda kept: values[:1][kept].mean(0), 1).low)


class Guesses:
    """A model that lights pixels with probabilities that its belief holds, and samples places around 0."""

    def __init__(self, sharpness: float, width: float) -> None:
        self.sharpness, self.width = sharpness, width

    def initial(self, observation: dict[str, Tensor]) -> Tensor:
        return observation["odds"][:, 0]

    def observe(self, belief: Tensor, action: Tensor, observation: dict[str, Tensor]) -> Tensor:
        return observation["odds"][:, -1]

    def predict(
        self, belief: Tensor, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        odds = belief[:, None].expand(-1, action.shape[1], -1)
        place = torch.zeros(*odds.shape[:2], 2)
        if generator is not None:
            place = self.width * torch.randn(place.shape, generator=generator)

        def decode(latent: Tensor) -> dict[str, Tensor]:
            p = (self.sharpness * (latent[..., :35] / (1 - latent[..., :35])).log()).sigmoid()
            return {"lcd": p.reshape(*p.shape[:-1], 5, 7), "place": latent[..., 35:]}

        return Prediction(torch.cat([odds, place], -1), None, None, belief, decode)


def guessed(clips: int = 300) -> ClipSet:
    """Clips of random pixels, lit with the probabilities in ``odds``, and of random places."""
    generator = torch.Generator().manual_seed(3)
    odds = torch.rand(clips, 1, 35, generator=generator).expand(-1, 2 + H, -1)
    lcd = (torch.rand(odds.shape, generator=generator) < odds).to(torch.uint8).reshape(clips, 2 + H, 5, 7)
    place = torch.randn(clips, 2 + H, 2, generator=generator)
    no = torch.zeros(clips, 1 + H)
    frames = {"odds": odds, "lcd": lcd, "place": place}
    return ClipSet(Segment(frames, no[..., None], no, no > 0, no == 0), 2, 0, frames)


def scored(sharpness: float, width: float) -> CalibrationScore:
    found = evaluate_calibration(Guesses(sharpness, width), guessed(), N)  # type: ignore[arg-type]
    assert found is not None
    return found


def test_a_calibrated_model_is_told_from_one_that_is_too_certain() -> None:
    right, certain = scored(1, 1), scored(4, 0.3)
    assert np.allclose(right.screens["lcd"].error.mean, 0, atol=0.03)
    assert min(certain.screens["lcd"].error.low) > 0.1
    assert np.allclose(right.vectors["place"].ratio.mean, 1, atol=0.1)
    assert max(certain.vectors["place"].ratio.high) < 0.5
    for one, other in zip(right.vectors["place"].crps.mean, certain.vectors["place"].crps.mean, strict=True):
        assert one == pytest.approx(1 / math.sqrt(math.pi), abs=0.08)
        assert one < other
    assert right.vectors["place"].copy_last.mean[0] == pytest.approx(2 / math.sqrt(math.pi), abs=0.08)
    assert right.row()["place/crps@3"] == right.vectors["place"].crps.mean[-1]


def test_a_model_that_samples_nothing_has_no_calibration() -> None:
    assert evaluate_calibration(Conveyor(), cut_clips(episodes(5), horizon=3), 3) is None


def test_a_score_is_kept_and_shown(tmp_path: Path) -> None:
    score = evaluate_calibration(Conveyor(noise=1), cut_clips(episodes(11), horizon=7), 3)
    assert score is not None
    assert list(score.screens) == ["lcd"]
    assert list(score.vectors) == ["centre of lcd", "place"]
    assert list(score.screens["lcd"].diagrams) == ["1", "5", "7"]
    save_evaluation(tmp_path, calibration=score)
    loaded = load_evaluation(tmp_path)
    assert loaded is not None
    assert loaded.calibration == score
    (grid,) = model_grids(loaded)
    assert len(grid.rows) == 2 * (1 + 2 * 3)
    assert len(calibration_plot(score).axes) == 5
