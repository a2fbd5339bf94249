"""A model that was fitted for a moment, and what the properties try on it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Dict, Discrete
from torch import Tensor
from torch.utils._pytree import tree_leaves

from wmplay.contracts import Belief, Prediction, Segment, Stage
from wmplay.device import seed_draws
from wmplay.errors import SpaceError
from wmplay.fit import Fitter
from wmplay.nets.units import measure_units
from wmplay.progress import Advance, bar
from wmplay.simulate import simulate

ROWS, STEPS, SEEN, AHEAD = 5, 17, 11, 3  # distinct primes: a mixed-up axis cannot fit by chance
EPISODES = 13  # of which those that are long enough are used
UPDATES = 100
FALLS = 0.002  # by so much of itself; the likelihood of many pixels has a large part that never changes
CPU = torch.device("cpu")


class Trial:
    """A model, a batch to show it, and a copy that was fitted to this batch."""

    def __init__(self, model: Any, env: gymnasium.Env[Any, Any], seed: int, verbose: bool = False) -> None:
        self.given, self.seed, self.verbose = model, seed, verbose
        self.action_space = env.action_space
        recorded, self.spaces = record(env, seed, STEPS, "a model")
        self.segment = recorded.modelled()
        self.discrete = isinstance(env.action_space, Discrete)
        self.choices = _extremes(env.action_space)
        self.stages: list[Stage] = []
        self.untrained: list[str] = []  # weights without a gradient in all of the fit
        self.losses: dict[str, tuple[float, float]] = {}  # of each stage, at its beginning and end
        self.errors: tuple[float, float] | None = None  # of predictions, before and after the fit
        self.fit_failed: Exception | None = None
        self.model = model
        try:
            with bar("short fit", UPDATES, "updates") if verbose else nullcontext(silent) as advance:
                self.model = self._fit(advance)
        except Exception as error:  # reported by the properties of the loss; the others do without
            self.fit_failed = error

    def _fit(self, advance: Advance) -> Any:
        model = copy.deepcopy(self.given)
        if not any(True for _ in model.parameters()):
            return model
        measure_units(model, self.segment)
        fitter = Fitter(model, CPU, UPDATES, precision="float32", warmup=UPDATES // 10)
        self.stages = fitter.stages
        trained: set[str] = set()
        done = 0
        before = self.error(model.eval())
        model.train()
        for stage in fitter.stages:
            each, updates = fitter.fitters[stage.name], max(1, round(stage.share * UPDATES))
            start = loss_value(stage.loss, self.segment, self.seed)
            owned = {id(p) for p in stage.module.parameters()}
            waiting = {name: p for name, p in model.named_parameters() if id(p) in owned}
            for number in range(updates):
                seed_draws(self.seed + number)
                each.update(self.segment, number, falling=1 - number / updates)
                done += 1
                advance(done, "")
                reached = [n for n, p in waiting.items() if p.grad is not None and bool(p.grad.any())]
                for name in reached:
                    trained.add(name)
                    del waiting[name]
            self.losses[stage.name] = start, loss_value(stage.loss, self.segment, self.seed)
        model.zero_grad(set_to_none=True)
        model.eval()
        self.untrained = [n for n, p in model.named_parameters() if p.requires_grad and n not in trained]
        self.errors = before, self.error(model)
        return model

    @property
    def stuck(self) -> tuple[str, str] | None:
        """What the fit did not achieve, if there is such, and what to do."""
        for stage, (before, after) in self.losses.items():
            if not after < before - FALLS * abs(before):
                return (
                    f"{UPDATES} updates on one batch took the loss of '{stage}' from {before:.3g} to "
                    f"{after:.3g}",
                    "look for a detached or saturated part, or a learning rate of 3e-3 being too much for it",
                )
        if self.errors is not None and not self.errors[1] < 0.8 * self.errors[0]:
            before, after = self.errors
            return (
                f"{UPDATES} updates on one batch lower the loss, but the error of predictions of it went "
                f"from {before:.3g} to {after:.3g} of the batch's variance",
                "see whether the loss and predict mean the same: its sign, the time rule, units, masks",
            )
        return None

    def believe(self, model: Any, rows: slice = slice(None)) -> Belief:
        """The belief after SEEN steps."""
        first, later = self.frames(0, 1, rows), self.frames(1, SEEN + 1, rows)
        belief = model.initial({key: value[:, 0] for key, value in first.items()})
        return model.observe(belief, self.segment.action[rows, :SEEN], later)

    def frames(self, start: int, stop: int, rows: slice = slice(None)) -> dict[str, Tensor]:
        """Observations {key: [B, stop - start, ...]} that the model looks at."""
        return {key: value[rows, start:stop] for key, value in self.segment.observation.items()}

    @property
    def future(self) -> Tensor:
        """The actions [B, H, A] that follow on what ``believe`` has seen."""
        return self.segment.action[:, SEEN : SEEN + AHEAD]

    def on(self, device: str) -> Trial:
        """The same with its batch on another device."""
        there = copy.copy(self)
        there.segment = self.segment.to(device)
        return there

    def other(self, action: Tensor) -> Tensor:
        """For each action [..., A], or [...] int64, one that is far from it."""
        low, high = self.choices
        if self.discrete:
            return torch.where(action == high, low, high)
        return torch.where(action > (low + high) / 2, low, high)

    @torch.no_grad()
    def outcome(self, model: Any, belief: Belief | None = None, action: Tensor | None = None) -> Tensor:
        """Everything that is predicted, [B, H, N]."""
        belief = self.believe(model) if belief is None else belief
        return numbers(model.predict(belief, self.future if action is None else action))

    @torch.no_grad()
    def error(self, model: Any) -> float:
        """The mean squared error of predicted observations, in parts of the batch's own variance."""
        future = model.predict(self.believe(model), self.future).observation
        errors = []
        for key, value in self.frames(SEEN + 1, SEEN + AHEAD + 1).items():
            if key in future:
                truth = value.double()
                around = (truth - truth.mean((0, 1), keepdim=True)).square().mean() + 1e-8
                errors.append(float((future[key].double() - truth).square().mean() / around))
        return float(np.mean(errors))


