"""Real frames that imagined episodes begin with are real experience, and counted."""

import pytest

import wmplay
from wmplay.runs.disk.directory import RunDirectory

TINY = ["experiment=tiny", "report=false", "model=mlp", "model.hidden=13", "model.image_hidden=11"]
TINY += ["improve.num_envs=5", "improve.steps=20", "learned.count=7", "iterations=2"]
TINY += ["evaluate.policy.episodes=0", "evaluate.prediction.episodes=0"]
TINY += ["policy=ppo", "policy.rollout=4", "policy.hidden=11"]


@pytest.mark.parametrize(
    ("context", "starts", "world", "expected"),
    [(1, "env", "learned", 0), (3, "env", "learned", 14), (3, "store", "learned", 0), (3, "env", "real", 20)],
)
def test_steps_between_frames_of_fresh_resets_are_real(
    context: int, starts: str, world: str, expected: int
) -> None:
    run = wmplay.train(
        [*TINY, f"learned.context={context}", f"learned.starts={starts}", f"improve.world={world}"]
    )
    collected = sum(line["collect/steps"] for line in run.metrics if line["phase"] == "collect")
    state = RunDirectory(run.path).read_checkpoint()["state"]
    assert state["real_steps"] == collected + 2 * expected
    assert [line["real_steps"] for line in run.metrics if line["phase"] == "improve"][-1] == state[
        "real_steps"
    ]
