"""The part that ``hvf`` and ``hvpc`` share: subgoals from a generator, chosen by their worst leg.

A sequence of K subgoals has K + 1 legs: from the present to the first subgoal, from each to the next, and to
the goal. It is worth its worst leg: with the sum, one long leg could be paid for by another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wmplay.contracts import (
    GOAL_PREFIX,
    Belief,
    HasDistance,
    Objective,
    Practice,
    WorldModel,
    env_spec,
    model_keys,
    observation_spaces,
    seen_by,
)
from wmplay.errors import ConfigError, check_values
from wmplay.nets.trees import device_of, put_rows, rows, take_rows
from wmplay.policies.subgoals.generator import SubgoalGenerator

Observation = dict[str, Tensor]  # {key: [B, ...]}


class Carry(NamedTuple):
    """The policy's memory: B rows of each field."""

    below: Any  # of what acts on a leg
    subgoal: Observation  # {key: [B, K, ...]}
    leg: Tensor  # [B] int64: the number of subgoals that are behind
    steps: Tensor  # [B] int64: taken on this leg


class Pairs(NamedTuple):
    """Two moments of each of B segments, the first not after the second."""

    segment: Any  # a Segment
    now: Tensor  # [B] int64
    later: Tensor  # [B] int64

    def frames(self, keys: list[str], at: Tensor) -> Observation:
        """Return the frames {key: [B, ...]} at moments [B]."""
        row = torch.arange(len(at), device=at.device)
        return {key: self.segment.observation[key][row, at] for key in keys}


