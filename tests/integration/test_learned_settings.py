"""Practice in a learned world by its settings: reward, first frames, and where the policy is scored."""

import pytest
from refusals import refusal

import wmplay
from wmplay.evaluation.files import load_evaluation
from wmplay.runs.disk.directory import RunDirectory

TINY = ["experiment=tiny", "report=false", "model=mlp", "model.hidden=13", "model.image_hidden=11"]
TINY += ["improve.num_envs=5", "improve.steps=20", "learned.count=7", "iterations=1"]
TINY += ["evaluate.policy.episodes=0", "evaluate.prediction.episodes=0"]
TINY += ["policy=ppo", "policy.rollout=4", "policy.hidden=11"]
ONCE = [*TINY, "collect.episodes=0"]
HEADS = [*ONCE, "learned.reward=model"]
SCORED = [*ONCE, "evaluate.policy.episodes=3", "collect.env.max_steps=9", "env.max_steps=9"]
WITHOUT = "collect.env={max_steps: 30, task: null}"
REAL = ["policy", "policy_sampled", "untrained_sampled", "random"]


def test_heads_that_would_be_fitted_on_no_reward_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "train", *HEADS, WITHOUT)
    assert message == (
        "learned.reward=model takes the reward of practice from the model, which is fitted on episodes "
        "without reward: set collect.env.task to that of env, or learned.reward=task"
    )


@pytest.mark.parametrize(
    "overrides", [[], [WITHOUT, "learned.reward=task"], [WITHOUT, "improve.world=real"]], ids=str
)
def test_what_has_its_reward_elsewhere_is_not(overrides: list[str]) -> None:
    run = wmplay.train([*HEADS, *overrides])
    assert [line["phase"] for line in run.metrics].count("improve") == 1


@pytest.mark.parametrize(
    ("context", "starts", "world", "expected"),
    [(1, "env", "learned", 0), (3, "env", "learned", 14), (3, "store", "learned", 0), (3, "env", "real", 20)],
)
def test_steps_between_frames_of_fresh_resets_are_real(
    context: int, starts: str, world: str, expected: int
) -> None:
    settings = [f"learned.context={context}", f"learned.starts={starts}", f"improve.world={world}"]
    run = wmplay.train([*TINY, "iterations=2", *settings])
    collected = sum(line["collect/steps"] for line in run.metrics if line["phase"] == "collect")
    real = RunDirectory(run.path).read_checkpoint()["state"]["real_steps"]
    assert real == collected + 2 * expected
    assert [line["real_steps"] for line in run.metrics if line["phase"] == "improve"][-1] == real


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], [*REAL[:2], "learned_sampled", *REAL[2:]]),
        (["improve.world=real"], REAL),
        (["improve.steps=0"], REAL),
        (["improve.steps=0", "env.task=null", "objective=sum_of_rewards"], REAL),
    ],
    ids=["learned", "real", "none", "without a task"],
)
def test_a_policy_is_scored_in_the_learned_world_if_it_practised_there(
    overrides: list[str], expected: list[str]
) -> None:
    evaluation = load_evaluation(wmplay.train([*SCORED, *overrides]).path)
    assert evaluation is not None
    assert sorted(evaluation.policies) == sorted(expected)
