"""A run's directory: who makes it, who writes to it, and files that changed since."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from few_settings import few_settings
from omegaconf import OmegaConf
from refusals import refused

from wmplay.errors import DamagedError, RunError, WriteError
from wmplay.runs.disk.directory import RunDirectory

fork = multiprocessing.get_context("fork")
SETTINGS = few_settings(name="tiny", seed=3, fit={"lr": 0.001})
STATE: dict[str, Any] = {"state": {}, "fitter": None, "learner": None, "store": None, "metrics": 0}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run() -> RunDirectory:
    with RunDirectory.created(SETTINGS, ["seed=3"], "run") as directory:
        return directory


def contents(folder: Path = Path()) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# ---- made by one ---------------------------------------------------------------------------------


def make(path: str | None, delay: float, answers: Any, wait: Any) -> None:
    time.sleep(delay)
    try:
        with RunDirectory.created(SETTINGS, [], path) as directory:
            answers.put(str(directory.path))
            wait.wait()
            directory.update(status="finished")
    except RunError as error:
        answers.put(type(error).__name__)


def made_by_four(path: str | None) -> list[str]:
    """What four processes came to that make a run within half a second; all that made one are alive."""
    answers, wait = fork.Queue(), fork.Barrier(1 if path else 4)
    processes = [fork.Process(target=make, args=(path, i / 8, answers, wait)) for i in range(4)]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return sorted(found)


def test_runs_that_begin_in_the_same_second_have_directories_of_their_own() -> None:
    found = made_by_four(None)
    assert len(set(found)) == 4
    assert all(RunDirectory(Path(path)).read()["status"] == "finished" for path in found)


def test_of_runs_that_want_the_same_directory_one_has_it() -> None:
    found = made_by_four("here")
    assert found == ["RunError", "RunError", "RunError", "here"]
    assert RunDirectory(Path("here")).read()["status"] == "finished"


def test_where_something_is_nothing_is_made_or_removed() -> None:
    Path("thesis").mkdir()
    for name in ("config.yaml", "checkpoints", ".hidden"):
        (Path("thesis") / name).touch()
        before = contents()
        with pytest.raises(RunError), RunDirectory.created(SETTINGS, [], "thesis"):
            pass
        assert contents() == before
        (Path("thesis") / name).unlink()
    with RunDirectory.created(SETTINGS, [], "thesis"):  # it is empty now
        pass


def test_a_run_that_cannot_be_made_leaves_what_others_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(config: Any, path: Path) -> None:
        Path("new/theirs").touch()
        raise OSError(28, "No space left on device")

    Path("mine").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(OmegaConf, "save", lambda *_: full(*_) if Path("new").exists() else full_here())

        def full_here() -> None:
            raise OSError(28, "No space left on device")

        with pytest.raises(WriteError), RunDirectory.created(SETTINGS, [], "mine"):
            pass
        with pytest.raises(WriteError), RunDirectory.created(SETTINGS, [], "new"):
            pass
    assert contents() == {"mine": None, "new": None, "new/theirs": b""}


def test_a_run_that_was_killed_while_it_was_made_is_made_again() -> None:
    Path("run/checkpoints").mkdir(parents=True)
    for name in (".lock", "config.yaml", ".run.json-01234567"):
        (Path("run") / name).write_text("half of")
    with RunDirectory.created(SETTINGS, ["seed=4"], "run") as directory:
        assert directory.read()["overrides"] == ["seed=4"]


# ---- written to by one ---------------------------------------------------------------------------


def test_a_second_process_at_a_run_is_refused_with_who_is_at_it(run: RunDirectory) -> None:
    assert run.status() == "stopped", "nobody is at it, although it says that it runs"
    with run.held():
        assert RunDirectory(run.path).status() == "running"
        before = contents()
        holder = (os.getpid(), socket.gethostname())
        with refused(RunError, holder, got=run.path), RunDirectory(run.path).held():
            pass
        assert contents() == before
    with RunDirectory(run.path).held():
        pass
    assert run.status() == "stopped"


def test_who_holds_a_run_removes_what_killed_processes_were_writing(run: RunDirectory) -> None:
    for name in (".run.json-01234567", "checkpoints/.000003.pt-89abcdef", "report/.strip.png-00000000"):
        (run.path / name).parent.mkdir(exist_ok=True)
        (run.path / name).touch()
    (run.path / "checkpoints" / ".mine").touch()
    with run.held():
        assert not list(run.path.rglob(".*-*"))
    assert (run.path / "checkpoints" / ".mine").exists()


# ---- checkpoints ---------------------------------------------------------------------------------


def saved(run: RunDirectory, value: float) -> Path:
    return run.save_checkpoint({**STATE, "weights": {"model": {"w": torch.full((50,), value)}}})


def value_of(state: dict[str, Any]) -> float:
    weights = state["weights"]["model"]["w"]
    assert len(set(weights.tolist())) == 1
    return float(weights[0])


def test_any_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(run, 1.0)
    path = saved(run, 2.0)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.integers(8 * len(content), size=300):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << int(bit) % 8
        path.write_bytes(changed)
        assert value_of(run.read_checkpoint()) == 1.0
        (line,) = capsys.readouterr().err.splitlines()
        assert "000002.pt" in line
        assert "000001.pt" in line
    path.write_bytes(content)
    assert value_of(run.read_checkpoint()) == 2.0
    assert capsys.readouterr().err == ""


def test_two_sound_checkpoints_are_kept_beside_a_damaged_one(run: RunDirectory) -> None:
    for value in (1.0, 2.0, 3.0):
        path = saved(run, value)
    path.write_bytes(b"half")
    assert value_of(run.read_checkpoint()) == 2.0
    path = saved(run, 4.0)
    path.write_bytes(b"half")
    assert value_of(run.read_checkpoint()) == 2.0


@pytest.mark.parametrize(
    "content", [{"format": 3}, {"format": 2}, [], {"format": 2, **STATE, "weights": 3}, None]
)
def test_a_checkpoint_that_is_not_understood_is_refused_and_no_other_is_taken(
    run: RunDirectory, content: Any
) -> None:
    saved(run, 1.0)
    path = saved(run, 2.0)
    if content is None:  # a read that fails
        path.unlink()
        path.mkdir()
    else:
        torch.save(content, path)
    with refused(RunError, "000002.pt") as caught:
        run.read_checkpoint()
    assert not isinstance(caught.value, DamagedError)


def test_a_checkpoint_of_the_version_before_is_read(run: RunDirectory) -> None:
    path = saved(run, 1.0)
    torch.save({"format": 2, **STATE, "weights": {"model": {"w": torch.full((50,), 5.0)}}}, path)
    assert value_of(run.read_checkpoint()) == 5.0


# ---- run.json and config.yaml --------------------------------------------------------------------


def test_what_run_json_says_cannot_change_unnoticed(run: RunDirectory) -> None:
    path = run.path / "run.json"
    content = json.loads(path.read_text())
    run.update(status="finished")
    assert run.read()["status"] == "finished"
    for name, value in {"seed": 4, "status": "failed", "overrides": [], "checksum": "sha256:0"}.items():
        path.write_text(json.dumps({**content, name: value}))
        with pytest.raises(DamagedError):
            run.read()
    path.write_text('{"name": "of an older version"}')
    assert run.read() == {"name": "of an older version"}


@pytest.mark.parametrize(
    "wrong", [{"wall": []}, {"overrides": "seed=3"}, {"name": 3}, {"status": {}}, {"changes": 3}]
)
def test_fields_of_another_type_are_damage(run: RunDirectory, wrong: dict[str, Any]) -> None:
    (run.path / "run.json").write_text(json.dumps(wrong))
    with pytest.raises(DamagedError):
        run.read()


def test_an_edited_config_is_noticed_and_a_changed_one_is_noted(run: RunDirectory) -> None:
    assert run.config_is_as_written()
    changed = replace(SETTINGS, fit=replace(SETTINGS.fit, lr=0.5))
    run.change_settings(changed, overrides=["fit.lr=0.5"], updates=7)
    assert run.config() == changed.config()
    assert run.config_is_as_written()
    (noted,) = run.read()["changes"]
    assert (noted["overrides"], noted["updates"]) == (["fit.lr=0.5"], 7)
    path = run.path / "config.yaml"
    path.write_text(path.read_text().replace("0.5", "0.7"))
    assert not run.config_is_as_written()
