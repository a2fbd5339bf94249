import base64
import io
import json
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from conveyor import Conveyor, episodes
from PIL import Image, ImageSequence
from refusals import assert_tokens, refused
from report_run import page_of, write_run
from rich.console import Console

from wmplay.contracts import Trajectory
from wmplay.errors import RunError
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.files import save_evaluation
from wmplay.evaluation.gallery import ShownClips
from wmplay.evaluation.metrics.futures import shown_futures
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.scores import MODEL, Curve, Evaluation, KeyScore, PredictionScore
from wmplay.evaluation.statistics import Interval
from wmplay.report import result_table, write_report
from wmplay.report.colours import BLUE, GREEN, INK, ORANGE, PAPER, RULE, SKY, rgb
from wmplay.report.markup import PICTURES
from wmplay.report.numbers import duration, interval, number, percent
from wmplay.report.pictures.canvas import paint, paint_difference, paint_goal
from wmplay.report.pictures.clips import clip_cells, clips_gif
from wmplay.report.plots.lines import loss_plot, practice_plot, progress_plot
from wmplay.report.run_files import read_run_files
from wmplay.report.tables import Grid
from wmplay.report.terminal import Fitted
from wmplay.report.verdict import verdict


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def page(run_dir):
    return page_of(run_dir)


def test_page_needs_nothing_else(run_dir, page):
    assert len(page.images) == 8
    assert all(link.startswith("data:image/") for link in page.links)
    text = (run_dir / "report.html").read_text()
    assert "url(" not in text
    assert "@import" not in text
    assert "<script" not in text


def test_every_picture_is_whole_described_and_beside_the_page(run_dir, page):
    beside = {path.read_bytes(): path.suffix[1:] for path in (run_dir / PICTURES).iterdir()}
    assert len(beside) == 8
    for image in page.images:
        kind, data = image["src"].removeprefix("data:image/").split(";base64,")
        content = base64.b64decode(data)
        assert beside[content] == kind
        Image.open(io.BytesIO(content)).load()
        assert len(image["alt"]) > 20


def test_page_says_what_was_found_and_how(page):
    assert "After 3 frames of context, the model predicts lcd with a foreground IoU of" in page.text
    assert (
        "the policy reaches the goal in 100.0% [56.6, 100.0] of 5 episodes, a random one in 0.0%" in page.text
    )
    for said in ("copy last frame", "all background", "per-pixel marginal", "mean of the data"):
        assert said in page.text
    for said in ("wmplay train env=conveyor", "abc1234", "3.11", "fit 1 min 01 s", "name: <conveyor>"):
        assert said in page.text


def test_page_says_what_was_tried(tmp_path):
    tried = ["experiment=quickstart", "model.hidden=7", "model=late"]
    text = page_of(write_run(tmp_path, overrides=tried)).text
    assert "experiment=quickstart · model=late · seed 0 · 2026-11-03" in text


def test_names_are_escaped(page, run_dir):
    assert "conveyor <belt>" in page.text
    assert "<belt>" not in (run_dir / "report.html").read_text()


def test_report_can_be_rebuilt(run_dir):
    before = write_report(run_dir).read_bytes()
    assert write_report(run_dir).read_bytes() == before
    assert not list(run_dir.rglob(".*"))


def test_clip_marks_the_end_of_the_context(run_dir):
    clips = read_run_files(run_dir).clips
    borders = [[cell.border for cell in clip_cells(clips, "lcd", 0, t)] for t in (2, 3)]
    assert borders == [[GREEN, GREEN, RULE], [RULE, BLUE, RULE]]
    frames = [
        f.convert("RGB") for f in ImageSequence.Iterator(Image.open(run_dir / PICTURES / "clips_lcd.gif"))
    ]
    assert len(frames) == 3 + 7

    def count(frame, colour):
        return sum(n for n, c in frame.getcolors(1 << 20) if np.abs(np.subtract(c, rgb(colour))).sum() < 12)

    blue, green = ([count(frame, colour) for frame in frames] for colour in (BLUE, GREEN))
    assert blue[3] > 3 * blue[2]
    assert green[2] > 3 * green[3] > 0  # the timeline keeps its three cells


