"""Tests the five claims of "Models, Pixels, and Rewards" (Babaeizadeh et al. 2020, arXiv 2012.04603) again.

    nice python scripts/five_families.py runs/families --world catch --seeds 0 1 2 3 4
    nice python scripts/five_families.py runs/families --world catch --table

Five models with as many weights (within a tenth of each other in each world) and one planner: R predicts
rewards alone, OT predicts pixels and LT latents, of which the reward is read from the frames (OR) or from
within (LR). They see the screen alone. Online, each fits to what it collected itself; offline, all fit to the
same random episodes, with as many steps and updates. A stopped run goes on. Claims are decided by paired
differences over seeds, of which less than five decide nothing.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import wmplay
from wmplay.evaluation.files import load_evaluation
from wmplay.evaluation.statistics import Interval, mean_interval, rank_correlation

MODES, ENOUGH = ("online", "offline"), 5  # seeds
SHARED = [
    *("threads=1", "report=false", "fit.batch_size=32"),
    *("evaluate.prediction.episodes=128", "evaluate.generation.clips=0"),
]
WORLDS = {
    "catch": [
        *("env=catch", "fit.length=9", "evaluate.prediction.context=2", "evaluate.prediction.horizon=7"),
        *("objective=discounted_return", "objective.gamma=1.0", "explorer=epsilon_greedy"),
        *("planner.horizon=9", "planner.hold=1", "planner.candidates=32", "evaluate.policy.episodes=100"),
    ],
    "pendulum_screen": [
        *("env=pendulum_screen", "evaluate.prediction.context=3", "evaluate.prediction.horizon=12"),
        *("planner.candidates=32", "evaluate.policy.episodes=8"),
    ],
    "luxo": [
        *("env=luxo", "env.task=body_goal", "evaluate.prediction.context=3"),
        *("evaluate.prediction.horizon=12", "planner.candidates=32", "evaluate.policy.episodes=64"),
    ],
}
ONLINE = {  # a random beginning, and as many steps offline
    "catch": (20, 8, 20, 110),
    "pendulum_screen": (8, 4, 4, 200),
    "luxo": (32, 4, 16, 200),
}
SPREAD = {"catch": 1.6, "pendulum_screen": 1000.0, "luxo": 100.0}  # from random actions to the optimum
LITTLE = 0.1  # part of the spread that counts as no difference


def state_space(deter: int, hidden: int, image_hidden: int, goals: bool, *more: str) -> list[str]:
    """Return an rssm of these sizes that sees the screen alone."""
    sizes = {"deter": deter, "stoch": 16, "hidden": hidden, "image_hidden": image_hidden}
    screen = ["model.keys=[lcd]", "model.goals=true"] if goals else []
    return ["model=rssm", *(f"model.{name}={size}" for name, size in sizes.items()), *screen, *more]


FRAMES = "model.reward_from=frames"
ARMS = {  # {world: {family: overrides}}
    "catch": {
        "R": ["model=reward_only", "model.sizes=[96,64,32]"],
        "OT-OR": ["model=sv2p", FRAMES],
        "OT-LR": ["model=sv2p", "model.hidden=96"],
        "LT-OR": state_space(48, 64, 64, False, FRAMES),
        "LT-LR": state_space(64, 64, 64, False),
    },
    "pendulum_screen": {
        "R": ["model=reward_only", "model.sizes=[128,64,32]"],
        "OT-OR": ["model=sv2p", FRAMES],
        "OT-LR": ["model=sv2p"],
        "LT-OR": state_space(64, 64, 64, False, FRAMES),
        "LT-LR": state_space(64, 96, 64, False),
    },
    "luxo": {
        "R": ["model=reward_only", "model.keys=[lcd]", "model.sizes=[112,96,64]"],
        "OT-OR": ["model=sv2p", FRAMES],
        "OT-LR": ["model=sv2p"],
        "LT-OR": state_space(96, 64, 64, True, FRAMES),
        "LT-LR": state_space(96, 96, 64, True),
    },
}


def command(world: str, mode: str, arm: str, seed: int) -> list[str]:
    """Return the overrides of a run."""
    start, turns, each, updates = ONLINE[world]
    if mode == "online":
        turned = f"iterations={turns} collect.random_episodes={start} collect.episodes={each}"
        steps = f"collect.num_envs={each} fit.steps={updates} evaluate.every={turns}"
    else:
        turned = f"iterations=1 collect.random_episodes={start + turns * each}"
        steps = f"fit.steps={turns * updates}"
    return [*SHARED, *WORLDS[world], *ARMS[world][arm], *turned.split(), *steps.split(), f"seed={seed}"]


def place(folder: Path, world: str, mode: str, arm: str, seed: int) -> Path:
    """Return the directory of a run."""
    return folder / world / mode / f"{arm}-{seed}"


def train(path: Path, overrides: list[str]) -> None:
    """Train a run, or go on; leave a finished one as it is."""
    if not (path / "run.json").exists():
        wmplay.train(overrides, dir=path)
    elif json.loads((path / "run.json").read_text()).get("status") != "finished":
        wmplay.train([f"run={path}"])


class Results:
    """The numbers of the finished runs of a world, by (mode, family, seed)."""

    def __init__(self, folder: Path, world: str, seeds: list[int]) -> None:
        self.world, self.numbers = world, dict[tuple[str, str, int], dict[str, float]]()
        for mode, arm, seed in itertools.product(MODES, ARMS[world], seeds):
            evaluation = load_evaluation(place(folder, world, mode, arm, seed))
            if evaluation is not None and evaluation.policies and evaluation.rewards:
                found = {
                    name: 100 * score.success.value if score.success else score.mean_return.value
                    for name, score in evaluation.policies.items()
                }
                found["score"] = found.pop("policy")
                found["rewards"] = evaluation.rewards.row()["error"]
                found["constant"] = float(np.mean(evaluation.rewards.curves["constant"].mean))
                keys = evaluation.prediction.keys if evaluation.prediction else {}
                for key in keys.values():
                    found["image"] = 1 - float(np.mean(key.curves["model"].mean))
                self.numbers[mode, arm, seed] = found

    def seeds(self, mode: str, arm: str) -> list[int]:
        """Return the finished seeds of a family."""
        return [seed for m, a, seed in self.numbers if (m, a) == (mode, arm)]

    def means(self, mode: str, arms: list[str]) -> dict[int, float]:
        """Return {seed: mean score} over some families that have all finished."""
        common = set.intersection(*(set(self.seeds(mode, arm)) for arm in arms))
        return {s: float(np.mean([self.numbers[mode, a, s]["score"] for a in arms])) for s in sorted(common)}

    def difference(self, mode: str, ours: list[str], theirs: list[str]) -> tuple[int, Interval]:
        """Return the seeds and the paired difference of the mean scores of two sets of families."""
        one, two = self.means(mode, ours), self.means(mode, theirs)
        pairs = [one[seed] - two[seed] for seed in one if seed in two]
        return len(pairs), mean_interval(np.array(pairs))

    def correlation(self, error: str, modes: tuple[str, ...]) -> tuple[int, Interval]:
        """Return the seeds and the rank correlation of an error with the score, over runs."""
        runs = [key for key, x in self.numbers.items() if key[0] in modes and error in x]
        x, y = (np.array([self.numbers[key][name] for key in runs]) for name in (error, "score"))
        seeds = [str(seed) for _, _, seed in runs]
        return len(set(seeds)), rank_correlation(x, y, seeds)

    def table(self) -> str:
        """Return all means over seeds as Markdown."""
        lines = ["| family | mode | seeds | score | image error | reward error (constant's) | random |"]
        lines.append("|---|---|---|---|---|---|---|")
        for mode, arm in itertools.product(MODES, ARMS[self.world]):
            found = [self.numbers[mode, arm, seed] for seed in self.seeds(mode, arm)]
            if found:
                mean = {name: np.mean([each[name] for each in found]) for name in found[0]}
                image = f"{mean['image']:.3f}" if "image" in mean else "none"
                rewards = f"{mean['rewards']:.3f} ({mean['constant']:.3f})"
                score = f"{mean['score']:.2f} | {image} | {rewards} | {mean['random']:.2f}"
                lines.append(f"| {arm} | {mode} | {len(found)} | {score} |")
        return "\n".join(lines)

    def claims(self) -> Iterator[str]:
        """Yield a line for each of the paper's claims."""
        little = LITTLE * SPREAD[self.world]
        pixels, latents = ["OT-OR", "OT-LR"], ["LT-OR", "LT-LR"]
        n, gain = self.difference("online", pixels + latents, ["R"])
        yield _line("images beat rewards alone, online", n, gain, gain.low > 0, gain.high < 0)
        n, gap = self.difference("online", pixels, latents)
        within, beyond = max(-gap.low, gap.high) < little, min(abs(gap.low), abs(gap.high)) > little
        yield _line("pixels or latents: little difference", n, gap, within, beyond and gap.low * gap.high > 0)
        n, image = self.correlation("image", MODES)
        _, reward = self.correlation("rewards", MODES)
        stronger, weaker = image.high < reward.low, image.low > reward.high
        yield _line("the image's error tells the score better than the reward's", n, image, stronger, weaker)
        n, worst = self.difference("offline", ["R"], pixels + latents)
        close = max(-worst.low, worst.high) < little
        yield _line("on the same data the weaker match the best", n, worst, close, worst.high < -little)
        n, fit = self.correlation("rewards", ("offline",))
        yield _line("offline, a better fit is a better score", n, fit, fit.high < 0, fit.low > 0)


def _line(claim: str, seeds: int, found: Interval, holds: bool, fails: bool) -> str:
    """Return a claim with its verdict."""
    verdict = "holds" if holds else "does not hold" if fails else "cannot tell here"
    if seeds < ENOUGH:
        verdict = "cannot tell here"
    return f"- {claim}: {verdict} ({found.value:.2f} [{found.low:.2f}, {found.high:.2f}], {seeds} seeds)"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--world", choices=WORLDS, default="catch")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--families", nargs="+", default=["R", "OT-OR", "OT-LR", "LT-OR", "LT-LR"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--table", action="store_true", help="train nothing")
    given = parser.parse_args()
    for seed, mode, arm in itertools.product(given.seeds, given.modes, given.families):
        if not given.table:
            train(place(given.folder, given.world, mode, arm, seed), command(given.world, mode, arm, seed))
    results = Results(given.folder, given.world, given.seeds)
    print(results.table())
    print("\n".join(results.claims()))


if __name__ == "__main__":
    main()
