"""The loop, end to end and tiny: what a run leaves behind, and going on after every kind of stop."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from processes import Command
from refusals import assert_tokens, refused

import wmplay
from wmplay.errors import ConfigError, DamagedError, DivergedError, RunError, WmplayError
from wmplay.runs.disk.directory import RunDirectory
from wmplay.system import progress

REPORTED = [
    *("experiment=tiny", "env.max_steps=11", "collect.env.max_steps=11"),
    *("planner.candidates=3", "planner.iterations=1", "planner.horizon=3"),
    *("evaluate.prediction.episodes=3", "evaluate.prediction.horizon=3", "evaluate.policy.episodes=2"),
    "evaluate.generation.clips=2",
]
RSSM = ["model.deter=17", "model.stoch=5", "model.hidden=13", "model.image_hidden=11"]
TINY = [*REPORTED, "report=false", *RSSM]
DRIFT = ["collect.drift.gravity=[10,4]"]  # of the run that is repeated and interrupted
SHORT = ["iterations=1", "fit.steps=3", "fit.lr=0.003", "evaluate.policy.episodes=0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted, to be looked at only."""
    path: Path = wmplay.train([*TINY, *DRIFT, f"dir={tmp_path_factory.mktemp('whole') / 'run'}"]).path
    return path


