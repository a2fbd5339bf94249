"""Shows whether bodies are still there after a long time, in futures that models predict of passive worlds.

    wmplay train env=bounce model=epva ...          (docs/results.md has the whole command)
    python scripts/long_futures.py RUN [RUN ...] [--keep docs/measured/long_futures.json]

Prints for each run, over episodes of its world that it has not seen: the part of the most likely frames in
which the bodies are whole (at least one connected blob, at most one for each body, and an area within 20% of
the episode's mean); the lit mass of the expected frames, as a part of the true mass; and the IoU of the most
likely frames with the true ones, next to that of the last frame seen. The intervals are over episodes.
``--keep`` adds the numbers to a file, by the name of the run's directory.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.ndimage import label

import wmplay
from wmplay.evaluation.statistics import mean_interval
from wmplay.system.arrays import Array

EPISODES, CONTEXT, STEPS, SEED = 64, 5, 200, 10_007
PARTS = (0, 10, 50, 100, STEPS)  # steps
NEAR = 0.2  # of the true area
BODIES = {"bounce": 1, "bounce2": 2, "object2": 2}


class Frames(NamedTuple):
    """Futures, and the frames around them."""

    last: Array  # [N, 1, H, W] bool: the last frame seen
    true: Array  # [N, T, H, W] bool
    expected: Array  # [N, T, H, W] within 0 and 1


@torch.no_grad()
def futures(run: str) -> tuple[str, Frames]:
    """Return the name of a run's world, and the most likely futures of episodes that the run has not seen."""
    loaded: Any = wmplay.load_run(run)
    world, model = str(loaded.config.env.world), loaded.model.eval()
    episodes = wmplay.simulate(wmplay.make_env(world, max_steps=CONTEXT - 1 + STEPS), None, EPISODES, SEED)
    screens = torch.as_tensor(np.stack([each.observation["lcd"] for each in episodes]))
    action = torch.as_tensor(np.stack([each.action for each in episodes]))
    belief = model.initial({"lcd": screens[:, 0]})
    seen = CONTEXT - 1
    belief = model.observe(belief, action[:, :seen], {"lcd": screens[:, 1:CONTEXT]})
    found = model.predict(belief, action[:, seen:]).observation["lcd"]
    return world, Frames(
        screens[:, seen:CONTEXT].numpy() > 0, screens[:, CONTEXT:].numpy() > 0, found.numpy()
    )


def whole(frames: Frames, bodies: int) -> Array:
    """Return whether the bodies are whole in each most likely frame, [N, T]."""
    found = frames.expected > 0.5
    blobs = np.array([[label(screen)[1] for screen in row] for row in found])
    usual = frames.true.sum((-1, -2)).mean(1, keepdims=True)
    same: Array = abs(found.sum((-1, -2)) - usual) <= NEAR * usual
    return same & (blobs >= 1) & (blobs <= bodies)


def overlap(found: Array, true: Array) -> Array:
    """Return the IoU [N, T] of screens."""
    shared: Array = (found & true).sum((-1, -2)) / (found | true).sum((-1, -2)).clip(1)
    return shared


def main() -> None:
    """Print the numbers of each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    kept = json.loads(given.keep.read_text()) if given.keep and given.keep.exists() else {}
    for run in given.run:
        found = kept[Path(run).name] = dict[str, list[float]]()
        world, frames = futures(run)
        print(f"{run}, {world}")
        numbers = {
            "whole": whole(frames, BODIES[world]).astype(float),
            "lit mass": frames.expected.sum((-1, -2)) / frames.true.sum((-1, -2)),
            "IoU": overlap(frames.expected > 0.5, frames.true),
            "IoU of the last frame": overlap(frames.last, frames.true),
        }
        for name, values in numbers.items():
            for first, end in [(0, STEPS), *pairwise(PARTS)]:
                mean, low, high = mean_interval(values[:, first:end].mean(1))
                what = f"{name}, steps {first + 1} to {end}"
                found[what] = [round(value, 4) for value in (mean, low, high)]
                print(f"  {what}: {mean:.3f} [{low:.3f}, {high:.3f}]")
    if given.keep:
        given.keep.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
