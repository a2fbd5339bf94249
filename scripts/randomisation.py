"""Does a policy that practised in a model's own uncertainty transfer to worlds that it has not seen?

    nice python scripts/randomisation.py runs/randomisation                  all runs that are not yet done
    nice python scripts/randomisation.py runs/randomisation --seeds 0 1 --arms plain temperature
    nice python scripts/randomisation.py --table                                 what is known, as Markdown

Luxo's body goal: one model of 600 random episodes, 300,000 steps of practice, and 60 episodes at each of
five gravities inside and outside of 5 to 15 m/s^2. Each run adds a line to
scripts/results/randomisation.jsonl, and one that is there is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

import wmplay
from wmplay.evaluation.statistics import mean_interval

RESULTS = Path(__file__).parent / "results" / "randomisation.jsonl"
GRAVITIES = [2, 5, 9.81, 15, 25]  # m/s^2
INSIDE = (5, 15)
STEPS = 300_000  # of practice
SHARED = [
    *(
        *("experiment=luxo_learned", "env.physics=fast", "iterations=1", "evaluate.every=1"),
        *("collect.random_episodes=600", "collect.episodes=0", f"improve.steps={STEPS}", "report=false"),
    ),
    *("collect.num_workers=0", "evaluate.prediction.episodes=0", "evaluate.generation.clips=0"),
    *("evaluate.policy.episodes=60", f"evaluate.factors.gravity={GRAVITIES}".replace(" ", "")),
]
RANDOMISED = "{gravity:[5,15]}"
REAL = ["model=null", "collect.random_episodes=0", "fit.steps=0", "improve.world=real"]
ARMS = {
    "plain": ["learned.temperature=0"],
    "temperature": ["learned.temperature=1"],
    "hot": ["learned.temperature=2"],
    "ensemble": ["model=ensemble", "model.members=3", "model.settings.frames=2", "learned.temperature=1"],
    "factors": [f"env.factors={RANDOMISED}", "learned.temperature=1"],
    "real": [*REAL],
    "real, factors": [*REAL, f"env.factors={RANDOMISED}"],
}
MEANING = {
    "plain": "in the model's most likely future",
    "temperature": "in the model's sampled futures",
    "hot": "the same at temperature 2",
    "ensemble": "in sampled futures of three models",
    "factors": "in sampled futures of a model of worlds of 5 to 15 m/s^2",
    "real": "in the real world of 9.81 m/s^2",
    "real, factors": "in real worlds of 5 to 15 m/s^2",
}


def train(folder: Path, arm: str, seed: int) -> None:
    """Train one arm and add its success by gravity to the results."""
    if any(line["arm"] == arm and line["seed"] == seed for line in known()):
        return
    path = folder / f"{arm.replace(', ', '_')}-{seed}"
    if (path / "run.json").exists():
        wmplay.train([f"run={path}"])
    else:
        wmplay.train([*SHARED, *ARMS[arm], f"seed={seed}"], dir=path)
    sweep = json.loads((path / "evaluation.json").read_text())["factors"]["sweeps"]["gravity"]
    success = {who: curve["mean"] for who, curve in sweep["policies"].items()}
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a") as file:
        file.write(json.dumps({"arm": arm, "seed": seed, "steps": STEPS, **success}) + "\n")


def known() -> list[dict[str, Any]]:
    """Return the results so far, one for each arm and seed."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def table() -> str:
    """Return the success by arm and gravity as a Markdown table: means over seeds with t intervals."""
    results, lines = known(), []
    heads = ["practice", "seeds", *(f"{gravity:g}" for gravity in GRAVITIES), "inside", "outside"]
    lines += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    inside = np.array([INSIDE[0] <= gravity <= INSIDE[1] for gravity in GRAVITIES])
    rows = {arm: [line["policy"] for line in results if line["arm"] == arm] for arm in ARMS}
    rows["random"] = [line["random"] for line in results if line["arm"] == "plain"]
    for arm, found in rows.items():
        if found:
            values = np.array(found)  # [seeds, gravities]
            each = [f"{mean:.2f}" for mean in values.mean(0)]
            ends = [_shown(values[:, which].mean(1)) for which in (inside, ~inside)]
            lines.append(
                f"| {MEANING.get(arm, 'random actions')} | {len(values)} | {' | '.join([*each, *ends])} |"
            )
    return "\n".join(lines)


def _shown(values: Any) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Train the arms that were asked for, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs/randomisation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=range(5))
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if not options.table:
        for seed, arm in itertools.product(options.seeds, options.arms):
            train(options.folder, arm, seed)
    print(table())


if __name__ == "__main__":
    main()
