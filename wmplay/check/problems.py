"""Planning problems with a known answer, and planners to solve them.

The world has no dynamics: its reward is a function of the action, and perhaps of the step.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor, nn

from wmplay.check.result import NotTried
from wmplay.contracts import Plan, Prediction, Score, Segment
from wmplay.errors import ConfigError, SpaceError
from wmplay.objectives import SumOfRewards

ROWS = 5
CLASSES = 7
PLACES = 4096  # to average over
BOX = Box(np.array([-1, 2], np.float32), np.array([3, 5], np.float32))  # neither centred nor of one size
CHOICE = Discrete(CLASSES)

Value: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # of places and goals [..., A]: [...]


def quadratic(place: Tensor, goal: Tensor) -> Tensor:
    """Minus the squared distance to the goal."""
    return -(place - goal).square().sum(-1)


def two_valleys(place: Tensor, goal: Tensor) -> Tensor:
    """1 at the goal; 0.6 on the other side of the middle, in a wider valley that is half as far from it."""

    def valley(depth: float, width: float, bottom: Tensor) -> Tensor:
        return depth * torch.exp(-(place - bottom).square().sum(-1) / (2 * width**2))

    return torch.maximum(valley(1.0, 0.15, goal), valley(0.6, 0.3, 0.75 - 0.5 * goal))


def in_turns(goal: Tensor, step: Tensor) -> Tensor:
    """The goals [B, H, A] of steps [B, H]: the goal [B, A] itself, what is opposite to it, the middle."""
    turn, goal = step.unsqueeze(-1) % 3, goal.unsqueeze(1)
    return torch.where(turn == 0, goal, torch.where(turn == 1, 1 - goal, 0.5))


class Field(nn.Module):
    """The world model: a step's reward is half of what its action is worth; the score adds the other half.

    So a planner needs both to belong to the same row: the belief, which it repeats, and the present that the
    score is bound to. Places are actions as parts of their range, 0 at the lower bound, 1 at the upper.

    Belief: ``goal`` [B, A], ``row`` [B], the row's number, and ``step`` [B], how many were predicted. Latent
    [B, H, A + 2]: places, the row and the step.

    Args:
        space: of actions.
        value: what an action is worth.
        turns: each step has another goal, see ``in_turns``.

    Attributes:
        furthest: (smallest, largest) of all the places that it was asked about.
        finite: whether all of them were finite.
    """

    def __init__(self, space: gymnasium.Space[Any], value: Value, turns: bool = False) -> None:
        super().__init__()
        self.space, self.value, self.turns = space, value, turns
        self.weight = nn.Parameter(torch.tensor(0.5))
        self.furthest = (0.0, 1.0)
        self.finite = True

    def place(self, action: Tensor) -> Tensor:
        """[..., A] of actions [..., A] (or [...] int64)."""
        if isinstance(self.space, Discrete):
            return action.unsqueeze(-1) / (int(self.space.n) - 1)
        assert isinstance(self.space, Box)
        low, high = torch.from_numpy(self.space.low), torch.from_numpy(self.space.high)
        return (action - low) / (high - low)

    def action_at(self, place: Tensor) -> Tensor:
        """The other way round."""
        if isinstance(self.space, Discrete):
            return (place * (int(self.space.n) - 1)).round().long().squeeze(-1)
        assert isinstance(self.space, Box)
        low, high = torch.from_numpy(self.space.low), torch.from_numpy(self.space.high)
        return low + place * (high - low)

    def initial(self, observation: dict[str, Tensor]) -> Any:
        """The belief that a goal is where it is seen."""
        goal = observation["place"]
        return {
            "goal": goal,
            "row": torch.arange(len(goal), dtype=torch.float32),
            "step": goal.new_zeros(len(goal)),
        }

    def observe(self, belief: Any, action: Tensor, observation: dict[str, Tensor]) -> Any:
        """The same belief: nothing ever changes."""
        return belief

    def predict(self, belief: Any, action: Tensor, *, generator: torch.Generator | None = None) -> Prediction:
        """Half of each action's worth as its reward."""
        place = self.place(action)
        low, high = self.furthest
        self.furthest = min(low, float(place.min())), max(high, float(place.max()))
        self.finite = self.finite and bool(place.isfinite().all())
        step = belief["step"].unsqueeze(1) + torch.arange(place.shape[1])
        reward = self.weight * self.worth(place, belief["goal"], step)
        row = belief["row"].unsqueeze(1).expand_as(step)
        latent = torch.cat([place, torch.stack([row, step], -1)], -1)
        after = {**belief, "step": belief["step"] + place.shape[1]}
        return Prediction(latent, reward, None, after, self.decode)

    def worth(self, place: Tensor, goal: Tensor, step: Tensor) -> Tensor:
        """[B, H], of places [B, H, A] at steps [B, H], with goals [B, A]."""
        return self.value(place, in_turns(goal, step) if self.turns else goal.unsqueeze(1))

    def decode(self, latent: Tensor) -> dict[str, Tensor]:
        """The place."""
        return {"place": latent[..., :-2]}

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """There is nothing to learn."""
        return 0 * self.weight, {}


