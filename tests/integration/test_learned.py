"""Policies that practise, in the learned world and in the real one: the loop, end to end and tiny."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import Command
from refusals import assert_tokens, failure, refusal, refused
from torch.utils._pytree import tree_flatten

import wmplay
from wmplay.errors import RunError, SpaceError
from wmplay.loop.session import Session
from wmplay.runs.disk.directory import RunDirectory
from wmplay.store import save_trajectories
from wmplay.system import progress

TINY = ["experiment=tiny", "report=false", "model=mlp", "model.hidden=13", "model.image_hidden=11"]
TINY += ["improve.num_envs=5", "improve.steps=40", "learned.count=7", "collect.env.max_steps=30"]
TINY += ["evaluate.policy.episodes=0", "evaluate.prediction.episodes=0"]
PPO = [*TINY, "policy=ppo", "policy.rollout=4", "policy.hidden=11", "policy.minibatch=7"]
SAC = [*TINY, "policy=sac", "policy.rollout=4", "policy.hidden=11", "policy.batch_size=7"]
SAC += ["policy.random_steps=10", "policy.replay=101"]
POLICIES = {"ppo": PPO, "sac": SAC}


def lines(path: Path, phase: str = "improve") -> list[dict[str, Any]]:
    return [line for line in wmplay.load_run(path).metrics if line["phase"] == phase]


def assert_same_run(left: Path, right: Path) -> None:
    """All numbers, and all that the runs would go on from."""
    metrics = [
        [{k: v for k, v in line.items() if k != "time"} for line in wmplay.load_run(path).metrics]
        for path in (left, right)
    ]
    assert metrics[0] == metrics[1]
    saved = [RunDirectory(path).read_checkpoint() for path in (left, right)]
    for one in saved:
        del one["state"]["wall"], one["metrics"], one["store"]
        for stage in one["fitter"].values():
            for group in stage["optimizer"]["param_groups"]:
                del group["lr"]  # of the last update; each sets its own
    assert saved[0]["learner"] is not None
    leaves, forms = zip(*(tree_flatten(one) for one in saved), strict=True)
    assert forms[0] == forms[1]
    for a, b in zip(*leaves, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# ---- what a run does -----------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "world"), [("ppo", "learned"), ("ppo", "real"), ("sac", "real")])
def test_steps_are_counted_where_they_are_taken(world: str, policy: str) -> None:
    run = wmplay.train([*POLICIES[policy], f"improve.world={world}"])
    told = lines(run.path)
    assert [line["iteration"] for line in told] == [0, 0, 1, 1]
    collected = [line["real_steps"] for line in lines(run.path, "collect")]
    assert collected[0] == 7 * 30
    if world == "learned":
        assert [line["learned_steps"] for line in told] == [20, 40, 60, 80]
        assert [line["real_steps"] for line in told] == [collected[1]] * 2 + [collected[2]] * 2
    else:
        assert {line["learned_steps"] for line in told} == {0}
        practised = [line["real_steps"] for line in told]
        assert practised == [collected[1] + 20, collected[1] + 40, collected[2] + 20, collected[2] + 40]
        assert collected[2] > collected[1] + 40, "they are counted on from there"
    assert all(np.isfinite(line["improve/reward"]) for line in told)
    state = RunDirectory(run.path).read_checkpoint()["state"]
    assert (state["real_steps"], state["learned_steps"]) == (
        told[-1]["real_steps"],
        told[-1]["learned_steps"],
    )


def test_real_steps_are_fitted_by_the_replay_ratio() -> None:
    few = ["iterations=3", "fit.steps=2", "fit.replay_ratio=0.1", "fit.schedule=constant", "fit.log_every=1"]
    run = wmplay.train([*PPO, *few, "improve.world=real"])
    steps = [line["collect/steps"] for line in lines(run.path, "collect")]
    assert len(steps) == 4
    fitted = [line["iteration"] for line in lines(run.path, "fit")]
    collected = [steps[0] + steps[1], *steps[2:]]
    assert [fitted.count(i) for i in range(3)] == [2 + round(0.1 * number) for number in collected]


def test_part_of_a_batch_is_what_was_collected() -> None:
    """Which the rehearsal, before anything is collected, must have in little."""
    run = wmplay.train(
        [
            *SAC,
            "iterations=1",
            "policy.real_fraction=0.5",
            "policy.random_steps=1",
            "collect.env.task=body_goal",
        ]
    )
    assert np.isfinite(lines(run.path)[-1]["improve/critic_loss"])


def test_the_policy_learns_and_the_model_stays_as_it_was_fitted() -> None:
    still, moved = (
        wmplay.train([*PPO, "iterations=1", f"improve.steps={n}", f"dir=run{n}"]) for n in (0, 40)
    )
    for key, value in still.model.state_dict().items():
        assert torch.equal(value, moved.model.state_dict()[key]), key
    assert not torch.equal(still.policy.actor[0].weight, moved.policy.actor[0].weight)
    assert moved.policy.inputs.count > 40
    assert still.policy.inputs.count == 0


def test_a_run_without_a_model_practises_in_the_real_world() -> None:
    bare = [
        "planner=null",
        "objective=null",
        "explorer=null",
        "collect.random_episodes=0",
        "collect.episodes=0",
    ]
    settings = [part for part in PPO if not part.startswith(("experiment", "model", "collect", "evaluate"))]
    few = ["threads=1", "env.task=body_goal", "env.physics=fast", "evaluate.policy.episodes=3"]
    run = wmplay.train([*settings, *bare, *few, "model=null", "improve.world=real", "iterations=2"])
    assert [line["real_steps"] for line in lines(run.path)] == [20, 40, 60, 80]
    assert lines(run.path, "evaluate")


# ---- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "world"), [("ppo", "learned"), ("ppo", "real"), ("sac", "learned")])
def test_an_interrupted_run_goes_on_to_the_numbers_of_an_unbroken_one(
    world: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*POLICIES[policy], f"improve.world={world}"]
    whole = wmplay.train([*overrides, "dir=whole"]).path
    rounds, log = 0, Session.log

    def stop(self: Session, phase: str, metrics: dict[str, float]) -> None:
        nonlocal rounds
        rounds += phase == "improve"
        if rounds == 3:  # the first of the second iteration: what was learned in the first has to be there
            raise progress.Interrupted
        log(self, phase, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "log", stop)
        with pytest.raises(progress.Interrupted):
            wmplay.train([*overrides, "dir=broken"])
    state = RunDirectory(Path("broken")).read_checkpoint()["state"]
    assert (state["phase"], state["iteration"]) == ("improve", 1)
    wmplay.train(["run=broken"])
    assert_same_run(whole, Path("broken"))


def test_kill_9_while_practising_loses_nothing_before() -> None:
    long = [*PPO, "improve.steps=200", "iterations=1"]
    whole = wmplay.train([*long, "dir=whole"]).path
    assert Command("train", *long, "dir=killed", killed_at=("improve", 3)).wait() == -signal.SIGKILL
    assert RunDirectory(Path("killed")).read_checkpoint()["state"]["phase"] == "improve"
    wmplay.train(["run=killed"])
    assert_same_run(whole, Path("killed"))


# ---- bad input -----------------------------------------------------------------------------------

BLIND = """
import torch
import wmplay
from wmplay.contracts import LazyMapping, Prediction
from wmplay.models.mlp import MLP

