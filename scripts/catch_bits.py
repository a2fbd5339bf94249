"""Compares the bits per step of a run on Catch with the exact ones, with wind or without.

    wmplay train env=catch env.windy=true model=iris policy=random planner=null objective=null explorer=null
    python scripts/catch_bits.py RUN [--json FILE]

Wind moves the ball left, not, or right with probabilities 1/4, 1/2, 1/4: exactly 1.5 bits per step away
from walls, and .811 next to one. Without wind a step has none. Printed are the bits that a model of any kind
with a likelihood, or a bound of it, gives to the next screens of episodes that it has not seen, and next to
them the bits of the very same moves under the true probabilities.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import wmplay
from wmplay.contracts import capabilities
from wmplay.envs.exact.catch import WIND, Catch
from wmplay.simulation import simulate
from wmplay.store import save_trajectories
from wmplay.system.arrays import Array
from wmplay.system.device import seed_draws

EPISODES, SEED = 512, 10_007


def true_bits(ball: Array, columns: int) -> Array:
    """Return the bits [B, T] of the moves between a ball's columns [B, T + 1] in the wind."""
    blown = (ball[:, :-1, None] + np.arange(-1, 2)).clip(0, columns - 1)
    return -np.log2(((blown == ball[:, 1:, None]) * np.array(WIND)).sum(-1))


@torch.no_grad()
def main() -> None:
    """Print the bits of a run, and add them to a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--json", type=Path, help="file of results, to add this one to")
    given = parser.parse_args()
    run = wmplay.load_run(given.run)
    world, model = run.env.unwrapped, run.model.eval()
    surprise = capabilities(model).surprise
    if not isinstance(world, Catch) or surprise is None:
        raise SystemExit("expected a run on Catch of a model with a likelihood of screens")
    with tempfile.TemporaryDirectory() as folder:
        store = save_trajectories(simulate(run.env, None, EPISODES, SEED), folder)
        segment = store.sample(EPISODES, world.max_steps, SEED)
    seed_draws(0)
    answer = surprise(segment)
    bits = answer.nats[:, :-1].numpy() / math.log(2)  # in the last frame the paddle may hide the ball
    screen = segment.observation["screen"][:, :-1, :-1].flatten(2).numpy()
    ball = screen.argmax(-1) % world.columns
    true = true_bits(ball, world.columns) if world.windy else np.zeros(bits.shape)
    at_wall = (ball[:, :-1] == 0) | (ball[:, :-1] == world.columns - 1)
    found: dict[str, Any] = {
        "model": str(run.config.model["_piece_"]).split("/")[-1],
        "windy": world.windy,
        "seed": int(run.config.seed),
        "updates": int(run.config.fit.steps) * int(run.config.iterations),
        "kind": answer.kind,
    }
    for where, which in (("away from walls", ~at_wall), ("at walls", at_wall), ("all", at_wall | ~at_wall)):
        found[where] = [round(float(x[which].mean()), 4) for x in (bits, true)]
        print(f"{where}: {found[where][0]:.3f} bits per step ({answer.kind}), truly {found[where][1]:.3f}")
    if given.json:
        same = ("model", "windy", "seed", "updates")
        rows = json.loads(given.json.read_text()) if given.json.exists() else []
        rows = [row for row in rows if any(row[key] != found[key] for key in same)]
        rows = sorted([*rows, found], key=lambda row: [str(row[key]) for key in same])
        given.json.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
