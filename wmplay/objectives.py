"""Objectives: scores of predicted futures, row by row; higher is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from wmplay.contracts import (
    GOAL_PREFIX,
    HasDistance,
    HasHazard,
    HasReward,
    LazyMapping,
    Prediction,
    Valued,
    WorldModel,
    capabilities,
    env_spec,
    featured,
    model_keys,
    observation_spaces,
    seen_by,
)
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
        gamma: discount per step, in (0, 1]; None = the model's.
        bootstrap: whether to add the model's value of the state after the last step, by the same weights.
        model: the model that plans are predicted with, for its discount and its values.

    Raises:
        ConfigError: if ``gamma`` is out of range; for a model without values where its values or its discount
            are asked for; with ``bootstrap``, if ``gamma`` is not the model's.
    """

    def __init__(
        self, gamma: float | None = 0.99, bootstrap: bool = False, model: WorldModel | None = None
    ) -> None:
        self.valued = model if isinstance(model, Valued) else None
        if (bootstrap or gamma is None) and self.valued is None:
            setting = "bootstrap is true" if bootstrap else "gamma is null"
            raise ConfigError(
                f"discounted_return: {setting}",
                got=None if model is None else type(model).__name__,
                expected="a model with values and a discount (Valued)",
                advice="choose one with them (model=tdmpc2, muzero), or give a gamma and bootstrap=false",
            )
        known = self.valued.gamma if self.valued is not None else 1.0
        self.gamma = known if gamma is None else gamma
        if not 0 < self.gamma <= 1:
            raise ConfigError(
                f"discounted_return: gamma is {gamma}", got=gamma, expected="more than 0 and at most 1"
            )
        if bootstrap and not math.isclose(self.gamma, known):
            raise ConfigError(
                f"discounted_return: gamma is {gamma}, and the values are of another discount",
                got=gamma,
                expected=f"{known:g}, the model's",
                advice="objective.gamma=null takes the model's",
            )
        self.bootstrap = bootstrap

    def __call__(self, prediction: Prediction, observation: Mapping[str, Tensor]) -> Tensor:
        """Return scores [R] from rewards [R, H] and, if the model predicts them, discounts [R, H]."""
        rewards = _rewards(prediction, "discounted_return")
        goes_on = torch.ones_like(rewards) if prediction.discount is None else prediction.discount
        # a step is rewarded if the steps *before* it did not end the episode
        reached = (self.gamma * goes_on).cumprod(dim=1)
        weights = torch.cat([torch.ones_like(reached[:, :1]), reached[:, :-1]], dim=1)
        scores = (weights * rewards).sum(dim=1)
        if not self.bootstrap:
            return scores
        assert self.valued is not None
        return scores + reached[:, -1] * self.valued.value(prediction.belief)


class TaskReward:
    """The sum of the rewards that the env's own task computes from predicted observations.

    The reward is then known, as in PETS (arXiv 1805.12114), and the model need not learn it. Steps after one
    that the task says to end the episode do not count.

    Args:
        env: the environment, for its task.
        gamma: discount per step, in (0, 1].

    Raises:
        ConfigError: if the env has no task with a reward, or ``gamma`` is out of range; when called, if a key
            that the reward needs is neither predicted nor observed.
    """

    def __init__(self, env: Any, gamma: float = 1.0) -> None:
        if not 0 < gamma <= 1:
            raise ConfigError(f"task_reward: gamma is {gamma}", got=gamma, expected="more than 0, at most 1")
        task = env_spec(env).task
        if not isinstance(task, HasReward):
            raise ConfigError(
                "task_reward: this env has no task that computes rewards from observations",
                expected="env.unwrapped.task.reward_and_terminated",
                advice="choose another env or a task (env.task), or objective=sum_of_rewards",
            )
        self.task, self.gamma = task, gamma

    def __call__(self, prediction: Prediction, observation: Mapping[str, Tensor]) -> Tensor:
        """Return scores [R] from predicted observations and the present {key: [R, ...]}, goals included."""
        after = _with_goals(prediction.observation, observation)

        def earlier(key: str) -> Tensor:
            if key.startswith(GOAL_PREFIX):
                return after[key]
            return torch.cat([observation[key].unsqueeze(1), after[key][:, :-1]], dim=1)

        try:
            reward, ended = self.task.reward_and_terminated(LazyMapping(after, earlier), after)
        except KeyError as error:
            raise _missing("task_reward", error, after) from error
        goes_on = self.gamma * (~ended).to(reward.dtype)
        weights = torch.cat([torch.ones_like(reward[:, :1]), goes_on[:, :-1].cumprod(dim=1)], dim=1)
        return (weights * reward).sum(dim=1)


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
        seen = _with_goals(prediction.observation, observation)
        try:
            distance: Tensor = self.distance(seen)  # [R, H]
        except KeyError as error:
            raise _missing("goal_distance", error, seen) from error
        return -(self.minimum_weight * distance.amin(dim=1) + self.mean_weight * distance.mean(dim=1))


