"""Trains models in the worlds of violation of expectation, and prints what they notice as Markdown.

    nice python scripts/violation.py runs/violation                    all runs that are not yet finished
    nice python scripts/violation.py runs/violation --models rssm --worlds behind --seeds 0
    python scripts/violation.py runs/violation --table                 what the finished runs say
    python scripts/violation.py runs/violation --keep results.json     writes it, for --table to read

Each run is a directory <world>/<model>-<seed>, which `wmplay report` shows; a stopped one goes on. A run has
four turns of 150 random episodes and 150 updates, with an evaluation after each.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import wmplay
from wmplay.evaluation.statistics import wilson

TURNS, EPISODES, UPDATES, PAIRS = 4, 150, 150, 100
WORLDS = ("behind", "hidden_floor", "luxo")
LENGTH = 20  # steps of a fitted segment: a body is hidden for up to eight
MODELS = {
    "rssm": ["model=rssm"],
    "fbt": ["model=fbt", f"model.context={LENGTH}"],
    "fit": ["model=fit", f"model.context={LENGTH}"],
    "mlp": ["model=mlp"],
    "rssm, 10 steps": ["model=rssm", "fit.length=10"],
    "mlp, 16 frames": ["model=mlp", "model.frames=16"],
    "iris": ["model=iris", "model.context=8"],
    "delta_iris": ["model=delta_iris", f"model.context={LENGTH}"],
}
EVERYWHERE = [
    *("policy=random", "planner=null", "objective=null", "explorer=null", "threads=1", "report=false"),
    *(f"iterations={TURNS}", f"collect.random_episodes={EPISODES}", f"collect.episodes={EPISODES}"),
    *(f"fit.steps={UPDATES}", "fit.batch_size=24", f"fit.length={LENGTH}"),
    *("evaluate.policy.episodes=0", "evaluate.generation.clips=0", "evaluate.prediction.episodes=0"),
    f"evaluate.violation.pairs={PAIRS}",
]


def main() -> None:
    """Train what is missing, or print the table."""
    options = arguments()
    if options.table or options.keep:
        found = read(options.folder)
        if options.keep:
            options.keep.write_text(json.dumps(found, indent=1) + "\n")
        print(table(found))
        return
    for seed, world, model in itertools.product(options.seeds, options.worlds, options.models):
        train(
            options.folder / world / f"{model}-{seed}".replace(", ", "-").replace(" ", "-"),
            world,
            model,
            seed,
        )


def arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("folder", type=Path, help="of the runs, or a file that --keep wrote")
    add("--models", nargs="+", choices=MODELS, default=list(MODELS)[:4])
    add("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS))
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--table", action="store_true", help="print what finished runs say")
    add("--keep", type=Path, metavar="FILE", help="write that as JSON")
    return parser.parse_args()


def train(folder: Path, world: str, model: str, seed: int) -> None:
    """Train one run, or go on with it."""
    if (folder / "evaluation.json").exists() and len(evaluations(folder)) == TURNS:
        return
    if (folder / "run.json").exists():
        wmplay.train([f"run={folder}"])
    else:
        wmplay.train([f"env={world}", f"seed={seed}", *EVERYWHERE, *MODELS[model]], dir=folder)


def evaluations(folder: Path) -> list[dict[str, float]]:
    """Return {kind: accuracy in sets} after each turn of a run."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    prefix = "violation/"
    found = [{k.removeprefix(prefix): v for k, v in row.items() if k.startswith(prefix)} for row in rows]
    return [each for each in found if each]


def read(folder: Path) -> list[dict[str, Any]]:
    """Return what the finished runs in a folder, or the file of an earlier call, say."""
    if folder.is_file():
        return list(json.loads(folder.read_text()))
    found = []
    for path in sorted(folder.glob("*/*/evaluation.json")):
        name, _, seed = path.parent.name.rpartition("-")
        over_training = evaluations(path.parent)
        kinds = json.loads(path.read_text())["violation"]["kinds"]
        if len(over_training) < TURNS:
            continue
        last = {
            kind: {name: share[0] for name, share in each["sets"].items()}
            | {"pairs of the model": each["accuracy"]["model"][0], "sets": each["pairs"] // 2}
            for kind, each in kinds.items()
        }
        found.append(
            {
                "world": path.parent.parent.name,
                "model": name,
                "seed": int(seed),
                "over_training": over_training,
                "last": last,
            }
        )
    return found


def table(found: list[dict[str, Any]]) -> str:
    """Return for each world the accuracies in sets as Markdown: over training, then pooled over seeds."""
    lines = []
    for world in dict.fromkeys(run["world"] for run in found):
        here = [run for run in found if run["world"] == world]
        models = list(dict.fromkeys(run["model"] for run in here))
        seeds = {model: sum(run["model"] == model for run in here) for model in models}
        heads = [f"{model} ({seeds[model]})" for model in models]
        lines += [f"| {world} | {' | '.join(heads)} |", f"|{'---|' * (len(heads) + 1)}"]
        for kind in here[0]["last"]:
            cells = [_cell([run for run in here if run["model"] == model], kind) for model in models]
            lines.append(f"| `{kind}` | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(runs: list[dict[str, Any]], kind: str) -> str:
    """Return means over seeds after each turn, and the pooled Wilson interval of the last."""
    course = [
        sum(run["over_training"][turn][kind] for run in runs) / len(runs) * 100 for turn in range(TURNS)
    ]
    sets = sum(run["last"][kind]["sets"] for run in runs)
    low, high = wilson(round(course[-1] / 100 * sets), sets)
    earlier = ", ".join(f"{value:.0f}" for value in course[:-1])
    return f"{earlier}, **{course[-1]:.0f}%** [{100 * low:.0f}, {100 * high:.0f}]"


if __name__ == "__main__":
    main()
