"""Sweeps on other engines: Ray, submitit, Optuna, and what a wandb agent would run."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from refusals import assert_tokens, failure, refusal
from tiny_sweep import TINY, runs, timeless, write_plugin

import wmplay
from wmplay import registry
from wmplay.cli import main
from wmplay.sweeps import multirun

WATCHED = [*TINY, "checkpoint.every=0.0", "model=watched", "model.name=a,b"]
SEARCH = [
    *TINY,
    "model.hidden=7,13",
    "hydra/sweeper=optuna",
    "hydra.sweeper.metric=prediction/proprio/mae@1",
    "hydra.sweeper.direction=minimize",
    "hydra.sweep.dir=s",
]


def updates(name: str) -> list[str]:
    """The process of each update that a job of the watched model has made."""
    path = Path(f"updates-{name}")
    return path.read_text().split() if path.exists() else []


# ---- launchers -----------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray cluster of two nodes, with room for one job on each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_enable_metrics_collection", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    yield cluster.address
    cluster.shutdown()


def test_ray_runs_jobs_on_two_nodes_and_starts_anew_what_dies(cluster: str) -> None:
    write_plugin()
    Path("wait-b").touch()
    nodes: set[str] = set()

    def kill_b() -> None:
        """Kills job b in its second update, once both jobs have begun."""
        while len(updates("b")) < 2 or not updates("a"):
            time.sleep(0.02)
        nodes.update(node_of(updates(name)[0]) for name in "ab")
        Path("wait-b").unlink()
        os.kill(int(updates("b")[0]), signal.SIGKILL)

    killer = threading.Thread(target=kill_b, daemon=True)
    killer.start()
    directory = multirun([*WATCHED, "hydra/launcher=ray", f"hydra.launcher.address={cluster}"])
    killer.join()
    assert len(nodes) == 2
    assert (len(updates("a")), len(updates("b"))) == (3, 2 + 2)  # b went on after its first update
    alone = wmplay.train([*TINY, "checkpoint.every=0.0", "model=watched", "model.name=b", "dir=alone"])
    assert timeless(runs(directory)[1]) == timeless(alone)


def node_of(process: str) -> str:
    """Which node's a worker of Ray is: its parent is the node's own process."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]


