"""The search by Optuna, with a launcher that answers at once."""

import json
import math

import pytest

pytest.importorskip("optuna")
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf
from optuna.samplers import TPESampler
from refusals import assert_tokens, refused

from hydra_plugins.wmplay_optuna import OptunaSweeper
from wmplay.errors import ConfigError, UnknownName
from wmplay.system.locks import claimed

SPACE = ["env=belt", "++fit.lr=interval(0.0,1.0)"]


class Answering(Launcher):
    """Gives for each job what a function says of its overrides."""

    def __init__(self, answer):
        self.answer = answer
        self.jobs = []

    def setup(self, **parts):
        pass

    def launch(self, job_overrides, initial_job_idx):
        assert initial_job_idx == len(self.jobs)
        self.jobs += [dict(text.lstrip("+").split("=") for text in overrides) for overrides in job_overrides]
        return [
            JobReturn(status=JobStatus.COMPLETED, _return_value=self.answer(job))
            for job in self.jobs[initial_job_idx:]
        ]


def searched(tmp_path, answer, overrides=SPACE, **settings):
    """The jobs and the trials of a search."""
    sweeper = OptunaSweeper(**{"metric": "score", "n_trials": 7, "sampler": TPESampler(seed=0), **settings})
    basic = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}, "launcher": {"_target_": basic}}})
    sweeper.setup(hydra_context=None, task_function=None, config=config)
    assert sweeper.launcher is not None
    sweeper.launcher = Answering(answer)
    sweeper.check(overrides)
    sweeper.sweep(list(overrides))
    content = json.loads((tmp_path / "search.json").read_text())
    return sweeper.launcher.jobs, content["trials"]


def hill(job):
    return {"score": -((float(job["fit.lr"]) - 0.3) ** 2)}


def test_it_finds_the_best(tmp_path, capsys):
    jobs, trials = searched(tmp_path, hill, n_trials=31)
    assert len(jobs) == len(trials) == 31
    assert all(job["env"] == "belt" for job in jobs)
    best = max(trials, key=lambda trial: trial["value"])
    assert best["fit.lr"] == pytest.approx(0.3, abs=0.05)
    assert (
        f"best of 31 trials: score {best['value']:.4g} with fit.lr={best['fit.lr']}"
        in capsys.readouterr().err
    )


def test_lower_may_be_better(tmp_path, capsys):
    _, trials = searched(tmp_path, lambda job: {"score": -hill(job)["score"]}, direction="minimize")
    assert f"{min(trial['value'] for trial in trials):.4g} with" in capsys.readouterr().err


def test_every_trial_is_run_with_all_seeds(tmp_path):
    jobs, trials = searched(
        tmp_path,
        lambda job: {"score": float(job["seed"])},
        [*SPACE, "++seed=0,1,2,3,90"],
        n_trials=3,
        n_jobs=2,
    )
    assert [job["seed"] for job in jobs] == ["0", "1", "2", "3", "90"] * 3
    assert len({job["fit.lr"] for job in jobs}) == 3
    assert [trial["value"] for trial in trials] == [2, 2, 2]  # the interquartile mean


def test_a_failed_run_is_a_failed_trial(tmp_path):
    answers = iter([{"score": 1.0}, None, {"score": math.nan}, {"score": 2.0}])
    _, trials = searched(tmp_path, lambda job: next(answers), n_trials=4)
    assert [trial["state"] for trial in trials] == ["complete", "fail", "fail", "complete"]
    assert [trial["value"] for trial in trials] == [1, None, None, 2]


def test_nothing_but_failures_has_no_best(tmp_path, capsys):
    searched(tmp_path, lambda job: None)
    assert_tokens(capsys.readouterr().err, ("7 trials", "score"))


def test_a_longer_search_begins_with_the_same_questions(tmp_path):
    short, _ = searched(tmp_path, hill, n_trials=13)
    long, _ = searched(tmp_path, hill, n_trials=17)
    assert long[:13] == short


def test_what_there_is_to_search_in(tmp_path):
    space = [
        "++a=int(interval(2,5))",
        "++b=tag(log,interval(1e-4,1e-1))",
        "++c=range(3,12,4)",
        "++d=range(0.5,1.1,0.25)",
        "++e=x,'y z',[1,2]",
        "++f=shuffle(range(0,3))",
    ]
    jobs, _ = searched(tmp_path, lambda job: {"score": 0.0}, space, n_trials=40)
    assert {job["a"] for job in jobs} == {"2", "3", "4", "5"}
    assert all(1e-4 <= float(job["b"]) <= 1e-1 for job in jobs)
    assert sum(float(job["b"]) < 1e-2 for job in jobs) > 13  # evenly in its logarithm
    assert {job["c"] for job in jobs} == {"3", "7", "11"}
    assert {job["d"] for job in jobs} == {"0.5", "0.75", "1.0"}
    assert {job["e"] for job in jobs} == {"x", "'y z'", "[1,2]"}
    assert {job["f"] for job in jobs} == {"0", "1", "2"}


@pytest.mark.parametrize(
    ("overrides", "fields"),
    [
        (["env=belt"], {"advice": "fit.lr=tag(log, interval(1e-4, 1e-2))"}),
        (["env=belt", "seed=0,1"], {"advice": "fit.lr=tag(log, interval(1e-4, 1e-2))"}),
        (["++x=interval(1,0)"], {"about": "'x=interval(1,0)'"}),
        (["x=tag(log,interval(0,1))"], {"about": "'x=tag(log,interval(0,1))'"}),
        ([*SPACE, "seed=interval(0,3)"], {"about": ("'seed=interval(0,3)'", "list")}),
    ],
)
def test_a_search_needs_a_space(tmp_path, overrides, fields):
    with refused(ConfigError, **fields):
        searched(tmp_path, hill, overrides)


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        ({"metric": None}, {"about": "hydra.sweeper.metric=policy/success"}),
        ({"n_trials": 0}, {"about": ("hydra.sweeper", "n_trials"), "got": 0, "expected": "1"}),
        ({"n_jobs": 0}, {"about": ("hydra.sweeper", "n_jobs"), "got": 0, "expected": "1"}),
    ],
)
def test_a_search_needs_settings_that_make_sense(settings, fields):
    with refused(ConfigError, **fields):
        OptunaSweeper(**{"metric": "score", **settings})


def test_two_searches_do_not_share_a_directory(tmp_path):
    with (
        claimed(tmp_path / ".locks" / "search"),
        refused(ConfigError, tmp_path, advice="hydra.sweep.dir=<path>"),
    ):
        searched(tmp_path, hill)


def test_a_metric_that_runs_do_not_log(tmp_path):
    with refused(UnknownName, "hydra.sweeper.metric", got="scor", advice="score"):
        searched(tmp_path, hill, metric="scor")
