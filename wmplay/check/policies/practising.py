"""A policy that learns, a copy of it that has practised, and the lent parts that it practises with."""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from wmplay.check.fixtures.held_parts import held_parts, holding
from wmplay.check.fixtures.lent_parts import Diary, Dream, Still
from wmplay.check.fixtures.practice_world import Rule, Yard
from wmplay.check.fixtures.scripts import Acting, Scene, flat
from wmplay.check.report import Broken, NotTried
from wmplay.contracts import Learner, Practice

SLOTS = 7
ROUND = 211  # steps of a practice; a learner completes its last round
WARM = 10_000  # steps within which weights must change; many learners first act at random
WATCHED = 61  # observations to measure the place on


class Practiced(NamedTuple):
    """A practice: its arguments and what it reported."""

    world: Yard
    model: Dream
    store: Diary
    told: list[tuple[int, Mapping[str, float]]]  # the arguments of each call of ``advance``


class Practised(Acting):
    """A learner, and a copy of it that has practised and acts.

    It practises with an env, a model and a store of the same artificial world.

    Args:
        policy, env, seed: as for ``Acting``.
        model: whose beliefs and observations the lent model has; one of our own if None.
        store: lent instead, if the policy cannot use the artificial one.
    """

    def __init__(
        self, policy: Any, env: gymnasium.Env[Any, Any], seed: int, model: Any = None, store: Any = None
    ) -> None:
        super().__init__(policy, env, seed)
        self.env, self.store = env, store
        held = held_parts(policy).models
        self.dream = Dream(
            held[0] if held else Still() if model is None else model, self.spaces, env.action_space
        )
        self.dream = copy.deepcopy(self.dream)
        self.given = holding(policy, dict.fromkeys(map(id, held), self.dream)) if held else policy
        self.holds = bool(held)
        self.failure: Exception | None = None
        self.own_store = True
        try:
            self.policy = self._warmed()
        except Exception as error:  # reported by the first property of learning; acting does not need it
            self.failure = error
            self._retry()

    def _retry(self) -> None:
        """Practise with the given store, if the artificial one is not enough."""
        if self.store is None:
            return
        self.own_store = False
        try:
            self.policy, self.failure = self._warmed(), None
        except Exception as error:
            self.failure = error

    def _warmed(self) -> Any:
        """Return a copy that has practised until its weights have changed."""
        policy, number = copy.deepcopy(self.given), 0
        if not isinstance(policy, nn.Module) or not isinstance(policy, Learner):
            return policy
        before, taken = weights(policy), 0
        while taken < WARM and not moved(policy, before):
            taken += max(ROUND, self.practise(policy, Rule(), number=number).told[-1][0])
            number += 1
        for model in held_parts(policy).models:
            model.rule = None  # the policy acts by the model as it was given
        return policy.eval()

    def practise(
        self,
        policy: Any,
        rule: Rule,
        *,
        steps: int = ROUND,
        number: int = 0,
        strange_ends: bool = False,
        guided: bool = False,
        model: Any = None,
        acted: tuple[float, float] = (0.0, 1.0),
        lost: Collection[int] = (),
        over: int = 0,
        turned: bool = False,
    ) -> Practiced:
        """Let a policy practise in a world of this rule, and return what it was given and told."""
        told: list[tuple[int, Mapping[str, float]]] = []

        def advance(steps: int, metrics: Mapping[str, float]) -> None:
            told.append((steps, dict(metrics)))

        practice, lent = self.lend(policy, rule, steps, number, advance, strange_ends, guided, model, acted)
        lent.model.lost, lent.model.over, lent.store.turned = lost, over, turned
        metrics = policy.improve(practice)
        bad = [name for name, value in _metrics(metrics).items() if not math.isfinite(value)]
        if bad:
            raise Broken(f"improve says that '{bad[0]}' is {metrics[bad[0]]}", "look for a diverging loss")
        if not told:
            raise Broken(
                f"improve never called practice.advance in {steps} steps",
                "call it after each round, with the transitions taken so far and the metrics",
            )
        return lent._replace(told=told)

    def lend(
        self,
        policy: Any,
        rule: Rule,
        steps: int,
        number: int,
        advance: Any,
        strange_ends: bool = False,
        guided: bool = False,
        model: Any = None,
        acted: tuple[float, float] = (0.0, 1.0),
    ) -> tuple[Practice, Practiced]:
        """Return the arguments of a practice."""
        world = Yard(self.env, SLOTS, rule, strange_ends=strange_ends, guided=guided)
        if model is None:
            model = self.lent_to(policy)
        model.rule, model.read, model.guided, model.unguided = rule, False, guided, False
        model.asked.clear(), model.places.clear()
        model.eval()
        store = Diary(self.spaces, self.space, rule, guided, acted)
        lent = Practiced(world, model, store, [])
        seed, cpu = 1000 * self.seed + number, torch.device("cpu")
        given = store if self.own_store else self.store
        return Practice(world, steps, seed, cpu, store=given, model=model, advance=advance), lent

    def lent_to(self, policy: Any) -> Any:
        """Return the model that a copy of the policy holds, or a new one to lend."""
        return held_parts(policy).models[0] if self.holds else copy.deepcopy(self.dream)

    def copy(self) -> Any:
        """Return a copy of the policy that has practised."""
        if self.failure is not None:
            raise NotTried("it could not practise")
        return copy.deepcopy(self.policy)

    @cached_property
    def went_on(self) -> tuple[Any, Practiced]:
        """A copy that has practised once more, and what it was given and told."""
        policy = self.copy()
        model = self.lent_to(policy)
        model.zero_grad()
        model.eval()
        self.lent = state_of(model)
        return policy, self.practise(policy, Rule(), number=99, model=model)

    def own(self, policy: Any) -> dict[str, Tensor]:
        """Return its parameters by name, without those of a model that it holds."""
        lent = {id(p) for p in self.lent_to(policy).parameters()}
        return {name: p for name, p in policy.named_parameters() if id(p) not in lent}

    # ---- what it likes -------------------------------------------------------------------------------

    def taste(self, policy: Any) -> float:
        """Return the mean place of the actions in their range, 0 to 1."""
        frames = Yard(self.env, WATCHED, Rule()).reset(seed=self.seed)[0]
        frames = frames if isinstance(frames, dict) else {"observation": frames}
        return float(self.places(policy, {k: torch.from_numpy(v) for k, v in frames.items()}).mean())

    def places(self, policy: Any, frames: dict[str, Tensor]) -> Tensor:
        """Return the places [B] of the actions at the beginning of episodes with these frames."""
        number = len(next(iter(frames.values())))
        first = torch.ones(number, dtype=torch.bool)
        still = torch.zeros_like(self.segment.action[:1, 0]).expand(number, *self.segment.action.shape[2:])
        action, _ = self.acting(
            policy, policy.initial(number), Scene(frames, still.clone(), first), False, self.seed
        )
        low, high = (float(bound.clamp(-1e2, 1e2)[0]) for bound in self.bounds)
        return ((flat(action)[:, 0] - low) / (high - low)).clamp(0, 1)

    def effects(self, policy: Any) -> tuple[float, float]:
        """Return how much higher actions are at frames that show a high action after, and before, them."""
        rng = np.random.default_rng(self.seed)
        bits = np.arange(4 * WATCHED) % 4
        frames = Diary(self.spaces, self.space, Rule()).frames(bits % 2 == 1, bits >= 2, rng)
        place = self.places(policy, frames).reshape(WATCHED, 2, 2).mean(0)  # [before, after]
        return float((place[:, 1] - place[:, 0]).mean()), float((place[1] - place[0]).mean())


def state_of(module: nn.Module) -> dict[str, tuple[Tensor, bool]]:
    """Return a copy of all parameters and buffers, and whether they are trained, by name."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: (x.detach().clone(), x.requires_grad) for name, x in named}


def weights(policy: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters, by name."""
    return {name: p.detach().clone() for name, p in policy.named_parameters()}


def moved(policy: nn.Module, before: Mapping[str, Tensor]) -> bool:
    """Return whether any parameter has changed."""
    return any(not torch.equal(p, before[name]) for name, p in policy.named_parameters())


def _metrics(metrics: Any) -> Mapping[str, float]:
    """Return the result of ``improve``. Raise Broken unless it maps names to numbers."""
    numbers = isinstance(metrics, Mapping) and all(isinstance(x, int | float) for x in metrics.values())
    if not numbers:
        raise Broken(f"improve returned {metrics!r:.60}", "return its metrics: names to numbers")
    checked: Mapping[str, float] = metrics
    return checked
