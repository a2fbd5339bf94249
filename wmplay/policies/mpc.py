"""Model-predictive control: a policy made of a planner and a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from gymnasium.spaces import Box
from torch import Tensor

from wmplay.contracts import (
    AddsValues,
    Advises,
    Belief,
    Bootstraps,
    Constrained,
    HasHorizon,
    KeepsConstraints,
    Objective,
    Plan,
    Planner,
    Prediction,
    WorldModel,
    env_spec,
)
from wmplay.errors import ConfigError, ShapeError
from wmplay.nets.actions import action_bounds
from wmplay.nets.trees import repeat_rows, rows, take_rows
from wmplay.policies.beliefs import followed
from wmplay.policies.prior import Guided
from wmplay.system.device import Precision, autocast


class Carry(NamedTuple):
    """The policy's memory: B rows of each field."""

    belief: Belief
    plan: Tensor  # [B, H, A], or [B, H] int64
    step: Tensor  # [B] int64: the number of actions taken from the plan


class MPC:
    """A policy that keeps a belief of each env, plans from it every few steps, and follows the plan in
    between.

    A row plans anew when its episode begins, or after ``replan_every`` steps of its plan; the search then
    starts from the remaining actions of the old plan. Rows may be at different steps of their episodes. With
    ``explore`` the first action of a plan that has a spread is drawn from it.

    Args:
        model: keeps the belief and predicts.
        planner: searches.
        objective: scores plans.
        replan_every: steps to follow each plan, up to its horizon.
        precision: of the model's products while planning, see ``wmplay.system.device``; bfloat16 is precise
            enough to compare scores.
        prior: name of a policy that learns, whose proposals and values the planner takes. It practises as the
            run's policy would.
        prior_settings: overrides of its config.
        env: whose bounds drawn actions are clipped to; without it, by whoever executes them.

    Raises:
        ConfigError: if ``replan_every`` is below 1 or longer than a plan; if the objective has constraints
            and the planner ignores them; if both add the values of a model.
        ConfigError, ShapeError: when acting, if the planner returns no plan for these rows.
    """

    def __init__(
        self,
        model: WorldModel,
        planner: Planner,
        objective: Objective,
        replan_every: int = 2,
        precision: Precision = "auto",
        prior: Advises | str | None = None,
        prior_settings: dict[str, Any] = {},  # noqa: B006 (a config's default, never changed)
        env: Any = None,
    ) -> None:
        horizon = planner.horizon if isinstance(planner, HasHorizon) else replan_every
        if not 1 <= replan_every <= horizon:
            raise ConfigError(
                f"mpc: replan_every is {replan_every}",
                got=replan_every,
                expected=f"1 to the horizon, {horizon}",
            )
        if isinstance(objective, Constrained) and not isinstance(planner, KeepsConstraints):
            raise ConfigError(
                f"{type(objective).__name__} has constraints, which {type(planner).__name__} ignores",
                got=type(planner).__name__,
                expected="a planner that keeps them",
                advice="choose planner=lagrangian",
            )
        if isinstance(planner, AddsValues) and isinstance(objective, Bootstraps) and objective.bootstrap:
            raise ConfigError(
                f"{type(planner).__name__} adds the model's values by itself, and so does "
                f"{type(objective).__name__} by bootstrap=true: they would count twice",
                got="bootstrap=true",
                expected="bootstrap=false",
                advice="give objective.bootstrap=false",
            )
        self.prior = prior
        self.model = Guided(model, prior) if isinstance(prior, Advises) else model
        self.planner, self.objective = planner, objective
        space = None if env is None else env_spec(env).action_space
        self.bounds = action_bounds(space) if isinstance(space, Box) and space.is_bounded() else None
        self.replan_every, self.precision = replan_every, precision

    def initial(self, batch_size: int) -> Carry | None:
        """Return None: the first observation makes the first belief."""
        return None

    @torch.no_grad()
    def act(
        self,
        carry: Carry | None,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Carry]:
        """Return the plan's next action for each row: [B, A], or [B] int64."""
        before = None if carry is None else carry.belief
        belief = followed(self.model, before, observation, last_action, first)
        if carry is None:
            plan = self._plan(belief, observation, last_action, None, explore, generator)
            step = torch.zeros_like(first, dtype=torch.long)
        else:
            plan, step = carry.plan, carry.step
            rest = _shift(plan, step)
            for due, warm in ((first, False), (~first & (step >= self.replan_every), True)):
                index = due.nonzero().squeeze(1)
                if len(index):
                    left = rest[index] if warm else None
                    here, now = take_rows(belief, index), take_rows(observation, index)
                    found = self._plan(here, now, last_action[index], left, explore, generator)
                    plan = plan.index_copy(0, index, found)
                    step = step.index_fill(0, index, 0)
        action = plan[torch.arange(len(step), device=step.device), step]
        return action, Carry(belief, plan, step + 1)

    def _plan(
        self,
        belief: Belief,
        observation: dict[str, Tensor],
        last_action: Tensor,
        warm_start: Tensor | None,
        explore: bool,
        generator: torch.Generator | None,
    ) -> Tensor:
        plan, who = self.search(belief, observation, warm_start, generator), self._who()
        shape, one = plan.action.shape, last_action.shape
        if shape[:1] + shape[2:] != one:
            raise ShapeError(f"{who}: the action", shape, (one[0], "H", *one[1:]))
        if explore and plan.spread is not None:
            drawn = _drawn(plan.action[:, 0], plan.spread, who, generator)
            if self.bounds is not None:
                drawn = torch.clamp(drawn, *(bound.to(drawn) for bound in self.bounds))
            return torch.cat([drawn.unsqueeze(1), plan.action[:, 1:]], 1)
        return plan.action

    def search(
        self,
        belief: Belief,
        observation: dict[str, Tensor],
        warm_start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Return the planner's plans from beliefs about the present observations {key: [B, ...]}, with the
        goals in them."""
        bound = _BoundWithConstraints if isinstance(self.objective, Constrained) else _Bound
        score = bound(self.objective, observation)
        device = next(iter(observation.values())).device
        with autocast(device, self.precision):
            plan = self.planner.plan(self.model, belief, score, warm_start=warm_start, generator=generator)
        if not isinstance(plan, Plan):
            raise ConfigError(
                f"{self._who()} returned a {type(plan).__name__}", expected="a Plan(action, score)"
            )
        return plan

    def _who(self) -> str:
        return f"{type(self.planner).__name__}.plan"


def _drawn(action: Tensor, spread: Tensor, who: str, generator: torch.Generator | None) -> Tensor:
    """Return actions [B, A] drawn around ``action`` with widths, or [B] int64 drawn by probabilities."""
    discrete = not action.is_floating_point()
    if (
        spread.ndim != 2
        or spread.shape[:1] != action.shape[:1]
        or not (discrete or spread.shape == action.shape)
    ):
        raise ShapeError(f"{who}: the spread", spread.shape, (len(action), "C") if discrete else action.shape)
    if discrete:
        return torch.multinomial(spread, 1, generator=generator).squeeze(1)
    return action + spread * torch.randn(action.shape, generator=generator, device=action.device)


class _Bound:
    """A score: the objective, bound to ``observation`` {key: [B, ...]}, for predictions of B x N rows."""

    def __init__(self, objective: Any, observation: Mapping[str, Tensor]) -> None:
        self.objective, self.observation = objective, observation
        self.repeated: dict[int, dict[str, Tensor]] = {}  # planners usually score the same N again and again

    def __call__(self, prediction: Prediction) -> Tensor:
        """Return the scores [B * N]."""
        scores: Tensor = self.objective(prediction, self.present(prediction))
        return scores

    def present(self, prediction: Prediction) -> dict[str, Tensor]:
        """Return the observation, repeated for each row of a prediction."""
        times = rows(prediction.belief) // rows(self.observation)
        if times not in self.repeated:
            self.repeated[times] = repeat_rows(dict(self.observation), times)
        return self.repeated[times]


class _BoundWithConstraints(_Bound):
    def constraints(self, prediction: Prediction) -> Tensor:
        """Return the constraints [B * N, C]."""
        limits: Tensor = self.objective.constraints(prediction, self.present(prediction))
        return limits


def _shift(plan: Tensor, step: Tensor) -> Tensor:
    """Drop the first ``step`` [B] actions of each row's plan and repeat the last action at the end."""
    horizon = plan.shape[1]
    index = (step.unsqueeze(1) + torch.arange(horizon, device=plan.device)).clamp(max=horizon - 1)
    return plan[torch.arange(len(plan), device=plan.device).unsqueeze(1), index]
