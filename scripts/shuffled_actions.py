"""Shows whether a run's model uses actions: its loss with actions of other episodes, over that with its own.

    python scripts/shuffled_actions.py RUN [RUN ...]

A ratio of 1 means that actions tell it nothing. Printed for each part of the loss, over batches of episodes
that the run has not seen; both losses of a batch have the same noise.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import wmplay
from wmplay.contracts import Segment, capabilities, seen_by
from wmplay.evaluation.statistics import mean_interval
from wmplay.simulation import simulate
from wmplay.store import save_trajectories
from wmplay.system.device import seed_draws

BATCHES, ROWS, LENGTH, SEED = 16, 64, 12, 10_007


def losses(model: Any, segment: Segment, seed: int) -> dict[str, float]:
    """Return each part of the loss, with the noise of a seed."""
    seed_draws(seed)
    return {name.removeprefix("loss/"): float(value) for name, value in model.loss(segment)[1].items()}


@torch.no_grad()
def main() -> None:
    """Print the ratios of each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+")
    for path in parser.parse_args().run:
        run = wmplay.load_run(path)
        model: Any = run.model.eval()
        length = max(LENGTH, capabilities(model).least_length)
        with tempfile.TemporaryDirectory() as folder:
            store = save_trajectories(simulate(run.env, None, BATCHES * ROWS // 4, SEED), folder)
            segments = [seen_by(model, store.sample(ROWS, length, SEED + n)) for n in range(BATCHES)]
        ratios: dict[str, list[float]] = {}
        for number, segment in enumerate(segments):
            shuffled = replace(segment, action=segment.action.roll(1, 0))  # rows are of drawn episodes
            own, others = (losses(model, each, SEED + number) for each in (segment, shuffled))
            for name, value in own.items():
                if value > 0:
                    ratios.setdefault(name, []).append(others[name] / value)
        print(path)
        for name, found in ratios.items():
            mean, low, high = mean_interval(np.array(found))
            print(f"  {name}: {mean:.3f} [{low:.3f}, {high:.3f}]")


if __name__ == "__main__":
    main()
