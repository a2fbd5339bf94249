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


class Foresees(Imagines):
    """Makes what turned out better than its critic expected more likely; a return ends with a value."""

    def __init__(self, model: Any = None) -> None:
        super().__init__(model)
        self.critic = nn.Linear(2, 1)
        self.optimizer = torch.optim.Adam([*self.actor.parameters(), *self.critic.parameters()], lr=0.05)

    def loss(self, practice: Practice, segment: Any) -> Tensor:
        now = {key: value[:, 0] for key, value in segment.observation.items()}
        model: Any = practice.model
        belief, states, steps = model.initial(modelled(now)), [self.seen_first(segment)], []
        draws = torch.Generator().manual_seed(int(1e6 * float(states[0].abs().sum())))
        for _ in range(HORIZON):
            place = self.actor(states[-1]).tanh().detach()
            tried = (place + 0.3 * torch.randn(place.shape, generator=draws)).clamp(-1, 1)
            action = self.low + (self.high - self.low) * (1 + tried) / 2
            future = model.predict(belief, action.unsqueeze(1))
            steps.append((tried, future.reward[:, 0], future.discount[:, 0]))
            belief = future.belief
            states.append(self.following(future, states[-1]))
        seen = torch.stack(states)
        tried, reward, discount = (torch.stack(column).detach() for column in zip(*steps, strict=True))
        value = self.critic(seen).squeeze(-1)  # [H + 1, B]
        error = reward + GAMMA * discount * self.later(value).detach() - value[:-1]
        surprise = (self.credited(tried) - self.actor(self.acted_in(seen)).tanh()).square().sum(-1) / 0.18
        alive = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]).cumprod(0)
        return (alive * (error.square() + error.detach() * surprise)).mean()

    def later(self, value: Tensor) -> Tensor:
        return value[1:]

    def acted_in(self, seen: Tensor) -> Tensor:
        return seen[:-1]

    def credited(self, tried: Tensor) -> Tensor:
        return tried

    def descend(self, loss: Tensor) -> None:
        loss.backward(inputs=[*self.actor.parameters(), *self.critic.parameters()])


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


@breaks("it learns what frames tell")
class LikelihoodsInTheStatesTheyLedTo(Foresees):
    def acted_in(self, seen: Tensor) -> Tensor:
        return seen[1:]


@breaks("the last value is that of the last state")
class ValuesOfTheStateBefore(Foresees):
    def later(self, value: Tensor) -> Tensor:
        return value[:-1]


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


@breaks("it learns")
class CreditsTheActionBefore(Foresees):
    def credited(self, tried: Tensor) -> Tensor:
        return tried.roll(1, 0)
