import math

import numpy as np
import pytest

from wmplay.evaluation.seeds import Job
from wmplay.evaluation.statistics import Interval
from wmplay.report.sweep.power_law import fit_power_law
from wmplay.report.sweep.scaling import scaling_curves, scaling_grid, scaling_plot

AMOUNTS = np.geomspace(32, 1024, 6)


def seeds_of(exponent, floor, seeds=5, noise=0.03, draw=0):
    rng = np.random.default_rng(draw)
    return [(2 * x**-exponent + floor) * np.exp(rng.normal(0, noise, seeds)) for x in AMOUNTS]


@pytest.mark.parametrize("exponent", [0.1, 0.5, 1.3])
@pytest.mark.parametrize("floor", [0, 0.05])
def test_a_law_without_noise_is_found(exponent, floor):
    law = fit_power_law(AMOUNTS, seeds_of(exponent, floor, noise=0), resamples=9)
    assert law.exponent.value == pytest.approx(exponent, rel=0.03)
    assert law.floor.value == pytest.approx(floor, abs=0.02)
    assert law.at(AMOUNTS) == pytest.approx(2 * AMOUNTS**-exponent + floor, rel=0.01)


@pytest.mark.parametrize("floor", [0, 0.1])
def test_intervals_cover_the_exponent_and_narrow_with_less_noise(floor):
    laws = [fit_power_law(AMOUNTS, seeds_of(0.5, floor, draw=i), resamples=200) for i in range(40)]
    assert sum(law.exponent.low <= 0.5 <= law.exponent.high for law in laws) >= 32
    assert sum(law.floor.low <= floor <= law.floor.high for law in laws) >= 32
    exact = fit_power_law(AMOUNTS, seeds_of(0.5, floor, noise=0.001)).exponent
    assert exact.high - exact.low < laws[0].exponent.high - laws[0].exponent.low


def test_errors_that_fall_ever_faster_have_a_law_without_a_floor():
    law = fit_power_law(AMOUNTS, [np.array([1 - x / 2000, 1.01 - x / 2000]) for x in AMOUNTS])
    assert law.floor == (0, 0, 0)
    assert 0.05 < law.exponent.low < law.exponent.value < law.exponent.high < 1


def test_errors_that_rise_have_no_exponent_and_one_seed_no_interval():
    rising = fit_power_law(AMOUNTS, [[x] for x in AMOUNTS])
    assert rising.exponent.value == 0
    assert math.isnan(rising.exponent.low)
    assert math.isnan(rising.floor.high)


@pytest.mark.parametrize("floor", [0, 0.1])
def test_laws_are_seldom_said_not_to_hold_and_no_laws_often(floor):
    unfit = [fit_power_law(AMOUNTS, seeds_of(0.5, floor, draw=i), resamples=9).fits < 0.05 for i in range(60)]
    assert sum(unfit) <= 10
    steps = [each * (1 if x < 200 else 0.7) for each, x in zip(seeds_of(0.2, 0), AMOUNTS, strict=True)]
    law = fit_power_law(AMOUNTS, steps, resamples=9)
    assert law.fits < 0.01
    assert 0.05 < law.distance < 0.3
    assert math.isnan(fit_power_law(AMOUNTS, [each[:1] for each in steps]).fits)


def job(seed, status="finished", **overrides):
    error = 2 * float(overrides["data"]) ** -0.5
    results = {
        "lcd iou@5": Interval(1 - error, math.nan, math.nan),
        "proprio mae@5": Interval(error / 2, math.nan, math.nan),
        "return": Interval(-error, math.nan, math.nan),
    }
    texts = tuple(f"{key}={value}" for key, value in overrides.items())
    return Job("", texts, str(seed), status, results)


def test_a_curve_for_each_number_error_and_rest():
    grid = [job(seed, data=x, model=name) for seed in (0, 1) for x in (8, 16, 32, 64) for name in "ab"]
    curves = scaling_curves([*grid, job(0, data=128, model="a", status="failed")])
    assert [(curve.setting, curve.metric, curve.rest) for curve in curves] == [
        ("data", metric, f"model={name}") for metric in ("1 - lcd iou@5", "proprio mae@5") for name in "ab"
    ]
    assert curves[0].amounts.tolist() == [8, 16, 32, 64]
    assert [len(each) for each in curves[0].errors] == [2] * 4
    assert curves[0].law.exponent.value == pytest.approx(0.5, rel=0.03)
    assert len(scaling_grid(curves).rows) == 4
    figure = scaling_plot(curves)
    assert len(figure.axes) == 2
    figure.canvas.draw()
    for axes in figure.axes:
        for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            shown = [tick for tick in axis.get_majorticklocs() if limits[0] <= tick <= limits[1]]
            assert len(shown) >= 2


def test_three_values_and_values_that_are_no_amounts_have_no_curve():
    assert not scaling_curves([job(0, data=x) for x in (8, 16, 32)])
    assert not scaling_curves([job(0, data=8.5 * x) for x in (1, 3, 5, 7)])
    assert not scaling_curves([])
