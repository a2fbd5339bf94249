"""What a stranger's run, store, sweep, world or data can do: each test holds a sentence of docs/trust.md."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from refusals import assert_tokens, refusal, refused

import wmplay
from wmplay.cli import main
from wmplay.errors import ConfigError, RunError, StoreError, WmplayError

RELEASE = Path(__file__).parents[1] / "fixtures" / "release_0.1" / "pieces.tar.xz"
HARM = Path("HARM")  # what an attack that comes through leaves behind
CODE = f"open('{HARM}', 'w').close()"
WORLD = ("task=body_goal", "physics=fast", "max_steps=7")
RUN = (
    ("simulate", "luxo", "--run", "run", "--out", "out", "--episodes", "1", *WORLD),
    ("eval", "run"),
    ("export", "run", "--out", "out"),
    ("train", "run=run", "iterations=3", "report=false"),
)
EXPORT = (("simulate", "luxo", "--run", "export", "--out", "out", "--episodes", "1", *WORLD),)
CART = "gymnasium.envs.classic_control:CartPoleEnv"
MODULE = f"import gymnasium\n{CODE}\ngymnasium.register('Evil-v0', entry_point='{CART}')\n"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    shutil.unpack_archive(RELEASE, folder)
    return folder


@pytest.fixture(autouse=True)
def _here(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run, its export, a store and a sweep of somebody else, and a module that could be imported."""
    for theirs, here in (("runs/rssm", "run"), ("exports/rssm", "export"), ("stores/luxo", "store")):
        shutil.copytree(unpacked / theirs, tmp_path / here)
    (tmp_path / "evil_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("evil_module", None)


def edit(change: Callable[[dict[str, Any]], object]) -> None:
    for file in (Path("run/config.yaml"), Path("export/config.yaml")):
        content = yaml.safe_load(file.read_text())
        change(content)
        file.write_text(yaml.safe_dump(content, sort_keys=False))


def everything_is_refused(capsys: pytest.CaptureFixture[str], *commands: tuple[str, ...]) -> None:
    for command in commands:
        refusal(capsys, *command)
        assert not HARM.exists(), command
        assert not Path("out").exists(), command


def setting(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        for key in parents:
            content = content[key]
        content[last] = value

    return change


CALL = {"_target_": "timeit.timeit", "stmt": CODE, "number": 1}
OTHER_CALLS = (
    "builtins.exec",
    "os.system",
    "wmplay.cli.main",
    "wmplay.registry.make",
    "wmplay.envs.lcd.make_task",
)


# ---- runs and exports ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["env", "model", "planner", "objective", "policy", "explorer", "logger"])
def test_loading_runs_no_code_of_its_author(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    edit(lambda content: content.update({kind: {**CALL, "data": None, "other_world": False}}))
    commands = RUN if kind in ("model", "logger") else RUN[3:]  # they differ by command, not by kind
    everything_is_refused(capsys, *commands, *(EXPORT if kind != "logger" else ()))
    for path in ("run", "export"):
        for part in ("env", "model", "policy"):
            with suppress(WmplayError):  # some parts do not need the piece
                getattr(wmplay.load_run(path), part)
            assert not HARM.exists()


@pytest.mark.parametrize("path", OTHER_CALLS)
def test_a_path_that_is_no_piece_is_never_imported(path: str) -> None:
    edit(setting("model._target_", path))
    for run in ("run", "export"):
        with refused(ConfigError, (run, f"'{path}'", "./plugins", "$WMPLAY_PLUGINS")):
            _ = wmplay.load_run(run).model


def test_only_what_is_registered_is_built() -> None:
    for name in ("model/nothing", "planner/cem", "model/../rssm", "rssm", ["model/rssm"], {"a": 1}, None):
        for piece in ({"_piece_": name}, {"_target_": name}):
            edit(lambda content, piece=piece: content.update(model=piece))
            with pytest.raises(WmplayError):
                _ = wmplay.load_run("export").model


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ("collect.env", {"_target_": "timeit.timeit"}),
        ("collect.env", {"_piece_": "env/gym"}),
        ("model.settings", {"_target_": "timeit.timeit"}),
        ("fit._target_", "timeit.timeit"),
        ("env.world", {"base": "luxo", "objects": [{"_target_": "timeit.timeit"}]}),
        ("_target_", "timeit.timeit"),
    ],
)
def test_a_class_is_named_where_a_piece_stands_and_nowhere_else(where: str, value: Any) -> None:
    edit(setting(where, value))
    for run in ("run", "export"):
        with refused(RunError, ("config.yaml", "_piece_")):
            wmplay.load_run(run)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("name", "${oc.env:SECRET}"),
        ("model.hidden", "a${oc.env:SECRET}b"),
        ("env.world", {"base": ["${name}"]}),
        ("collect.env.max_steps", "${now:%Y}"),
        ("collect.env", {"${oc.env:SECRET}": 3}),
        ("dir", "???"),
    ],
)
def test_nothing_is_resolved(where: str, text: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "secret")
    edit(setting(where, text))
    for run in ("run", "export"):
        with pytest.raises(RunError) as caught:
            wmplay.load_run(run)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        setting("env.id", "evil_module:Evil-v0"),
        setting("env.id", " evil_module :Evil-v0"),
        setting("env.kwargs", {"env_id": "evil_module:Evil-v0\n"}),
        setting("env.kwargs", {"make_kwargs": [{"entry_point": "evil_module:Evil"}]}),
        setting("collect.env.id", "evil_module:Evil-v0"),
    ],
)
def test_no_module_is_imported(change: Any, capsys: pytest.CaptureFixture[str]) -> None:
    edit(lambda content: content["env"].update(_target_="wmplay.envs.gym.GymEnv"))
    edit(change)
    everything_is_refused(capsys, *RUN, *EXPORT)


