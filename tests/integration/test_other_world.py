"""Luxo's and Urchin's spaces are equal: what is of one is refused in the other, unless it is meant."""

from pathlib import Path

import numpy as np
import pytest
from refusals import assert_tokens, failure, refusal, refused

import wmplay
from wmplay.cli import main
from wmplay.errors import WorldError
from wmplay.formats.transfer import export_data, import_data

LUXO = "lcd(world=luxo, physics=fast, screen=outwards)"
URCHIN = "lcd(world=urchin, physics=fast, screen=outwards)"
OFFLINE = (
    *("train", "experiment=tiny", "iterations=1", "collect.random_episodes=0", "collect.episodes=0"),
    *("evaluate.prediction.episodes=0", "evaluate.policy.episodes=0", "report=false", "fit.steps=2"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of each world, and a run in Luxo."""
    path = tmp_path_factory.mktemp("made")
    for world in ("luxo", "urchin"):
        env = wmplay.make_env(world, task="body_goal", physics="fast", max_steps=13)
        wmplay.save_trajectories(wmplay.simulate(env, episodes=3), path / world, env=env)
    wmplay.train([*OFFLINE[1:], "collect.random_episodes=2", f"dir={path / 'run'}"])
    return path


@pytest.fixture(autouse=True)
def _here(made: Path) -> None:
    for name in ("luxo", "urchin", "run"):
        Path(name).symlink_to(made / name)


def test_the_loop_and_simulate_remember_the_world(made: Path) -> None:
    run = wmplay.load_run("run")
    assert [origin["world"] for origin in run.trajectories.made_with] == ["luxo"]
    assert main(["simulate", "urchin", "max_steps=5", "--episodes", "2", "--out", "s"]) == 0
    (origin,) = wmplay.load_trajectories("s").made_with
    assert (origin["world"], origin["physics"]) == ("urchin", "faithful")


def test_a_store_of_another_world(capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("urchin", URCHIN, LUXO, "env.other_world=true")
    assert_tokens(refusal(capsys, *OFFLINE, "env.data=urchin", "dir=other"), tokens)
    assert main([*OFFLINE, "env.data=urchin", "env.other_world=true", "dir=other"]) == 0
    store = wmplay.load_run("other").trajectories
    assert [origin["world"] for origin in store.made_with] == ["urchin"]
    assert main([*OFFLINE, "env.data=luxo", "dir=same"]) == 0


def test_a_store_that_does_not_know_its_world_is_told_by_its_spaces_alone() -> None:
    wmplay.save_trajectories(list(wmplay.load_trajectories("urchin")), "unknown")
    assert main([*OFFLINE, "env.data=unknown", "dir=other"]) == 0


def test_appending_another_world(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("simulate", "urchin", "physics=fast", "task=body_goal", "--episodes", "2", "--out", "luxo")
    assert_tokens(refusal(capsys, *command), ("luxo", LUXO, URCHIN))


def test_a_policy_of_another_world(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "urchin", "physics=fast", "task=body_goal", "max_steps=3", "--episodes", "1"]
    command += ["--run", "run", "--out", "s"]
    tokens = ("policy", "run", LUXO, URCHIN, "--other-world")
    assert_tokens(refusal(capsys, *command), tokens)
    assert main([*command, "--other-world"]) == 0
    assert [origin["world"] for origin in wmplay.load_trajectories("s").made_with] == ["urchin"]


def test_a_policy_to_compare_with_of_another_world(capsys: pytest.CaptureFixture[str]) -> None:
    reference = ("env=urchin", "collect.random_episodes=2", "evaluate.policy.reference=run")
    scored = ("evaluate.policy.episodes=1",)
    assert_tokens(refusal(capsys, *OFFLINE, *reference, *scored), ("policy", "run", LUXO))
    lost = (*reference[:2], "evaluate.policy.reference=lost", *scored)
    assert_tokens(refusal(capsys, *OFFLINE, *lost), ("lost", "run.json"))


@pytest.mark.parametrize("command", ["eval run", "train run=run"])
def test_a_run_keeps_its_world(capsys: pytest.CaptureFixture[str], command: str) -> None:
    tokens = (LUXO, URCHIN, "wmplay simulate --run=<dir> --other-world")
    assert_tokens(refusal(capsys, *command.split(), "env.world=urchin"), tokens)


def test_a_policy_evaluated_where_it_misses_an_observation(capsys: pytest.CaptureFixture[str]) -> None:
    assert_tokens(refusal(capsys, "eval", "run", "env.task=null"), ("policy", "'goal_lcd'"))


def test_the_world_goes_along_with_exported_data(capsys: pytest.CaptureFixture[str]) -> None:
    export_data(Path("urchin"), "npz", Path("npz"))
    import_data("npz", Path("npz"), Path("copy"))
    assert_tokens(refusal(capsys, *OFFLINE, "env.data=copy"), ("copy", URCHIN))
    assert_tokens(
        failure(capsys, "data", "import", "--from", "npz", "npz", "--out", "luxo"),
        ("luxo", LUXO),
    )
    before = len(wmplay.load_trajectories("copy"))
    assert len(import_data("npz", Path("npz"), Path("copy"))) == 2 * before
    wmplay.save_trajectories(list(wmplay.load_trajectories("luxo")), "unknown")
    import_data("npz", Path("npz"), Path("unknown"))
    assert wmplay.load_trajectories("unknown").made_with == ()  # a part of it is of who knows where


def test_python_refuses_too() -> None:
    urchin, luxo = (wmplay.load_trajectories(name) for name in ("urchin", "luxo"))
    np.testing.assert_equal(urchin.space, luxo.space)
    wmplay.save_trajectories(luxo, "copy")
    with refused(WorldError, "world=urchin"):
        wmplay.save_trajectories(urchin, "copy")