def test_ray_says_where_there_is_no_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    where = ["hydra/launcher=ray", "hydra.launcher.address=nowhere"]
    message = failure(capsys, "train", "-m", *TINY, "seed=0,1", *where)
    assert_tokens(message, ("hydra.launcher.address", "nowhere", "ray start --head"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("num_cpus=many", "RayLauncher: num_cpus is 'many' (str), expected float"),
        ("max_retries=1.5", "RayLauncher: max_retries is 1.5 (float), expected int"),
        ("num_cpu=2", "no key 'num_cpu' in hydra.launcher: did you mean 'num_cpus'"),
    ],
)
def test_settings_of_ray_are_checked(setting: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(
        capsys, "train", "-m", *TINY, "seed=0,1", "hydra/launcher=ray", f"hydra.launcher.{setting}"
    )
    assert line.startswith(message)


def test_submitit_runs_jobs_as_processes_of_their_own() -> None:
    pytest.importorskip("submitit")
    write_plugin()
    directory = multirun([*WATCHED, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=9"])
    assert [run.directory.read()["status"] for run in runs(directory)] == ["finished"] * 2
    assert len({*updates("a"), *updates("b")} - {str(os.getpid())}) == 2


def test_slurm_is_given_a_script(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no Slurm here: commands of its names keep the script, and refuse it."""
    pytest.importorskip("submitit")
    Path("bin").mkdir()
    for command in ("sbatch", "srun"):
        Path("bin", command).write_text("#!/bin/sh\ncp $1 script\necho no such partition >&2\nexit 1\n")
        Path("bin", command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}:{os.environ['PATH']}")
    slurm = ["partition=gpu", "timeout_min=90", "cpus_per_task=3", "gpus_per_node=1", "max_num_timeout=5"]
    overrides = ["hydra/launcher=submitit_slurm", *(f"hydra.launcher.{each}" for each in slurm)]
    message = failure(capsys, "train", "-m", *TINY, "seed=0,1,2", "hydra.sweep.dir=s", *overrides)
    assert_tokens(message, "FailedJobError")
    assert_tokens(message, "no such partition")
    assert message.endswith("wmplay train -m hydra.sweep.dir=s")
    script = Path("script").read_text()
    for line in ("partition=gpu", "time=90", "cpus-per-task=3", "gpus-per-node=1", "array=0-2%3"):
        assert f"#SBATCH --{line}\n" in script
    assert "srun" in script
    assert "submitit.core._submit" in script


# ---- searches ------------------------------------------------------------------------------------


def test_a_search_optimises_a_number_of_the_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    multirun([*SEARCH, "hydra.sweeper.n_trials=2"])
    assert_tokens(capsys.readouterr().err, ("2 trials", "prediction/proprio/mae@1 0"))
    trials = json.loads(Path("s/search.json").read_text())["trials"]
    evaluations = {
        str(run.config.model.hidden): json.loads((run.path / "evaluation.json").read_text())
        for run in runs(Path("s"))
    }
    for trial in trials:
        curve = evaluations[trial["model.hidden"]]["prediction"]["keys"]["proprio"]["curves"]["model"]
        assert trial["value"] == curve["mean"][0]
    multirun(["hydra.sweep.dir=s", "hydra.sweeper.n_trials=5"])  # goes on; there are two different jobs
    longer = json.loads(Path("s/search.json").read_text())["trials"]
    assert longer[:2] == trials
    assert len(longer) == 5
    assert len(runs(Path("s"))) == 2


def test_a_metric_that_there_is_not_costs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    wrong = "hydra.sweeper.metric=prediction/propio/mae@1"
    message = failure(capsys, "train", "-m", *SEARCH, "hydra.sweeper.n_trials=1", wrong)
    assert_tokens(message, "'prediction/proprio/mae@1'")
    multirun([*SEARCH, "hydra.sweeper.n_trials=1"])
    assert_tokens(capsys.readouterr().err, ("1 of 1", "finished"))


@pytest.mark.parametrize(
    ("overrides", "tokens"),
    [
        (["hydra.sweeper.metric=null"], "hydra.sweeper.metric=policy/success"),
        (
            ["hydra.sweeper.direction=up"],
            ("OptunaSweeper", "direction", "up", "str", "maximize", "minimize"),
        ),
        (["hydra.sweeper.n_trials=0"], ("hydra.sweeper", "n_trials", "0", "1")),
        (["model.hidden=7"], "fit.lr=tag(log, interval(1e-4, 1e-2))"),
        (["hydra.sweeper.trials=3"], ("trials", "hydra.sweeper", "n_trials")),
        (
            ["hydra.sweeper.sampler._target_=optuna.samplers.Tea"],
            "optuna.samplers.Tea",
        ),
    ],
)
def test_a_search_that_makes_no_sense_stops_before_it_starts(
    overrides: list[str], tokens: str | tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("optuna")
    assert_tokens(refusal(capsys, "train", "-m", *SEARCH, *overrides), tokens)


# ---- wandb ---------------------------------------------------------------------------------------


def test_what_a_wandb_agent_would_run_composes(capsys: pytest.CaptureFixture[str]) -> None:
    """As far as it goes without wandb's server: the agent's own functions make the command of a run."""
    pytest.importorskip("wandb")
    from wandb.sdk.launch.sweeps import utils

    path = Path(wmplay.__file__).parents[1] / "docs" / "wandb_sweep.yaml"
    sweep = utils.load_sweep_config(str(path))
    parameters = {"fit.lr": 0.00123, "planner.horizon": 12, "seed": 2}
    assert parameters.keys() == sweep["parameters"].keys()
    chosen = {"args": {key: {"value": value} for key, value in parameters.items()}}
    filled = {**utils.create_sweep_command_args(chosen), "env": ["/usr/bin/env"]}
    command: list[str] = []
    for part in utils.create_sweep_command(list(sweep["command"])):
        command += filled[part[2:-1]] if part.startswith("${") else [part]
    assert command[:3] == ["/usr/bin/env", "wmplay", "train"]
    assert main(["train", "--cfg", *command[3:]]) == 0
    assert "lr: 0.00123" in capsys.readouterr().out
    config = registry.compose(command[3:])
    assert (config.seed, config.planner["horizon"]) == (2, 12)
    assert config.logger["_piece_"] == "logger/wandb"


def test_a_wandb_sweep_optimises_what_runs_log() -> None:
    import yaml

    path = Path(wmplay.__file__).parents[1] / "docs" / "wandb_sweep.yaml"
    name = yaml.safe_load(path.read_text())["metric"]["name"]
    run = wmplay.train([*TINY, "evaluate.policy.episodes=2", "env.max_steps=5"])
    assert name in run.metrics[-1]