def test_a_module_that_you_type_is_imported_and_not_written_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gymnasium

    tiny = ("model=null", "planner=null", "objective=null", "explorer=null", "policy=random", "report=false")
    none = (
        "evaluate.policy.episodes=0",
        "evaluate.prediction.episodes=0",
        "collect.random_episodes=1",
        "dir=mine",
    )
    monkeypatch.setattr(gymnasium.envs.registration, "registry", dict(gymnasium.registry))
    assert main(["train", "env=gym", "env.id=evil_module:Evil-v0", "fit.steps=0", *tiny, *none]) == 0
    assert HARM.exists()  # typed by its user, who means it
    assert "evil_module" not in Path("mine/config.yaml").read_text()
    assert wmplay.load_run("mine").config.env.id == "Evil-v0"
    gymnasium.envs.registration.registry.pop("Evil-v0")
    sys.modules.pop("evil_module")
    with pytest.raises(WmplayError):
        _ = wmplay.load_run("mine").env
    Path("plugins").mkdir()
    Path("plugins/mine.py").write_text("import evil_module\n")
    assert wmplay.load_run("mine").env.action_space.n == 2


class Evil:
    def __reduce__(self) -> Any:
        return eval, (CODE,)


def test_weights_are_tensors_and_no_pickled_objects(capsys: pytest.CaptureFixture[str]) -> None:
    for file in Path("run/checkpoints").iterdir():
        torch.save({"format": 2, "weights": Evil()}, file)
    Path("export/weights.safetensors").write_bytes(pickle.dumps(Evil()))
    everything_is_refused(capsys, *RUN, *EXPORT)


BOMB = "a: &a [x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in ("ab", "bc", "cd", "de", "ef", "fg", "gh")
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", BOMB),
        ("config.yaml", "[" * 200_000),
        ("config.yaml", "a: " + "x" * 20_000_000),
        ("config.yaml", "x" * 200_000 + ": 1"),
        ("config.yaml", "!!python/object/apply:os.system ['true']"),
        ("run.json", "[" * 200_000),
        ("export.json", "[" * 200_000),
        ("spaces.json", '{"observation_space": {"type": "Box", "shape": [99999999999], "dtype": "uint8"}}'),
        ("spaces.json", "9" * 10_000),
    ],
)
def test_bombs_end_in_one_line_within_a_second(name: str, content: str) -> None:
    for run in ("run", "export"):
        if (Path(run) / name).exists():
            (Path(run) / name).write_text(content)
            began = time.process_time()
            with pytest.raises(WmplayError):
                wmplay.load_run(run).directory.spaces()  # type: ignore[union-attr]
            assert time.process_time() - began < 1


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints", "trajectories", "report", "held_out/more"])
def test_a_run_is_written_in_its_directory_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    mine = Path("mine")
    mine.mkdir()
    (mine / "file").write_text("precious")
    link = Path("run") / name
    if link.is_dir():
        shutil.rmtree(link)
    link.unlink(missing_ok=True)
    link.symlink_to(mine.resolve() / "file" if link.suffix else mine.resolve())
    everything_is_refused(capsys, RUN[1], RUN[3], ("report", "run"))
    assert [file.name for file in mine.iterdir()] == ["file"]
    assert (mine / "file").read_text() == "precious"


def test_names_and_directories_in_a_config_lead_nowhere() -> None:
    edit(lambda content: content.update(name="../../gone", dir="../gone"))
    assert main(["train", "run=run", "iterations=3", "report=false"]) == 0
    assert main(["export", "run", "--out", "out"]) == 0
    assert not Path("../gone").exists()
    assert not Path("../../gone").exists()


def test_a_plugin_is_named_and_not_taken_from_a_run(unpacked: Path) -> None:
    shutil.copytree(unpacked / "exports" / "plugin", "theirs")
    for where in ("theirs/plugins", "theirs"):
        Path(where).mkdir(exist_ok=True)
        (Path(where) / "my_gru.py").write_text(CODE)
    with refused(ConfigError, ("my_gru", "./plugins")):
        _ = wmplay.load_run("theirs").model
    assert not HARM.exists()


