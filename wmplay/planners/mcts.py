"""Monte Carlo tree search over discrete actions: Gumbel MuZero's (Danihelka et al. 2022) or PUCT (see
``nets/search.py``).

A model that is ``Valued`` gives the values of leaves, the prior and the discount, and its plan is the most
taken path of the tree; no other plan is compared with it, because a sum of rewards does not count the values.
Of other models values are the scores of random futures, or 0, and the prior is uniform. PUCT needs a prior:
it takes an action that was never tried for as bad as the worst one.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import gymnasium as gym
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from wmplay.contracts import Belief, Branching, Plan, Score, Valued, WorldModel
from wmplay.errors import ConfigError, SpaceError, check_values
from wmplay.nets.search import Reached, search
from wmplay.nets.trees import device_of, repeat_rows, rows
from wmplay.planners.candidates import scored


class MCTS:
    """A planner by tree search. The score of a plan of one step is the reward of that step.

    The plan is the most visited path of the tree. Steps beyond its end are the best of some random ones, or,
    of a ``Valued`` model, repeat the last one. Its spread, from which exploration draws the first action, is
    the improved policy; with PUCT the shares of the visits.

    Args:
        action_space: Discrete from 0.
        horizon: steps H to plan, and the largest depth of the tree.
        simulations: steps of the model in each row's tree.
        tails: random ends of the path that are tried.
        rollouts: random futures of H steps at each new node of a model that is not ``Valued``, whose mean
            score is the node's value; 0 = its value is 0, and the tree sees no reward beyond its depth.
        rule: "gumbel" or "puct".
        considered: the largest number of actions that "gumbel" tries at the root.
        gamma: discount per step, in (0, 1]; that of a ``Valued`` model is its own, and 1 leaves it so.
        least_range: of "gumbel": the smallest range of the values of a state's actions that decides between
            them; see ``search``.
        temperature: of exploration, which draws the first action from the improved policy (of PUCT the
            visits) to the power of 1 / temperature.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for numbers out of range.
    """

    adds_values: Literal[True] = True

    def __init__(
        self,
        action_space: gym.Space[Any],
        horizon: int = 12,
        simulations: int = 128,
        tails: int = 16,
        rollouts: int = 0,
        rule: Literal["gumbel", "puct"] = "gumbel",
        considered: int = 16,
        gamma: float = 1.0,
        least_range: float = 1e-8,
        temperature: float = 1.0,
        model: Any = None,
    ) -> None:
        if not isinstance(action_space, Discrete) or action_space.start != 0:
            raise SpaceError(
                f"mcts searches among discrete actions, and the action space is {action_space}",
                got=action_space,
                expected="Discrete from 0",
                advice="choose a planner of continuous actions (planner=cem, mppi)",
            )
        sizes = {"horizon": horizon, "simulations": simulations, "tails": tails, "considered": considered}
        check_values(
            "mcts",
            at_least_one=sizes,
            positive={"gamma": gamma, "least_range": least_range, "temperature": temperature},
            not_negative={"rollouts": rollouts},
            fractions={"gamma": gamma},
        )
        if isinstance(model, Valued) and gamma != 1 and not math.isclose(gamma, model.gamma):
            raise ConfigError(
                f"mcts: gamma is {gamma}, and the model's values are of another discount",
                got=gamma,
                expected=f"{model.gamma:g}, the model's",
                advice="leave planner.gamma out",
            )
        if rule not in ("gumbel", "puct"):
            raise ConfigError(f"mcts: rule is {rule!r}", expected="gumbel or puct")
        self.horizon, self.simulations = horizon, simulations
        self.tails, self.rollouts = tails, rollouts
        self.rule: Literal["gumbel", "puct"] = rule
        self.actions, self.considered, self.gamma = (
            int(action_space.n),
            considered,
            1.0 if gamma is None else gamma,
        )
        self.least_range, self.temperature = least_range, temperature

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
        """Return the best plan found for each row, never worse than ``warm_start`` [B, H] int64.

        The search in a ``Valued`` model does without a warm start, and scores the plan by its value.
        """
        batch, device = rows(belief), device_of(belief)
        gamma = model.gamma if isinstance(model, Valued) else self.gamma

        def expand(belief: Belief, action: Tensor, *outcome: Tensor) -> Reached:
            if outcome and isinstance(model, Branching):
                future = model.outcome(belief, action, *outcome)
            else:
                future = model.predict(belief, action.unsqueeze(1))
            reward = score(future).nan_to_num(nan=torch.finfo(torch.float32).min)
            goes_on = torch.ones_like(reward) if future.discount is None else future.discount[:, 0]
            return reached(future.belief, reward, gamma * goes_on)

        def reached(belief: Belief, reward: Tensor, discount: Tensor) -> Reached:
            if self.rollouts and not isinstance(model, Valued):
                actions = drawn(len(reward) * self.rollouts)
                scores = score(model.predict(repeat_rows(belief, self.rollouts), actions))
                value = scores.nan_to_num(nan=0).reshape(-1, self.rollouts).mean(1)
                return self._valued(model, belief, reward, discount, value)
            return self._valued(model, belief, reward, discount, torch.zeros_like(reward))

        def drawn(*rows: int) -> Tensor:
            shape = (*rows, self.horizon)
            return torch.randint(self.actions, shape, generator=generator, device=device)

        nothing = torch.zeros(batch, device=device)
        root = reached(belief, nothing, nothing)
        found = search(
            expand,
            root,
            self.simulations,
            rule=self.rule,
            depth=self.horizon,
            considered=self.considered,
            least_range=self.least_range,
        )
        spread = found.policy.pow(1 / self.temperature)
        path, known = found.tree.path(found.action, self.horizon)
        if isinstance(model, Valued):
            return Plan(path, found.value, spread)
        plans = torch.where(known.unsqueeze(1), path.unsqueeze(1), drawn(batch, self.tails))
        if warm_start is not None:
            plans = torch.cat([plans, warm_start.unsqueeze(1)], 1)
        return replace(scored(model, belief, score, plans), spread=spread)

    def _valued(
        self, model: WorldModel, belief: Belief, reward: Tensor, discount: Tensor, value: Tensor
    ) -> Reached:
        logits = reward.new_zeros(len(reward), self.actions)
        if isinstance(model, Valued):
            proposed = model.policy(belief).logits
            logits, value = logits if proposed is None else proposed, model.value(belief)
        chance = model.chances(belief) if isinstance(model, Branching) else None
        return Reached(belief, reward, discount, logits, value, chance)