def test_screens_are_magnified_by_whole_pixels(run_dir):
    frame = np.asarray(Image.open(run_dir / PICTURES / "clips_lcd.gif").convert("RGB"))
    ink = np.flatnonzero((np.abs(frame.astype(int) - rgb(INK)).sum(-1) < 12).sum(0) > 50)  # columns of bars
    bars = np.split(ink, np.flatnonzero(np.diff(ink) > 1) + 1)
    assert {len(bar) % 2 for bar in bars} == {0}  # two screen pixels wide
    assert min(len(bar) for bar in bars) >= 2 * 8


def run_json_only(path):
    path.mkdir()
    (path / "run.json").write_text('{"name": "bare"}')
    return path


def test_a_run_that_has_just_begun(tmp_path):
    page = page_of(run_json_only(tmp_path / "run"))
    assert "Not evaluated yet: 0 model updates so far." in page.text
    assert page.images == []


def test_a_run_without_screens(tmp_path):
    run_dir = run_json_only(tmp_path / "run")
    store = [
        Trajectory({"place": t.observation["place"]}, t.action, t.reward, t.terminated, t.truncated)
        for t in episodes(5)
    ]
    scores = {
        "prediction": evaluate_prediction(Conveyor(), cut_clips(store, horizon=3)),
        "policy": score_episodes(store, 0),
    }
    save_evaluation(
        run_dir,
        clips=shown_futures(Conveyor(), cut_clips(store, horizon=3, number=6)),
        episodes=store,
        **scores,
    )
    page = page_of(run_dir)
    assert "predicts place with a mean absolute error of 0 at 1 step" in page.text
    assert "the policy's return is -15.50" in page.text
    assert sorted(path.name for path in (run_dir / PICTURES).iterdir()) == [
        "prediction.png",
        "vector_place.png",
    ]


def test_observations_of_any_name(tmp_path):
    """Each has its own pictures, and what markup or mathematics mean by a name is not what it means here."""
    run_dir = run_json_only(tmp_path / "run")
    names = ["images.top", "images_top", "$x^$ [/b] <b>", ""]
    score = evaluate_prediction(Conveyor(), cut_clips(episodes(5), horizon=3))
    named = dict.fromkeys(names, score.keys["place"])
    clips = shown_futures(Conveyor(), cut_clips(episodes(5), horizon=3, number=6))
    shown = ShownClips(
        clips.context,
        dict.fromkeys(names, clips.truth["place"]),
        dict.fromkeys(names, clips.prediction["place"]),
    )
    save_evaluation(run_dir, prediction=replace(score, keys=named), clips=shown)
    assert len(page_of(run_dir).images) == 1 + len(names)
    Console(file=io.StringIO()).print(result_table(run_dir))


@pytest.mark.parametrize("shape", [(64, 64, 3), (11, 7, 1), (100, 130)])
def test_a_run_with_pixels(tmp_path, shape):
    run_dir = run_json_only(tmp_path / "run")
    truth = np.random.default_rng(0).integers(256, size=(2, 5, *shape), dtype=np.uint8)
    save_evaluation(
        run_dir, clips=ShownClips(2, {"a/b c": truth}, {"a/b c": truth[:, 2:].astype(np.float32) * 1.5 - 60})
    )
    assert len(page_of(run_dir).images) == 2
    assert sorted(path.name for path in (run_dir / PICTURES).iterdir()) == [
        "clips_a_b_c.gif",
        "strip_a_b_c.png",
    ]


def test_there_is_room_for_words_beside_narrow_screens():
    truth = np.zeros((1, 5, 11, 2), np.uint8)
    moving = Image.open(io.BytesIO(clips_gif(ShownClips(2, {"lcd": truth}, {"lcd": truth[:, 2:]}), "lcd")))
    first = np.asarray(moving.convert("L"))
    assert (first[:, -12:] > 200).all()  # the heading and the legend end before the margin


def test_one_episode_one_clip_one_step(tmp_path):
    run_dir = run_json_only(tmp_path / "run")
    store = episodes(1, goal=True)
    save_evaluation(
        run_dir,
        prediction=evaluate_prediction(Conveyor(), cut_clips(store, context=1, horizon=1)),
        clips=shown_futures(Conveyor(), cut_clips(store, context=1, horizon=1, number=6)),
        policy=score_episodes(store, 0),
    )
    assert "in 0.0% [0.0, 79.3] of 1 episode." in page_of(run_dir).text


