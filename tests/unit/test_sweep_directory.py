import json

import pytest
import torch
from few_settings import few_settings
from refusals import refused

from wmplay.errors import RunError
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.sweep_directory import SweepDirectory, digest, prepare_to_continue, write_failure

JOB = {"seed": 3, "fit": {"lr": 1e-3, "clip": 100.0}}
LCD = {"_piece_": "env/lcd"}


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def known_by(**changes):
    return digest(few_settings(**JOB | changes))


def test_a_job_is_known_by_what_its_config_says():
    assert known_by() == known_by(dir="runs/here", run="there")  # where it is written does not matter
    assert known_by() == known_by(fit={"clip": 100, "lr": 0.001})  # nor how it is written down
    assert known_by() != known_by(seed=4)
    assert known_by() != known_by(fit={"lr": 1e-3, "clip": 100.5})
    assert known_by(env=LCD | {"max_steps": 1}) == known_by(env=LCD | {"max_steps": 1.0})
    assert known_by(env=LCD | {"max_steps": 1}) != known_by(env=LCD | {"max_steps": True})
    assert known_by().isalnum()


def test_how_far_a_job_is(tmp_path):
    sweep = SweepDirectory(tmp_path)
    job = tmp_path / "0123456789ab"
    assert sweep.state(job) == "new"
    with sweep.claimed(job) as free:
        assert free
        assert sweep.state(job) == "running"
        with sweep.claimed(job) as free:
            assert not free
    job.mkdir()
    assert sweep.state(job) == "stopped"
    write_failure(job, ["seed=3"], ValueError("two\nlines"))
    assert sweep.state(job) == "failed"
    assert sweep.failure(job) == "ValueError: two lines"
    assert list(sweep.begun()) == [job]
    assert sweep.failed_with(job) == ["seed=3"]
    (job / "run.json").write_text('{"status": "finished"}')
    assert sweep.state(job) == "finished"


def test_of_two_sweeps_that_begin_in_one_directory_the_second_is_refused(tmp_path):
    first, second, alike = (SweepDirectory(tmp_path / "sweep") for _ in range(3))
    for sweep, model in ((first, "mlp"), (second, "gru"), (alike, "mlp")):
        sweep.check([f"model={model}", "seed=0,1"])  # none of them has begun
    first.write(["model=mlp", "seed=0,1"])
    with refused(RunError, ("model=mlp", "model=gru"), got=tmp_path / "sweep"):
        second.write(["model=gru", "seed=0,1"])
    alike.write(["model=mlp", "seed=0,1,2"])
    assert first.overrides() == ["model=mlp", "seed=0,1,2"]


def test_a_sweep_that_was_killed_while_it_began_is_begun_again(tmp_path):
    sweep = SweepDirectory(tmp_path)
    (tmp_path / ".locks").mkdir()
    (tmp_path / ".locks" / "sweep.json").touch()
    (tmp_path / ".sweep.json-0123abcd").touch()
    sweep.check(["seed=0,1"])
    sweep.write(["seed=0,1"])


def begun(job):
    """A job with one checkpoint, of this format."""
    (job / "checkpoints").mkdir(parents=True)
    (job / "run.json").write_text("{}")
    state = {"state": {}, "weights": {}, "fitter": None, "learner": None, "store": None, "metrics": 0}
    RunDirectory(job).save_checkpoint(state)
    return job


def test_a_job_without_a_run_begins(tmp_path):
    assert not prepare_to_continue(tmp_path / "job")
    write_failure(tmp_path / "job", ["seed=3"], ValueError("no luck"))
    assert not prepare_to_continue(tmp_path / "job")
    assert list((tmp_path / "job").iterdir()) == []


def test_a_job_that_was_killed_before_its_first_checkpoint_goes_on(tmp_path):
    job = begun(tmp_path / "job")
    (job / "checkpoints" / "000001.pt").unlink()
    assert prepare_to_continue(job)


def test_a_job_whose_checkpoints_are_all_damaged_is_set_aside(tmp_path, capsys):
    for number in (1, 2):
        job = begun(tmp_path / "job")
        (job / "checkpoints" / "000001.pt").write_bytes(b"no checkpoint")
        assert not prepare_to_continue(job)
        assert not job.exists()
        aside = tmp_path / ".aside" / f"job-{number}"
        assert str(aside) in capsys.readouterr().err
        assert (aside / "checkpoints" / "000001.pt").read_bytes() == b"no checkpoint"


def newer(job):
    torch.save({"format": 3}, job / "checkpoints" / "000001.pt")


def unreadable(job):
    (job / "checkpoints" / "000001.pt").unlink()
    (job / "checkpoints" / "000001.pt").mkdir()


def damaged_about(job):
    (job / "run.json").write_text("{")


@pytest.mark.parametrize("change", [newer, unreadable, damaged_about])
def test_a_job_that_is_not_understood_stays(tmp_path, change):
    job = begun(tmp_path / "job")
    change(job)
    before = contents(tmp_path)
    with pytest.raises(RunError):
        prepare_to_continue(job)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["env=a", "model=b,c", "seed=0,1"], ["model=b,c,d", "env=a", "seed=range(0,7)"]),
        (["env=a", "model=b,c"], ["env=a", "model=b,c", "seed=0,1", "hydra/launcher=joblib"]),
        (["env=a", "hydra.launcher.n_jobs=2"], ["env=a"]),
    ],
)
def test_a_sweep_may_grow(tmp_path, before, after):
    sweep = SweepDirectory(tmp_path / "s")
    sweep.check(before)  # nothing is there
    sweep.write(before)
    sweep.check(after)
    sweep.write(after)
    assert sweep.overrides() == after


@pytest.mark.parametrize(
    ("after", "difference"),
    [
        (["env=b", "model=b,c"], ("env=a", "env=b")),
        (["env=a", "model=b"], ("model", "model=b")),
        (["env=a", "model=b,c", "fit.steps=3"], "fit.steps=3"),
        (["model=b,c"], "env=a"),
    ],
)
def test_a_sweep_stays_what_it_is(tmp_path, after, difference):
    sweep = SweepDirectory(tmp_path / "s")
    sweep.write(["env=a", "model=b,c"])
    with refused(RunError, difference, got=tmp_path / "s", advice="hydra.sweep.dir=<path>"):
        sweep.check(after)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"overrides": 3}'])
def test_a_damaged_sweep_is_named(tmp_path, content):
    (tmp_path / "sweep.json").write_text(content)
    with refused(RunError, "sweep.json"):
        SweepDirectory(tmp_path).overrides()


def test_what_a_sweep_was_run_with_is_plain_json(tmp_path):
    SweepDirectory(tmp_path / "s").write(["seed=0,1"])
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["overrides"] == ["seed=0,1"]


def test_sweeps_that_begin_in_the_same_second_are_not_mixed(tmp_path):
    SweepDirectory(tmp_path / "s").write(["seed=0,1"], new=True)
    with pytest.raises(RunError):
        SweepDirectory(tmp_path / "s").write(["seed=0,1"], new=True)
