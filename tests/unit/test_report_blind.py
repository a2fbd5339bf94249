"""Reports of runs whose model predicts vectors only: what there is to look at is shown, the rest left out."""

import dataclasses

import pytest
from conveyor import episodes
from report_run import write_run

from wmplay.evaluation.files import save_evaluation
from wmplay.evaluation.gallery import load_episodes
from wmplay.report import write_report
from wmplay.report.pictures.episodes import shown_key


def without(key, some):
    return [
        dataclasses.replace(each, observation={k: v for k, v in each.observation.items() if k != key})
        for each in some
    ]


@pytest.fixture
def real():
    return without("place", episodes(2, goal=True, steps=7))


def test_learned_episodes_without_a_screen_are_not_kept(real, tmp_path):
    save_evaluation(tmp_path, episodes=real, learned_episodes=without("lcd", real))
    assert [len(each) for each in load_episodes(tmp_path)] == [7, 7]
    assert load_episodes(tmp_path, "learned_episodes") == [], "a goal that stands still is nothing to look at"


def test_the_report_then_shows_the_real_world_alone(real, tmp_path):
    write_run(tmp_path)
    save_evaluation(tmp_path, episodes=real, learned_episodes=without("lcd", real))
    text = write_report(tmp_path).read_text()
    assert "Episodes of the policy in the real world" in text
    assert "in the learned one" not in text


def test_worlds_are_compared_by_a_picture_that_both_have(real):
    camera = [
        dataclasses.replace(each, observation={"camera": each.observation["lcd"], **each.observation})
        for each in real
    ]
    assert shown_key({"real": camera}) == "camera"
    assert shown_key({"real": camera, "learned": real}) == "lcd"
    assert shown_key({"real": camera, "learned": without("lcd", real)}) is None


def test_a_picture_that_only_one_world_has_breaks_no_report(real, tmp_path):
    write_run(tmp_path)
    camera = [
        dataclasses.replace(each, observation={"camera": each.observation["lcd"], **each.observation})
        for each in real
    ]
    camera = without("lcd", camera)
    save_evaluation(tmp_path, episodes=real, learned_episodes=camera)
    assert "in the learned one" not in write_report(tmp_path).read_text()