def test_numbers_that_are_not_and_lines_cut_off(tmp_path):
    run_dir = run_json_only(tmp_path / "run")
    lines = [{"step": i, "phase": "fit", "loss/total": float("nan" if i % 2 else "inf")} for i in range(5)]
    lines += [
        {"step": i, "phase": "fit", "loss/kl": 3.0 if i else float("nan"), "note/x": "text"} for i in range(5)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"step": 5, "loss/tot'
    (run_dir / "metrics.jsonl").write_text(text)
    assert len(page_of(run_dir).images) == 1
    assert loss_plot(read_run_files(run_dir).log).axes[0].get_title(loc="left") == "loss/kl"


def test_damaged_lines_are_counted_on_the_page(tmp_path):
    run_dir = run_json_only(tmp_path / "run")
    assert "metrics.jsonl" not in page_of(run_dir).text
    (run_dir / "metrics.jsonl").write_text('{"step": 0, "phase": "fit"}\n[]\n\n')
    assert_tokens(page_of(run_dir).text, ("2", "metrics.jsonl"))


def test_nothing_to_plot():
    assert loss_plot([]) is None
    assert practice_plot([]) is None
    assert loss_plot([{"step": 1, "phase": "fit", "loss/total": float("nan")}]) is None
    assert progress_plot([{"iteration": 0, "phase": "evaluate", "policy/return": 1.0}]) is None


def test_learning_curves_have_their_intervals(run_dir):
    figure = progress_plot(read_run_files(run_dir).log)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["success", "return", "lcd: foreground IoU", "place: mean absolute error"]
    assert [len(axes.collections) for axes in figure.axes] == [1, 0, 0, 0]


def test_what_is_logged_twice_in_an_iteration_counts_once():
    metrics = [{"iteration": i // 2, "phase": "collect", "collect/return": i} for i in range(4)]
    (line,) = progress_plot(metrics).axes[0].lines
    assert line.get_xydata().tolist() == [[0, 1], [1, 3]]


@pytest.mark.parametrize(("world", "steps"), [("learned", "learned_steps"), ("real", "real_steps")])
def test_practice_is_drawn_over_its_steps(world, steps):
    metrics = [
        {"step": 7, "phase": "improve", "real_steps": 5, "learned_steps": 0, steps: 100 * i, "improve/kl": i}
        for i in range(1, 4)
    ]
    (axes,) = practice_plot(metrics).axes
    assert axes.get_xlabel() == f"steps in {world} world"
    assert axes.lines[0].get_xydata().tolist() == [[100, 1], [200, 2], [300, 3]]
    assert axes.get_title() == "" != axes.get_title(loc="left") == "kl"


def test_a_steep_start_does_not_flatten_the_rest():
    metrics = [{"step": i, "phase": "fit", "loss/total": 1e6 if i < 5 else 1 + i % 7} for i in range(100)]
    low, high = loss_plot(metrics).axes[0].get_ylim()
    assert 0 < low < 1
    assert 7 < high < 8


def test_drawing_leaves_matplotlib_as_it_was(run_dir):
    before = dict(matplotlib.rcParams)
    write_report(run_dir)
    assert dict(matplotlib.rcParams) == before


def test_not_a_run(tmp_path):
    with refused(RunError, "run.json", got=tmp_path):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with refused(RunError, (tmp_path / "run.json", "damaged")):
        write_report(tmp_path)


def test_difference_by_hand():
    truth = np.array([[1, 1, 0, 0]], dtype=np.uint8)
    guess = np.array([[0.9, 0.1, 0.8, 0.5]])
    colours = paint_difference(truth, guess, binary=True)[0].tolist()
    assert colours == [list(rgb(c)) for c in (INK, ORANGE, SKY, PAPER)]


def test_probability_is_grey_and_the_goal_lies_beneath():
    assert paint(np.array([[0.0, 1.0]]), binary=True)[0].tolist() == [list(rgb(PAPER)), list(rgb(INK))]
    dark, half = paint(np.array([[1.0, 0.5]]), binary=True)[0]
    assert np.all(dark < half)
    now, goal = np.array([[1, 1, 0]], dtype=np.uint8), np.array([[1, 0, 1]], dtype=np.uint8)
    expected = [list(rgb(c)) for c in (INK, INK, ORANGE)]
    assert paint_goal(now, goal)[0].tolist() == expected
    channels = np.stack([now, 0 * now], -1), np.stack([0 * goal, goal], -1)  # of a screen with several
    assert paint_goal(*channels)[0].tolist() == expected
    shown = paint_difference(*channels, binary=True)[0].tolist()
    assert shown == paint_difference(now, goal, binary=True)[0].tolist()


@pytest.mark.parametrize("width", [41, 60, 79, 80, 131, 200])
def test_no_word_of_a_wide_table_is_cut_off(width):
    names = [f"column {i} ends{i * 'x'}" for i in range(11)]
    cells = [f"0.{i}\n[-0.{7 * i:04}, 1.0]" for i in range(11)]
    grid = Grid("Title", ["", *names], [["first row", *cells], ["second", *reversed(cells)]], "note " * 30)
    console = Console(width=width, file=io.StringIO())
    console.print(Fitted(grid))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    for word in [*(w for each in (*names, *cells, *cells) for w in each.split()), "Title", *["note"] * 30]:
        words.remove(word)
    assert text.count("first row") == text.count("second") >= 1 + (width < 200)


def test_terminal_table_fits_in_eighty_columns(run_dir):
    console = Console(width=80, file=io.StringIO())
    console.print(result_table(run_dir))
    text = console.file.getvalue()
    assert "[56.6, 100.0]" in text
    assert "per-pixel marginal" in text
    assert "fit 1 min 01 s" in text
    assert "…" not in text
    lines = text.splitlines()
    intervals = next(line for line in lines if "95% interval " in line)
    assert intervals.count("±") == 4, "of 1, 2, 5, 7 steps"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.7421, "0.742"),
        (0.04567, "0.0457"),
        (-25.338, "-25.34"),
        (123.44, "123.4"),
        (98765.4, "98,765"),
        (1.5e-5, "1.50e-05"),
        (float("nan"), "–"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_intervals_and_times_in_words():
    nan = float("nan")
    assert interval(Interval(0.5, 0.25, 0.75)) == "0.50 [0.25, 0.75]"
    assert interval(Interval(-20.06, -39.14, -0.985)) == "-20 [-39, -1]"
    assert interval(Interval(0.6351, 0.6213, 0.6488)) == "0.635 [0.621, 0.649]"
    assert interval(Interval(98765.4, 98753.2, 98777.8)) == "98,765 [98,753, 98,778]"
    assert interval(Interval(7, 7, 7)) == "7.000 [7.000, 7.000]"
    assert interval(Interval(0.5, nan, nan)) == "0.500"
    assert percent(Interval(0.984, 0.959, 0.994)) == "98.4% [95.9, 99.4]"
    assert [duration(s) for s in (0.84, 47.2, 125, 11220)] == ["0.8 s", "47 s", "2 min 05 s", "3 h 07 min"]


def test_verdict_does_not_boast(tmp_path):
    assert "not clearly above every baseline even at 1 step" in verdict(
        read_run_files(write_run(tmp_path / "late"))
    )
    good = verdict(read_run_files(write_run(tmp_path / "good", late=0)))
    assert "above every baseline at all horizons" in good


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ([0.1, 0.1, 0.1], "below every baseline at all horizons"),
        ([0.9, 0.1, 0.9], "not clearly below every baseline even at 1 step"),
        ([0.9, 0.1, 0.1], "not clearly below every baseline at 1 step, but from 2 steps on"),
        ([0.1, 0.9, 0.1], "below every baseline up to 1 step"),
    ],
)
def test_verdict_on_what_is_better_only_sooner_or_later(model, said, run_dir):
    curves = {
        MODEL: Curve(model, [x - 0.05 for x in model], [x + 0.05 for x in model]),
        "copy-last": Curve([0.5] * 3, [0.45] * 3, [0.55] * 3),
    }
    score = PredictionScore(3, 3, 7, 0, {"place": KeyScore("mae", curves)})
    assert said in verdict(replace(read_run_files(run_dir), evaluation=Evaluation(prediction=score)))


def test_words_over_curves_have_a_ground() -> None:
    lines = [
        {
            "iteration": i,
            "phase": "evaluate",
            **{f"prediction/lcd/iou@{h}": 0.9 - 0.1 * h for h in range(1, 6)},
        }
        for i in range(3)
    ]
    figure = progress_plot(lines)
    assert figure is not None
    (axes,) = figure.axes
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [
        "1 step",
        *(f"{h} steps" for h in range(2, 6)),
    ]
    assert legend.get_frame_on()
    assert 0.5 < legend.get_frame().get_alpha() < 1
