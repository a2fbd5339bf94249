"""Shows how much of a small world runs have seen, next to random actions for as many steps.

    python scripts/explored.py docs/measured/explored.json RUN ...  adds runs, in place of those of their seed
    python scripts/explored.py docs/measured/explored.json          the table alone

RUN, finished or not, is of ``experiment=plan2explore`` (DeepSea) or ``experiment=plan2explore_rooms``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from seeds import Row, keep

import wmplay
from wmplay.contracts import Trajectory
from wmplay.envs.exact.deep_sea import DeepSea
from wmplay.envs.exact.two_rooms import TwoRooms
from wmplay.evaluation.statistics import mean_interval
from wmplay.runs.disk.metrics_file import read_metrics
from wmplay.store import load_trajectories

CELLS: dict[type, Callable[[Any], int]] = {
    DeepSea: lambda world: world.size * (world.size + 1) // 2,
    TwoRooms: lambda world: len(world.cells),
}
RANDOM = 50  # random runs of as many episodes


def seen(episodes: Iterable[Trajectory]) -> tuple[int, int | None]:
    """Return the number of different screens, and that of the first episode with a treasure, from 1."""
    screens, first = set[bytes](), None
    for number, episode in enumerate(episodes, 1):
        screens |= {frame.tobytes() for frame in episode.observation["screen"]}
        if first is None and episode.reward.sum() > 0.5:
            first = number
    return len(screens), first


def by_chance(config: dict[str, Any], lengths: list[int]) -> float:
    """Return the mean number of screens that random actions show in episodes of at most these lengths."""
    found = []
    with closing(wmplay.make_env(**config)) as env:
        for seed in range(RANDOM):
            episodes = wmplay.simulate(env, None, len(lengths), seed=seed)
            cut = [each.steps(0, min(len(each), n)) for each, n in zip(episodes, lengths, strict=True)]
            found.append(seen(cut)[0])
    return float(np.mean(found))


def measured(path: Path) -> Row:
    """Return what a run saw."""
    run, about = wmplay.load_run(path), json.loads((path / "run.json").read_text())
    episodes = list(load_trajectories(path / "trajectories"))
    cells, first = seen(episodes)
    with closing(run.env) as env:
        world = env.unwrapped
        config = {k: v for k, v in run.config.env.items() if k not in ("_piece_", "data", "other_world")}
        name = str(run.config.env["_piece_"]).split("/")[-1]
        random = by_chance({"name": name, **config}, [len(each) for each in episodes])
        every = CELLS[type(world)](world)
    lines = read_metrics(path / "metrics.jsonl").sound
    goals = [
        {who: [line[f"{who}/success{end}"] for end in ("", "_low", "_high")] for who in ("policy", "random")}
        for line in lines
        if "policy/success" in line
    ]
    own = ("seed=", "dir=", "run=", "report=", "threads=")
    return {
        "command": " ".join(text for text in about["overrides"] if not text.startswith(own)),
        "seed": about["seed"],
        "commit": about["git"],
        "episodes": len(episodes),
        "steps": sum(map(len, episodes)),
        "cells": cells,
        "of": every,
        "random_cells": round(random, 1),
        "treasure": first or "none" if isinstance(world, DeepSea) else None,
        "goals": goals[-1] if goals else None,
    }


def table(rows: list[Row]) -> str:
    """Return Markdown: one line for each run, and the mean part of the cells over seeds of equal steps."""
    lines = [
        "| `wmplay train ...` | seed | episodes (steps) | cells, at random | treasure | goals, at random |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            f"`{row['command']}`",
            str(row["seed"]),
            f"{row['episodes']} ({row['steps']:,})",
            f"{row['cells']} of {row['of']}, {row['random_cells']:.0f}",
            "" if row["treasure"] is None else f"episode {row['treasure']}",
            ""
            if row["goals"] is None
            else f"{_shown(row['goals']['policy'])}, {_shown(row['goals']['random'])}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    for command in sorted({row["command"] for row in rows}):
        own = [row for row in rows if row["command"] == command]
        if len(own) > 1 and len({row["steps"] for row in own}) == 1:
            mean, low, high = (
                100 * x for x in mean_interval(np.array([row["cells"] / row["of"] for row in own]))
            )
            lines.append(f"| `{command}` | all {len(own)} | | {mean:.0f}% [{low:.0f}, {high:.0f}] | | |")
    return "\n".join(lines)


def _shown(success: list[float]) -> str:
    mean, low, high = (100 * x for x in success)
    return f"{mean:.0f}% [{low:.0f}, {high:.0f}]"


if __name__ == "__main__":
    keep(measured, table, __doc__)