class SafeGoalDistance(GoalDistance):
    """The negative distance to the goal, for futures alone that keep out of the task's hazard.

    The constraint is the depth of the robot in the hazard, in metres, plus a margin, as a mean over the
    plan's steps; steps outside count as 0. So a robot that is in the hazard plans its way out.
    Planners that keep constraints (``lagrangian``) plan around the hazard; others are refused.

    Args:
        env: the environment, for its task with a hazard.
        minimum_weight: weight of the smallest distance.
        mean_weight: weight of the mean distance.
        margin: distance to keep from the hazard, in metres, for a model that errs.

    Raises:
        ConfigError: if the env's task has no hazard.
    """

    def __init__(
        self, env: Any, minimum_weight: float = 1.0, mean_weight: float = 0.1, margin: float = 0.1
    ) -> None:
        super().__init__(env, minimum_weight, mean_weight)
        task = env_spec(env).task
        if not isinstance(task, HasHazard) or task.hazard is None:
            raise ConfigError(
                "safe_goal_distance: this env has no task with a hazard",
                expected="env.unwrapped.task.depth",
                advice="give one: env=luxo_hazard, or env.hazard=[4.5,0,5.5,0.6]",
            )
        self.task, self.margin = task, margin

    def constraints(self, prediction: Prediction, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the mean depth in the hazard, with the margin, of each future [R, 1]; kept where it is 0."""
        depth: Tensor = self.task.depth(prediction.observation)  # [R, H]
        return (depth + self.margin).clamp(min=0).mean(dim=1, keepdim=True)


def _with_goals(predicted: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return predicted observations {key: [R, H, ...]} and the goals of the present [R, 1, ...].

    Each is computed at its first use, so that a task of positions never decodes a screen.
    """
    goals = [key for key in now if key.startswith(GOAL_PREFIX)]

    def value(key: str) -> Tensor:
        return now[key].unsqueeze(1) if key.startswith(GOAL_PREFIX) else predicted[key]

    return LazyMapping([*predicted, *goals], value)


def _missing(objective: str, error: KeyError, seen: Mapping[str, Tensor]) -> ConfigError:
    return ConfigError(
        f"{objective}: there is no {error} in what is predicted ({', '.join(seen) or 'nothing'}): the env "
        "acted in needs the run's task (while collecting too: collect.env), the model its observations"
    )


class LatentDistance:
    """The negative squared distance of predicted latents to that of the goal's observation.

    The goal is given as what the model would observe there: a ``goal_<key>`` for each key that it reads.

    score = -sum_h w_h |e_h - e_goal|^2 / sum_h w_h, with w_h = 2^h, or 1 for the last step alone

    Args:
        env: the environment, for its goals.
        model: with features, see ``Featured``; by its latents of single frames if it has ``embed``.
        steps: "last", or "all": later steps weigh more (as in DINO-WM).

    Raises:
        ConfigError: for a model without features, and for an env without a goal for all that the model reads.
    """

    def __init__(self, env: Any, model: Any, steps: Literal["last", "all"] = "last") -> None:
        self.model, self.steps = featured(model, "latent_distance"), steps
        offered = capabilities(model)
        self.embed = offered.embed
        known = observation_spaces(env_spec(env).observation_space)
        self.keys = list(model_keys(known) if offered.reads is None else offered.reads)
        missing = [GOAL_PREFIX + key for key in self.keys if GOAL_PREFIX + key not in known]
        if missing:
            raise ConfigError(
                f"latent_distance: the env has no {missing[0]}, and the model reads {', '.join(self.keys)}",
                got=sorted(known),
                expected=f"{missing[0]} among the observations",
                advice="choose an env or a task with this goal, or a model that reads less",
            )

    def __call__(self, prediction: Prediction, observation: Mapping[str, Tensor]) -> Tensor:
        """Return scores [R] from predicted latents and the goals in ``observation`` {goal_key: [R, ...]}."""
        goal = self._goal(observation)
        latent = prediction.latent
        if isinstance(latent, Tensor) and latent.shape[2:] == goal.shape[1:]:
            predicted = latent[:, -1:] if self.steps == "last" else latent
        elif self.steps == "last":
            predicted = self.model.features(prediction.belief).unsqueeze(1)
        else:
            raise ConfigError(
                f"latent_distance: steps is 'all', and {type(self.model).__name__} predicts latents that are "
                "no features",
                expected="steps=last",
            )
        distance = (predicted - goal.unsqueeze(1)).square().sum(-1)  # [R, H]
        weights = 2.0 ** torch.arange(1 - distance.shape[1], 1, device=distance.device)
        return -(weights * distance).sum(1) / weights.sum()

    @torch.no_grad()
    def _goal(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the latents [R, E] of goals, as a model with goals would see them with the same goal."""
        there = {key: observation[GOAL_PREFIX + key] for key in self.keys}
        if self.embed is not None:
            return self.embed(there)
        seen = seen_by(self.model, {**observation, **there})
        return self.model.features(self.model.initial(seen))


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
