import csv
import io
import math

import pytest
from refusals import refused
from report_run import write_run, write_simulator
from rich.console import Console

from wmplay.errors import RunError
from wmplay.evaluation.seeds import Job, over_worlds
from wmplay.evaluation.statistics import Interval
from wmplay.report import print_sweep, summarise_sweep, write_sweep
from wmplay.report.sweep.comparison import seeds_grid, settings_plot
from wmplay.runs.sweep_directory import SweepDirectory, write_failure


def shown(path, console):
    """Prints a sweep, and writes what there is to write of it."""
    sweep = summarise_sweep(path)
    before = sorted(path.rglob("*"))
    print_sweep(sweep, console)
    assert sorted(path.rglob("*")) == before
    write_sweep(sweep)


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
    assert (late.setting, late.seeds, exact.seeds) == ("model=late", 3, 1)  # exact's other one failed
    means = [job.results["lcd iou@1"].value for job in sweep.jobs[:3]]
    aggregate = late.results["lcd iou@1"]
    assert aggregate.value == pytest.approx(sum(means) / 3)
    assert min(means) <= aggregate.low < aggregate.high <= max(means)
    # the failed job has no numbers: one seed is left, and one seed has no interval
    assert exact.results["lcd iou@1"].value == 1
    assert math.isnan(exact.results["lcd iou@1"].low)


def test_printed_and_written(sweep_dir):
    console = Console(width=80, file=io.StringIO())
    shown(sweep_dir, console)
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
    shown(tmp_path, console)
    assert "Over seeds" not in console.file.getvalue()


def test_no_runs(tmp_path):
    with refused(RunError, "run.json", got=tmp_path):
        summarise_sweep(tmp_path)


def test_policies_and_medians_over_seeds(tmp_path):
    for seed in range(5):
        write_simulator(write_run(tmp_path / f"{seed}", seed=seed, overrides=["model=belt"]), seed)
    sweep = summarise_sweep(tmp_path)
    (setting,) = sweep.settings
    success = {name: x.value for name, x in setting.results.items() if name.startswith("success")}
    assert success == pytest.approx(
        {
            "success": 0.2,
            "success (policy, sampled)": 0.4,
            "success (learned world, sampled)": 0.6,
            "success (untrained, sampled)": 0.0,
        }
    )
    values = sorted(job.results["lcd iou@1"].value for job in sweep.jobs)
    assert setting.medians["lcd iou@1"].value == values[2]
    assert values[0] <= setting.medians["lcd iou@1"].low <= setting.medians["lcd iou@1"].high <= values[-1]
    console = Console(width=100, file=io.StringIO())
    shown(tmp_path, console)
    text = console.file.getvalue()
    assert "median" in text
    assert "40.0%" in text


def test_settings_in_csv(sweep_dir):
    shown(sweep_dir, Console(width=80, file=io.StringIO()))
    with (sweep_dir / "settings.csv").open(newline="") as file:
        rows = {(row["setting"], row["metric"]): row for row in csv.DictReader(file)}
    late = summarise_sweep(sweep_dir).settings[0].results["lcd iou@1"]
    row = rows["model=late", "lcd iou@1"]
    assert (row["worlds"], row["seeds"]) == ("1", "3")
    assert [float(row[f"interquartile_mean{end}"]) for end in ("", "_low", "_high")] == list(late)
    assert rows["model=exact", "lcd iou@1"]["median_low"] == ""  # one seed has no interval


def job(setting, seed, **metrics):
    known = {name: Interval(value, value, value) for name, value in metrics.items()}
    return Job("x", tuple(setting.split()), str(seed), "finished", known)