@pytest.fixture
def short(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> wmplay.Run:
    """A copy of a run of one iteration."""
    path = tmp_path_factory.getbasetemp() / "short"
    if not path.exists():
        wmplay.train([*TINY, *SHORT, f"dir={path}"])
    shutil.copytree(path, tmp_path / "short")
    return wmplay.load_run(tmp_path / "short")


def numbers(path: Path) -> list[dict[str, object]]:
    """The metrics of a run without its wall-clock times."""
    return [{k: v for k, v in line.items() if k != "time"} for line in wmplay.load_run(path).metrics]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(wmplay.load_run(path).model.state_dict())


def assert_same_run(left: Path, right: Path) -> None:
    assert numbers(left) == numbers(right)
    for (name, a), (_, b) in zip(weights(left).items(), weights(right).items(), strict=True):
        assert torch.equal(a, b), name
    stores = [wmplay.load_run(path).trajectories for path in (left, right)]
    assert len(stores[0]) == len(stores[1])
    for a, b in zip(*stores, strict=True):
        assert (a.action == b.action).all()
        assert all((a.observation[key] == b.observation[key]).all() for key in a.observation)


def test_a_run_leaves_everything_one_needs() -> None:
    overrides = [*REPORTED, *RSSM, "seed=3"]
    run = wmplay.train(overrides)
    files = {path.name for path in run.path.iterdir()}
    assert {
        "config.yaml",
        "run.json",
        "metrics.jsonl",
        "trajectories",
        "checkpoints",
        "evaluation.json",
        "report.html",
    } <= files
    about = run.directory.read()
    assert about["status"] == "finished"
    assert about["seed"] == 3
    assert about["overrides"] == overrides
    assert set(about["wall"]) == {"collect", "fit", "improve", "evaluate"}
    assert len(run.trajectories) == 7 + 2 * 3
    assert [line["step"] for line in run.metrics if line["phase"] == "fit"][-1] == 22
    torch.load(run.directory.checkpoints()[-1], weights_only=True)


def test_a_loaded_run_acts(whole: Path) -> None:
    run = wmplay.load_run(whole)
    env = wmplay.make_env("luxo", task="body_goal", physics="fast", num_envs=2)
    trajectories = wmplay.simulate(env, policy=run.policy, episodes=2, seed=5)
    assert len(trajectories) == 2
    assert run.env.unwrapped.task is not None


def test_the_same_seed_gives_the_same_run_and_another_does_not(whole: Path) -> None:
    again, other = (wmplay.train([*TINY, *DRIFT, f"seed={seed}", f"dir=of{seed}"]).path for seed in (0, 1))
    assert_same_run(whole, again)
    assert numbers(whole) != numbers(other)


@pytest.mark.parametrize("stop_after", [3, 11, 12, 17])
def test_an_interrupted_run_goes_on_to_the_numbers_of_an_unbroken_one(
    stop_after: int, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def pressed(self: progress.Interrupt) -> bool:
        nonlocal looks
        looks += 1
        return looks == stop_after

    with monkeypatch.context() as patch:
        patch.setattr(progress.Interrupt, "pressed", property(pressed, lambda *_: None), raising=False)
        with pytest.raises(progress.Interrupted):
            wmplay.train([*TINY, *DRIFT, "dir=broken"])
    assert RunDirectory(Path("broken")).read()["status"] == "interrupted"
    wmplay.train(["run=broken"])
    assert_same_run(whole, Path("broken"))


def test_factors_drift_from_iteration_to_iteration(whole: Path) -> None:
    worlds = wmplay.load_run(whole).trajectories.made_with
    assert [world["factors"] for world in worlds] == [{"gravity": [10, 10]}, {"gravity": [4, 4]}]


def test_steps_are_collected_in_place_of_episodes() -> None:
    few = ["fit.steps=0", "fit.replay_ratio=0.1", "fit.schedule=constant", "evaluate.prediction.episodes=0"]
    steps = ["collect.episodes=0", "collect.steps=37", "evaluate.policy.episodes=0", "dir=steps"]
    run = wmplay.train([*TINY, *few, *steps])
    collected = [line for line in run.metrics if line["phase"] == "collect"]
    random = collected[0]["collect/steps"]
    assert [line["collect/steps"] for line in collected] == [random, 37, 37]
    assert run.metrics[-1]["real_steps"] == random + 74 == sum(map(len, run.trajectories))
    updates = [line["step"] for line in run.metrics if line["phase"] == "fit"]
    assert max(updates) >= round(0.1 * (random + 37)) + round(0.1 * 37)


@pytest.mark.parametrize("other", ["collect.episodes=3", "collect.workers=ray"])
def test_steps_and_episodes_or_actors_exclude_each_other(other: str) -> None:
    with refused(ConfigError, ("collect.steps", other.partition("=")[0])):
        wmplay.train([*TINY, "collect.episodes=0", "collect.steps=37", other, "dir=both"])
    assert not Path("both").exists()


def test_kill_9_loses_nothing_before_the_last_checkpoint() -> None:
    long = [*TINY, "fit.steps=20", "checkpoint.every=0"]
    whole = wmplay.train([*long, "dir=whole"]).path
    for command, lines in ((("dir=killed", *long), 3), (("run=killed",), 11)):  # of 10 in each iteration
        assert Command("train", *command, killed_at=("fit", lines)).wait() == -signal.SIGKILL
    assert Command("train", "run=killed").wait() == 0
    assert_same_run(whole, Path("killed"))


def fit_lines(path: Path) -> int:
    metrics = path / "metrics.jsonl"
    return metrics.read_text().count('"phase": "fit"') if metrics.exists() else 0


def test_ctrl_c_saves_and_says_how_to_go_on() -> None:
    command = Command("train", *TINY, "fit.steps=100000", "dir=stopped")
    while fit_lines(Path("stopped")) < 2:
        assert command.goes_on(), command.printed.read_text()
        time.sleep(0.02)
    command.interrupt()
    assert command.wait() == 130
    output = command.printed.read_text()
    assert_tokens(output, "wmplay train run=stopped")
    assert "Traceback" not in output
    saved = RunDirectory(Path("stopped")).read_checkpoint()["state"]
    assert saved["phase"] == "fit"
    assert saved["updates"] > 0


def test_offline_from_a_store() -> None:
    env = wmplay.make_env("luxo", physics="fast", num_envs=4, max_steps=11)
    wmplay.save_trajectories(wmplay.simulate(env, episodes=9, seed=1), "data")
    offline = ["env.data=data", "collect.random_episodes=0", "collect.episodes=0"]
    run = wmplay.train([*TINY, *SHORT, *offline])
    assert len(run.trajectories) == 9
    assert len(wmplay.load_trajectories("data")) == 9


def test_replay_is_limited() -> None:
    run = wmplay.train([*TINY, "evaluate.policy.episodes=0", "collect.max_steps=200"])
    assert run.trajectories.steps <= 200


DIVERGING = """
import torch
import wmplay
from wmplay.models.mlp import MLP

@wmplay.register("model", "diverging")
class Diverging(MLP):
    def __init__(self, observation_space, action_space, *, way: str = "breaks"):
        super().__init__(observation_space, action_space)
        self.way, self.calls = way, 0

    def loss(self, segment):
        loss, terms = super().loss(segment)
        self.calls += 1
        if self.calls == 5 and self.way == "breaks":
            return loss * float("nan"), {**terms, "loss/culprit": loss * float("nan")}
        if self.way == "vector":
            return loss.expand(5), terms
        if self.way == "explode" and self.calls == 110:
            return loss * 1e9, {**terms, "loss/culprit": loss * 1e9}
        return loss, terms
"""
DIVERGES = [*REPORTED, "report=false", "model=diverging"]


@pytest.mark.parametrize(
    ("way", "fields"),
    [
        ("breaks", {"about": ("update 4", "nan", "loss/culprit"), "advice": "fit.lr"}),
        ("explode", {"about": ("update 109", "loss/culprit"), "advice": "fit.lr"}),
    ],
)
def test_a_loss_that_diverges_stops_the_run(way: str, fields: dict[str, object]) -> None:
    Path("plugins").mkdir()
    Path("plugins/diverging.py").write_text(DIVERGING)
    with refused(DivergedError, **fields):
        wmplay.train([*DIVERGES, f"model.way={way}", "fit.steps=120", "dir=bad"])
    about = RunDirectory(Path("bad"))
    assert about.read()["status"] == "failed"
    assert all(torch.isfinite(w).all() for w in about.read_checkpoint()["weights"]["model"].values())


REFUSING = """
import wmplay
from wmplay.errors import ConfigError

@wmplay.register("logger", "refusing")
class Refusing:
    def __init__(self):
        raise ConfigError("no such project", got="walks")

    def log(self, metrics, step): pass

    def close(self): pass
"""


def test_a_logger_that_refuses_ends_the_run_as_failed() -> None:
    Path("plugins").mkdir()
    Path("plugins/refusing.py").write_text(REFUSING)
    with refused(ConfigError, got="walks"):
        wmplay.train([*TINY, "iterations=1", "logger=refusing", "dir=bad"])
    assert RunDirectory(Path("bad")).read()["status"] == "failed"


def test_a_run_whose_report_fails_is_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    short = [*REPORTED, "iterations=1", "fit.steps=2", "evaluate.policy.episodes=0", "dir=bad"]
    with monkeypatch.context() as patch:
        patch.setattr("wmplay.report.write_report", lambda path: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            wmplay.train(short)
    assert RunDirectory(Path("bad")).read()["status"] == "failed"


def test_a_loss_that_is_no_loss_is_found_before_anything_is_written() -> None:
    Path("plugins").mkdir()
    Path("plugins/diverging.py").write_text(DIVERGING)
    with refused(WmplayError, "Diverging.loss"):
        wmplay.train([*DIVERGES, "model.way=vector", "dir=bad"])
    assert not Path("bad").exists()


def test_minutes_of_fitting_become_updates_that_a_run_keeps() -> None:
    short = ["iterations=1", "threads=auto", "evaluate.prediction.episodes=0", "evaluate.policy.episodes=0"]
    run = wmplay.train([*TINY, *short, "fit.minutes=0.003"])
    assert run.config.fit.minutes is None
    about = run.directory.read()
    assert about["fit_minutes"] == 0.003
    assert about["machine"]["threads"] == 1  # there is no time to gain
    assert about["expected"]["fit"] > 0
    steps = run.config.fit.steps
    assert max(line["step"] for line in run.metrics) == steps

    again = wmplay.train([f"run={run.path}", "iterations=2"])
    assert max(line["step"] for line in again.metrics) == 2 * steps
    with refused(ConfigError, "fit.minutes", advice="fit.steps"):
        wmplay.train([f"run={run.path}", "fit.minutes=1"])


def test_what_a_run_goes_on_with_is_written_down(capsys: pytest.CaptureFixture[str]) -> None:
    short = ["iterations=1", "fit.steps=3", "evaluate.policy.episodes=0", "evaluate.prediction.episodes=0"]
    run = wmplay.train([*TINY, *short, "dir=r"])
    capsys.readouterr()
    wmplay.train(["run=r", "iterations=2", "fit.lr=1e-5", "fit.weight_decay=0.5", "seed=0"])
    told = capsys.readouterr().err
    assert_tokens(told, "seed=0")
    assert "fit.lr=" not in told
    config = wmplay.load_run("r").config
    assert (config.iterations, config.fit.lr, config.fit.weight_decay) == (2, 1e-5, 0.5)
    assert max(line["fit/lr"] for line in run.metrics[-4:] if line["phase"] == "fit") <= 1e-5
    (change,) = run.directory.read()["changes"]
    assert change["settings"].keys() == {"iterations", "fit.lr", "fit.weight_decay"}
    assert (change["iteration"], change["updates"]) == (1, 3)
    moments = run.directory.read_checkpoint()["fitter"]["model"]["optimizer"]
    assert moments["param_groups"][0]["weight_decay"] == 0.5
    wmplay.train(["run=r"])
    assert len(run.directory.read()["changes"]) == 1


@pytest.mark.parametrize(
    "override",
    ["collect.random_episodes=9", "fit.lr=1e-4", "fit.lr=0.003", "dir=elsewhere", "evaluate.seed=7"],
)
def test_a_change_without_effect_is_told(
    override: str, short: wmplay.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    wmplay.train([f"run={short.path}", override])
    assert_tokens(capsys.readouterr().err, override)


def test_a_run_directory_that_exists_is_left_alone() -> None:
    Path("taken").mkdir()
    (Path("taken") / "thesis.txt").write_text("do not touch")
    with refused(RunError, "dir=<path>", got=Path("taken")):
        wmplay.train([*TINY, "dir=taken"])
    assert [path.name for path in Path("taken").iterdir()] == ["thesis.txt"]


def test_a_checkpoint_of_another_model_is_refused(short: wmplay.Run) -> None:
    text = (short.path / "config.yaml").read_text()
    (short.path / "config.yaml").write_text(text.replace("deter: 17", "deter: 16"))
    with refused(RunError, (short.path, "model", "RSSM")):
        _ = wmplay.load_run(short.path).model
    with refused(RunError, (short.path, "model", "RSSM")):
        wmplay.train([f"run={short.path}"])


def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(short: wmplay.Run) -> None:
    before, last = short.directory.checkpoints()
    last.write_bytes(last.read_bytes()[:1000])
    assert short.directory.read_checkpoint()["state"]["phase"] == "evaluate"
    before.write_bytes(b"")
    with refused(DamagedError, (short.path, before.name, last.name)):
        short.directory.read_checkpoint()


def test_a_continued_run_takes_values_and_keeps_its_pieces(short: wmplay.Run) -> None:
    longer = wmplay.train([f"run={short.path}", "iterations=2"])
    assert [line["step"] for line in longer.metrics if line["phase"] == "fit"][-1] == 6
    for override, fields in (
        ("model=mlp", {"about": ("'model'", "run=")}),
        ("itrations=3", {"got": "itrations", "advice": "iterations"}),
    ):
        with refused(ConfigError, **fields):
            wmplay.train([f"run={short.path}", override])


def test_metrics_are_json_lines(whole: Path) -> None:
    for line in (whole / "metrics.jsonl").read_text().splitlines():
        assert {"step", "phase", "iteration", "time"} <= set(json.loads(line))