class SubgoalPolicy(nn.Module, ABC):
    """A policy that searches subgoals at the beginning of an episode, and acts from one to the next.

    The generator learns from real experience; a step of practice is a pair of frames.

    Args:
        env: whose observations x have goals goal_x.
        model: predicts the legs. A leg begins with the belief of a single frame.
        objective: scores legs by the distance to the goal, which is the subgoal on a leg.
        subgoals: number K; 0 = none.
        candidates: sequences of subgoals per iteration and row.
        iterations: rounds of the cross-entropy method over the generator's latents.
        elites: sequences that the next distribution is fitted to.
        near: distance at which a subgoal is reached, in the units of the objective's (``goal_distance``);
            with an objective without one, a leg ends by ``patience`` alone.
        patience: steps after which the next subgoal is taken even so.
        latent: size of the generator's latent.
        hidden: units of each of its hidden layers.
        layers: hidden layers of its encoders.
        batch_size: pairs of frames per update.
        length: steps that lie between the frames of a pair, at most.
        lr: learning rate of Adam.

    Raises:
        SpaceError: for observations of other kinds than those in ``wmplay.nets.modalities``.
        ConfigError: for values out of range, an env without goals, or with a goal_x without an x.
    """

    optimizer: Any

    def __init__(
        self,
        env: Any,
        model: WorldModel,
        objective: Objective,
        *,
        subgoals: int,
        candidates: int,
        iterations: int,
        elites: int,
        near: float,
        patience: int,
        latent: int,
        hidden: int,
        layers: int,
        batch_size: int,
        length: int,
        lr: float,
    ) -> None:
        super().__init__()
        name = type(self).__name__.lower()
        counts = {"candidates": candidates, "iterations": iterations, "elites": elites, "patience": patience}
        sizes = {"latent": latent, "hidden": hidden, "batch_size": batch_size, "length": length}
        check_values(
            name,
            at_least_one={**counts, **sizes},
            positive={"lr": lr},
            not_negative={"subgoals": subgoals, "near": near, "layers": layers},
        )
        if elites > candidates:
            raise ConfigError(
                f"{name}: elites is {elites}", got=elites, expected=f"1 to candidates, {candidates}"
            )
        space = env_spec(env).observation_space
        known = observation_spaces(space)
        self.goals = {key: key.removeprefix(GOAL_PREFIX) for key in known if key.startswith(GOAL_PREFIX)}
        lacking = [goal for goal, key in self.goals.items() if key not in known]
        if lacking or not self.goals:
            raise ConfigError(
                f"{name}: a subgoal is an observation, and the env has no observation of {lacking[0]}"
                if lacking
                else f"{name}: the env has no goals",
                got=sorted(known),
                expected="an observation x for each goal_x, and at least one",
                advice="choose such an env (env=two_rooms), or policy=mpc",
            )
        self.model, self.objective = model, objective
        self.distance = objective.distance if isinstance(objective, HasDistance) else None
        self.subgoals, self.candidates = subgoals, candidates
        self.iterations, self.elites = iterations, elites
        self.near, self.patience = near, patience
        self.batch_size, self.length, self.lr = batch_size, length, lr
        self.keys = model_keys(known)
        self.generator = SubgoalGenerator(space, latent, hidden, layers)

    @abstractmethod
    def act_below(
        self,
        carry: Any,
        observation: Observation,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Any]:
        """Return actions towards the goals in the observation, as ``Policy.act``."""

    @abstractmethod
    def score_below(
        self, belief: Belief, observation: Observation, generator: torch.Generator | None
    ) -> Tensor:
        """Return the objective's value [R] of what ``act_below`` would do from beliefs about observations
        {key: [R, ...]}, with the goals in them."""

    def anew(self, carry: Any, done: Tensor) -> Any:
        """Return the memory of what acts on a leg after a leg has ended where ``done`` [B]."""
        return carry

    # ---- acting ------------------------------------------------------------------------------------

    def initial(self, batch_size: int) -> None:
        """Return None: the first observation makes the first belief."""

    @torch.no_grad()
    def act(
        self,
        carry: Carry | None,
        observation: Observation,
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Carry]:
        """Return the action towards the present subgoal in each row: [B, A], or [B] int64."""
        begun = first if carry is not None else torch.ones_like(first)
        index = begun.nonzero().squeeze(1)
        zero = torch.zeros_like(first, dtype=torch.long)
        if carry is None:
            below, leg, steps = None, zero, zero
            subgoal = self.search(observation, generator)
        else:
            below, subgoal, leg, steps = carry
            leg, steps = torch.where(begun, zero, leg), torch.where(begun, zero, steps)
            if len(index):
                subgoal = put_rows(subgoal, index, self.search(take_rows(observation, index), generator))
        near = self._near(self._towards(observation, subgoal, leg))
        done = (near | (steps >= self.patience)) & (leg < self.subgoals)
        leg, steps = leg + done, torch.where(done, 0, steps)
        action, below = self.act_below(
            None if below is None else self.anew(below, done),
            self._towards(observation, subgoal, leg),
            last_action,
            first,
            explore=explore,
            generator=generator,
        )
        return action, Carry(below, subgoal, leg, steps + 1)

    def search(self, observation: Observation, generator: torch.Generator | None = None) -> Observation:
        """Return the best sequence of subgoals found for each row, {key: [B, K, ...]}."""
        batch, device = rows(observation), device_of(observation)
        shape = (batch, self.candidates, self.subgoals, self.generator.latent)
        mean = torch.zeros(batch, 1, *shape[2:], device=device)
        std = torch.ones_like(mean)
        if not self.subgoals:
            return self.generator.decode(observation, mean[:, 0])
        row = torch.arange(batch, device=device).unsqueeze(1)
        winners, winning = [], []
        for _ in range(self.iterations):
            drawn = mean + std * torch.randn(shape, generator=generator, device=device)
            score = self.legs(observation, self.generator.decode(observation, drawn), generator).amin(-1)
            top = score.topk(self.elites, dim=1)
            chosen = drawn[row, top.indices]
            mean, std = chosen.mean(1, keepdim=True), chosen.std(1, keepdim=True, correction=0)
            winners.append(chosen[:, 0])
            winning.append(top.values[:, 0])
        best = torch.stack(winning).argmax(0)
        return self.generator.decode(observation, torch.stack(winners)[best, row.squeeze(1)])

    def legs(
        self, observation: Observation, subgoal: Observation, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the score of each leg, [B, N, K + 1].

        Args:
            observation: {key: [B, ...]}, the present, with the goals.
            subgoal: {key: [B, N, K, ...]}, the sequences.
            generator: of all random draws.
        """
        number = next(iter(subgoal.values())).shape[1]
        now = {key: x.unsqueeze(1).expand(-1, number, *x.shape[1:]) for key, x in observation.items()}
        goal = {key: now[name].unsqueeze(2) for name, key in self.goals.items()}
        there = {key: torch.cat([subgoal[key], goal[key]], 2) for key in goal}
        begun = {key: now[key] for key in self.keys}
        first = self._leg(begun, {key: x[:, :, 0] for key, x in there.items()}, generator)
        further = self._leg(subgoal, {key: x[:, :, 1:] for key, x in there.items()}, generator)
        return torch.cat([first.unsqueeze(-1), further], -1)

    def _leg(self, here: Observation, there: Observation, generator: torch.Generator | None) -> Tensor:
        """Return the score [...] of the way from {key: [..., *shape]} to {key: [..., *shape]}."""
        some = next(iter(self.goals.values()))
        shape = here[some].shape[: there[some].ndim - len(self.generator.modalities[some].shape)]
        flat = {key: value.flatten(0, len(shape) - 1) for key, value in here.items()}
        flat |= {goal: there[key].flatten(0, len(shape) - 1) for goal, key in self.goals.items()}
        belief = self.model.initial(seen_by(self.model, flat))
        return self.score_below(belief, flat, generator).reshape(shape)

    def _towards(self, observation: Observation, subgoal: Observation, leg: Tensor) -> Observation:
        """Return the observation with the present subgoal as the goal."""
        row = torch.arange(len(leg), device=leg.device)
        aims = {
            goal: torch.cat([subgoal[key], observation[goal].unsqueeze(1)], 1)[row, leg]
            for goal, key in self.goals.items()
        }
        return {**observation, **aims}

    def _near(self, observation: Observation) -> Tensor:
        """Return whether each row is at its goal, [B]."""
        if self.distance is None:
            return torch.zeros(rows(observation), dtype=torch.bool, device=device_of(observation))
        near: Tensor = self.distance({key: x.unsqueeze(1) for key, x in observation.items()}) < self.near
        return near.squeeze(1)

    # ---- learning ----------------------------------------------------------------------------------

    def improve(self, practice: Practice) -> dict[str, float]:
        """Fit to ``practice.steps`` pairs of frames.

        Raises:
            ConfigError: without real experience.
        """
        store, rng = practice.store, np.random.default_rng(practice.seed)
        if store is None or not store.steps:
            raise ConfigError(
                f"{type(self).__name__.lower()} learns subgoals from real experience, and there is none",
                advice="collect some (collect.random_episodes), or give a store (env.data)",
            )
        metrics: dict[str, float] = {}
        generator = torch.Generator(practice.device).manual_seed(practice.seed)
        taken = 0
        while taken < practice.steps:
            segment = store.sample(self.batch_size, self.length, rng).to(practice.device)
            # two moments of each row, in order, among those that its mask keeps
            drawn = torch.rand(2, len(segment.mask), generator=generator, device=practice.device)
            now, later = (drawn * (segment.mask.sum(1) + 1)).long().sort(0).values
            loss, found = self.loss(Pairs(segment, now, later), generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            taken += self.batch_size
            metrics = {f"subgoal_{name}": float(value) for name, value in found.items()}
            practice.advance(taken, metrics)
        return metrics

    def loss(self, pairs: Pairs, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the generator's loss of pairs of frames, and metrics."""
        now, later = (pairs.frames(self.keys, at) for at in (pairs.now, pairs.later))
        return self.generator.loss(now, later, generator)

    def learner_state(self) -> dict[str, Any]:
        """Return the optimiser's state."""
        return {"generator": self.optimizer.state_dict()}

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restore ``learner_state``."""
        self.optimizer.load_state_dict(state["generator"])
