"""The parts of a report that say how good a learned simulator is."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image
from report_run import page_of, write_run, write_simulator
from rich.console import Console

from wmplay.evaluation.model_quality import correlation, measured
from wmplay.report import result_table
from wmplay.report.colours import INK, ORANGE, PAPER, rgb
from wmplay.report.labels import policy_label
from wmplay.report.markup import PICTURES
from wmplay.report.pictures.canvas import paint_goal
from wmplay.report.pictures.clips import futures_strip
from wmplay.report.run_files import read_run_files
from wmplay.report.sweep.quality import quality_plot


@pytest.fixture(scope="module")
def simulator(tmp_path_factory):
    return write_simulator(write_run(tmp_path_factory.mktemp("runs") / "one"))


def test_a_learned_simulator_is_shown_from_all_sides(simulator):
    page = page_of(simulator)
    pictures = {path.name for path in (simulator / PICTURES).iterdir()}
    assert {
        "spread.png",
        "futures_lcd.png",
        "futures_place.png",
        "agreement.png",
        "unprompted_lcd.gif",
        "quality.png",
    } <= pictures
    assert len(page.images) == len(pictures)
    for said in (
        "model (at most)",  # a bound is called one
        "0.100",  # bits per pixel: 5.5 of 55
        "future to future",
        "Agreement of screen and place",
        "real (floor)",
        "The mean action has an error of 0.330",
        "Learned world: the policy in the world model that it practised in",
        "20.0% [3.6, 62.4] of 5 episodes (40.0% with sampled actions, 60.0% sampled in the learned world)",
    ):
        assert said in page.text


def test_everything_fits_in_eighty_columns(simulator):
    console = Console(width=80, file=io.StringIO())
    console.print(result_table(simulator))
    text = console.file.getvalue()
    assert "…" not in text
    assert "learned world, sampled" in text
    assert max(map(len, text.splitlines())) <= 80


def test_real_and_learned_episodes_stand_side_by_side(simulator, tmp_path):
    def size(path):
        with Image.open(path / PICTURES / "episodes.gif") as picture:
            return picture.size, picture.n_frames

    page_of(simulator)
    page_of(write_run(tmp_path / "alone"))
    (_, height), frames = size(simulator)
    (_, alone), _ = size(tmp_path / "alone")
    assert frames == 1 + 7
    assert height > 1.6 * alone


def test_probabilities_on_a_screen_show_the_goal():
    goal = np.array([[0, 1, 1]], dtype=np.uint8)
    shown = paint_goal(np.array([[0.25, 0.25, 1.0]], dtype=np.float32), goal)[0]
    assert shown[1].tolist() == list(rgb(ORANGE))
    assert shown[2].tolist() == list(rgb(INK))
    assert rgb(INK) < tuple(shown[0].tolist()) < rgb(PAPER)


def test_futures_have_a_row_each(simulator):
    clips = read_run_files(simulator).duplicate
    picture = Image.open(io.BytesIO(futures_strip(clips, "lcd")))
    one = dataclasses.replace(clips, prediction={k: v[:1] for k, v in clips.prediction.items()})
    shorter = Image.open(io.BytesIO(futures_strip(one, "lcd")))
    assert picture.width == shorter.width
    assert (picture.height - shorter.height) % 2 == 0  # two more rows
    assert picture.height > shorter.height


def test_other_policies_have_names():
    assert [policy_label(name) for name in ("policy", "policy_sampled", "real_sampled", "my_own")] == [
        "policy",
        "policy, sampled",
        "trained in reality, sampled",
        "my own",
    ]


def lines(*pairs, start=0):
    return [
        {"phase": "evaluate", "iteration": start + i, "prediction/place/mae@1": x, "policy/success": y}
        for i, (x, y) in enumerate(pairs)
    ]


def test_success_against_quality():
    pairs = [[0.3, 0.1], [0.2, 0.5], [0.1, 0.5], [0.1, 0.9], [0.4, 0.3]]
    points = measured({"run": lines(*pairs)})
    rho = correlation(points, "prediction/place/mae@1", "policy/success")
    assert -1 <= rho.low < rho.value < rho.high <= 0
    (axes,) = quality_plot(points).axes
    assert axes.get_xlabel() == "place error at 1 step (lower is better)"
    assert axes.collections[0].get_offsets().tolist() == pairs
    assert "5 evaluations" in axes.get_title(loc="left")


def test_two_evaluations_say_nothing_and_the_last_of_an_iteration_counts():
    assert quality_plot(measured({"run": lines((0.3, 0.1), (0.2, 0.5))})) is None
    again = [*lines((0.3, 0.1), (0.2, 0.5)), *lines((0.1, 0.9), start=1)]
    assert [point.numbers["policy/success"] for point in measured({"run": again})] == [0.1, 0.9]
    assert quality_plot(measured({"run": []})) is None


def test_the_same_success_everywhere_has_no_order():
    points = measured({"run": lines((0.3, 0.0), (0.2, 0.0), (0.1, 0.0))})
    assert "no order to compare" in quality_plot(points).axes[0].get_title(loc="left")


def test_without_a_goal_the_return_is_compared():
    some = [{**line, "policy/return": line["policy/success"]} for line in lines((3, 1), (2, 2), (1, 3))]
    for line in some:
        del line["policy/success"]
    assert quality_plot(measured({"run": some})).axes[0].get_ylabel() == "return"
