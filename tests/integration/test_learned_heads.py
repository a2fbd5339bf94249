"""Practice by the reward of a model's heads: what they are to know has to be in what they are fitted on."""

import pytest
from refusals import refusal

import wmplay

TINY = ["experiment=tiny", "report=false", "model=mlp", "model.hidden=13", "model.image_hidden=11"]
TINY += ["improve.num_envs=5", "improve.steps=20", "learned.count=7", "iterations=1", "collect.episodes=0"]
TINY += ["evaluate.policy.episodes=0", "evaluate.prediction.episodes=0"]
TINY += ["policy=ppo", "policy.rollout=4", "policy.hidden=11", "learned.reward=model"]
WITHOUT = "collect.env={max_steps: 30, task: null}"


def test_heads_that_would_be_fitted_on_no_reward_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "train", *TINY, WITHOUT)
    assert message == (
        "learned.reward=model takes the reward of practice from the model, which is fitted on episodes "
        "without reward: set collect.env.task to that of env, or learned.reward=task"
    )


@pytest.mark.parametrize(
    "overrides", [[], [WITHOUT, "learned.reward=task"], [WITHOUT, "improve.world=real"]], ids=str
)
def test_what_has_its_reward_elsewhere_is_not(overrides: list[str]) -> None:
    run = wmplay.train([*TINY, *overrides])
    assert [line["phase"] for line in run.metrics].count("improve") == 1
