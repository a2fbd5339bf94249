"""A foreign dataset, a model, and no simulator anywhere."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from refusals import assert_tokens, failure, refusal, refused

import wmplay
from wmplay.cli import main
from wmplay.contracts import Trajectory
from wmplay.errors import ConfigError

TRAIN = ("train", "experiment=offline", "model=mlp", "model.hidden=17", "fit.steps=13", "fit.length=5")
FEW = ("evaluate.prediction.episodes=3", "evaluate.prediction.horizon=5", "evaluate.generation.clips=2")


def record(episodes: int = 11, length: int = 19) -> None:
    """A file as D4RL has them, of a spring that is pushed."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[object]] = {"observations": [], "actions": [], "rewards": [], "timeouts": []}
    for _ in range(episodes):
        x = rng.normal(size=2)
        for t in range(length):
            push = rng.uniform(-1, 1, 1)
            for name, value in zip(rows, (x, push, -abs(x[0]), t == length - 1), strict=True):
                rows[name].append(value)
            x = np.array([x[0] + 0.1 * x[1], x[1] - 0.1 * x[0] + 0.1 * push[0]])
    with h5py.File("spring.h5", "w") as file:
        for name, values in rows.items():
            file[name] = np.array(values)
        file["terminals"] = np.zeros(episodes * length, bool)
    assert main(["data", "import", "--from", "hdf5", "spring.h5", "--out", "data"]) == 0


def test_a_model_is_fitted_and_scored_on_recorded_episodes_alone(capsys: pytest.CaptureFixture[str]) -> None:
    record()
    assert main([*TRAIN, *FEW, "env.data=data", "dir=run"]) == 0
    assert_tokens(capsys.readouterr().out, "predicts")
    run = wmplay.load_run("run")
    held_out = wmplay.load_trajectories("run/held_out/seed1000-3")
    assert (len(run.trajectories), len(held_out)) == (8, 3)
    firsts = {float(t.observation["vector"][0, 0]) for part in (run.trajectories, held_out) for t in part}
    assert len(firsts) == 11  # each episode is in one of them
    assert isinstance(run.env.action_space, Box)
    assert "copy-last" in Path("run/evaluation.json").read_text()
    belief = wmplay.observe(run.model, run.trajectories.sample(2, 5, 0))
    future = wmplay.predict(run.model, belief, torch.zeros(2, 3, 1))
    assert future.observation["vector"].shape == (2, 3, 2)
    assert main(["eval", "run"]) == 0
    assert main(["train", "run=run", "iterations=2"]) == 0
    assert (Path("run") / "report.html").exists()
    assert main(["export", "run", "--out", "out"]) == 0
    assert "prediction/vector/mae@1" in Path("out/card.md").read_text()
    assert_tokens(failure(capsys, "eval", "out", "--verify"), ("out", "recorded"))
    simulate = ("simulate", "luxo", "--episodes", "1", "--run", "run", "--out", "s")
    assert_tokens(failure(capsys, *simulate), ("run", "policy"))
    assert_tokens(
        failure(capsys, "eval", "run", "evaluate.prediction.episodes=2"),
        ("recorded", "collect.random_episodes"),
    )


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    record(episodes=4)
    capsys.readouterr()
    for more, tokens in (
        ((), "env.data=<store>"),
        (("env.data=nowhere",), ("nowhere", "manifest.json")),
        (("env.data=data", "evaluate.prediction.episodes=4"), ("evaluate.prediction.episodes is 4", "data")),
        (("env.data=data", "env.keys=[state]"), ("'state'", "vector")),
        (
            ("env.data=data", *FEW, "collect.random_episodes=2"),
            ("recorded", "data", "collect.random_episodes"),
        ),
        (
            ("env.data=data", *FEW, "policy=random", "evaluate.policy.episodes=1"),
            ("recorded", "evaluate.policy.episodes"),
        ),
        (("env.data=data", *FEW, "evaluate.prediction.horizon=30"), ("evaluate.prediction", "18")),
        (
            ("env.data=data", *FEW, "fit.steps=0", "policy=ppo", "improve.steps=9"),
            ("recorded", "evaluate.policy.episodes"),
        ),
    ):
        assert_tokens(refusal(capsys, *TRAIN, *more), tokens)


def store(path: str, observation: dict[str, np.ndarray], action: np.ndarray) -> None:
    steps = len(action)
    rest = np.zeros(steps, np.float32), np.zeros(steps, bool), np.zeros(steps, bool)
    wmplay.save_trajectories([Trajectory(observation, action, *rest)], path)


def test_spaces_are_as_wide_as_the_data() -> None:
    frames = {
        "screen": np.eye(7, dtype=np.uint8)[[0, 3, 4]],
        "camera": np.full((3, 5, 7, 3), 2, np.uint8),
        "place": np.array([[0.5, -300], [1, 0], [-2, 300]]),
    }
    store("a", frames, np.array([[0.5], [-2]], np.float32))
    store("b", frames, np.array([4, 0]))
    env = wmplay.make_env("recorded", data="a")
    assert env.observation_space["screen"] == Box(0, 1, (7,), np.uint8)
    assert env.observation_space["camera"] == Box(0, 255, (5, 7, 3), np.uint8)
    assert env.observation_space["place"] == Box(
        np.array([-2.0, -300]), np.array([1.0, 300]), dtype=np.float64
    )
    assert env.action_space == Box(-2, 0.5, (1,), np.float32)
    discrete = wmplay.make_env("recorded", data="b", keys=["place"])
    assert discrete.action_space == Discrete(5)
    assert list(discrete.observation_space) == ["place"]
    with refused(ConfigError, ("recorded", "a"), advice=("collect.random_episodes", "improve.steps")):
        env.step(env.action_space.sample())


def test_a_number_for_each_frame_is_no_vector(capsys: pytest.CaptureFixture[str]) -> None:
    frames = {"speed": np.arange(3, dtype=np.float32), "wave": np.ones((3, 2), np.complex64)}
    store("a", frames, np.array([[0.5], [-2]], np.float32))
    env = wmplay.make_env("recorded", data="a", keys=["speed"])
    assert env.observation_space["speed"] == Box(0, 2, (), np.float32)
    for key, tokens in (
        ("speed", ("'speed'", "Box(0.0, 2.0, (), float32)")),
        ("wave", ("'wave'", "complex64")),
    ):
        line = refusal(capsys, *TRAIN, "env.data=a", f"env.keys=[{key}]")
        assert_tokens(line, ("observation", *tokens))


def test_a_store_of_which_the_oldest_episodes_were_dropped() -> None:
    store("a", {"x": np.array([[9.0], [9]])}, np.array([[7]], np.float32))
    store("a", {"x": np.array([[1.0], [2], [3]])}, np.array([[5], [6]], np.float32))
    kept = wmplay.load_trajectories("a").append([wmplay.load_trajectories("a")[1]], max_steps=4)
    assert np.concatenate(list(kept.rows("action"))).ravel().tolist() == [5, 6, 5, 6]
    assert np.concatenate(list(kept.rows("observation.x"))).ravel().tolist() == [1, 2, 3, 1, 2, 3]