@wmplay.register("model", "blind")
class Blind(MLP):
    def __init__(self, observation_space, action_space, *, reward_weight: float = 1.0):
        sizes = {"hidden": 7, "image_hidden": 7}
        super().__init__(observation_space, action_space, **sizes, reward_weight=reward_weight)

    def predict(self, belief, action, *, generator=None):
        return super().predict(belief, action, generator=generator)

    def decode(self, latent):
        whole = super().decode(latent)
        return LazyMapping(["lcd"], lambda key: whole[key])
"""


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [
        (
            ("model=blind",),
            ("'proprio'", "Blind", "goal_lcd"),
        ),
        (
            ("model=blind", "learned.reward=model"),
            ("'proprio'", "16", "missing"),
        ),
        (
            ("model=blind", "learned.temperature=0.5"),
            ("Blind", "learned.temperature", "1", "0"),
        ),
        (("learned.temperature=-1",), ("learned.temperature", "-1", "float", "0")),
        (("learned.reward=model", "model.reward_weight=0"), ("MLP", "reward")),
        (("learned.reward=heads",), ("learned.reward", "heads", "task", "model")),
        (("env.task=null", "objective=sum_of_rewards"), "learned.reward=model"),
        (
            ("learned.context=31", "env.max_steps=30"),
            ("learned.context", "31"),
        ),
        (("learned.count=0",), ("learned.count", "0", "int", "1")),
        (("learned.starts=reset",), ("learned.starts", "reset", "env", "store")),
        (
            ("model=null", "planner=null", "objective=null", "policy=ppo"),
            ("model", "improve.world=real"),
        ),
        (("improve.world=dream",), ("improve.world", "dream", "learned", "real")),
        (
            ("fit.replay_ratio=0.5",),
            ("fit.schedule", "cosine"),
        ),
        (("policy.gamma=1.5",), ("ppo", "gamma", "1.5", "0")),
        (
            (
                "env=gym",
                "env.id=CartPole-v1",
                "env.pixels=true",
                "env.state=false",
                "objective=sum_of_rewards",
            ),
            ("pixels", "vector"),
        ),
    ],
)
def test_what_cannot_be_practised_is_one_line(
    overrides: tuple[str, ...], tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("plugins").mkdir()
    Path("plugins/blind.py").write_text(BLIND)
    settings = [part for part in PPO if not part.startswith("model.") or "model=blind" not in overrides]
    if "model=null" in overrides:
        settings = [
            *(part for part in settings if not part.startswith(("model", "experiment"))),
            *("explorer=null", "env.task=body_goal", "env.physics=fast"),
        ]
    if "env=gym" in overrides:
        settings = [part for part in settings if not part.startswith(("experiment", "collect.env"))]
        settings += ["planner=null"]
    assert_tokens(refusal(capsys, "train", *settings, *overrides), tokens)


@pytest.mark.parametrize("policy", ["mpc", "random"])
def test_a_policy_that_does_not_learn_cannot_practise(
    policy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, "train", "experiment=tiny", f"policy={policy}", "improve.steps=40")
    assert_tokens(message, ("improve.steps is 40", "policy=ppo", "improve.steps=0"))


def stored(name: str, path: str, steps: int, **settings: Any) -> None:
    env = wmplay.make_env(name, physics="fast", num_envs=2, max_steps=steps, **settings)
    save_trajectories(wmplay.simulate(env, episodes=3, seed=1), path)


OFFLINE = ["env.data=data", "collect.random_episodes=0", "collect.episodes=0", "learned.starts=store"]


def test_a_context_longer_than_the_stored_trajectories(capsys: pytest.CaptureFixture[str]) -> None:
    stored("luxo", "data", steps=9)
    message = refusal(capsys, "train", *PPO, *OFFLINE, "fit.length=5", "learned.context=11")
    assert_tokens(message, ("learned.context", "11", "store"))


@pytest.mark.parametrize("starts", ["store", "env"])
def test_a_store_of_another_world(starts: str, capsys: pytest.CaptureFixture[str]) -> None:
    stored("crab", "data", steps=9)
    message = refusal(capsys, "train", *PPO, *OFFLINE, f"learned.starts={starts}")
    assert message.startswith(
        "store data has observation.lcd as uint8 [32, 64], the env gives uint8 [16, 32]: "
    )


def test_a_policy_in_another_world_than_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    run = wmplay.train([*PPO, "iterations=1"])
    other = wmplay.make_env("crab", task="body_goal", physics="fast")
    with refused(SpaceError, ("goal_proprio", "16", "68")):
        wmplay.simulate(other, policy=run.policy, episodes=1)
    with refused(SpaceError, ("goal_proprio", "16", "missing")):
        wmplay.simulate(wmplay.make_env("luxo", physics="fast"), policy=run.policy, episodes=1)
    message = refusal(capsys, "simulate", "crab", "task=body_goal", "--out", "x", "--run", str(run.path))
    assert_tokens(message, (run.path, "world=luxo"))
    assert_tokens(message, "world=crab")


class Cut:
    """A run's last checkpoints, rewritten."""

    def __init__(self, run: Path) -> None:
        self.paths = RunDirectory(run).checkpoints()

    def __call__(self, change: Any) -> None:
        for path in self.paths:
            saved = torch.load(path, weights_only=True)
            change(saved["weights"]["policy"])
            torch.save(saved, path)


def test_a_checkpoint_from_before_the_observation_normaliser(capsys: pytest.CaptureFixture[str]) -> None:
    run = wmplay.train([*PPO, "iterations=1"])

    def forget(weights: dict[str, Any]) -> None:
        for key in ("inputs.mean", "inputs.variance", "inputs.count"):
            del weights[key]

    Cut(run.path)(forget)
    with refused(RunError, (run.path, "PPO", "inputs.mean")):
        _ = wmplay.load_run(run.path).policy
    assert_tokens(failure(capsys, "train", f"run={run.path}"), ("PPO", "inputs.mean"))


def test_weights_of_another_action_space() -> None:
    run = wmplay.train([*PPO, "iterations=1"])

    def shrink(weights: dict[str, Any]) -> None:
        weights["log_std"] = weights["log_std"][:1]

    Cut(run.path)(shrink)
    with refused(RunError, ("PPO", "1", "log_std")):
        _ = wmplay.load_run(run.path).policy