def numbers(prediction: Prediction) -> Tensor:
    """Everything in a prediction, [B, H, N]."""
    heads = [head for head in (prediction.reward, prediction.discount) if head is not None]
    parts = [*tree_leaves(prediction.latent), *heads, *prediction.observation.values()]
    return torch.cat([part.reshape(*part.shape[:2], -1).float() for part in parts], -1)


@torch.no_grad()
def sample(model: Any, belief: Belief, action: Tensor, seed: int) -> Tensor:
    """One sampled future, [B, H, N]."""
    return numbers(model.predict(belief, action, generator=torch.Generator().manual_seed(seed)))


@torch.no_grad()
def loss_value(loss: Callable[[Segment], tuple[Tensor, Any]], segment: Segment, seed: int) -> float:
    """A loss under a seed."""
    seed_draws(seed)
    return float(loss(segment)[0])


def padded(segment: Segment, mask: Tensor) -> Segment:
    """The segment under a mask [B, T], with something else where it is False."""
    gone = ~mask
    unseen = torch.cat([torch.zeros_like(gone[:, :1]), gone], dim=1)  # a frame belongs to the step before it

    def junk(x: Tensor, where: Tensor) -> Tensor:
        return torch.where(where.reshape(*where.shape, *[1] * (x.ndim - 2)), x.roll(1, 0).flip(1), x)

    return Segment(
        {key: junk(value, unseen) for key, value in segment.observation.items()},
        junk(segment.action, gone),
        segment.reward + 1e3 * gone,
        segment.terminated | gone,
        mask,
        segment.first,
    )


def silent(done: int, note: str) -> None:
    """Progress that nobody looks at."""


def record(
    env: gymnasium.Env[Any, Any], seed: int, steps: int, for_what: str
) -> tuple[Segment, dict[str, Any]]:
    """ROWS random episodes of so many steps, from their beginning, and the observation's spaces.

    Raises:
        SpaceError: if the env's episodes are too short.
    """
    episodes = [e for e in simulate(env, None, EPISODES, seed, max_steps=steps) if len(e) == steps][:ROWS]
    if len(episodes) < ROWS:
        raise SpaceError(
            f"{len(episodes)} of {EPISODES} random episodes of the env last {steps} steps, expected {ROWS} "
            f"for {for_what} to be tried on: give an env with longer episodes"
        )

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([getattr(episode, name) for episode in episodes]))

    keys = list(episodes[0].observation)
    observation = {key: np.stack([episode.observation[key] for episode in episodes]) for key in keys}
    space = env.observation_space
    spaces = dict(space.spaces) if isinstance(space, Dict) else dict.fromkeys(keys, space)
    every = torch.ones(ROWS, steps, dtype=torch.bool)
    segment = Segment(
        {key: torch.from_numpy(value) for key, value in observation.items()},
        stack("action"),
        stack("reward"),
        stack("terminated"),
        every,
        every[:, 0],
    )
    return segment, spaces


def _extremes(space: Any) -> tuple[Tensor, Tensor]:
    if isinstance(space, Discrete):
        return torch.tensor(0), torch.tensor(int(space.n) - 1)
    return torch.from_numpy(np.clip(space.low, -1e2, None)), torch.from_numpy(np.clip(space.high, None, 1e2))
