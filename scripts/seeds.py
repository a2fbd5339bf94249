"""Keeps what finished runs measured in one file, and prints it as a table: one row for each command.

    python scripts/seeds.py docs/measured/agents.json RUN ...   adds runs; a seed that is there is replaced
    python scripts/seeds.py docs/measured/agents.json           the table alone

Runs that differ in nothing but their seed are one row, so that a later machine can add seeds to it.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wmplay.evaluation.statistics import mean_interval
from wmplay.runs.disk.metrics_file import read_metrics

# of overrides that change nothing that is learned
OWN = ("seed=", "dir=", "run=", "report=", "threads=", "evaluate.every=")
COUNTS = ("real_steps", "updates")
Row = dict[str, Any]


def measured(path: Path) -> Row:
    """Return what a run says: its command without its seed, and the scores of all its evaluations.

    A score is [mean, low, high] over the episodes: the success where the task has one, else the return.
    """
    run = json.loads((path / "run.json").read_text())
    command = [text for text in run["overrides"] if not text.startswith(OWN)]
    scores, floor = [], None
    for line in read_metrics(path / "metrics.jsonl").sound:
        found = {}
        for policy in ("policy", "policy_sampled", "random"):
            name = next((n for n in ("success", "return") if f"{policy}/{n}" in line), None)
            if name is not None:
                numbers = [line[f"{policy}/{name}{end}"] for end in ("", "_low", "_high")]
                found[policy] = [round(x, 3) for x in numbers]
        floor = found.pop("random", floor)
        if found:
            counts = {"updates": line["step"], "imagined": line["learned_steps"]}
            scores.append({"real_steps": line["real_steps"], **counts, **found})
    seconds = round(sum(run["wall"].values()))
    row = {"command": " ".join(command), "seed": run["seed"], "commit": run["git"], "seconds": seconds}
    return {**row, "scores": scores, "random": floor}


def table(rows: list[Row]) -> str:
    """Return Markdown: for each command and number of real steps, the mean of every seed, and their mean."""
    groups: dict[tuple[str, int], dict[int, Row]] = defaultdict(dict)
    for row in rows:
        for score in row["scores"]:  # real steps differ a little where episodes do, updates do not
            groups[row["command"], score["updates"] or score["real_steps"]][row["seed"]] = score
    lines = [
        "| `wmplay train ...` | real steps | updates | seeds | mean [95% t interval over seeds] |",
        "|---|---|---|---|---|",
    ]
    for (command, _), scores in sorted(groups.items()):
        means = np.array([scores[seed]["policy"][0] for seed in sorted(scores)])
        mean, low, high = mean_interval(means)
        each = " / ".join(f"{shown(scores[seed]['policy'][0])} ({seed})" for seed in sorted(scores))
        interval = f"{shown(mean)} [{shown(low)}, {shown(high)}]" if len(means) > 1 else ""
        steps = [round(np.mean([score[name] for score in scores.values()])) for name in COUNTS]
        lines.append(f"| `{command}` | {steps[0]:,} | {steps[1]:,} | {each} | {interval} |")
    return "\n".join(lines)


def shown(number: float) -> str:
    """Return a number with two decimals if it is small, else with none."""
    return f"{number:.2f}" if abs(number) < 10 else f"{number:,.0f}"


def keep(measured: Callable[[Path], Row], table: Callable[[list[Row]], str], about: str | None) -> None:
    """Add the runs of the command line to its file, in place of those of their seed, and print the table.

    Args:
        measured: Row of a run's directory, with its ``command`` and ``seed``.
        table: Markdown of all rows.
        about: text of ``--help``.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("runs", type=Path, nargs="*")
    given = parser.parse_args()
    rows: list[Row] = json.loads(given.file.read_text()) if given.file.exists() else []
    new = [measured(path) for path in given.runs]
    replaced = {(row["command"], row["seed"]) for row in new}
    rows = [row for row in rows if (row["command"], row["seed"]) not in replaced] + new
    rows.sort(key=lambda row: (row["command"], row["seed"]))
    if new:
        lines = ",\n".join(json.dumps(row) for row in rows)
        given.file.write_text(f"[\n{lines}\n]\n")
    print(table(rows))


if __name__ == "__main__":
    keep(measured, table, __doc__)
