import dataclasses
import json
import math

import numpy as np
import pytest
from conveyor import Conveyor, episodes
from refusals import refused
from report_run import write_simulator

from wmplay.errors import RunError
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.files import load_evaluation, save_evaluation
from wmplay.evaluation.gallery import load_clips, load_episodes
from wmplay.evaluation.metrics.futures import shown_futures
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.statistics import Interval


@pytest.fixture
def scores():
    store = episodes(7, goal=True)
    return {
        "prediction": evaluate_prediction(Conveyor(late=1), cut_clips(store, horizon=5)),
        "policy": score_episodes(store, seed=3),
        "random": score_episodes(store[:2], seed=3),
    }


def test_what_was_saved_is_loaded(tmp_path, scores):
    clips = shown_futures(Conveyor(late=1), cut_clips(episodes(3), horizon=5, number=6))
    shown = episodes(2, goal=True, terminated=True)
    save_evaluation(tmp_path, **scores, clips=clips, episodes=shown)
    loaded = load_evaluation(tmp_path)
    assert loaded.prediction == scores["prediction"]
    assert loaded.policies == {name: scores[name] for name in ("policy", "random")}
    for part in ("truth", "prediction"):
        for key, value in getattr(clips, part).items():
            assert getattr(load_clips(tmp_path), part)[key] == pytest.approx(value, abs=1e-3)
    assert load_clips(tmp_path).context == 3
    for before, after in zip(shown, load_episodes(tmp_path), strict=True):
        assert after.observation.keys() == {"lcd", "goal_lcd"}
        assert np.array_equal(after.observation["lcd"], before.observation["lcd"])
        assert np.array_equal(after.terminated, before.terminated)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "clips.npz",
        "episodes.npz",
        "evaluation.json",
    ]


def test_every_kind_of_score_and_picture_comes_back(tmp_path):
    write_simulator(tmp_path)
    first = load_evaluation(tmp_path)
    assert list(first.policies) == [
        "policy",
        "policy_sampled",
        "learned_sampled",
        "untrained_sampled",
        "random",
    ]
    assert isinstance(first.surprise.bits, Interval)
    assert isinstance(first.arbiter.likeness["real"].neighbours["precision@3"], Interval)
    assert first.spread.keys["lcd"].among.at(7).value > 0
    (tmp_path / "again").mkdir()
    parts = {f.name: getattr(first, f.name) for f in dataclasses.fields(first) if f.name != "policies"}
    save_evaluation(tmp_path / "again", **parts, **first.policies)
    # the text and not the values: a NaN differs from itself
    texts = [(path / "evaluation.json").read_text() for path in (tmp_path, tmp_path / "again")]
    assert texts[0] == texts[1]
    assert load_clips(tmp_path, "unprompted").context == 1
    assert len(load_clips(tmp_path, "duplicate").prediction["lcd"]) == 3
    assert [len(t) for t in load_episodes(tmp_path, "learned_episodes")] == [7, 7]


def test_nothing_is_left_of_an_earlier_evaluation(tmp_path):
    write_simulator(tmp_path)
    save_evaluation(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_what_is_not_known_is_named_and_what_is_missing_is_none(tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text('{"policies": {}}')
    assert load_evaluation(tmp_path).surprise is None
    path.write_text('{"policies": {}, "nonsense": 1}')
    with refused(RunError, (path, "'nonsense'")):
        load_evaluation(tmp_path)


def test_a_directory_without_evaluation_has_none(tmp_path):
    assert load_evaluation(tmp_path) is None
    assert load_clips(tmp_path) is None
    assert load_episodes(tmp_path) == []


def test_numbers_only(tmp_path):
    save_evaluation(tmp_path)
    evaluation = load_evaluation(tmp_path)
    assert evaluation.prediction is None
    assert evaluation.policies == {}


def test_what_is_not_finite_is_null_on_disk_and_nan_again(tmp_path, scores):
    score = dataclasses.replace(
        scores["policy"],
        mean_return=Interval(1.0, -math.inf, math.nan),
        returns=[math.nan] * scores["policy"].episodes,
    )
    save_evaluation(tmp_path, policy=score)
    text = (tmp_path / "evaluation.json").read_text()
    json.loads(text, parse_constant=pytest.fail)  # NaN and Infinity are not JSON
    loaded = load_evaluation(tmp_path).policies["policy"]
    assert loaded.mean_return.value == 1
    assert math.isnan(loaded.mean_return.low)
    assert math.isnan(loaded.returns[0])


@pytest.mark.parametrize("content", ["{", "[]", '{"policy": {}}', '{"prediction": {"x": 1}}'])
def test_damaged_numbers_are_named(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(content)
    with refused(RunError, "evaluation.json"):
        load_evaluation(tmp_path)


def test_damaged_arrays_are_named(tmp_path):
    (tmp_path / "clips.npz").write_bytes(b"PK nothing")
    with refused(RunError, "clips.npz"):
        load_clips(tmp_path)


def test_vectors_only_leave_no_pictures_of_episodes(tmp_path):
    shown = [dataclasses.replace(t, observation={"place": t.observation["place"]}) for t in episodes(2)]
    save_evaluation(tmp_path, episodes=shown)
    assert load_episodes(tmp_path) == []
