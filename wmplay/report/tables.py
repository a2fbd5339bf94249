"""The tables of results: made once, shown in the terminal and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from wmplay.intervals import Interval
from wmplay.report.record import read_record
from wmplay.report.style import METRICS, PREDICTORS
from wmplay.report.words import interval, main_policy, number, percent, plus_minus, verdict, wall_times
from wmplay.scores import MODEL, Evaluation, KeyScore, PolicyScore, PredictionScore, selected_horizons


@dataclass(frozen=True)
class Grid:
    """A table of words: the first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def policy_grid(policies: dict[str, PolicyScore]) -> Grid | None:
    """Success, return and length of each policy; None without any."""
    if not policies:
        return None
    scores = list(policies.values())
    rows = [
        ["return", *(interval(score.mean_return) for score in scores)],
        ["steps per episode", *(interval(score.mean_length) for score in scores)],
        ["episodes", *(f"{score.episodes:,}" for score in scores)],
    ]
    if any(score.success is not None for score in scores):
        success = [percent(score.success) if score.success is not None else "–" for score in scores]
        rows.insert(0, ["success", *success])
    note = "95% intervals over episodes: success Wilson's, means Student's t."
    return Grid("Policy", ["", *policies], rows, note)


def prediction_grids(score: PredictionScore) -> list[Grid]:
    """One table for each key: predictors by horizon."""
    return [_prediction_grid(key, result, score) for key, result in score.keys.items()]


def _prediction_grid(key: str, result: KeyScore, score: PredictionScore) -> Grid:
    horizons = selected_horizons(score.horizon)
    rows = []
    for name, curve in result.curves.items():
        label = PREDICTORS[name][2] if name in PREDICTORS else name
        rows.append([label, *(number(curve.at(h).value) for h in horizons)])
        if name == MODEL:
            rows.append(["  95% interval", *(plus_minus(curve.at(h)) for h in horizons)])
    columns = ["steps predicted", *(str(h) for h in horizons)]
    note = f"{score.context} frames of context, {score.clips:,} clips of as many held-out episodes."
    direction = "higher is better" if result.higher_is_better else "lower is better"
    return Grid(f"{key}: {METRICS[result.metric]} ({direction})", columns, rows, note)


def result_table(run_dir: Path) -> Group:
    """What to print at the end of a run: the verdict, the results, where the time went.

    Raises:
        RunError: if the directory is not a run's.
    """
    record = read_record(run_dir)
    evaluation = record.evaluation or Evaluation()
    grids = [] if evaluation.prediction is None else prediction_grids(evaluation.prediction)
    policies = policy_grid(evaluation.policies)
    tables = [as_rich(grid) for grid in [policies, *grids] if grid is not None]
    times = wall_times(record.info)
    closing = [Text(f"time: {times}", style="dim")] if times else []
    return Group(Padding(Text(verdict(record), style="bold"), (1, 0)), *tables, *closing)


def as_rich(grid: Grid) -> Table:
    """A grid for the terminal."""
    table = Table(title=grid.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.caption, table.caption_justify, table.caption_style = grid.note or None, "left", "dim"
    for i, column in enumerate(grid.columns):
        table.add_column(Text(column), justify="left" if i == 0 else "right", no_wrap=i == 0)
    for row in grid.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def headline(evaluation: Evaluation) -> dict[str, Interval]:
    """The few numbers that runs are compared by: success, return, and each key at the first and last step."""
    found: dict[str, Interval] = {}
    score = main_policy(evaluation)
    if score is not None:
        if score.success is not None:
            found["success"] = score.success
        found["return"] = score.mean_return
    if evaluation.prediction is not None:
        for key, result in evaluation.prediction.keys.items():
            for h in sorted({1, evaluation.prediction.horizon}):
                found[f"{key} {result.metric}@{h}"] = result.curves[MODEL].at(h)
    return found
