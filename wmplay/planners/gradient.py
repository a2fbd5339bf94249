"""Planning by gradients: the actions are changed uphill on the score, through the model.

With Adam, several starts and clipping to the bounds; for discrete actions projected gradients on the simplex
(Duchi et al. 2008), and the plan that is returned is the rounded one, scored as such.
"""

from __future__ import annotations

from typing import Any, Literal

import gymnasium as gym
import torch
from gymnasium.spaces import Discrete
from torch import Tensor
from torch.nn import functional as F

from wmplay.contracts import Belief, Plan, Score, WorldModel
from wmplay.errors import ConfigError, check_values
from wmplay.nets.actions import ActionEncoder, action_bounds, random_actions
from wmplay.nets.trees import device_of, repeat_rows, rows
from wmplay.planners.candidates import scored

ADAM = (0.9, 0.999, 1e-8)  # decay of the mean and of the squares, and epsilon


class Climber:
    """Gradient steps on candidate plans of one action space, in units of its half-ranges (or one-hot).

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        lr: size of a step.
        optimizer: "adam" or "sgd".

    Raises:
        SpaceError: for other spaces.
        ConfigError: for another optimizer.
    """

    def __init__(self, action_space: gym.Space[Any], lr: float, optimizer: Literal["adam", "sgd"]) -> None:
        if optimizer not in ("adam", "sgd"):
            raise ConfigError(f"optimizer is {optimizer!r}", got=optimizer, expected="adam or sgd")
        self.lr, self.optimizer = lr, optimizer
        self.classes = ActionEncoder(action_space).size if isinstance(action_space, Discrete) else None
        self.bounds = None if self.classes is not None else action_bounds(action_space)

    def free(self, action: Tensor) -> Tensor:
        """Return plans as free variables: [..., A] from -1 to 1, or one-hot [..., C]."""
        if self.classes is not None:
            return F.one_hot(action, self.classes).float()
        low, high = self._bounds(action.device)
        return (action - low) / (high - low) * 2 - 1

    def actions(self, free: Tensor) -> Tensor:
        """Return the actions of free variables; relaxed ones are rounded."""
        return free.argmax(-1) if self.classes is not None else self._unscaled(free)

    def relaxed(self, free: Tensor) -> Tensor:
        """Return the actions of free variables, discrete ones as probabilities."""
        return free if self.classes is not None else self._unscaled(free)

    def climb(
        self,
        model: WorldModel,
        belief: Belief,
        score: Score,
        free: Tensor,
        steps: int,
        lr: float | None = None,
    ) -> Tensor:
        """Return free variables [R, H, ...] after some steps uphill on their scores, of size ``lr`` if given.

        Raises:
            ConfigError: if no gradient reaches the actions.
        """
        mean, square = torch.zeros_like(free), torch.zeros_like(free)
        for step in range(1, steps + 1):
            with torch.enable_grad():
                free = free.detach().requires_grad_()
                scores = score(model.predict(belief, self.relaxed(free)))
                if not scores.requires_grad:
                    raise ConfigError("no gradient leads from the score to the actions", advice="plan by cem")
                (gradient,) = torch.autograd.grad(scores.sum(), free)
            gradient = gradient.nan_to_num(0, 0, 0)
            if self.optimizer == "adam":
                first, second, epsilon = ADAM
                mean = first * mean + (1 - first) * gradient
                square = second * square + (1 - second) * gradient.square()
                unbiased = (square / (1 - second**step)).sqrt() + epsilon
                gradient = mean / (1 - first**step) / unbiased
            free = self._inside(free.detach() + (self.lr if lr is None else lr) * gradient)
        return free.detach()

    def _inside(self, free: Tensor) -> Tensor:
        return free.clamp(-1, 1) if self.classes is None else project_to_simplex(free)

    def _unscaled(self, free: Tensor) -> Tensor:
        low, high = self._bounds(free.device)
        return low + (high - low) * (free + 1) / 2

    def _bounds(self, device: torch.device) -> tuple[Tensor, Tensor]:
        assert self.bounds is not None
        low, high = (bound.to(device) for bound in self.bounds)
        return low, high


class Gradient:
    """A planner by gradient steps from several random plans.

    Args:
        action_space: Discrete from 0, or a bounded one-dimensional Box.
        horizon: steps H to plan.
        candidates: random plans per row to start from; ``warm_start`` takes the place of the first.
        steps: gradient steps; each costs a prediction and its gradient for all candidates.
        lr: size of a step, in half-ranges of the space (or probability of discrete actions).
        optimizer: "adam" or "sgd".

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range; while planning, if no gradient reaches the actions.
    """

    def __init__(
        self,
        action_space: gym.Space[Any],
        horizon: int = 12,
        candidates: int = 8,
        steps: int = 20,
        lr: float = 0.1,
        optimizer: Literal["adam", "sgd"] = "adam",
    ) -> None:
        sizes = {"horizon": horizon, "candidates": candidates, "steps": steps}
        check_values("gradient", at_least_one=sizes, positive={"lr": lr})
        self.horizon, self.candidates, self.steps = horizon, candidates, steps
        self.climber = Climber(action_space, lr, optimizer)
        self.action_space = action_space

    @torch.no_grad()
    def plan(
        self,
        model: WorldModel,
        belief: Belief,
        score: Score,
        *,
        warm_start: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """Return the best end of all climbs for each row, never worse than ``warm_start`` [B, H, A] (or [B,
        H] int64)."""
        batch, device = rows(belief), device_of(belief)
        plans = random_actions(self.action_space, (batch, self.candidates, self.horizon), generator, device)
        if warm_start is not None:
            plans[:, 0] = warm_start
        repeated = repeat_rows(belief, self.candidates)
        free = self.climber.climb(model, repeated, score, self.climber.free(plans.flatten(0, 1)), self.steps)
        ends = self.climber.actions(free).reshape(plans.shape)
        if warm_start is not None:
            ends = torch.cat([ends, warm_start.unsqueeze(1)], 1)
        return scored(model, belief, score, ends)


def project_to_simplex(x: Tensor) -> Tensor:
    """Return the nearest probabilities [..., C] to x (Duchi et al. 2008, figure 1)."""
    ordered = x.sort(-1, descending=True).values
    excess = (ordered.cumsum(-1) - 1) / torch.arange(1, x.shape[-1] + 1, device=x.device)
    used = (ordered > excess).sum(-1, keepdim=True)
    return (x - excess.gather(-1, used - 1)).clamp(min=0)
