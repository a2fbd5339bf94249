import pytest
from conveyor import Conveyor, episodes
from refusals import refused

import wmplay
from wmplay.envs.lcd import WORLDS
from wmplay.errors import ArbiterError
from wmplay.evaluation.arbiter.choice import arbiter_of, check_arbiter
from wmplay.evaluation.arbiter.network import shipped_arbiters
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.futures import shown_futures
from wmplay.evaluation.metrics.policy import score_episodes
from wmplay.evaluation.metrics.spread import evaluate_spread
from wmplay.evaluation.scores import flat


def test_the_arbiter_follows_from_the_world_and_not_from_its_settings():
    env = wmplay.make_env("luxo", task="body_goal", physics="fast", max_steps=31)
    assert arbiter_of(env).name.startswith("luxo")
    check_arbiter(env, 5, 128)


@pytest.mark.parametrize("name", ["CartPole-v1", "urchin_balls"])
def test_a_world_without_an_arbiter_says_who_has_one(name):
    with refused(ArbiterError, got="GymEnv" if name == "CartPole-v1" else name) as caught:
        arbiter_of(wmplay.make_env(name))
    assert "luxo_cube" in str(caught.value)


def test_a_horizon_too_short_for_a_clip():
    with refused(ArbiterError, "horizon", got=4, expected="5"):
        check_arbiter(wmplay.make_env("luxo"), 4, 128)


def test_too_few_clips_are_said_before_the_run():
    with refused(ArbiterError, "48", got=44, expected="49"):
        check_arbiter(wmplay.make_env("luxo"), 20, 48)


def test_scores_become_metrics_and_pictures_do_not():
    store = episodes(5, goal=True)
    scores = {
        "spread": evaluate_spread(Conveyor(), cut_clips(store, horizon=3), 2),
        "clips": shown_futures(Conveyor(), cut_clips(store, horizon=3, number=6)),
        "policy_sampled": score_episodes(store, seed=0),
        "learned_episodes": store,
    }
    metrics = flat(scores)
    assert metrics["policy_sampled/success"] == 0
    assert metrics["spread/lcd/among@3"] == 0
    assert {name.split("/")[0] for name in metrics} == {"spread", "policy_sampled"}


@pytest.mark.parametrize("world", sorted(set(WORLDS) - set(shipped_arbiters())))
def test_the_way_to_make_one_is_named(world: str) -> None:
    advice = (f"python scripts/train_arbiter.py {world}", "evaluate.arbiter.clips")
    with refused(ArbiterError, f"'{world}'", got=world, advice=advice):
        arbiter_of(wmplay.make_env(world))


@pytest.mark.parametrize("world", shipped_arbiters())
def test_those_that_are_there_are_found(world: str) -> None:
    assert arbiter_of(wmplay.make_env(world)).about["world"] == world
