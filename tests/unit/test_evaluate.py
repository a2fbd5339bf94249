import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from conveyor import HEIGHT, WIDTH, Conveyor, episodes
from refusals import refused

import wmplay
from wmplay.errors import WmplayError
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.futures import shown_futures
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.observation_metrics import fit_baselines, foreground_iou, measure, metric_of
from wmplay.evaluation.scores import Curve, KeyScore, selected_horizons
from wmplay.report.tables import policy_grid


def frames(*rows):
    return torch.tensor([[[bool(int(c)) for c in row] for row in frame] for frame in rows])


def test_iou_by_hand():
    guess = frames(["110", "000"], ["000", "000"], ["000", "000"], ["111", "111"])
    truth = frames(["011", "000"], ["000", "000"], ["100", "000"], ["111", "111"])
    assert foreground_iou(guess, truth).tolist() == pytest.approx([1 / 3, 1, 0, 1])


def test_probability_of_exactly_half_counts_as_dark():
    truth = torch.ones(1, 1, 2, 3, dtype=torch.uint8)
    assert measure("iou", torch.full((1, 1, 2, 3), 0.5), truth).item() == 0
    assert measure("iou", torch.full((1, 1, 2, 3), 0.51), truth).item() == 1


def test_pixels_are_scaled_and_vectors_are_not():
    truth = torch.zeros(2, 3, 5, 7, 3, dtype=torch.uint8)
    assert measure("mse", torch.full((2, 1, 5, 7, 3), 51.0), truth).numpy() == pytest.approx(
        np.full((2, 3), 0.04)
    )
    truth = torch.zeros(2, 3, 11)
    assert measure("mae", torch.full((2, 3, 11), -2.0), truth).numpy() == pytest.approx(np.full((2, 3), 2.0))


def test_metric_follows_from_the_content():
    screen = torch.zeros(2, 5, 16, 32, dtype=torch.uint8)
    assert metric_of(screen) == "iou"
    assert metric_of(screen + 255) == "mse"
    assert metric_of(torch.zeros(2, 5, 8, 8, 3, dtype=torch.uint8)) == "mse"
    assert metric_of(torch.zeros(2, 5, 11)) == "mae"


def test_oracle_is_perfect_and_ahead_everywhere():
    score = evaluate_prediction(Conveyor(), cut_clips(episodes(11), horizon=7))
    lcd, place = score.keys["lcd"], score.keys["place"]
    assert (lcd.metric, place.metric) == ("iou", "mae")
    assert lcd.curves["model"].mean == lcd.curves["model"].low == [1.0] * 7
    assert place.curves["model"].mean == [0.0] * 7
    assert lcd.ahead_until() == 7
    assert score.clips == 11
    assert score.row()["lcd/iou@5"] == 1


def test_a_still_model_is_the_copy_last_baseline():
    score = evaluate_prediction(Conveyor(speed=0), cut_clips(episodes(7), context=2, horizon=5))
    for key in score.keys.values():
        assert key.curves["model"] == key.curves["copy-last"]
        assert key.ahead_until() == 0


def test_one_step_late_is_visibly_worse():
    store = episodes(53)
    late = evaluate_prediction(Conveyor(late=1), cut_clips(store, horizon=5)).keys["lcd"].curves["model"]
    # a bar two wide that is one (or two) columns off: IoU 1/3 (or 0), each as often
    assert np.all(np.array(late.high) < 0.3)
    assert np.allclose(late.mean, 1 / 6, atol=0.1)


@pytest.mark.parametrize("context", [1, 2, 3])
def test_any_context(context):
    score = evaluate_prediction(Conveyor(), cut_clips(episodes(3, steps=5), context=context, horizon=3))
    assert score.keys["place"].curves["model"].mean == [0, 0, 0]


def test_clips_of_another_seed_are_other_clips():
    store = episodes(31)
    one, same, other = (
        evaluate_prediction(Conveyor(late=1), cut_clips(store, seed=s, number=7)) for s in (3, 3, 5)
    )
    assert one == same
    assert one.keys != other.keys


def test_batches_do_not_change_the_numbers(monkeypatch):
    store = episodes(11)
    whole = evaluate_prediction(Conveyor(late=1), cut_clips(store, horizon=3))
    monkeypatch.setattr("wmplay.evaluation.clips.BATCH", 3)
    assert evaluate_prediction(Conveyor(late=1), cut_clips(store, horizon=3)) == whole


def test_one_clip_has_no_interval_and_is_never_ahead():
    score = evaluate_prediction(Conveyor(), cut_clips(episodes(1), horizon=3))
    assert math.isnan(score.keys["lcd"].curves["model"].low[0])
    assert score.keys["lcd"].ahead_until() == 0


def test_short_episodes_are_skipped_and_none_is_an_error():
    store = [*episodes(3, steps=4), *episodes(2, steps=5)]
    assert evaluate_prediction(Conveyor(), cut_clips(store, context=3, horizon=3)).clips == 2
    with refused(WmplayError, got=5, expected="9"):
        evaluate_prediction(Conveyor(), cut_clips(store, context=3, horizon=7))


