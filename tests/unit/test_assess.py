import pytest
from conveyor import Conveyor, episodes
from omegaconf import OmegaConf

import wmplay
from wmplay.errors import ArbiterError
from wmplay.evaluation.assess import arbiter_of, check_arbiter
from wmplay.evaluation.prediction import predict_clips, score_episodes
from wmplay.evaluation.scores import flat
from wmplay.evaluation.spread import evaluate_spread


def asking(horizon):
    return OmegaConf.create({"evaluate": {"prediction": {"horizon": horizon}}})


def test_the_arbiter_follows_from_the_world_and_not_from_its_settings():
    env = wmplay.make_env("luxo", task="body_goal", physics="fast", max_steps=31)
    assert arbiter_of(env).name.startswith("luxo")
    check_arbiter(asking(5), env)


@pytest.mark.parametrize("name", ["CartPole-v1", "urchin_balls"])
def test_a_world_without_an_arbiter_says_who_has_one(name):
    with pytest.raises(ArbiterError, match=r"luxo|no arbiter judges the world 'urchin_balls'"):
        arbiter_of(wmplay.make_env(name))


def test_a_horizon_too_short_for_a_clip():
    with pytest.raises(ArbiterError, match="horizon is 4, expected at least 5"):
        check_arbiter(asking(4), wmplay.make_env("luxo"))


def test_scores_become_metrics_and_pictures_do_not():
    store = episodes(5, goal=True)
    scores = {
        "spread": evaluate_spread(Conveyor(), store, horizon=3, futures=2),
        "clips": predict_clips(Conveyor(), store, horizon=3),
        "policy_sampled": score_episodes(store, seed=0),
        "learned_episodes": store,
    }
    metrics = flat(scores)
    assert metrics["policy_sampled/success"] == 0
    assert metrics["spread/lcd/among@3"] == 0
    assert {name.split("/")[0] for name in metrics} == {"spread", "policy_sampled"}
