"""Learners that imagine in a lent model or learn from a store: honest ones, and some that break something."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from mutants import Mutants
from push import CONTINUOUS
from torch import Tensor, nn

from wmplay.contracts import Practice, modelled

ROWS, HORIZON, GAMMA = 32, 3, 0.9


class Imagines(nn.Module):
    """An actor that climbs the rewards that it imagines, from frames of the store."""

    def __init__(self, model: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.actor = nn.Linear(2, 2)
        self.optimizer = torch.optim.Adam(self.actor.parameters(), lr=0.02)
        self.low, self.high = torch.from_numpy(CONTINUOUS.low), torch.from_numpy(CONTINUOUS.high)
        self.model = model

    def initial(self, batch_size: int) -> Any:
        return ()

    def act(self, carry: Any, observation: Any, last_action: Tensor, first: Tensor, **draws: Any) -> Any:
        return self.action(observation["x"]), carry

    def action(self, x: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (1 + self.actor(x).tanh()) / 2

    def improve(self, practice: Practice) -> dict[str, float]:
        rng, taken, loss = np.random.default_rng(practice.seed), 0, torch.zeros(())
        assert practice.store is not None
        while taken < practice.steps:
            for _ in range(3):
                self.optimizer.zero_grad()
                loss = self.loss(practice, practice.store.sample(ROWS, 2, rng))
                self.descend(loss)
                self.optimizer.step()
            taken += ROWS * HORIZON
            practice.advance(taken, {"loss": float(loss)})
        return {"loss": float(loss)}

    def loss(self, practice: Practice, segment: Any) -> Tensor:
        now = {key: value[:, 0] for key, value in segment.observation.items()}
        model = practice.model if self.model is None else self.model
        belief, alive, rewards, weights = model.initial(modelled(now)), torch.ones(ROWS), [], []
        x = self.seen_first(segment)
        for _ in range(HORIZON):
            future = model.predict(belief, self.action(x).unsqueeze(1))
            weights.append(alive)
            rewards.append(future.reward[:, 0])
            alive = GAMMA * alive * self.goes_on(future.discount[:, 0])
            belief, x = future.belief, self.following(future, x)
        return -self.total(weights, rewards).mean()

    def seen_first(self, segment: Any) -> Tensor:
        first: Tensor = segment.observation["x"][:, 0]
        return first

    def following(self, future: Any, x: Tensor) -> Tensor:
        following: Tensor = future.observation["x"][:, 0]
        return following

    def goes_on(self, discount: Tensor) -> Tensor:
        return discount

    def total(self, weights: list[Tensor], rewards: list[Tensor]) -> Tensor:
        return sum((w * r for w, r in zip(weights, rewards, strict=True)), torch.zeros(ROWS))

    def descend(self, loss: Tensor) -> None:
        loss.backward(inputs=[*self.actor.parameters()])

    def learner_state(self) -> Any:
        return self.optimizer.state_dict()

    def load_learner_state(self, state: Any) -> None:
        self.optimizer.load_state_dict(state)


class Clones(Imagines):
    """Imitates the actions of a store."""

    def loss(self, practice: Practice, segment: Any) -> Tensor:
        return (self.action(self.seen(segment)) - segment.action[:, 0]).square().mean()

    def seen(self, segment: Any) -> Tensor:
        seen: Tensor = segment.observation["x"][:, 0]
        return seen


# ---- learners that each break something ----------------------------------------------------------

MUTANTS = Mutants()
breaks = MUTANTS.breaks


@breaks("it learns")
class GoesDown(Imagines):
    def total(self, weights: list[Tensor], rewards: list[Tensor]) -> Tensor:
        return -super().total(weights, rewards)


@breaks("it learns")
class RewardsAStepLate(Imagines):
    def total(self, weights: list[Tensor], rewards: list[Tensor]) -> Tensor:
        return super().total(weights[1:], rewards[:-1])


@breaks("it learns")
class RewardsAStepEarly(Imagines):
    def total(self, weights: list[Tensor], rewards: list[Tensor]) -> Tensor:
        return super().total(weights[:-1], rewards[1:])


@breaks("ends make a difference")
class EndsAreIgnored(Imagines):
    def goes_on(self, discount: Tensor) -> Tensor:
        return torch.ones_like(discount)


@breaks("over is over")
class EndsAreAlmostIgnored(Imagines):
    def goes_on(self, discount: Tensor) -> Tensor:
        return discount.clamp(min=0.97)


@breaks("it learns what frames tell")
class SeesTheFrameAfterItsBelief(Imagines):
    def seen_first(self, segment: Any) -> Tensor:
        after: Tensor = segment.observation["x"][:, 1]
        return after


@breaks("imagined actions follow what is imagined")
class StaysAtTheFirstFrame(Imagines):
    def following(self, future: Any, x: Tensor) -> Tensor:
        return x


@breaks("what is lent comes back")
class TrainsTheModel(Imagines):
    def loss(self, practice: Practice, segment: Any) -> Tensor:
        with torch.no_grad():
            next(practice.model.parameters()).mul_(0.999)  # type: ignore[union-attr]
        return super().loss(practice, segment)


@breaks("what is lent comes back")
class LeavesTheModelTraining(Imagines):
    def loss(self, practice: Practice, segment: Any) -> Tensor:
        practice.model.train()  # type: ignore[union-attr]
        return super().loss(practice, segment)


@breaks("what is lent comes back")
class LeavesTheModelFrozen(Imagines):
    def loss(self, practice: Practice, segment: Any) -> Tensor:
        practice.model.requires_grad_(False)  # type: ignore[union-attr]
        return super().loss(practice, segment)


@breaks("what is lent comes back")
class LeavesGradients(Imagines):
    def descend(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]


@breaks("actions follow their frames")
class ClonesTheActionBefore(Clones):
    def seen(self, segment: Any) -> Tensor:
        seen: Tensor = segment.observation["x"][:, 1]
        return seen