def test_success_over_worlds_is_stratified_by_world():
    jobs = [
        *(job("env=a model=m", seed, success=0.2, reward=1.0) for seed in range(5)),
        *(job("env=b model=m", seed, success=0.2 * seed, reward=2.0) for seed in range(5)),
        *(job("env=a model=n", seed, success=1.0) for seed in range(5)),  # n was not tried in b
    ]
    (across,) = over_worlds(jobs)
    assert (across.setting, across.worlds, across.seeds) == ("model=m", 2, 5)
    assert across.results.keys() == {"success"}  # rewards of different worlds do not add up
    scores = [0.2] * 5 + [0, 0.2, 0.4, 0.6, 0.8]
    assert across.results["success"].value == pytest.approx(sum(sorted(scores)[2:8]) / 6)
    # in every draw at least half of the scores are a's
    assert across.results["success"].low >= 0.1
    assert "2 x 5" in seeds_grid([across], ["success"]).rows[0][1]


def test_seeds_that_one_world_lacks_are_left_out_of_all():
    jobs = [job("env=a", seed, success=1.0) for seed in (0, 1, 2)]
    jobs += [job("env=b", seed, success=0.0) for seed in (1, 2, 3)]
    (across,) = over_worlds(jobs)
    assert (across.setting, across.seeds) == ("defaults", 2)
    assert over_worlds(jobs[:3]) == []  # one world only


def test_how_a_value_was_written_makes_no_other_setting(tmp_path):
    write_run(tmp_path / "0", seed=0, overrides=["fit.lr=1e-3", "model=late", "fit.clip=2", "dir=a"])
    write_run(tmp_path / "1", seed=1, overrides=["model=late", "fit.clip=2.0", "fit.lr=0.001"])
    write_run(tmp_path / "2", seed=2, overrides=["fit.lr=3", "fit.clip=2", "model=late", "fit.lr=0.001"])
    write_run(tmp_path / "3", seed=0, overrides=["fit.lr=1e-3", "fit.clip=3", "model=late"])
    sweep = summarise_sweep(tmp_path)
    assert sweep.common == "fit.lr=1e-3 model=late"
    assert [(each.setting, each.seeds) for each in sweep.settings] == [("fit.clip=2", 3), ("fit.clip=3", 1)]


def test_a_default_that_was_changed_meanwhile_makes_another_setting(tmp_path):
    for name, seed, hidden in (("a", 0, 7), ("b", 1, 7.0), ("c", 0, 11), ("d", 1, 11)):
        path = write_run(tmp_path / name, seed=seed, overrides=["env=belt", "model=mine"])
        config = f"name: n{seed}\nseed: {seed}\nmodel:\n  hidden: {hidden}\n  seed: 3\nfit: {{lr: 0.1}}\n"
        (path / "config.yaml").write_text(config)
    sweep = summarise_sweep(tmp_path)
    found = [(each.setting, each.seeds) for each in sweep.settings]
    assert found == [("model.hidden=7", 2), ("model.hidden=11", 2)]
    assert [job.directory for job in sweep.jobs] == ["a", "b", "c", "d"]


def test_what_is_half_done_is_in_the_table_and_in_no_mean(tmp_path):
    for seed in range(3):
        write_run(tmp_path / f"a{seed}", seed=seed, overrides=["env=a", "model=m"])
        status = "interrupted" if seed == 1 else "finished"
        write_run(
            tmp_path / f"b{seed}", seed=seed, overrides=["env=b", "model=m"], success=False, status=status
        )
    sweep = summarise_sweep(tmp_path)
    assert [job.status for job in sweep.jobs if "success" in job.results].count("interrupted") == 1
    assert [(each.setting, each.seeds) for each in sweep.settings] == [("env=a", 3), ("env=b", 2)]
    assert [(each.worlds, each.seeds) for each in sweep.across] == [(2, 2)]
    figure = settings_plot(sweep.settings, sweep.jobs, ["success"])
    assert [line.get_marker() for line in figure.axes[0].lines].count("o") == 3 + 2


