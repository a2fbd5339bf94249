"""Objectives: scores of predicted futures, row by row; higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

from wmplay.contracts import GOAL_PREFIX, HasDistance, LazyMapping, Prediction, env_spec, observation_spaces
from wmplay.errors import ConfigError, ShapeError

Distance: TypeAlias = Callable[[Mapping[str, Tensor]], Tensor]  # {key: [R, H, ...]} -> [R, H]


class SumOfRewards:
    """The undiscounted sum of predicted rewards (PlaNet's objective)."""

    def __call__(self, prediction: Prediction, observation: Mapping[str, Tensor]) -> Tensor:
        """Return scores [R] from rewards [R, H]."""
        return _rewards(prediction, "sum_of_rewards").sum(dim=1)


class DiscountedReturn:
    """Rewards weighted by gamma^h and by the probability that the episode has not ended before.

    Args:
        gamma: discount per step, in (0, 1].

    Raises:
        ConfigError: if ``gamma`` is out of range.
    """

    def __init__(self, gamma: float = 0.99) -> None:
        if not 0 < gamma <= 1:
            raise ConfigError(
                f"discounted_return: gamma is {gamma}", got=gamma, expected="more than 0 and at most 1"
            )
        self.gamma = gamma

    def __call__(self, prediction: Prediction, observation: Mapping[str, Tensor]) -> Tensor:
        """Return scores [R] from rewards [R, H] and, if the model predicts them, discounts [R, H]."""
        rewards = _rewards(prediction, "discounted_return")
        goes_on = torch.ones_like(rewards) if prediction.discount is None else prediction.discount
        per_step = self.gamma * goes_on
        # a step is rewarded if the steps *before* it did not end the episode
        weights = torch.cat([torch.ones_like(per_step[:, :1]), per_step[:, :-1].cumprod(dim=1)], dim=1)
        return (weights * rewards).sum(dim=1)


class GoalDistance:
    """The negative distance to the goal: its minimum over the plan, and its mean.

    score = -(minimum_weight * min_h d_h + mean_weight * mean_h d_h)

    The distance d is that of the env's task (``env.unwrapped.task.distance``) if the task has one, otherwise
    the mean of |x - goal_x| over all observations x that come with a ``goal_x``.

    Args:
        env: the environment, for its task and its observation space.
        minimum_weight: weight of the smallest distance.
        mean_weight: weight of the mean distance.

    Raises:
        ConfigError: if the env has neither a task with a distance nor ``goal_`` observations; when called, if
            a key that the distance needs is neither predicted nor observed.
    """

    def __init__(self, env: Any, minimum_weight: float = 1.0, mean_weight: float = 0.1) -> None:
        self.minimum_weight, self.mean_weight = minimum_weight, mean_weight
        self.distance = _task_distance(env) or _mean_absolute_difference(env)

    def __call__(self, prediction: Prediction, observation: Mapping[str, Tensor]) -> Tensor:
        """Return scores [R] from predicted observations and the goals in ``observation`` {goal_key: [R,
        ...]}."""
        predicted = prediction.observation

        def value(key: str) -> Tensor:
            return observation[key].unsqueeze(1) if key.startswith(GOAL_PREFIX) else predicted[key]

        goals = [key for key in observation if key.startswith(GOAL_PREFIX)]
        try:
            # lazy, so that a distance between positions never decodes a screen
            distance: Tensor = self.distance(LazyMapping([*predicted, *goals], value))  # [R, H]
        except KeyError as error:
            raise ConfigError(
                f"goal_distance: there is no {error} in {', '.join([*predicted, *goals])}: the env acted in "
                "needs the run's task (while collecting too: collect.env), the model its observations"
            ) from error
        return -(self.minimum_weight * distance.amin(dim=1) + self.mean_weight * distance.mean(dim=1))


def _rewards(prediction: Prediction, objective: str) -> Tensor:
    if prediction.reward is None:
        raise ConfigError(
            f"{objective}: the model predicts no reward",
            advice="give it a reward head or plan for goal_distance",
        )
    if prediction.reward.ndim != 2:
        raise ShapeError("the model's predicted reward", prediction.reward.shape, ("B", "H"))
    return prediction.reward


def _task_distance(env: Any) -> Distance | None:
    task = env_spec(env).task
    return task.distance if isinstance(task, HasDistance) else None


def _mean_absolute_difference(env: Any) -> Distance:
    known = observation_spaces(env_spec(env).observation_space)
    keys = sorted(key for key in known if GOAL_PREFIX + key in known)
    if not keys:
        raise ConfigError(
            f"goal_distance: no goal in the observations ({', '.join(sorted(known))})",
            got=sorted(known),
            expected="x beside goal_x",
            advice="choose an env or a task with a goal, or plan for sum_of_rewards",
        )

    def distance(observation: Mapping[str, Tensor]) -> Tensor:
        differences = [(observation[k] - observation[GOAL_PREFIX + k].float()).abs().flatten(2) for k in keys]
        return torch.cat(differences, dim=-1).mean(dim=-1)

    return distance
