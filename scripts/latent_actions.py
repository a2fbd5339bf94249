"""Measures what the codes of a run of ``model=latent_action`` know of actions that they were never told.

    wmplay train experiment=simulators env=two_rooms model=latent_action evaluate.arbiter.clips=0
    python scripts/latent_actions.py RUN

Prints, over episodes of random actions that the run has not seen: the information between code and action;
the same between move and action; both where no wall stops a move; and the error of predicted screens with the
codes of the steps, and with random codes. A code that also tells where the walker stands knows more than the
move: which walls may have stopped it.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import wmplay
from wmplay.models.latent_action import LatentAction
from wmplay.simulation import simulate
from wmplay.store import save_trajectories
from wmplay.system.arrays import Array

EPISODES, LENGTH, SEED = 256, 16, 10_007


def information(one: Array, other: Array) -> float:
    """Return the mutual information of two lists of whole numbers, in bits, from their frequencies."""
    joint = np.histogram2d(one, other, bins=(np.arange(one.max() + 2), np.arange(other.max() + 2)))[0]
    joint = joint / joint.sum()
    apart = joint.sum(1, keepdims=True) * joint.sum(0)
    seen = joint > 0
    return float((joint[seen] * np.log2(joint[seen] / apart[seen])).sum())


@torch.no_grad()
def main() -> None:
    """Print the numbers of a run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    run = wmplay.load_run(parser.parse_args().run)
    model: Any = run.model.eval()
    if not isinstance(model, LatentAction):
        raise SystemExit(
            f"{type(model).__name__} has no latent actions, expected a run of model=latent_action"
        )
    with tempfile.TemporaryDirectory() as folder:
        env = wmplay.make_env("two_rooms")
        segment = save_trajectories(simulate(env, None, EPISODES, SEED), folder).sample(
            EPISODES, LENGTH, SEED
        )
    states = model.states(segment.observation)
    code, kept = model.code_of(states), segment.mask
    names, action = code.argmax(-1)[kept].numpy(), segment.action[kept].numpy()
    screens = states[..., : model.size]
    place = screens.argmax(-1)
    moved = (place[:, 1:] - place[:, :-1])[kept].numpy()
    effect = np.unique(moved, return_inverse=True)[1]
    free = moved != 0
    for what, which in (("all steps", np.ones_like(free)), ("where no wall stops a move", free)):
        known, most = (information(x[which], action[which]) for x in (names, effect))
        print(f"{what}: {known:.3f} bits of {most:.3f} that moves show, {known / most:.1%}")
    past, after = model.steps(replace(segment, action=code))
    own = model.screen_loss(past.pixels, after[:, : model.size].reshape(-1, *model.shape))
    drawn = torch.nn.functional.one_hot(torch.randint(model.codes, kept.shape), model.codes).float()
    past, _ = model.steps(replace(segment, action=drawn))
    other = model.screen_loss(past.pixels, after[:, : model.size].reshape(-1, *model.shape))
    flat = kept.flatten()
    print(f"nats per screen: own codes {own[flat].mean():.3f}, random codes {other[flat].mean():.3f}")


if __name__ == "__main__":
    main()
