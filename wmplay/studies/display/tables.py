"""The tables of a study, and its main result in words."""

from __future__ import annotations

import math
from dataclasses import replace

from wmplay.evaluation.statistics import Interval
from wmplay.report.numbers import broken, counted, duration, interval, number, percent
from wmplay.report.tables import Grid
from wmplay.studies.analysis import Answers, Comparison
from wmplay.studies.question import Question
from wmplay.studies.results import Results
from wmplay.studies.statistics import FEWEST_SEEDS

SIGNS = {"better": ">", "worse": "<", "equivalent": "=", "open": "?"}
FAULTS = {
    "model": "model",
    "planner": "planner",
    "both": "model and planner",
    "neither": "neither",
    "cannot tell": "cannot tell",
}
ARMS = (
    "Score: interquartile mean over seeds (below 4 seeds: mean), 95% stratified bootstrap. Floor: the random "
    "policy. Ceiling: the same planner on the true dynamics, 95% interval over episodes. To blame: the "
    "planner, if it does not solve the task with the true dynamics; the model, if the score with it is lower."
)
RANKS = "1 is the best: the mean rank over worlds by the mean over seeds, with 95% bootstrap intervals."


def verdict(asked: Question, answers: Answers) -> str:
    """Return the answers of the comparisons in a sentence."""
    if all(row.seeds < FEWEST_SEEDS for row in answers.rows):
        most = max(row.seeds for row in answers.rows)
        return f"Cannot decide: {counted(most, 'seed')}, and a study needs at least {FEWEST_SEEDS}."
    several = len({each.world for each in answers.comparisons}) > 1
    parts = [_in_words(each, asked, several) for each in answers.comparisons]
    return f"{'; '.join(parts)}."


def _in_words(each: Comparison, asked: Question, several: bool) -> str:
    where = f" in {each.world}" if several else ""
    if each.verdict == "open":
        return f"{each.first} and {each.second}{where}: cannot decide ({each.why})"
    by = _score(Interval(abs(each.difference.value), math.nan, math.nan), asked)
    if each.verdict == "equivalent":
        return f"{each.first} and {each.second}{where}: equivalent within {number(asked.margin or 0)}"
    return f"{each.first} is {each.verdict} than {each.second}{where} by {by}"


def grids(results: Results, answers: Answers) -> list[Grid]:
    """Return the tables of arms, of comparisons, of ranks, and of effort."""
    asked = results.question
    ranked = [[arm, broken(interval(rank))] for arm, rank in answers.ranks.items()]
    effort = [
        [
            row.arm,
            row.world,
            whole(row.real_steps),
            whole(row.updates),
            duration(row.seconds) if row.seeds else "–",
        ]
        for row in answers.rows
    ]
    columns = ["arm", "world", "real steps", "updates", "time"]
    found = [
        _arms_grid(asked, answers),
        _comparisons_grid(asked, answers),
        Grid("Ranks", ["arm", "rank"], ranked, RANKS),
        Grid("Effort", columns, effort, "Means over the runs."),
    ]
    return [without_world(grid, asked) for grid in found]


def without_world(grid: Grid, asked: Question) -> Grid:
    """Return a table without the column of worlds if the study has one world."""
    if len(asked.worlds) > 1 or "world" not in grid.columns:
        return grid
    at = list(grid.columns).index("world")
    columns, *rows = ([*row[:at], *row[at + 1 :]] for row in (grid.columns, *grid.rows))
    return replace(grid, columns=columns, rows=rows)


def _arms_grid(asked: Question, answers: Answers) -> Grid:
    rows = [
        [
            row.arm,
            row.world,
            f"{row.seeds}",
            broken(_score(row.score, asked)),
            _score(Interval(row.floor, math.nan, math.nan), asked),
            "–" if row.ceiling is None else broken(_score(row.ceiling, asked)),
            FAULTS[row.fault],
        ]
        for row in answers.rows
    ]
    columns = ["arm", "world", "seeds", "score", "floor", "ceiling", "to blame"]
    return Grid(f"{asked.metric} ({asked.better} is better)", columns, rows, ARMS)


def _comparisons_grid(asked: Question, answers: Answers) -> Grid:
    rows = [
        [
            f"{each.first} {SIGNS[each.verdict]} {each.second}",
            each.world,
            f"{each.seeds}",
            broken(_difference(each.difference, asked)),
            number(each.p),
            "–" if each.p_equivalent is None else number(each.p_equivalent),
            broken(percent(each.improvement)),
            each.verdict if each.verdict != "open" else "cannot\ndecide",
        ]
        for each in answers.comparisons
    ]
    margin = "" if asked.margin is None else f" Margin of equivalence: {number(asked.margin)}."
    confidence = f"{100 * (1 - answers.alpha):.3g}%"
    note = (
        f"Gap: difference of means over seeds, paired by seed, {confidence} t interval. p: paired t test "
        "and two one-sided tests, each adjusted by Holm for all rows; decided below "
        f"{number(answers.alpha)}. Wins: the probability that a run of the first arm beats one of the "
        f"second.{margin}"
    )
    columns = ["arms", "world", "seeds", "gap", "p", "p\nequal", "wins", "verdict"]
    return Grid("Asked beforehand", columns, rows, note)


def whole(x: float) -> str:
    """Return a mean of counts without decimals; a dash for NaN."""
    return f"{x:,.0f}" if math.isfinite(x) else "–"


def reasons(answers: Answers) -> list[str]:
    """Return a line for each arm whose part to blame is unknown, with the reason."""
    return [f"{row.arm} in {row.world}: {row.fault}: {row.why}" for row in answers.rows if row.why]


def _score(x: Interval, asked: Question) -> str:
    return percent(x) if asked.metric.partition("/")[2].startswith("success") else interval(x)


def _difference(x: Interval, asked: Question) -> str:
    text = _score(x, asked)
    return text if text.startswith(("-", "–")) else f"+{text}"
