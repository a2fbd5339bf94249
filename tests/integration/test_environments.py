"""Other people's environments through the whole house: simulated, learned, planned in, evaluated, listed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from refusals import refusal

import wmplay
from wmplay.cli import main
from wmplay.errors import ConfigError
from wmplay.system import extras

SMALL = [
    *("threads=1", "collect.random_episodes=5", "collect.episodes=2", "collect.num_envs=2"),
    *("fit.steps=3", "fit.batch_size=3", "fit.length=5", "fit.log_every=1"),
    *("model.deter=17", "model.stoch=5", "model.hidden=13", "model.image_hidden=11"),
    *("planner.candidates=5", "planner.iterations=2", "planner.horizon=3"),
    *("evaluate.prediction.episodes=3", "evaluate.prediction.horizon=3", "evaluate.policy.episodes=2"),
    *("evaluate.generation.clips=1", "evaluate.generation.futures=2", "evaluate.generation.steps=5"),
]
DISCRETE = "explorer=epsilon_greedy"
NO_REPORT = "report=false"
ENVS = {  # seven steps an episode
    "dm_control": (["domain=cartpole", "task=swingup", "max_steps=7"], [NO_REPORT]),
    "dm_control in pixels": (
        ["state=false", "pixels=true", "shadows=false", "action_repeat=2", "max_steps=14"],
        [],
    ),
    "atari": (["game=pong", "max_steps=28"], [DISCRETE, NO_REPORT]),
    "minigrid": (["id=MiniGrid-KeyCorridorS3R1-v0", "pixels=true", "max_steps=7"], [DISCRETE]),
    "gym": (["id=CartPole-v1", "vectorization=native", "max_steps=7"], [DISCRETE]),
}


@pytest.fixture(params=ENVS)
def chosen(request: pytest.FixtureRequest) -> tuple[str, list[str], list[str]]:
    """An env's name, its settings and those of the run; skips where its package or a renderer is not here."""
    name, (settings, others) = request.param.split()[0], ENVS[request.param]
    extra = extras.extra_of(name)
    if extra is not None and extras.installed(extra) is None:
        pytest.skip(extras.how_to_install(extra))
    if request.param == "dm_control in pixels":
        try:
            wmplay.make_env("dm_control", pixels=True)
        except ConfigError as error:
            pytest.skip(str(error))
    return name, settings, others


def test_the_whole_pipeline(chosen: tuple[str, list[str], list[str]]) -> None:
    name, settings, others = chosen
    assert main(["simulate", name, *settings, "--episodes", "3", "--num-envs", "2", "--out", "data"]) == 0
    store = wmplay.load_trajectories("data")
    assert len(store) == 3
    assert all(len(each) <= 7 for each in store)
    overrides = [f"env={name}", *(f"env.{setting}" for setting in settings), *others, *SMALL]
    assert main(["train", *overrides, "dir=run"]) == 0
    run = wmplay.load_run("run")
    assert len(run.trajectories) == 7
    assert run.trajectories[0].observation.keys() == store[0].observation.keys()
    losses = [line["loss/total"] for line in run.metrics if line["phase"] == "fit"]
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    assert {"prediction", "policies"} <= json.loads(Path("run/evaluation.json").read_text()).keys()
    assert NO_REPORT in others or Path("run/report.html").stat().st_size > 10_000


def test_the_list_says_what_is_here_and_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"ale-py": "7.11"}

    def version(package: str) -> str:
        if package not in versions:
            raise extras.metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(extras.metadata, "version", version)
    assert main(["list", "env"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert "ale-py 7.11" in lines["atari"]
    assert "pip install 'wmplay[minigrid]'" in lines["minigrid"]
    assert "pip install 'wmplay[dm-control]'" in lines["dm_control"]
    assert "pip" not in lines["luxo"]


def test_listing_imports_none_of_the_packages() -> None:
    code = (
        "import sys; from wmplay.cli import main; main(['list', 'env'])\n"
        "assert not {'ale_py', 'dm_control', 'minigrid', 'mujoco', 'torch'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["atari", "dm_control", "minigrid"])
def test_a_package_that_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    extra = extras.extra_of(name)
    module = extras.PACKAGES[extra].replace("-", "_")
    for loaded in [each for each in sys.modules if each.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    message = refusal(capsys, "train", f"env={name}")
    assert message == (
        f"env {name} needs the package {module}, which is not here: pip install 'wmplay[{extra}]'"
    )