class FieldEnv(gymnasium.Env[dict[str, Any], Any]):
    """The same as an environment of one-step episodes, for planners that ask the run for one."""

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self._size = 1 if isinstance(space, Discrete) else int(np.prod(space.shape or ()))
        self.observation_space = Dict(place=Box(0, 1, (self._size,), np.float32))
        self.action_space = space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A goal anywhere."""
        super().reset(seed=seed)
        self._goal = self.np_random.random(self._size, np.float32)
        return {"place": self._goal.copy()}, {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """What the action is worth."""
        place = Field(self.action_space, quadratic).place(torch.as_tensor(action))
        worth = float(quadratic(place, torch.from_numpy(self._goal)))
        return {"place": self._goal.copy()}, worth, True, False, {}


@dataclass
class Problem:
    """A goal for each row, and how well a plan does.

    Args:
        space: of actions.
        value: what an action is worth.
        goal: [B, A], places.
        turns: each step has another goal, see ``in_turns``.
    """

    space: gymnasium.Space[Any]
    value: Value
    goal: Tensor
    turns: bool = False

    def __post_init__(self) -> None:
        self.model = Field(self.space, self.value, self.turns)
        self.belief = self.model.initial({"place": self.goal.clone()})
        self.asked: list[Tensor] = []  # the rows [R] that each call of ``score`` was about

    @property
    def score(self) -> Score:
        """The objective, bound to the present."""

        def score(prediction: Prediction) -> Tensor:
            assert isinstance(prediction.latent, Tensor)
            assert prediction.reward is not None
            place, row, step = (prediction.latent[..., part] for part in (slice(-2), -2, -1))
            self.asked.append(row[:, 0].detach().clone())
            goal = self.goal.repeat_interleave(max(len(place) // len(self.goal), 1), dim=0)[: len(place)]
            return (prediction.reward + 0.5 * self.model.worth(place, goal, step)).sum(1)

        return score

    def worth(self, action: Tensor) -> Tensor:
        """[B], the score of plans [B, H, A] (or [B, H] int64)."""
        place = self.model.place(action)
        step = torch.arange(place.shape[1]).expand(place.shape[:2])
        return self.model.worth(place, self.goal, step).sum(1)

    def regret(self, action: Tensor) -> Tensor:
        """[B]: what plans for a goal that stays lack, 0 = the best there are, 1 = as uniformly random ones,
        on the average."""
        best, usual = self._scale
        return (best - self.worth(action) / action.shape[1]) / (best - usual)

    @cached_property
    def _scale(self) -> tuple[Tensor, Tensor]:
        """[B] each: what the best action is worth, and a random one on the average."""
        if isinstance(self.space, Discrete):
            places = self.model.place(torch.arange(int(self.space.n)))
        else:
            anywhere = torch.Generator().manual_seed(0)
            places = torch.rand(PLACES, self.goal.shape[1], generator=anywhere)
        values = self.value(places, self.goal.unsqueeze(1))  # [B, PLACES]
        return self.value(self.goal.clamp(0, 1), self.goal), values.mean(1)


def problem(
    space: gymnasium.Space[Any], value: Value, *, beyond: bool = False, turns: bool = False
) -> Problem:
    """A problem in which each row's goal is elsewhere; ``beyond`` puts them out of the bounds, ``turns``
    gives each step another one."""
    if isinstance(space, Discrete):
        last = int(space.n) - 1
        goal = (torch.arange(ROWS) * last / (ROWS - 1)).round().unsqueeze(-1) / last
    else:
        corners = torch.tensor([0.2, 0.8])
        size = int(np.prod(space.shape or ()))
        number = torch.arange(ROWS).unsqueeze(1) + torch.arange(size)  # [B, A]
        goal = corners[number % 2] + 0.02 * number.remainder(ROWS) - 0.04
    if value is two_valleys:
        goal = torch.where((goal - 0.5).abs() < 0.25, 0.0, goal)  # else both valleys would be one
    return Problem(space, value, goal + (goal - 0.5).sign() * beyond, turns)


class Solver:
    """A planner that can be built anew, and the kinds of actions that it takes."""

    def __init__(
        self, planner: Any, action_space: gymnasium.Space[Any] | None, tolerance: float, seed: int
    ) -> None:
        self.tolerance, self.seed = tolerance, seed
        self.built = planner if hasattr(planner, "plan") and not inspect.isclass(planner) else None
        if self.built is not None and action_space is None:
            raise SpaceError(
                f"{type(planner).__name__} is a planner that is built: give check_planner the action_space "
                "that it was built for, or its class"
            )
        self.make = planner
        inner = planner.func if isinstance(planner, partial) else planner
        self.name = (
            type(planner).__name__ if self.built is not None else getattr(inner, "__name__", "planner")
        )
        self.parameters: Mapping[str, Any] = {} if self.built else inspect.signature(planner).parameters
        self.spaces: dict[str, gymnasium.Space[Any]] = {}
        self.refusals: dict[str, Exception] = {}
        offered = {"continuous": BOX, "discrete": CHOICE}
        if action_space is not None:
            kind = "discrete" if isinstance(action_space, Discrete) else "continuous"
            offered = {kind: action_space}
        for kind, space in offered.items():
            try:
                if not callable(getattr(self.build(space), "plan", None)):
                    raise TypeError("it has no plan(), see Planner in wmplay/contracts.py")
                self.spaces[kind] = space
            except ConfigError:  # a setting that cannot be is the user's, not the planner's
                raise
            except Exception as error:  # reported by the property of the two kinds of actions
                self.refusals[kind] = error

    def build(self, space: gymnasium.Space[Any], **config: Any) -> Any:
        """A planner for this space, with those of the settings that it has."""
        if self.built is not None:
            return self.built
        env = FieldEnv(space)
        run = {
            "action_space": space,
            "observation_space": env.observation_space,
            "env": env,
            "model": problem(space, quadratic).model,
            "objective": SumOfRewards(),
        }
        needed = [name for name, p in self.parameters.items() if p.default is p.empty and name in run]
        known = {name: value for name, value in config.items() if name in self.parameters}
        return self.make(**{name: run[name] for name in needed}, **known)

    def each(self) -> Iterator[tuple[str, gymnasium.Space[Any]]]:
        """(kind, space) of the actions that it takes; raises NotTried if there are none."""
        if not self.spaces:
            raise NotTried("no planner could be built")
        yield from self.spaces.items()

    def needs(self, *names: str) -> str:
        """The first of the parameters that it has; raises NotTried if it has none."""
        for name in names:
            if name in self.parameters:
                return name
        raise NotTried(f"it has no parameter {' or '.join(names)} that could be changed")


def solve(planner: Any, task: Problem, seed: int, *, warm_start: Tensor | None = None) -> Plan:
    """The plan for a problem under a seed."""
    generator = torch.Generator().manual_seed(seed)
    plan: Plan = planner.plan(task.model, task.belief, task.score, warm_start=warm_start, generator=generator)
    return plan
