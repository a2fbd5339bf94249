"""Shows where a model of video needs its latents: at the edge of Shapes16, where a direction is drawn.

    wmplay train experiment=shapes env.steps=20 model=svg fit.length=10
    python scripts/collisions.py RUN [RUN ...]

Prints for each run, over episodes it has not seen: the bits per frame (a bound, or exact without latents)
next to those of the true distribution; the KL of the latents in steps off the edge, where nothing is known of
the next direction, in the first step likewise, and in all others, where one direction alone is possible; and
the IoU over 4 steps of the best of 16 futures from shortly before the edge.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

import wmplay
from wmplay.contracts import Segment, capabilities
from wmplay.envs.exact.shapes16 import DIRECTIONS, Shapes16, stopped
from wmplay.evaluation.statistics import mean_interval
from wmplay.models.video.svg import SVG
from wmplay.nets.trees import repeat_rows
from wmplay.system.arrays import Array
from wmplay.system.device import seed_draws

EPISODES, STEPS, FUTURES, AHEAD, SEED = 256, 20, 16, 4, 10_007


def episodes() -> tuple[Segment, Tensor, float]:
    """Return episodes, which of their steps leave the edge [B, T], and the true bits per frame."""
    world = Shapes16(steps=STEPS)
    generators = [np.random.default_rng((SEED, row)) for row in range(EPISODES)]
    state = world.start(generators)
    frames, edge, bits = [world.observe(state)["screen"]], [], np.full(EPISODES, math.log2(len(DIRECTIONS)))
    for _ in range(STEPS):
        at_edge = stopped(state)
        edge.append(at_edge)
        every = np.repeat(state, len(DIRECTIONS), 0)
        every[:, 2] = np.tile(np.arange(len(DIRECTIONS)), EPISODES)
        ways = (~stopped(every)).reshape(EPISODES, -1).sum(1)
        bits += np.where(at_edge, np.log2(ways), 0)
        state = world.advance(state, np.zeros((EPISODES, 1)), generators)[0]
        frames.append(world.observe(state)["screen"])
    screen, nothing = torch.from_numpy(np.stack(frames, 1)), torch.zeros(EPISODES, STEPS, dtype=torch.bool)
    begun = torch.ones(EPISODES, dtype=torch.bool)
    action = torch.zeros(EPISODES, STEPS, 1)
    segment = Segment({"screen": screen}, action, nothing.float(), nothing, ~nothing, begun)
    return segment, torch.from_numpy(np.stack(edge, 1)), float(bits.mean() / STEPS)


@torch.no_grad()
def best_overlap(model: Any, segment: Segment, edge: Tensor) -> Array:
    """Return the IoU of each episode's best future from two steps before it first leaves the edge."""
    found, generator = np.full(EPISODES, np.nan), torch.Generator().manual_seed(SEED)
    times = torch.arange(STEPS)
    leaves = edge & (times >= 3) & (times <= STEPS - AHEAD + 1)
    starts = torch.where(leaves.any(1), leaves.int().argmax(1) - 2, 0)
    screen = segment.observation["screen"]
    for start in starts[starts > 0].unique().tolist():  # without those that never leave it
        rows = (starts == start).nonzero().flatten()
        seen, action = screen[rows], segment.action[rows]
        belief = model.initial({"screen": seen[:, 0]})
        belief = model.observe(belief, action[:, :start], {"screen": seen[:, 1 : start + 1]})
        many = repeat_rows(belief, FUTURES)
        future = model.predict(many, action.new_zeros(len(rows) * FUTURES, AHEAD, 1), generator=generator)
        lit = future.observation["screen"].unflatten(0, (len(rows), FUTURES)) > 0.5
        true = seen[:, None, start + 1 : start + 1 + AHEAD] > 0
        overlap = (lit & true).sum((-1, -2)) / (lit | true).sum((-1, -2))
        found[rows] = overlap.mean(-1).amax(1)
    return found[~np.isnan(found)]


def main() -> None:
    """Print the numbers of each run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="+")
    segment, edge, least = episodes()
    for run in parser.parse_args().run:
        model: Any = wmplay.load_run(run).model.eval()
        seed_draws(0)
        print(run)
        if capabilities(model).surprise is not None:
            found = model.surprise(segment)
            bits = shown(found.nats.mean(1).numpy() / math.log(2))
            print(f"  bits per frame {bits}, {found.kind}; of the true distribution {least:.3f}")
        if isinstance(model, SVG):
            with torch.no_grad():
                kl = model.along(segment).kl / math.log(2)
            first = torch.zeros_like(edge)
            first[:, 0] = True
            parts = {"off the edge": edge & ~first, "in the first step": first, "in others": ~edge & ~first}
            print(
                "  KL " + ", ".join(f"{name} {float(kl[at].mean()):.3f}" for name, at in parts.items()),
                "bits",
            )
        print(f"  IoU of the best of {FUTURES} futures {shown(best_overlap(model, segment, edge))}")


def shown(values: Array) -> str:
    """Return a mean with its interval."""
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
