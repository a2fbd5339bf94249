"""Which worlds a policy that can learn is scored in."""

import pytest

import wmplay
from wmplay.evaluation.files import load_evaluation

TINY = ["experiment=tiny", "report=false", "model=mlp", "model.hidden=13", "model.image_hidden=11"]
TINY += ["improve.num_envs=5", "learned.count=7", "iterations=1", "collect.episodes=0"]
TINY += ["evaluate.policy.episodes=3", "evaluate.prediction.episodes=0", "collect.env.max_steps=9"]
TINY += ["policy=ppo", "policy.rollout=4", "policy.hidden=11", "env.max_steps=9"]
REAL = ["policy", "policy_sampled", "untrained_sampled", "random"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["improve.steps=20"], [*REAL[:2], "learned_sampled", *REAL[2:]]),
        (["improve.steps=20", "improve.world=real"], REAL),
        (["improve.steps=0"], REAL),
        (["improve.steps=0", "env.task=null", "objective=sum_of_rewards"], REAL),
    ],
    ids=["learned", "real", "none", "without a task"],
)
def test_a_policy_is_scored_in_the_learned_world_if_it_practised_there(
    overrides: list[str], expected: list[str]
) -> None:
    evaluation = load_evaluation(wmplay.train([*TINY, *overrides]).path)
    assert evaluation is not None
    assert sorted(evaluation.policies) == sorted(expected)
