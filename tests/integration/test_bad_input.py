"""Mistakes on the command line: each ends in one clear line, exit code 2, and nothing written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refusals import failure, refusal

from wmplay import make_env, simulate
from wmplay.cli import main
from wmplay.errors import ConfigError

TINY = ("train", "experiment=tiny")
SIMULATE = ("simulate", "luxo", "--out", "store", "--episodes", "1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: COMMAND; see wmplay --help"),
        (
            (*TINY, "hydra.run.dir=x"),
            "'hydra.run.dir' has no effect here: choose where to write by dir=<path>",
        ),
        ((*TINY, "hydra/launcher=joblib"), "'hydra/launcher' has no effect here"),
        (("train", "run=x", "hydra.sweep.dir=x"), "'hydra.sweep.dir' has no effect here"),
        ((*TINY, "-m", "seed=0,1", "hydra.run.dir=x"), "'hydra.run.dir' has no effect here"),
        (("trian",), "unknown command 'trian': did you mean 'train'?"),
        (("eval",), "the following arguments are required: RUN; see wmplay eval --help"),
        (("report", "run", "seed=1"), "report takes no 'seed=1'; see wmplay report --help"),
        (("train", "--fast"), "train takes no '--fast'; see wmplay train --help"),
        (("list", "modle"), "unknown kind of piece 'modle': did you mean 'model'?"),
        (("simulate", "luxo"), "the following arguments are required: --out"),
        ((*SIMULATE, "--episodes", "0"), "--episodes: got '0', expected a whole number >= 1"),
        ((*SIMULATE, "--episodes", "many"), "--episodes: got 'many', expected a whole number >= 1"),
        ((*SIMULATE, "--num-envs", "0"), "--num-envs: got '0', expected a whole number >= 1"),
        ((*SIMULATE, "--max-steps", "-3"), "--max-steps: got '-3', expected a whole number >= 1"),
        ((*SIMULATE, "--seed", "-1"), "--seed: got '-1', expected a whole number >= 0"),
        ((*SIMULATE, "--explore"), "--explore is about a run's policy: give --run=<dir> too"),
        ((*SIMULATE, "task=body_goal,cube_goal"), "expected key=value with a single value here"),
    ],
)
def test_a_command_line_that_makes_no_sense(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "experiment=tinny"), "unknown experiment 'tinny': did you mean 'tiny'?"),
        (("train", "env=lux"), "unknown env 'lux': did you mean 'luxo'"),
        (("train", "model=rsm"), "unknown model 'rsm': did you mean 'rssm'"),
        (("train", "planner=cen"), "unknown planner 'cen': did you mean 'cem'?"),
        (("train", "policy=mcp"), "unknown policy 'mcp': did you mean 'mpc'?"),
        (("train", "explorer=gauss_noise"), "unknown explorer 'gauss_noise': did you mean 'gaussian_noise'"),
        (("train", "objective=goal"), "unknown objective 'goal': choose from discounted_return, goal_dist"),
        (("train", "logger=wnadb"), "unknown logger 'wnadb': did you mean 'wandb'?"),
        (
            ("train", "-m", "seed=0,1", "hydra/launcher=slurm"),
            "unknown hydra/launcher 'slurm': did you mean 'submitit_slurm'?",
        ),
        ((*TINY, "env.world=lux"), "unknown world 'lux': did you mean 'luxo'"),
        (
            ("simulate", "CartPol-v1", "--out", "x"),
            "unknown Gymnasium environment 'CartPol-v1': did you mean",
        ),
        (("simulate", "no_such:Env-v0", "--out", "x"), "No module named 'no_such'"),
        (("eval", "runs/gone"), "runs/gone is not a run: it has no run.json"),
        (("report", "runs/gone"), "runs/gone is not a run: it has no run.json"),
        (("train", "run=runs/gone"), "runs/gone is not a run: it has no run.json"),
        ((*SIMULATE, "--run", "runs/gone"), "runs/gone is not a run: it has no run.json"),
        ((*TINY, "env.data=gone"), "gone is not a trajectory store (it has no manifest.json)"),
    ],
)
def test_a_name_of_what_is_not_there(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # no key that anything takes
        ("modle=rssm", "no key 'modle': did you mean 'model'"),
        ("+wings=2", "no key 'wings': choose from"),
        ("fit.btch_size=3", "no key 'btch_size' in fit: did you mean 'batch_size'?"),
        ("model.detr=3", "RSSM takes no 'detr': did you mean 'deter'?"),
        ("env.pysics=fast", "LcdEnv takes no 'pysics': did you mean 'physics'?"),
        ("collect.env.max_step=3", "LcdEnv takes no 'max_step': did you mean 'max_steps'?"),
        ("~fit.lr", "there is no 'lr' in fit, which every run needs"),
        # wrong types
        ("fit.steps=many", "fit.steps is 'many' (str), expected int >= 0"),
        ("fit.steps=1.5", "fit.steps is 1.5 (float), expected int >= 0"),
        ("fit.batch_size=true", "fit.batch_size is True (bool), expected int >= 1"),
        ("fit.lr=[1e-3]", "fit.lr is [0.001] (list), expected float > 0"),
        ("fit=null", "fit is null, expected a mapping of settings"),
        ("seed=null", "seed is null, expected int >= 0"),
        ("seed.x=3", "seed is {'x': 3} (dict), expected int >= 0"),
        ("threads=two", "threads is 'two' (str), expected 'auto' or int >= 1 or null"),
        ("model.deter=wide", "RSSM: deter is 'wide' (str), expected int"),
        ("model.deter=null", "RSSM: deter is null, expected int"),
        ("model.min_sigma=[1]", "RSSM: min_sigma is [1] (list), expected float"),
        ("model.deter={a: 1}", "RSSM: deter is {'a': 1} (dict), expected int"),
        # values that mean nothing
        ("iterations=0", "iterations is 0, expected int >= 1"),
        ("seed=-1", "seed is -1, expected int >= 0"),
        ("fit.batch_size=0", "fit.batch_size is 0, expected int >= 1"),
        ("fit.length=0", "fit.length is 0, expected int >= 1"),
        ("fit.lr=-1", "fit.lr is -1, expected float > 0"),
        ("fit.lr=nan", "fit.lr is nan, expected float > 0"),
        (
            "fit.schedule=cosin",
            "fit.schedule is 'cosin', expected 'cosine' or 'cosine_restarts' or 'constant'",
        ),
        ("collect.num_envs=0", "collect.num_envs is 0, expected int >= 1"),
        ("collect.max_steps=0", "collect.max_steps is 0, expected int >= 1 or null"),
        ("evaluate.every=0", "evaluate.every is 0, expected int >= 1"),
        ("evaluate.prediction.horizon=0", "evaluate.prediction.horizon is 0, expected int >= 1"),
        (
            "evaluate.prediction.context=31",
            "31 frames of context and a horizon of 5 take 35 steps, an episode",
        ),
        ("evaluate.generation.futures=1", "evaluate.generation.futures is 1, expected int >= 2"),
        ("evaluate.arbiter.clips=-1", "evaluate.arbiter.clips is -1, expected int >= 0"),
        ("model.deter=0", "rssm: deter is 0, expected at least 1"),
        ("model.vector_sigma=0.0", "vector_sigma is 0.0, expected more than 0"),
        ("model.reward_weight=-1.0", "reward_weight is -1.0, expected at least 0"),
        ("planner.horizon=0", "cem: horizon is 0, expected at least 1"),
        ("planner.elite_fraction=0", "cem: elite_fraction is 0, expected more than 0 and at most 1"),
        ("policy.replan_every=5", "mpc: replan_every is 5, expected 1 to the horizon, 4"),
        ("explorer.std=-0.1", "gaussian_noise: std is -0.1, expected at least 0"),
        ("env.physics=slow", "LcdEnv: physics is 'slow' (str), expected 'faithful' or 'fast'"),
        ("env.task=body", "task is 'body' (str), expected 'body_goal' or 'cube_goal' or null"),
        ("env.task=cube_goal", "task cube_goal needs a world with a robot and an object"),
        ("env=bounce", "task body_goal needs a world with a robot"),
        ("env.max_steps=0", "max_steps is 0, expected at least 1"),
        ("collect.env.max_steps=-1", "max_steps is -1, expected at least 1"),
        ("device=cuda:99", "device is 'cuda:99', but"),
        ("device=banana", "device is 'banana', expected auto, cpu, cuda or cuda:<number>"),
        # no override at all
        ("seed", "'seed' is no override: expected key=value"),
        ("=3", "'=3' is no override: expected key=value, it has no key"),
        ("seed=[1", "'seed=[1' is no override: expected key=value; quote special characters"),
        ("name=${nmae}", "Interpolation key 'nmae' not found"),
        ("seed=1,2", "'seed=1,2' is a sweep: run each of its values with -m, or give a list as [1,2]"),
        # pieces that do not go together
        ("env=null", "but no piece that takes them: choose one by env=<name>"),
        ("model=null", "MPC needs model from the run: give it model=..."),
        ("logger=null", "there is no logger: choose one by logger=<name>"),
        (
            "collect.env={task: null}",
            "goal_distance: there is no 'goal_proprio' in lcd, proprio: the env acted",
        ),
    ],
)
def test_an_override_that_cannot_be(override: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in refusal(capsys, *TINY, override)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("objective=sum_of_rewards", "model.reward_weight=0"),
            "sum_of_rewards: the model predicts no reward",
        ),
        (("env.task=null",), "goal_distance: no goal in the observations (lcd, proprio)"),
        (
            ("collect.random_episodes=0", "collect.episodes=0"),
            "there is nothing to fit the model on: collect",
        ),
        (("run=runs/gone", "experiment=tiny"), "runs/gone is not a run"),
        (("-m", "model=rssm,mpl"), "unknown model 'mpl': did you mean 'mlp'?"),
        (("-m", "seed=1,2", "fit.lr=1e-3,high"), "fit.lr is 'high' (str), expected float > 0"),
        (("-m", "model=rssm,mlp", "model.deter=11"), "MLP takes no 'deter'"),
        (("-m", "seed=range(1,"), "'seed=range(1,' is no override"),
        (("-m", "run=runs/gone", "seed=1,2"), "a sweep makes new runs: leave out run="),
    ],
)
def test_overrides_that_do_not_go_together(
    overrides: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refusal(capsys, *TINY, *overrides)


def test_a_sweep_whose_jobs_all_fail(capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(capsys, *TINY, "-m", "env.world=lux,crap")
    assert message.startswith("2 of 2 jobs failed, such as runs/tiny/")
    assert ": UnknownName: unknown world 'lux': did you mean 'luxo', 'luxo_cube' or 'luxo_ball'?" in message


def test_the_package_of_a_logger_is_not_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    message = refusal(capsys, *TINY, "logger=wandb")
    assert message == "this logger needs the package wandb, which is not here: pip install 'wmplay[wandb]'"


def test_an_experiment_with_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("plugins/mine/configs/experiment")
    folder.mkdir(parents=True)
    Path("plugins/mine/__init__.py").touch()
    for text, message in (
        ("# @package _global_\nfit: {stpes: 3}", "no key 'stpes' in fit: did you mean 'steps'"),
        ("# @package _global_\nfit: [3", "a config file is not YAML: while parsing a flow sequence"),
        ("fit: {steps: 3}", "the experiment's file has to begin with the line '# @package _global_'"),
        ("# @package _global_\nmodel: rssm", "model is 'rssm' (str), expected the config of a piece"),
    ):
        (folder / "mine.yaml").write_text(text)
        assert message in refusal(capsys, "train", "experiment=mine")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widht: 3", "unknown key in world 'widht': did you mean 'width'"),
        ("width: wide", "world.width is 'wide', expected a number"),
        ("width: -1", "world width is -1.0, expected a positive number"),
        ("base: lux", "unknown base world 'lux': did you mean 'luxo'"),
        ("statics: 3", "world.statics is 3, expected a list"),
        ("objects: [{name: ball}]", "needs one of circle, box, polygon"),
        ("objects: [{name: ball, circle: 50}]", "does not fit into a world of"),
        ("robots: [urchinn]", "unknown robot 'urchinn': did you mean 'urchin'?"),
        ("width: [3", "mine.yaml is damaged (while parsing"),
        ("- 3", "world file 'mine.yaml' holds no mapping"),
    ],
)
def test_a_world_with_mistakes(text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text(text)
    assert message in refusal(capsys, *SIMULATE, "world=mine.yaml")


def wmplay(*arguments: str) -> subprocess.Popen[str]:
    run = "import sys; from wmplay.cli import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", run, *arguments], stderr=subprocess.PIPE, text=True)


def test_one_line_and_exit_code_2_from_a_real_process() -> None:
    process = wmplay("list", "modle")
    _, err = process.communicate()
    assert process.returncode == 2
    assert err == "wmplay: error: unknown kind of piece 'modle': did you mean 'model'?\n"


@pytest.mark.parametrize("arguments", [("--debug", "list", "modle"), ("list", "modle", "--debug")])
def test_debug_shows_the_traceback(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="unknown kind of piece 'modle'"):
        main(arguments)


def test_ctrl_c_while_simulating_leaves_the_store_as_it_was() -> None:
    assert main(SIMULATE) == 0
    manifest = Path("store/manifest.json").read_bytes()
    process = wmplay(*SIMULATE, "--episodes", "1000000")
    while not list(Path("store/shards").glob(".writing-*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130
    assert err.splitlines()[-1] == "wmplay: interrupted: nothing was added to store"
    assert Path("store/manifest.json").read_bytes() == manifest
    assert not [name for name in os.listdir("store/shards") if name.startswith(".")]


@pytest.mark.parametrize("large", [2**63, 2**64, 10**30])
def test_no_number_is_too_large_to_be_answered(capsys: pytest.CaptureFixture[str], large: int) -> None:
    for option in ("--seed", "--episodes", "--num-envs", "--max-steps", "--num-workers"):
        assert option in refusal(capsys, *SIMULATE, option, str(large))
    with pytest.raises(ConfigError, match="seed"):
        simulate(make_env("bounce"), None, 1, seed=large)
    for setting in ("seed", "evaluate.seed", "improve.steps", "planner.candidates"):
        assert setting.rpartition(".")[2] in refusal(capsys, "train", "experiment=tiny", f"{setting}={large}")


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
