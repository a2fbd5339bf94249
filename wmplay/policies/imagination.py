"""Imagination: futures of a policy in a world model, step by step, from beliefs about real frames.

By the time rule action[t] is taken at state[t] and leads to state[t + 1], with reward[t] and discount[t].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import (
    GOAL_PREFIX,
    Actions,
    Belief,
    EnvSpec,
    HasReward,
    LazyMapping,
    Prediction,
    Segment,
    observation_spaces,
    seen_by,
)
from wmplay.errors import ConfigError
from wmplay.nets.agents.distributions import Categorical
from wmplay.nets.units import Units

RewardFrom: TypeAlias = Literal["model", "task"]
Observation: TypeAlias = Mapping[str, Tensor]


@dataclass(frozen=True)
class Roots:
    """The beliefs from which futures are imagined: one for each frame of a batch of B segments of T steps."""

    belief: Belief  # of B * (T + 1) rows: row b * (T + 1) + t
    observation: Observation  # {key: [B * (T + 1), ...]}: the real frames, with the goals
    goal: Tensor  # [B * (T + 1), G]: as actors see it
    weight: Tensor  # [B * (T + 1)]: 0 where nothing follows, because of an end or padding


@dataclass(frozen=True)
class Imagined:
    """Futures of B roots, each of H steps."""

    state: Tensor  # [B, H + 1, F + G]: features and goal, before each step and after the last
    action: Tensor  # [B, H, A], or [B, H] int64
    reward: Tensor  # [B, H]
    discount: Tensor  # [B, H]: the probability that the episode goes on after each step
    root: Tensor  # [B]: the weight of each future
    actions: Sequence[Actions] = ()  # of each step: the distributions that its actions are drawn from


class GoalInputs(nn.Module):
    """A map from the ``goal_`` keys of an observation to inputs of an actor, [..., G], of order one.

    A world model does not see goals, so that its features cannot show them. Goals that are vectors are
    taken, or all, flattened, if none is one. G is 0 without goals.
    """

    def __init__(self, space: gym.Space[Any]) -> None:
        super().__init__()
        spaces = observation_spaces(space)
        self.dims = {key: len(each.shape or ()) for key, each in spaces.items()}  # of a single frame
        goals = {key: each for key, each in spaces.items() if key.startswith(GOAL_PREFIX)}
        self.spaces = {key: each for key, each in goals.items() if self.dims[key] == 1} or goals
        flat: dict[str, Any] = {key: gym.spaces.flatten_space(each) for key, each in self.spaces.items()}
        self.units = nn.ModuleList(Units(each, key) for key, each in flat.items())
        self.size = sum(int(each.shape[0]) for each in flat.values())

    def forward(self, observation: Observation) -> Tensor:
        """Return the inputs [..., G] of goals {key: [..., *shape]}."""
        parts = [
            units(observation[key].flatten(observation[key].ndim - self.dims[key]))
            for key, units in zip(self.spaces, self.units, strict=True)
        ]
        if parts:
            return torch.cat(parts, dim=-1)
        some = next(key for key in observation if key in self.dims)
        value = observation[some]
        return torch.zeros((*value.shape[: value.ndim - self.dims[some]], 0), device=value.device)


class Outcome:
    """The reward and the discount of imagined steps: by the model's heads, or by the env's task.

    Args:
        source: "model" or "task".
        spec: of the env.

    Raises:
        ConfigError: for the task of an env that has none.
    """

    def __init__(self, source: RewardFrom, spec: EnvSpec) -> None:
        if source not in ("model", "task"):
            raise ConfigError(f"reward is {source!r}", got=source, expected="'model' or 'task'")
        if source == "task" and not isinstance(spec.task, HasReward):
            raise ConfigError(
                "reward=task takes the reward from the env's task, and this env has none",
                advice="give policy.reward=model, or a task if the env has some (env.task)",
            )
        self.task = spec.task if source == "task" else None

    def __call__(self, prediction: Prediction, before: Observation) -> tuple[Tensor, Tensor, Observation]:
        """Return reward [B] and discount [B] of a predicted step, and the observation after it.

        The observation is predicted for a task alone: heads do not need it, and ``before`` is returned.

        Args:
            prediction: of one step.
            before: {key: [B, ...]}, the observation before it, with the goals.

        Raises:
            ConfigError: if the model does not predict the reward, or what the task reads.
        """
        if self.task is None:
            if prediction.reward is None:
                raise ConfigError(
                    "the model predicts no reward",
                    advice="give it a reward head (model.reward_weight above 0), or policy.reward=task",
                )
            reward = prediction.reward[:, 0]
            discount = None if prediction.discount is None else prediction.discount[:, 0]
            return reward, torch.ones_like(reward) if discount is None else discount, before
        seen = prediction.observation
        goals = {key: value for key, value in before.items() if key.startswith(GOAL_PREFIX)}
        after = LazyMapping([*seen, *goals], lambda key: goals[key] if key in goals else seen[key][:, 0])
        try:
            reward, terminated = self.task.reward_and_terminated(before, after)
        except KeyError as error:
            raise ConfigError(
                f"the task's reward needs {error}, but the model predicts {', '.join(seen)}",
                advice="choose another model, or policy.reward=model",
            ) from error
        return reward.float(), (~terminated).float(), after


def roots_of(model: Any, segment: Segment, goals: GoalInputs) -> Roots:
    """Return the beliefs at all frames of a segment, without gradient."""
    with torch.no_grad():
        belief = model.track(seen_by(model, segment))
        observation = {key: value.flatten(0, 1) for key, value in segment.observation.items()}
        alive = F.pad(segment.mask & ~segment.terminated, (1, 0), value=True)
        return Roots(belief, observation, goals(observation), alive.flatten().float())


def imagine(
    model: Any,
    roots: Roots,
    policy: Callable[[Tensor], Actions],
    outcome: Outcome,
    horizon: int,
    generator: torch.Generator,
) -> Imagined:
    """Return a future of each root under a policy; gradients reach the actions if they are enabled.

    The policy reads states without their gradient, as in all Dreamers: a gradient reaches an action through
    what it leads to, not through what it was a response to.
    """
    belief, observation, goals = roots.belief, roots.observation, roots.goal.shape[-1] > 0

    def seen(belief: Belief) -> Tensor:
        features: Tensor = model.features(belief)
        return torch.cat([features, roots.goal], -1) if goals else features

    states, acted, steps = [seen(belief)], list[Actions](), []
    for _ in range(horizon):
        acted.append(policy(states[-1].detach()))
        tried = action = acted[-1].sample(generator)
        if torch.is_grad_enabled() and isinstance(acted[-1], Categorical):
            tried = acted[-1].straight_through(action)
        prediction = model.predict(belief, tried.unsqueeze(1), generator=generator)
        reward, discount, observation = outcome(prediction, observation)
        belief = prediction.belief
        states.append(seen(belief))
        steps.append((action, reward, discount))
    action, reward, discount = (torch.stack(column, 1) for column in zip(*steps, strict=True))
    return Imagined(torch.stack(states, 1), action, reward, discount, roots.weight, acted)


def weights_of(imagined: Imagined, gamma: float) -> Tensor:
    """Return the weight of each imagined step [B, H]; those of the first steps sum to 1 / H.

    A step counts as far as its episode has not ended before it: the root's weight times all discounts before.
    """
    before = F.pad(gamma * imagined.discount[:, :-1].detach(), (1, 0), value=1.0).cumprod(1)
    count = imagined.root.sum().clamp(min=1) * imagined.reward.shape[1]
    return imagined.root.unsqueeze(1) * before / count


def features_of(model: Any, space: Any) -> int:
    """Return the number of features of a model of these observations."""
    device = next((weight.device for weight in model.parameters()), None)
    frame = {
        key: torch.from_numpy(np.zeros((1, *(each.shape or ())), each.dtype)).to(device)
        for key, each in observation_spaces(space).items()
    }
    with torch.no_grad():
        return int(model.features(model.initial(seen_by(model, frame))).shape[-1])
