"""``wmplay data`` as a person types it, up to a model that learned from nothing else."""

import json
from pathlib import Path

import minari
import numpy as np
import pytest
from minari.data_collector.episode_buffer import EpisodeBuffer
from refusals import assert_tokens, contents, failure, refusal

import wmplay
from wmplay.cli import main


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))


@pytest.mark.filterwarnings("ignore:.* is set to None:UserWarning", "ignore:env_spec is None:UserWarning")
def test_a_foreign_dataset_trains_a_model_offline(capsys: pytest.CaptureFixture[str]) -> None:
    """Recorded by hand and by Minari's own writer: nothing of ours has touched it before the import."""
    env = wmplay.make_env("luxo", task="body_goal", physics="fast", max_steps=30)
    env.action_space.seed(3)
    buffers = []
    for number in range(11):
        frames, actions, rewards, terminations, truncations = [env.reset(seed=number)[0]], [], [], [], []
        while not (terminations and (terminations[-1] or truncations[-1])):
            actions.append(env.action_space.sample())
            frame, reward, terminated, truncated, _ = env.step(actions[-1])
            frames.append(frame)
            rewards.append(reward)
            terminations.append(terminated)
            truncations.append(truncated)
        observations = {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}
        buffers.append(
            EpisodeBuffer(
                observations=observations,
                actions=np.stack(actions),
                rewards=rewards,
                terminations=terminations,
                truncations=truncations,
            )
        )
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    minari.create_dataset_from_buffers("luxo-v0", buffer=buffers, **spaces)
    assert main(["data", "import", "--from", "minari", "datasets/luxo-v0", "--out", "store"]) == 0
    assert main(["data", "info", "store"]) == 0
    assert "11 episodes" in capsys.readouterr().out
    offline = ["env.data=store", "collect.random_episodes=0", "collect.episodes=0", "iterations=1"]
    assert main(["train", "experiment=tiny", *offline, "dir=run"]) == 0
    assert len(wmplay.load_trajectories("run/trajectories")) == 11
    logged = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert any("loss" in key for line in logged for key in line)


def test_from_store_to_every_format_and_back(capsys: pytest.CaptureFixture[str]) -> None:
    settings = ("env.physics=fast", "max_steps=13")
    assert main(["simulate", "urchin", *settings, "--episodes", "5", "--out", "s"]) == 0
    for name in ("npz", "hdf5", "minari", "lance"):
        assert main(["data", "export", "s", "--to", name, f"{name}-v0"]) == 0
        assert main(["data", "import", "--from", name, f"{name}-v0", "--out", f"{name}-store"]) == 0
        ours, theirs = wmplay.load_trajectories("s"), wmplay.load_trajectories(f"{name}-store")
        assert ours.space == theirs.space
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.observation["lcd"], b.observation["lcd"])
            np.testing.assert_array_equal(a.action, b.action)
    assert "5 episodes, 65 steps" in capsys.readouterr().err
    before = contents()
    assert_tokens(failure(capsys, "data", "export", "s", "--to", "npz", "npz-v0"), "npz-v0")
    assert contents() == before


@pytest.mark.parametrize(
    ("command", "tokens"),
    [
        ("data", "info|import|export"),
        ("data inform s", "inform"),
        ("data info nowhere", ("nowhere", "manifest.json")),
        ("data info s --long", ("data", "--long")),
        ("data export nowhere --to npz out", ("nowhere", "manifest.json")),
        ("data export nowhere out", "--to"),
        ("data export nowhere --to hdf out", ("hdf", "hdf5")),
        ("data import --from npz nowhere --out s", ("nowhere", ".npz")),
        ("data import --from hdf5 nowhere --out s", ("nowhere", "HDF5")),
        ("data import --from minari nowhere --out s", ("nowhere", "Minari")),
        ("data import --from lance nowhere --out s", ("nowhere", "Lance")),
        ("data import --from lerobot nowhere --out s", ("nowhere", "LeRobot")),
        ("data export nowhere --to lerobot out", ("lerobot", "hdf5, lance, minari, npz")),
        ("data import --from npz nowhere", "--out"),
    ],
)
def test_refusals(capsys: pytest.CaptureFixture[str], command: str, tokens: str | tuple[str, ...]) -> None:
    assert_tokens(refusal(capsys, *command.split()), tokens)
