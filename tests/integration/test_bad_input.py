"""Mistakes on the command line: each ends in one clear line, exit code 2, and nothing written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import Command
from refusals import PREFIX, assert_tokens, failure, refusal, refused

from wmplay import make_env, simulate
from wmplay.cli import main
from wmplay.errors import ConfigError, UnknownName

TINY = ("train", "experiment=tiny")
SIMULATE = ("simulate", "luxo", "--out", "store", "--episodes", "1")


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        ((), ("COMMAND", "--help")),
        (
            (*TINY, "hydra.run.dir=x"),
            ("hydra.run.dir", "dir="),
        ),
        ((*TINY, "hydra/launcher=joblib"), "hydra/launcher"),
        (("train", "run=x", "hydra.sweep.dir=x"), "hydra.sweep.dir"),
        ((*TINY, "-m", "seed=0,1", "hydra.run.dir=x"), "hydra.run.dir"),
        (("trian",), ("command", "trian", "train")),
        (("eval",), ("RUN", "--help")),
        (("report", "run", "seed=1"), ("report", "seed=1", "--help")),
        (("train", "--fast"), ("train", "--fast", "--help")),
        (("list", "modle"), ("modle", "model")),
        (("simulate", "luxo"), "--out"),
        ((*SIMULATE, "--episodes", "0"), ("--episodes", "0", "1")),
        ((*SIMULATE, "--episodes", "many"), ("--episodes", "many", "1")),
        ((*SIMULATE, "--num-envs", "0"), ("--num-envs", "0", "1")),
        ((*SIMULATE, "--max-steps", "-3"), ("--max-steps", "-3", "1")),
        ((*SIMULATE, "--seed", "-1"), ("--seed", "-1", "0")),
        ((*SIMULATE, "--explore"), ("--explore", "--run")),
        ((*SIMULATE, "task=body_goal,cube_goal"), "key=value"),
    ],
)
def test_a_command_line_that_makes_no_sense(
    arguments: tuple[str, ...], tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_tokens(refusal(capsys, *arguments), tokens)


@pytest.mark.parametrize(
    ("arguments", "tokens"),
    [
        (("train", "experiment=tinny"), ("experiment", "tinny", "tiny")),
        (("train", "env=lux"), ("env", "lux", "luxo")),
        (("train", "model=rsm"), ("model", "rsm", "rssm")),
        (("train", "planner=cen"), ("planner", "cen", "cem")),
        (("train", "policy=mcp"), ("mcp", "mpc")),
        (("train", "explorer=gauss_noise"), ("explorer", "gauss_noise", "gaussian_noise")),
        (("train", "objective=goal"), ("objective", "goal", "discounted_return", "goal_distance")),
        (("train", "logger=wnadb"), ("logger", "wnadb", "wandb")),
        (
            ("train", "-m", "seed=0,1", "hydra/launcher=slurm"),
            ("hydra/launcher", "slurm", "submitit_slurm"),
        ),
        ((*TINY, "env.world=lux"), ("world", "lux", "luxo")),
        (
            ("simulate", "CartPol-v1", "--out", "x"),
            "CartPol-v1",
        ),
        (("simulate", "no_such:Env-v0", "--out", "x"), "no_such"),
        (("eval", "runs/gone"), ("runs/gone", "run.json")),
        (("report", "runs/gone"), ("runs/gone", "run.json")),
        (("train", "run=runs/gone"), ("runs/gone", "run.json")),
        ((*SIMULATE, "--run", "runs/gone"), ("runs/gone", "run.json")),
        ((*TINY, "env.data=gone"), ("gone", "manifest.json")),
    ],
)
def test_a_name_of_what_is_not_there(
    arguments: tuple[str, ...], tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_tokens(refusal(capsys, *arguments), tokens)


@pytest.mark.parametrize(
    ("override", "tokens"),
    [
        # no key that anything takes
        ("modle=rssm", ("modle", "model")),
        ("+wings=2", ("'wings'", "iterations")),
        ("fit.btch_size=3", ("btch_size", "batch_size")),
        ("model.detr=3", ("RSSM", "detr", "deter")),
        ("env.pysics=fast", ("LcdEnv", "pysics", "physics")),
        ("collect.env.max_step=3", ("LcdEnv", "max_step", "max_steps")),
        ("~fit.lr", ("'lr'", "fit")),
        # wrong types
        ("fit.steps=many", ("fit.steps", "many", "str", "int", "0")),
        ("fit.steps=1.5", ("fit.steps", "1.5", "float", "int", "0")),
        ("fit.batch_size=true", ("fit.batch_size", "True", "bool", "int", "1")),
        ("fit.lr=[1e-3]", ("fit.lr", "[0.001]", "list", "float")),
        ("fit=null", ("fit", "null")),
        ("seed=null", ("seed", "null", "int", "0")),
        ("seed.x=3", ("seed", "x", "3", "dict", "int", "0")),
        ("threads=two", ("threads", "two", "str", "auto", "int", "1", "null")),
        ("model.deter=wide", ("RSSM", "deter", "wide", "str", "int")),
        ("model.deter=null", ("RSSM", "deter", "null", "int")),
        ("model.min_sigma=[1]", ("RSSM", "min_sigma", "[1]", "list", "float")),
        ("model.deter={a: 1}", ("RSSM", "deter", "a", "1", "dict", "int")),
        # values that mean nothing
        ("iterations=0", ("iterations", "0", "int", "1")),
        ("seed=-1", ("seed", "-1", "int", "0")),
        ("fit.batch_size=0", ("fit.batch_size", "0", "int", "1")),
        ("fit.length=0", ("fit.length", "0", "int", "1")),
        ("fit.lr=-1", ("fit.lr", "-1", "float", "0")),
        ("fit.lr=nan", ("fit.lr", "nan", "float", "0")),
        (
            "fit.schedule=cosin",
            ("fit.schedule", "cosin", "cosine", "cosine_restarts", "constant"),
        ),
        ("collect.num_envs=0", ("collect.num_envs", "0", "int", "1")),
        ("collect.max_steps=0", ("collect.max_steps", "0", "int", "1", "null")),
        ("evaluate.every=0", ("evaluate.every", "0", "int", "1")),
        ("evaluate.prediction.horizon=0", ("evaluate.prediction.horizon", "0", "int", "1")),
        (
            "evaluate.prediction.context=31",
            ("31", "5", "35"),
        ),
        ("evaluate.generation.futures=1", ("evaluate.generation.futures", "1", "int", "2")),
        ("evaluate.arbiter.clips=-1", ("evaluate.arbiter.clips", "-1", "int", "0")),
        ("model.deter=0", ("rssm", "deter", "0", "1")),
        ("model.vector_sigma=0.0", ("vector_sigma", "0.0")),
        ("model.reward_weight=-1.0", ("reward_weight", "-1.0")),
        ("planner.horizon=0", ("cem", "horizon", "0", "1")),
        ("planner.elite_fraction=0", ("cem", "elite_fraction", "0", "1")),
        ("policy.replan_every=5", ("mpc", "replan_every", "5", "1", "4")),
        ("explorer.std=-0.1", ("gaussian_noise", "std", "-0.1")),
        ("env.physics=slow", ("LcdEnv", "physics", "slow", "str", "faithful", "fast")),
        ("env.task=body", ("task", "body", "str", "body_goal", "cube_goal", "null")),
        ("env.task=cube_goal", ("cube_goal", "robot", "object")),
        ("env=bounce", ("body_goal", "robot")),
        ("env.max_steps=0", ("max_steps", "0", "1")),
        ("collect.env.max_steps=-1", ("max_steps", "-1")),
        ("device=cuda:99", ("device", "cuda:99", "device=cpu")),
        ("device=banana", ("device", "banana", "cuda:<number>")),
        # no override at all
        ("seed", ("seed", "key=value")),
        ("=3", ("=3", "key=value")),
        ("seed=[1", ("seed=[1", "key=value")),
        ("name=${nmae}", "nmae"),
        ("seed=1,2", ("'seed=1,2'", "list", "[1,2]")),
        # pieces that do not go together
        ("env=null", "env=<name>"),
        ("model=null", ("MPC", "model=...")),
        ("logger=null", "logger=<name>"),
        (
            "collect.env={task: null}",
            ("goal_distance", "goal_proprio", "proprio"),
        ),
    ],
)
def test_an_override_that_cannot_be(
    override: str, tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_tokens(refusal(capsys, *TINY, override), tokens)


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [
        (
            ("objective=sum_of_rewards", "model.reward_weight=0"),
            ("sum_of_rewards", "reward"),
        ),
        (("env.task=null",), ("goal_distance", "lcd, proprio")),
        (
            ("collect.random_episodes=0", "collect.episodes=0"),
            ("collect.random_episodes", "env.data=<store>"),
        ),
        (("run=runs/gone", "experiment=tiny"), "runs/gone"),
        (("-m", "model=rssm,mpl"), ("model", "mpl", "mlp")),
        (("-m", "seed=1,2", "fit.lr=1e-3,high"), ("fit.lr", "high", "str", "float", "0")),
        (("-m", "model=rssm,mlp", "model.deter=11"), ("MLP", "deter")),
        (("-m", "seed=range(1,"), "'seed=range(1,'"),
        (("-m", "run=runs/gone", "seed=1,2"), "run="),
    ],
)
def test_overrides_that_do_not_go_together(
    overrides: tuple[str, ...], tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_tokens(refusal(capsys, *TINY, *overrides), tokens)


def test_a_sweep_whose_jobs_all_fail(capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, *TINY, "-m", "env.world=lux,crap")
    assert_tokens(message, ("2 of 2", "runs/tiny"))
    assert_tokens(message, ("UnknownName", "world", "lux", "luxo", "luxo_hall", "luxo_cube"))


def test_the_package_of_a_logger_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    message = refusal(capsys, *TINY, "logger=wandb")
    assert_tokens(message, ("logger", "pip install 'wmplay[wandb]'"))


def test_an_experiment_with_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("plugins/mine/configs/experiment")
    folder.mkdir(parents=True)
    Path("plugins/mine/__init__.py").touch()
    for text, tokens in (
        ("# @package _global_\nfit: {stpes: 3}", ("stpes", "steps")),
        ("# @package _global_\nfit: [3", "YAML"),
        ("fit: {steps: 3}", ("# @package _global_", "_global_")),
        ("# @package _global_\nmodel: rssm", ("model", "rssm", "str")),
    ):
        (folder / "mine.yaml").write_text(text)
        assert_tokens(refusal(capsys, "train", "experiment=mine"), tokens)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("widht: 3", ("widht", "width")),
        ("width: wide", ("world.width", "wide")),
        ("width: -1", "-1.0"),
        ("base: lux", ("lux", "luxo")),
        ("statics: 3", ("world.statics", "3", "list")),
        ("objects: [{name: ball}]", "circle, box, polygon"),
        ("objects: [{name: ball, circle: 50}]", ("'ball'", "50.0")),
        ("robots: [urchinn]", ("robot", "urchinn", "urchin")),
        ("width: [3", "mine.yaml"),
        ("- 3", "mine.yaml"),
    ],
)
def test_a_world_with_mistakes(
    text: str, tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(text)
    assert_tokens(refusal(capsys, *SIMULATE, "world=mine.yaml"), tokens)


def test_one_line_and_exit_code_2_from_a_real_process() -> None:
    run = "import sys; from wmplay.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", run, "list", "modle"], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(PREFIX)
    assert done.stderr.count("\n") == 1
    assert_tokens(done.stderr, ("'modle'", "'model'"))


@pytest.mark.parametrize("arguments", [("--debug", "list", "modle"), ("list", "modle", "--debug")])
def test_debug_shows_the_traceback(arguments: tuple[str, ...]) -> None:
    with refused(UnknownName, got="modle", advice="model"):
        main(arguments)


def test_ctrl_c_while_simulating_leaves_the_store_as_it_was() -> None:
    assert main(SIMULATE) == 0
    manifest = Path("store/manifest.json").read_bytes()
    command = Command(*SIMULATE, "--episodes", "1000000")
    while not list(Path("store/shards").glob(".writing-*")):
        assert command.goes_on()
        time.sleep(0.02)
    command.interrupt()
    assert command.wait() == 130
    last = command.printed.read_text().splitlines()[-1]
    assert last.startswith("wmplay: interrupted: ")
    assert_tokens(last, "store")
    assert Path("store/manifest.json").read_bytes() == manifest
    assert not [name for name in os.listdir("store/shards") if name.startswith(".")]


@pytest.mark.parametrize("large", [2**63, 2**64, 10**30])
def test_no_number_is_too_large_to_be_answered(capsys: pytest.CaptureFixture[str], large: int) -> None:
    for option in ("--seed", "--episodes", "--num-envs", "--max-steps", "--num-workers"):
        assert_tokens(refusal(capsys, *SIMULATE, option, str(large)), option)
    with refused(ConfigError, "seed", got=large):
        simulate(make_env("bounce"), None, 1, seed=large)
    for setting in ("seed", "evaluate.seed", "improve.steps", "planner.candidates"):
        assert_tokens(
            refusal(capsys, "train", "experiment=tiny", f"{setting}={large}"), setting.rpartition(".")[2]
        )


def run_in_a_shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    wmplay_ = f"{sys.executable} -m wmplay"
    return subprocess.run(
        ["bash", "-c", line.replace("WMPLAY", wmplay_)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_output_that_nobody_reads_ends_quietly() -> None:
    done = run_in_a_shell("(sleep 0.2; WMPLAY list model; echo code $? >&2) | true")
    assert done.stderr.split() in (["code", "141"], ["code", "1"])  # ours, or rich's


def test_characters_that_a_terminal_does_not_have() -> None:
    code = (
        "import sys; from wmplay.system.printing import say_what_can_be_said; "
        "say_what_can_be_said(sys.stdout); print('3 ± 1 · 你')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.stdout == "3 +- 1 - ?\n"
