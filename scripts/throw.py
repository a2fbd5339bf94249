"""Throws a ball into a goal through a learned simulator, and measures what its gradients are worth.

    nice python scripts/throw.py runs/throw        fits the simulator if there is none, and prints the tables
    nice python scripts/throw.py runs/throw --throws 8 --steps 20

A throw is a velocity. The goal is the place of the ball's centre some steps later; a throw hits it if the
real ball is then within its radius.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

import wmplay
from wmplay.contracts import Array
from wmplay.evaluation.statistics import success_rate

WIDTH, HEIGHT, RADIUS = 10.0, 5.0, 0.4  # m
START = (2.0, 2.0)  # m: from where the ball is thrown
FASTEST = 6.0  # m/s, in each direction
BALL = {
    "name": "ball",
    "circle": RADIUS,
    "restitution": 0.8,
    "friction": 0.0,
    "density": 0.1,
    "speed": [0, 8.5],
    "random_angle": False,
}
WORLD = {"width": WIDTH, "height": HEIGHT, "lcd_height": 4, "steps": 60, "objects": [BALL]}
ENV = {"world": WORLD, "full_state": True}
FIT = [
    *("env=lcd", f"env.world={WORLD}".replace("'", "").replace(": ", ":"), "env.full_state=true"),
    *(
        "model=mlp",
        "model.frames=2",
        "model.hidden=128",
        "model.image_hidden=16",
        "policy=random",
        "planner=null",
    ),
    *(
        "objective=null",
        "explorer=null",
        "collect.random_episodes=1000",
        "fit.steps=2000",
        "fit.batch_size=32",
    ),
    *("evaluate.policy.episodes=0", "evaluate.prediction.episodes=64", "threads=1", "report=false"),
]
SECONDS = 0.1  # of a step
ROUNDS, ELITES = 10, 0.2  # of the cross-entropy method

STARTS = 5  # of several climbs

Places: TypeAlias = Callable[[Tensor, int], Tensor]  # throws [B, 2], steps -> places [B, steps, 2]


class RealWorld:
    """The true world: places of the ball after throws."""

    def __init__(self) -> None:
        self.env: Any = wmplay.make_env("lcd", **ENV)
        self.rest = np.zeros(self.env.action_space.shape, np.float32)

    def __call__(self, throws: Tensor, steps: int) -> Tensor:
        """Return places [B, steps, 2] in m after throws [B, 2] in m/s."""
        return torch.tensor(np.array([self._one(throw, steps) for throw in throws.tolist()]))

    def frames(self, throw: list[float], steps: int) -> list[dict[str, Array]]:
        """Return the frames of a throw, the first before it moves."""
        state = [[*START, 0.0, *throw, 0.0]]
        first, _ = self.env.reset(seed=0, options={"state": np.array(state)})
        return [first, *(self.env.step(self.rest)[0] for _ in range(steps))]

    def _one(self, throw: list[float], steps: int) -> list[list[float]]:
        found = [frame["full_state"][:2] for frame in self.frames(throw, steps)[1:]]
        return [[(x + 1) / 2 * WIDTH, (y + 1) / 2 * HEIGHT] for x, y in np.array(found, np.float64).tolist()]


class LearnedWorld:
    """A learned simulator: places of the ball after throws, with gradients.

    The model is shown two frames. The second one is linear in the throw, since nothing is hit within a step.
    """

    def __init__(self, model: Any, real: RealWorld) -> None:
        self.model = model
        self.first, self.second = (self._tensors(frame) for frame in real.frames([0.0, 0.0], 1))
        self.rest = torch.from_numpy(real.rest)

    def __call__(self, throws: Tensor, steps: int) -> Tensor:
        """Return places [B, steps, 2] in m after throws [B, 2] in m/s; the first is that of the prompt."""
        moved = throws.float() * SECONDS * torch.tensor([2 / WIDTH, 2 / HEIGHT])
        shown = self.second["full_state"] + torch.cat([moved, torch.zeros_like(moved)], -1)
        first = {key: value.expand(len(throws), *value.shape[1:]) for key, value in self.first.items()}
        second = {
            key: value.expand(len(throws), *value.shape[1:])[:, None] for key, value in self.second.items()
        }
        rest = self.rest.expand(len(throws), steps, -1)
        belief = self.model.observe(
            self.model.initial(first), rest[:, :1], {**second, "full_state": shown[:, None]}
        )
        later = self.model.predict(belief, rest[:, 1:]).observation["full_state"]
        state = torch.cat([shown[:, None], later], 1)[..., :2].double()
        return (state + 1) / 2 * torch.tensor([WIDTH, HEIGHT])

    @staticmethod
    def _tensors(frame: dict[str, Array]) -> dict[str, Tensor]:
        return {key: torch.from_numpy(np.array(value))[None] for key, value in frame.items()}


def draw_throws(number: int, seed: int) -> Tensor:
    """Return random throws [B, 2]."""
    generator = torch.Generator().manual_seed(seed)
    return FASTEST * (2 * torch.rand(number, 2, generator=generator) - 1)


def by_gradient(places: Places, goals: Tensor, at: int, steps: int, seed: int, lr: float = 0.3) -> Tensor:
    """Return throws [B, 2] after some gradient steps (Adam) on the squared distance to goals [B, 2].

    Each goal has one start; the best throw on the way is kept.
    """
    throws = draw_throws(len(goals), seed).requires_grad_()
    optimizer = torch.optim.Adam([throws], lr)
    best, least = throws.detach().clone(), torch.full((len(goals),), torch.inf, dtype=torch.float64)
    for _ in range(steps):
        away = (places(throws, at)[:, -1] - goals).square().sum(-1)
        better = away.detach() < least
        best = torch.where(better[:, None], throws.detach(), best)
        least = torch.where(better, away.detach(), least)
        optimizer.zero_grad()
        away.sum().backward()
        optimizer.step()
        with torch.no_grad():
            throws.clamp_(-FASTEST, FASTEST)
    return best


@torch.no_grad()
def by_cem(places: Places, goals: Tensor, at: int, steps: int, seed: int) -> Tensor:
    """Return throws [B, 2] by the cross-entropy method, with as many model calls as gradient steps."""
    each, generator = max(2, steps // ROUNDS), torch.Generator().manual_seed(seed)
    mean, width = torch.zeros(len(goals), 1, 2), torch.full((len(goals), 1, 2), FASTEST / 2)
    best, least = torch.zeros(len(goals), 2), torch.full((len(goals),), torch.inf, dtype=torch.float64)
    for _ in range(max(1, steps // each)):
        drawn = mean + width * torch.randn(len(goals), each, 2, generator=generator)
        drawn = drawn.clamp(-FASTEST, FASTEST)
        ends = places(drawn.flatten(0, 1), at)[:, -1].reshape(len(goals), each, 2)
        away, order = (ends - goals[:, None]).square().sum(-1).sort(1)
        drawn = drawn.gather(1, order[..., None].expand_as(drawn))
        best = torch.where((away[:, 0] < least)[:, None], drawn[:, 0], best)
        least = least.minimum(away[:, 0])
        elite = drawn[:, : max(2, round(ELITES * each))]
        mean, width = elite.mean(1, keepdim=True), elite.std(1, keepdim=True) + 0.01
    return best


def by_several(places: Places, goals: Tensor, at: int, steps: int, seed: int) -> Tensor:
    """Return the best throws of several starts, with as many model calls together as ``by_gradient``."""
    repeated = goals.repeat_interleave(STARTS, 0)
    throws = by_gradient(places, repeated, at, max(1, steps // STARTS), seed)
    with torch.no_grad():
        away = (places(throws, at)[:, -1] - repeated).norm(dim=-1).reshape(-1, STARTS)
    return throws.reshape(-1, STARTS, 2)[torch.arange(len(goals)), away.argmin(1)]


METHODS = {"gradient": by_gradient, f"gradient, {STARTS} starts": by_several, "cem": by_cem}


def compare(model: Any, number: int, steps: int, seed: int = 0) -> list[dict[str, Any]]:
    """Return for two horizons and each method how many real throws hit, and how far they are."""
    real = RealWorld()
    rows = []
    for at in (10, 25):
        goals = real(draw_throws(number, seed + 1), at)[:, -1]
        for name, method in METHODS.items():
            learned, began = LearnedWorld(model, real), time.process_time()
            throws = method(learned, goals, at, steps, seed)
            spent = time.process_time() - began
            rows.append(scored(name, at, real(throws, at)[:, -1], goals, learned(throws, at)[:, -1]))
            rows[-1] |= {"calls": steps, "seconds": spent}
        random = real(draw_throws(number, seed), at)[:, -1]
        rows.append(scored("first throw", at, random, goals, goals) | {"calls": 0, "seconds": 0.0})
    return rows


def scored(name: str, at: int, ends: Tensor, goals: Tensor, expected: Tensor) -> dict[str, Any]:
    """Return the scores of throws that end at [B, 2]."""
    away = (ends - goals).norm(dim=-1)
    hit = success_rate(int((away < RADIUS).sum()), len(away))
    in_model = float((expected.detach() - goals).norm(dim=-1).median())
    return {"at": at, "by": name, "hit": hit, "median": float(away.median()), "in model": in_model}


def gradients(
    model: Any, number: int, steps: int, seed: int = 0, width: float = 0.05
) -> list[dict[str, float]]:
    """Compare the derivatives of the place by the throw with finite differences in the true world, by step.

    Returns:
        Of each step the median norms of both Jacobians (m per m/s), the median cosine between them and its
        quartiles, and the median error of the predicted place in m.
    """
    real = RealWorld()
    learned, throws = LearnedWorld(model, real), draw_throws(number, seed + 2)
    own = _jacobians(learned, throws, steps)
    true = torch.stack(
        [(real(throws + d, steps) - real(throws - d, steps)) / (2 * width) for d in width * torch.eye(2)], -1
    )
    error = (learned(throws, steps) - real(throws, steps)).norm(dim=-1).detach()
    cosine = torch.cosine_similarity(own.flatten(2), true.flatten(2), dim=-1)
    return [
        {
            "step": step + 1,
            "model": float(own[:, step].flatten(1).norm(dim=-1).median()),
            "largest": float(own[:, step].flatten(1).norm(dim=-1).max()),
            "real": float(true[:, step].flatten(1).norm(dim=-1).median()),
            **_quartiles(cosine[:, step]),
            "error": float(error[:, step].median()),
        }
        for step in range(steps)
    ]


def _quartiles(values: Tensor) -> dict[str, float]:
    parts = values.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype)).tolist()
    return dict(zip(("low", "cosine", "high"), parts, strict=True))


def _jacobians(places: Places, throws: Tensor, steps: int) -> Tensor:
    """Return the derivatives [B, steps, 2, 2] of places by throws."""
    throws = throws.clone().requires_grad_()
    found = places(throws, steps)
    rows = [
        torch.autograd.grad(found[:, step, axis].sum(), throws, retain_graph=True)[0]
        for step in range(steps)
        for axis in (0, 1)
    ]
    return torch.stack(rows, 1).reshape(len(throws), steps, 2, 2).double()


def main() -> None:
    """Fit the simulator if there is none, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path, help="directory of the simulator's run")
    parser.add_argument("--throws", type=int, default=100, help="goals, and throws with a gradient")
    parser.add_argument("--steps", type=int, default=200, help="gradient steps")
    parser.add_argument("--horizon", type=int, default=50, help="of the gradients")
    options = parser.parse_args()
    run = wmplay.load_run(options.run) if options.run.exists() else wmplay.train(FIT, dir=options.run)
    print("| steps | by | real throws that hit | median distance | in the model | calls | time |")
    print("|---|---|---|---|---|---|---|")
    for row in compare(run.model, options.throws, options.steps):
        hit, low, high = (f"{100 * value:.1f}" for value in row["hit"])
        print(
            f"| {row['at']} | {row['by']} | {hit}% [{low}, {high}] | {row['median']:.2f} m "
            f"| {row['in model']:.2f} m | {row['calls']} | {row['seconds']:.1f} s |"
        )
    print("\n| steps | norm in the model, largest | in the real world | cosine [quartiles] | error |")
    print("|---|---|---|---|---|")
    for row in gradients(run.model, options.throws, options.horizon):
        if row["step"] in (2, 5, 10, 15, 20, 30, 40, 50):
            print(
                f"| {row['step']} | {row['model']:.2f}, {row['largest']:.1f} | {row['real']:.2f} "
                f"| {row['cosine']:.2f} [{row['low']:.2f}, {row['high']:.2f}] | {row['error']:.2f} m |"
            )


if __name__ == "__main__":
    main()