def test_new_runs_say_which_plugins_they_need(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plugins").mkdir()
    Path("plugins/own.py").write_text(
        "import wmplay\nfrom wmplay.policies.random import RandomPolicy\n\n"
        "@wmplay.register('policy', 'own')\nclass Own(RandomPolicy):\n    pass\n"
    )
    tiny = ("model=null", "planner=null", "objective=null", "explorer=null", "fit.steps=0", "report=false")
    none = ("evaluate.policy.episodes=0", "evaluate.prediction.episodes=0", "collect.random_episodes=1")
    assert main(["train", "env=bounce", "policy=own", *tiny, *none, "dir=mine"]) == 0
    assert main(["export", "mine", "--out", "mine-out"]) == 0
    shutil.rmtree("plugins")
    sys.modules.pop("wmplay_plugins.own")  # as in another process
    for run in ("mine", "mine-out"):
        assert "wmplay" not in (Path(run) / "config.yaml").read_text()
        with refused(ConfigError, ("'own'", "own.py")):
            _ = wmplay.load_run(run).policy


def test_a_report_shows_text_as_text() -> None:
    info = json.loads(Path("run/run.json").read_text())
    text = "<script>alert(1)</script>"
    info |= {
        "name": text,
        "command": text,
        "overrides": [f"name={text}"],
        "versions": {text: text},
        "git": text,
    }
    Path("run/run.json").write_text(json.dumps(info))
    for pictures in Path("run").glob("*.npz"):
        pictures.unlink()
    assert main(["report", "run"]) == 0
    assert text not in Path("run/report.html").read_text()


# ---- sweeps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evil",
    [
        "hydra.launcher._target_=timeit.timeit",
        "hydra.launcher.address=ray://elsewhere:10001",
        "hydra.sweeper.sampler._target_=timeit.timeit",
        "hydra.sweeper.sampler.x={_target_: timeit.timeit}",
        "hydra.callbacks.x._target_=timeit.timeit",
        "hydra.searchpath=[file:///tmp]",
        "hydra/launcher=../../../evil",
        "model._target_=timeit.timeit",
        "model._piece_=planner/cem",
        "name=${oc.env:SECRET}",
        "env.id=evil_module:Evil-v0",
        "env.id='evil_module:Evil-v0',CartPole-v1",
        "env.kwargs={env_id: 'evil_module:Evil-v0'}",
        "policy@hydra.launcher=mpc",
        "fit.lr=" + "[" * 3_000,
    ],
)
def test_a_sweep_goes_on_with_settings_and_choices_only(
    evil: str, unpacked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(unpacked / "sweep", "sweep")
    content = json.loads(Path("sweep/sweep.json").read_text())
    Path("sweep/sweep.json").write_text(json.dumps({"overrides": [*content["overrides"], evil]}))
    assert_tokens(refusal(capsys, "train", "-m", "hydra.sweep.dir=sweep"), "sweep.json")
    assert not HARM.exists()


# ---- stores, worlds, data --------------------------------------------------------------------------


def test_a_store_is_numbers_and_names() -> None:
    Path("store/metadata.json").write_text(json.dumps({"made_with": [CALL, {"_piece_": "env/../x"}]}))
    store = wmplay.load_trajectories("store")
    assert len(store.made_with) == 2  # as text: nothing is built from it
    assert not HARM.exists()
    (shard,) = Path("store/shards").iterdir()
    np.save(shard / "reward.npy", np.array([Evil()], object), allow_pickle=True)
    with pytest.raises(StoreError):
        _ = wmplay.load_trajectories("store")[0].reward
    assert not HARM.exists()


def test_a_world_file_is_data() -> None:
    for content in (
        BOMB,
        "[" * 100_000,
        "width: !!python/name:os.system",
        "width: {_target_: timeit.timeit}",
    ):
        Path("world.yaml").write_text(content)
        with pytest.raises(WmplayError):
            wmplay.make_env("lcd", world="world.yaml")
    os.mkfifo("pipe.yaml")
    with pytest.raises(ConfigError):
        wmplay.make_env("lcd", world="pipe.yaml")


def test_files_that_a_config_names_are_read_as_data() -> None:
    Path("secret.yaml").write_text("password: hunter2")
    edit(setting("env.world", "secret.yaml"))
    with pytest.raises(WmplayError) as caught:
        _ = wmplay.load_run("run").env
    assert "hunter2" not in str(caught.value)


def test_arrays_of_objects_are_not_imported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data").mkdir()
    np.savez("data/0.npz", action=np.array([Evil()], object), reward=np.zeros(1))
    refusal(capsys, "data", "import", "data", "--from", "npz", "--out", "out")
    assert not HARM.exists()


# ---- plugins ---------------------------------------------------------------------------------------


def test_listing_reads_plugins_and_runs_none(capsys: pytest.CaptureFixture[str]) -> None:
    Path("plugins").mkdir()
    Path("plugins/evil.py").write_text(
        f"{CODE}\nimport wmplay\n@wmplay.register('model', 'evil')\nclass A: ...\n"
    )
    assert main(["list", "model"]) == 0
    assert "evil" in capsys.readouterr().out
    assert not HARM.exists()


def test_the_page_names_every_test_here() -> None:
    page = (Path(__file__).parents[2] / "docs" / "trust.md").read_text()
    named = set(re.findall(r"`(test_\w+)`", page))
    here = {name for name in globals() if name.startswith("test_")} - {"test_the_page_names_every_test_here"}
    assert named == here
