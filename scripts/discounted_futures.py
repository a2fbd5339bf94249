"""Compares a run's gamma-model with exact numbers, under the random policy that its data is of.

python scripts/discounted_futures.py RUN      of env=ring: occupancies; of Pendulum-v1: values
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import wmplay
from wmplay.envs.exact.ring import Ring, occupancy
from wmplay.models.gamma import GammaModel
from wmplay.nets.actions import random_actions
from wmplay.nets.trees import repeat_rows

STATES, FUTURES, DRAWS, LAST = 64, 200, 4000, 0.002  # the discount after which rollouts stop


def ring(model: GammaModel, world: Ring) -> None:
    """Print the total variation between q(. | s, a) and the exact future, for all states and actions."""
    size = world.size
    screens = torch.as_tensor(world.observe(np.arange(size, dtype=float)[:, None])["screen"])
    even = occupancy(world.transitions(np.full((size, 3), 1 / 3)), model.gamma)
    belief, found = model.initial({"screen": screens}), []
    for number in range(3):
        moves = world.transitions(np.eye(3)[np.full(size, number)])
        exact = (1 - model.gamma) * moves + model.gamma * moves @ even
        action = torch.full((size,), number)
        each = [model.likelihood(belief, action, s.expand(size, -1)).exp() for s in screens[:, 0].float()]
        q = torch.stack(each, 1).double().numpy()
        found.append(0.5 * (np.abs(q - exact).sum(1) + 1 - q.sum(1)))  # what is no state of the ring, too
    distance = np.array(found)
    print(
        f"total variation: mean {distance.mean():.4f}, largest {distance.max():.4f} ({distance.size} pairs)"
    )


def pendulum(model: GammaModel, env: Any) -> None:
    """Print how much of the variance of Monte Carlo values jumps and rollouts explain."""
    generator, numbers = torch.Generator().manual_seed(0), np.random.default_rng(0)
    (key,) = model.modalities
    episodes = wmplay.simulate(env, None, STATES, 1000, max_steps=50)
    times = numbers.integers(1, 49, STATES)
    before = [each.steps(time - 1, time) for each, time in zip(episodes, times, strict=True)]
    frames = torch.as_tensor(np.stack([each.observation[key] for each in before]))
    action = torch.as_tensor(np.stack([each.action for each in before]))
    belief = model.observe(model.initial({key: frames[:, 0]}), action, {key: frames[:, 1:]})

    horizon, rows = int(np.ceil(np.log(LAST) / np.log(model.gamma))), STATES * FUTURES
    discounts = model.gamma ** torch.arange(horizon)
    chosen = random_actions(env.action_space, (STATES,), generator)
    acted = random_actions(env.action_space, (rows, horizon), generator)
    acted[:, 0] = chosen.repeat_interleave(FUTURES, 0)
    state, total = env.unwrapped.simulator.states({key: frames[:, 1].numpy()}).repeat(FUTURES, 0), 0.0
    for step, discount in enumerate(discounts.tolist()):
        state, reward, _ = env.unwrapped.simulator.advance(state, acted[:, step].numpy(), [numbers] * rows)
        total = total + discount * reward
    truth = torch.as_tensor(total).reshape(STATES, FUTURES).mean(1)
    rolled = model.predict(repeat_rows(belief, FUTURES), acted, generator=generator).reward
    assert rolled is not None
    found = {
        "one jump": model.value(belief, chosen, DRAWS, generator),
        f"rollouts of {horizon} steps": (rolled * discounts).sum(1).reshape(STATES, FUTURES).mean(1),
    }
    for name, value in found.items():
        print(f"{name}: R2 {explained(truth, value):.3f}, mean {value.mean():.2f} of {truth.mean():.2f}")


def explained(truth: Tensor, value: Tensor) -> float:
    """Return 1 - mean squared error / variance."""
    return float(1 - (truth - value).square().mean() / truth.var(correction=0))


@torch.no_grad()
def main() -> None:
    """Compare what can be compared."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    run = wmplay.load_run(parser.parse_args().run)
    assert isinstance(run.model, GammaModel)
    if isinstance(run.env.unwrapped, Ring):
        ring(run.model, run.env.unwrapped)
    else:
        pendulum(run.model, run.env)


if __name__ == "__main__":
    main()