def test_marginal_takes_its_best_threshold():
    lit = np.zeros((8, 3, 4), dtype=np.uint8)
    lit[:, 0, 0] = 1  # always
    lit[::4, 0, 1] = 1  # a quarter of the time
    lit[::4, 2] = 1
    found = fit_baselines({"lcd": torch.from_numpy(lit)}, {"lcd": "iou"})["lcd"]
    expected = np.zeros((3, 4))
    expected[0, 0] = 1  # 3/4 x 1 + 1/4 x 1/6 = .79; with the quarter's pixels 3/4 x 1/6 + 1/4 x 1 = .38
    assert found["marginal"].tolist() == expected.tolist()
    assert found["background"].sum() == 0


def test_reference_episodes_feed_the_marginal():
    store = episodes(3)
    still = dataclasses.replace(store[0], observation={k: v * 0 for k, v in store[0].observation.items()})
    score = evaluate_prediction(Conveyor(), cut_clips(store, horizon=3, reference=[still]))
    assert score.keys["lcd"].curves["marginal"].mean == [0, 0, 0]
    assert score.keys["lcd"].curves["background"].mean == [0, 0, 0]


def test_the_first_clips_are_those_of_a_smaller_set():
    many, few = (cut_clips(episodes(11), horizon=5, number=n) for n in (7, 3))
    first = many.first(3)
    assert (len(many), len(first), first.horizon, first.context) == (7, 3, 5, 3)
    assert all(torch.equal(first.truth[key], few.truth[key]) for key in few.truth)
    assert torch.equal(first.actions, few.actions)
    assert few.actions.shape == (3, 5, 1)


def test_clips_are_the_first_that_were_scored():
    clips = shown_futures(Conveyor(), cut_clips(episodes(11), context=3, horizon=5, number=2))
    assert clips.truth["lcd"].shape == (2, 8, HEIGHT, WIDTH)
    assert clips.prediction["lcd"].shape == (2, 5, HEIGHT, WIDTH)
    assert np.array_equal(clips.prediction["lcd"] > 0.5, clips.truth["lcd"][:, 3:] > 0)
    more = shown_futures(Conveyor(), cut_clips(episodes(11), context=3, horizon=5, number=3))
    assert np.array_equal(more.truth["place"][:2], clips.truth["place"])


def test_ahead_until_stops_at_the_first_overlap():
    model = Curve([0.9, 0.8, 0.9], [0.8, 0.7, 0.8], [1, 0.9, 1])
    base = Curve([0.5, 0.6, 0.1], [0.4, 0.5, 0], [0.6, 0.75, 0.2])
    assert KeyScore("iou", {"model": model, "copy-last": base}).ahead_until() == 1
    assert KeyScore("mae", {"model": base, "copy-last": model}).ahead_until() == 1


@pytest.mark.parametrize(
    ("horizon", "expected"),
    [(1, [1]), (3, [1, 2, 3]), (20, [1, 2, 5, 10, 20]), (99, [1, 2, 5, 10, 20, 50, 99])],
)
def test_selected_horizons(horizon, expected):
    assert selected_horizons(horizon) == expected


def test_success_is_ending_terminated_where_there_is_a_goal():
    reached, late = episodes(2, goal=True, terminated=True, steps=4), episodes(1, goal=True, steps=6)
    score = score_episodes([*reached, *late], seed=5)
    assert score.successes == [True, True, False]
    assert score.success.value == pytest.approx(2 / 3)
    assert score.returns == [-2, -2, -3]
    assert score.lengths == [4, 4, 6]
    assert score.row()["return"] == pytest.approx(-7 / 3)
    assert json.loads(json.dumps(dataclasses.asdict(score)))["success"][0] == pytest.approx(2 / 3)


def test_no_goal_no_success():
    score = score_episodes(episodes(3, terminated=True), seed=0)
    assert score.success is None
    assert "success" not in score.row()


def test_a_cost_is_summed_where_every_episode_has_one():
    cheap, dear = episodes(2, goal=True, steps=4)
    cheap, dear = (
        dataclasses.replace(one, info={"cost": np.full(4, each)}) for one, each in ((cheap, 0), (dear, 1))
    )
    score = score_episodes([cheap, dear, dear], seed=0)
    assert score.costs == [0, 4, 4]
    assert score.row()["cost"] == score.mean_cost.value == pytest.approx(8 / 3)
    table = policy_grid({"policy": score, "random": score_episodes([*episodes(2, steps=4)], seed=0)})
    assert [len(row) for row in table.rows] == [len(table.columns)] * 2
    assert "2.7" in table.rows[0][table.columns.index("cost")]
    assert score_episodes([dear, *episodes(1, steps=4)], seed=0).mean_cost is None


def test_random_policy_on_a_real_task():
    env = wmplay.make_env("luxo", task="body_goal", num_envs=3)
    score = score_episodes(wmplay.simulate(env, None, episodes=5, seed=7), seed=7)
    assert score.episodes == len(score.returns) == 5
    assert [ok for ok, n in zip(score.successes, score.lengths, strict=True) if n < 100].count(False) == 0
    assert score.success.low < score.success.value < score.success.high
    env.close()
