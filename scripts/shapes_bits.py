"""Compares a run of ``wmplay train experiment=shapes`` with the exact optimum of 3 bits per video.

    python scripts/shapes_bits.py runs/shapes/<run> [--draws 64]
    python scripts/shapes_bits.py runs/shapes/<run> --steps 1 4      futures in one step, and in four

Every video of Shapes16 is enumerated: all 8 directions from all places. Printed are the futures that the
model draws from first frames: the part within an IoU of .9 of one of the eight true ones, and the p value of
a chi-square test that the eight are equally frequent; and, of a model with a likelihood, its bits per video:
of ``sv2p`` the evidence bound with the posterior, which sees the video, and the estimate by draws from the
prior, which does not. Fewer than 3 bits are an error: no model can have them.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

import numpy as np
import torch
from scipy.stats import chisquare
from torch import Tensor

import wmplay
from wmplay import registry
from wmplay.contracts import Segment, capabilities, env_spec
from wmplay.envs.exact.shapes16 import DIRECTIONS, SIDE, SIZE, STEPS, Shapes16
from wmplay.models.video.sv2p import SV2P
from wmplay.system.device import seed_draws

FUTURES = 64  # drawn from each of a few first frames
NEAR = 0.9  # IoU


def videos() -> Tensor:
    """Return all videos [N, 8, STEPS + 1, H, W] uint8 by place and direction."""
    world, places = Shapes16(), range(STEPS, SIZE - SIDE - STEPS + 1)
    state = np.array([(i, j, k) for i in places for j in places for k in range(len(DIRECTIONS))], float)
    frames = [world.observe(state)["screen"]]
    for _ in range(STEPS):
        state = world.advance(state, np.zeros((len(state), 1)), [])[0]
        frames.append(world.observe(state)["screen"])
    stacked = torch.from_numpy(np.stack(frames, 1))
    return stacked.reshape(-1, len(DIRECTIONS), STEPS + 1, SIZE, SIZE)


def segment(screen: Tensor) -> Segment:
    """Return videos [B, T + 1, H, W] as a segment."""
    rows, steps = len(screen), screen.shape[1] - 1
    nothing = torch.zeros(rows, steps, dtype=torch.bool)
    return Segment({"screen": screen}, torch.zeros(rows, steps, 1), nothing.float(), nothing, ~nothing)


@torch.no_grad()
def bits(model: SV2P, every: Tensor, draws: int) -> tuple[float, float]:
    """Return the bits per video by the evidence bound, and by draws from the prior."""
    whole = segment(every.flatten(0, 1))
    model.draws = draws
    seed_draws(0)
    metrics = model.loss(whole)[1]
    bound = STEPS * float(metrics["loss/screen"] + metrics["loss/kl"])
    return bound / math.log(2), float(model.surprise(whole).nats.sum(1).mean()) / math.log(2)


@torch.no_grad()
def drawn(model: Any, every: Tensor) -> tuple[float, float]:
    """Return the part of drawn futures that is near a true one, and the p value of equal frequencies."""
    near, counts = [], np.zeros(len(DIRECTIONS))
    generator = torch.Generator().manual_seed(0)
    for video in every[:: len(every) // 5]:
        first = video[:1, 0].expand(FUTURES, -1, -1)
        belief = model.initial({"screen": first})
        future = model.predict(belief, torch.zeros(FUTURES, STEPS, 1), generator=generator)
        lit = future.observation["screen"].unsqueeze(1) > 0.5
        true = video[:, 1:] > 0
        overlap = (lit & true).sum((-1, -2)) / (lit | true).sum((-1, -2)).clamp(min=1)
        best = overlap.mean(-1).max(1)
        near += (best.values > NEAR).tolist()
        counts += np.bincount(best.indices, minlength=len(counts))
    return float(np.mean(near)), float(chisquare(counts).pvalue)


def main() -> None:
    """Print the numbers of a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--draws", type=int, default=64)
    parser.add_argument("--steps", type=int, nargs="+", help="of a draw, of diamond and shortcut")
    given = parser.parse_args()
    run, every = wmplay.load_run(given.run), videos()
    model: Any = run.model.eval()
    for steps in given.steps or [None]:
        if steps is not None:
            model = registry.build({**run.config["model"], "steps": steps}, env=env_spec(run.env)).eval()
            model.load_state_dict(run.model.state_dict())
        part, p_value = drawn(model, every)
        print(f"{part:.1%} of {FUTURES} futures within an IoU of {NEAR} of a true one, p = {p_value:.3f}")
    if isinstance(model, SV2P):
        bound, estimate = bits(model, every, given.draws)
        print(
            f"evidence bound {bound:.2f} bits, {given.draws} draws from the prior {estimate:.2f} bits, best 3"
        )
    elif capabilities(model).surprise is not None:
        seed_draws(0)
        found = model.surprise(segment(every.flatten(0, 1)))
        bound = float(found.nats.sum(1).mean()) / math.log(2)
        print(f"{bound:.2f} bits, {found.kind}, best 3")
    else:
        return
    if bound < Shapes16.best_bits():
        sys.exit("that is below the optimum: the model sees what it predicts")


if __name__ == "__main__":
    main()