def test_what_failed_before_there_was_a_run_is_in_the_table(sweep_dir, tmp_path):
    write_run(tmp_path / "0", overrides=["env=belt", "model=late"])
    write_failure(tmp_path / "1", ["env=belt", "model=late", "model.depth=0", "seed=3"], ValueError("no"))
    rows = [(job.setting, job.seed, job.status) for job in summarise_sweep(tmp_path).jobs]
    assert rows == [("defaults", "0", "finished"), ("model.depth=0", "3", "failed")]


def test_a_run_that_was_killed_does_not_look_alive(tmp_path):
    write_run(tmp_path / "0", overrides=["model=late"], status="running")
    write_run(tmp_path / "1", overrides=["model=exact"], status="running")
    with SweepDirectory(tmp_path).claimed(tmp_path / "1"):
        assert [job.status for job in summarise_sweep(tmp_path).jobs] == ["stopped", "running"]


def test_the_plot_compares_settings(sweep_dir):
    sweep = summarise_sweep(sweep_dir)
    figure = settings_plot(sweep.settings, sweep.jobs, sweep.names)
    assert [axes.get_title("left") for axes in figure.axes] == sweep.names
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["model=late", "model=exact"]
    axes = figure.axes[sweep.names.index("lcd iou@1")]
    late = sweep.settings[0].results["lcd iou@1"]
    assert any(list(line.get_xdata()) == [late.low, late.high] for line in axes.lines)
    assert settings_plot(sweep.settings[:1], sweep.jobs, sweep.names) is None  # nothing to compare
    assert settings_plot(sweep.settings * 20, sweep.jobs, sweep.names) is None  # too much to see


def test_a_sweep_has_a_page(sweep_dir):
    console = Console(width=80, file=io.StringIO())
    shown(sweep_dir, console)
    assert (sweep_dir / "report.html").exists()
    page = (sweep_dir / "report.html").read_text()
    assert "href=" not in page  # no run has a report
    assert "5 runs of 2 settings: model=late: success 100.0%" in page
    assert "Over seeds" in page
    assert (sweep_dir / "report" / "quality.png").exists()
    assert (sweep_dir / "report" / "settings.png").exists()
    (sweep_dir / "3" / "report.html").touch()
    shown(sweep_dir, console)
    page = (sweep_dir / "report.html").read_text()
    assert page.count("href=") == 1
    assert '<li><a href="3/report.html">model=exact seed 0</a></li>' in page
    points = summarise_sweep(sweep_dir).points
    assert len(points) == 4 * 3
    assert {point.label for point in points} == {"model=late", "model=exact"}
    assert len({point.run for point in points}) == 4


def bad_override(path):
    (path / "run.json").write_text('{"overrides": ["=="], "status": "finished"}')


def bad_config(path):
    (path / "config.yaml").write_text("a: [")


def bad_clips(path):
    (path / "clips.npz").write_bytes(b"half")


def bad_failure(path):
    (path / "run.json").unlink()
    (path / "failure.txt").write_text("ValueError: no\nnot JSON\n")


@pytest.mark.parametrize("damage", [bad_override, bad_config, bad_clips, bad_failure])
def test_a_damaged_job_hides_no_other(tmp_path, damage):
    for name in ("a", "b"):
        write_run(tmp_path / name, overrides=["env=belt"])
    damage(tmp_path / "b")
    sweep = summarise_sweep(tmp_path)
    assert [(job.directory, job.status) for job in sweep.jobs] == [("a", "finished"), ("b", "damaged")]
    assert list(sweep.damaged) == ["b"]
    assert [setting.seeds for setting in sweep.settings] == [1]
    console = Console(width=80, file=io.StringIO())
    shown(tmp_path, console)
    assert "damaged: " in console.file.getvalue()


def test_a_sweep_of_damaged_jobs_only(tmp_path):
    bad_failure(write_run(tmp_path / "a"))
    shown(tmp_path, Console(width=80, file=io.StringIO()))


def test_jobs_that_were_set_aside_are_no_jobs(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / ".aside" / "a-1")
    assert [job.directory for job in summarise_sweep(tmp_path).jobs] == ["a"]
