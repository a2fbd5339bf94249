import csv
import io
import math

import pytest
from report_run import write_run
from rich.console import Console

from wmplay.errors import RunError
from wmplay.report import print_sweep, summarise_sweep


@pytest.fixture(scope="module")
def sweep_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep")
    for seed in range(3):
        write_run(path / f"{seed}", seed=seed, overrides=["env=belt", "model=late"])
    write_run(path / "3", seed=0, overrides=["env=belt", "model=exact"], late=0, success=False)
    (path / "4").mkdir()
    (path / "4" / "run.json").write_text(
        '{"overrides": ["env=belt", "model=exact", "seed=1"], "seed": 1, "status": "failed"}'
    )
    (path / "not a run").mkdir()
    return path


def test_jobs_equal_up_to_the_seed_are_one_setting(sweep_dir):
    sweep = summarise_sweep(sweep_dir)
    assert [(job.directory, job.setting, job.seed) for job in sweep.jobs] == [
        ("0", "model=late", "0"),
        ("1", "model=late", "1"),
        ("2", "model=late", "2"),
        ("3", "model=exact", "0"),
        ("4", "model=exact", "1"),
    ]
    late, exact = sweep.settings
    assert (late.setting, late.seeds, exact.seeds) == ("model=late", 3, 2)
    means = [job.metrics["lcd iou@1"].value for job in sweep.jobs[:3]]
    aggregate = late.metrics["lcd iou@1"]
    assert aggregate.value == pytest.approx(sum(means) / 3)
    assert min(means) <= aggregate.low < aggregate.high <= max(means)
    # the failed job has no numbers: one seed is left, and one seed has no interval
    assert exact.metrics["lcd iou@1"].value == 1
    assert math.isnan(exact.metrics["lcd iou@1"].low)


def test_printed_and_written(sweep_dir):
    console = Console(width=80, file=io.StringIO())
    print_sweep(sweep_dir, console)
    text = console.file.getvalue()
    assert "…" not in text
    assert text.count("Jobs") == 3  # six metrics do not fit into one table
    assert "all jobs: env=belt\n" in text
    assert "Over seeds" in text
    assert "failed" in text
    with (sweep_dir / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["finished"] * 4 + ["failed"]
    assert rows[0]["setting"] == "model=late"
    assert float(rows[0]["success"]) == 1
    assert float(rows[0]["success_low"]) == pytest.approx(0.5655, abs=1e-4)
    assert rows[4]["success"] == ""


def test_one_seed_each_has_no_table_over_seeds(tmp_path):
    write_run(tmp_path / "0", overrides=["env=belt", "model=late"])
    console = Console(width=200, file=io.StringIO())
    print_sweep(tmp_path, console)
    assert "Over seeds" not in console.file.getvalue()


def test_no_runs(tmp_path):
    with pytest.raises(RunError, match="has no runs in it"):
        summarise_sweep(tmp_path)
