import numpy as np
import pytest
import torch
from conveyor import HEIGHT, WIDTH, Conveyor, episodes
from refusals import refused

from wmplay.errors import WmplayError
from wmplay.evaluation.clips import cut_clips, cut_from_resets
from wmplay.evaluation.metrics.futures import sample_futures, shown_futures
from wmplay.evaluation.metrics.spread import evaluate_spread
from wmplay.evaluation.observation_metrics import as_observed, distance


def test_a_model_that_samples_nothing_has_no_spread():
    spread = evaluate_spread(Conveyor(late=1), cut_clips(episodes(11), horizon=5), 3)
    for key in spread.keys.values():
        assert key.among.mean == [0] * 5
        assert min(key.to_truth.mean) > 0
        assert min(key.unrelated.mean) > 0
    assert (spread.clips, spread.futures) == (11, 3)


def test_the_spread_of_noise_is_what_it_must_be():
    # bars are one column apart with probability 1/2, from each other and from the truth
    spread = evaluate_spread(Conveyor(noise=1), cut_clips(episodes(211, steps=9), horizon=5, number=211))
    lcd = spread.keys["lcd"]
    assert lcd.metric == "iou"
    assert np.mean(lcd.among.mean) == pytest.approx(0.5 * (1 - 1 / 3), abs=0.03)
    assert np.mean(lcd.to_truth.mean) == pytest.approx(0.5 * (1 - 1 / 3), abs=0.03)
    assert lcd.among.low[0] < lcd.among.mean[0] < lcd.among.high[0]
    assert spread.row()["lcd/among@5"] == lcd.among.mean[-1]


def test_one_clip_is_related_to_nothing():
    spread = evaluate_spread(Conveyor(noise=1), cut_clips(episodes(1), horizon=3), 2)
    assert np.isnan(spread.keys["lcd"].unrelated.mean).all()
    assert np.isfinite(spread.keys["lcd"].among.mean).all()


def test_futures_are_of_their_own_window(monkeypatch):
    clips = cut_clips(episodes(7), 2, 5)
    [(batch, sampled)] = sample_futures(Conveyor(), clips, 3)
    futures = sampled["lcd"]
    assert futures.shape == (7, 3, 5, HEIGHT, WIDTH)
    truth = batch.observation["lcd"][:, None, 2:]
    assert torch.equal(truth[:, 0], clips.truth["lcd"])
    assert torch.equal(as_observed("iou", futures, torch.uint8), truth.expand(7, 3, 5, HEIGHT, WIDTH))
    whole = evaluate_spread(Conveyor(late=1), cut_clips(episodes(7), horizon=3))
    monkeypatch.setattr("wmplay.evaluation.clips.BATCH", 3)
    assert evaluate_spread(Conveyor(late=1), cut_clips(episodes(7), horizon=3)) == whole


def test_duplicates_share_their_truth():
    clips = shown_futures(Conveyor(noise=1), cut_clips(episodes(5), context=2, horizon=7, number=1), 3)
    assert clips.truth["lcd"].shape == (3, 9, HEIGHT, WIDTH)
    assert clips.prediction["place"].shape == (3, 7, 1)
    assert (clips.truth["place"] == clips.truth["place"][:1]).all()
    assert not np.array_equal(clips.prediction["place"][0], clips.prediction["place"][1])


def test_unprompted_begins_at_the_reset_and_fits_the_episodes():
    store = episodes(5, steps=11)
    clips = shown_futures(Conveyor(), cut_from_resets(store, 50, 3), 1)
    assert clips.context == 1
    assert clips.truth["lcd"].shape == (3, 12, HEIGHT, WIDTH)
    firsts = [t.observation["place"][0, 0] for t in store]
    assert all(first in firsts for first in clips.truth["place"][:, 0, 0])
    assert np.array_equal(clips.prediction["place"], clips.truth["place"][:, 1:])


def test_what_is_seen_and_how_far_apart():
    pixels = as_observed("mse", torch.tensor([-3.0, 0.6, 300.0]), torch.uint8)
    assert pixels.tolist() == [0, 1, 255]
    assert as_observed("mae", torch.tensor([0.6]), torch.float32).item() == pytest.approx(0.6)
    one = torch.ones(2, 3, 5, 7, dtype=torch.uint8)
    assert distance("iou", one, one).tolist() == [[0] * 3] * 2


def test_short_episodes_are_an_error():
    with refused(WmplayError, got=31, expected="33"):
        evaluate_spread(Conveyor(), cut_clips(episodes(3), context=3, horizon=31))
