"""A world model as an environment: ``LearnedVectorEnv`` starts from real frames and continues with
predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from wmplay.contracts import (
    GOAL_PREFIX,
    Array,
    Belief,
    HasReward,
    LazyMapping,
    Policy,
    Segment,
    capabilities,
    env_spec,
    observation_spaces,
    seen_by,
)
from wmplay.errors import ConfigError, DivergedError
from wmplay.nets.trees import put_rows, take_rows
from wmplay.system.device import Precision, autocast
from wmplay.vector.actions import checked_action
from wmplay.vector.stepping import Transition

Observation: TypeAlias = Mapping[str, Tensor]
RewardFrom: TypeAlias = Literal["task", "model"]


class Rollout(NamedTuple):
    """An imagined future under a policy, with the graph from every reward back to the actions."""

    observation: list[Observation]  # H of {key: [B, ...]}: where each step led to, as expected values
    action: Tensor  # [B, H, A], as executed
    reward: Tensor  # [B, H]
    terminated: Tensor  # [B, H] bool; later steps of a terminated row do not count


class LearnedVectorEnv(VectorEnv[dict[str, Array], Array, Array]):
    """N imagined episodes at once, with the interface of a real vector env in same-step mode.

    Each episode begins with the real frames and the goal of a start. The model then predicts one step at a
    time, sampled; a predicted observation is decoded only when it is read. An episode that ends is followed
    by the next in the same step, from a start drawn at random. Actions are clipped to their bounds, as in the
    lcd worlds. The spaces contain only observations that the model predicts.

    ``reset_tensors`` and ``step_tensors`` are ``reset`` and ``step`` on the model's device.

    Args:
        model: any world model; used without gradients except in ``rollout``.
        env: one real env, for its spaces, task and time limit.
        starts: the starts of episodes: observations [P, k, ...] (goals included) and the k - 1 actions
            between them; see ``wmplay.envs.learned.starts``.
        num_envs: N.
        reward: "task": the real env's own function of the predicted observation; "model": the model's heads
            for reward and continuation.
        temperature: spread of the sampled futures: 1 as the model was fitted, 0 its most likely future.
        max_steps: time limit of an episode; None is the real env's, if it has one.
        precision: of the model's products, see ``wmplay.system.device``; ``rollout`` keeps float32.
        device: of the model.
        seed: of the starts: a reset with it begins slot i with start i; with another seed starts are drawn.

    Raises:
        ConfigError: if the model does not predict the inputs of the reward, or if it takes no temperature.
    """

    def __init__(
        self,
        model: Any,
        env: gymnasium.Env[Any, Any],
        starts: Segment,
        num_envs: int,
        *,
        reward: RewardFrom = "task",
        temperature: float = 1.0,
        max_steps: int | None = None,
        precision: Precision = "auto",
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> None:
        self.num_envs, self._seed = num_envs, seed
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        known = env_spec(env)
        self.single_action_space = known.action_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.task = known.task
        self.max_steps = max_steps or known.max_steps
        self.model, self.device = model, torch.device(device)
        self.precision = precision
        self._reward_from = reward
        self._spaces = observation_spaces(known.observation_space)
        self._starts = starts.to(self.device)
        self._last = {key: value[:, -1] for key, value in self._starts.observation.items()}  # [P, ...]
        self._bounds: tuple[Tensor, Tensor] | None = None
        if isinstance(self.single_action_space, Box):
            low, high = self.single_action_space.low, self.single_action_space.high
            self._bounds = torch.as_tensor(low, device=self.device), torch.as_tensor(high, device=self.device)
        self._generator = torch.Generator(self.device)
        self.belief: Belief = None  # None before the first reset
        self._sampling = _sampling(model, temperature)
        self._spaces = {key: self._spaces[key] for key in self._shown()}
        self.single_observation_space = Dict(self._spaces)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    # ---- tensors -----------------------------------------------------------------------------------

    def reset_tensors(self, seed: int | None = None) -> Observation:
        """Begin episodes in all slots and return their last real frames {key: [N, ...]}.

        With the seed of the starts, slot i begins with start i. With another seed or none, as in all later
        episodes, the start is drawn.
        """
        if seed is not None:
            self._generator.manual_seed(seed)
        if seed != self._seed:
            start = self._any_start(self.num_envs)
        else:
            start = torch.arange(self.num_envs, device=self.device) % len(self._starts.action)
        self.belief, self._observation, self._goal = self.begin(start)
        self._time = torch.zeros(self.num_envs, dtype=torch.long, device=self.device)
        return self._observation

    @torch.no_grad()
    def begin(self, row: Tensor) -> tuple[Belief, Observation, Observation]:
        """Return beliefs and observations at the starts ``row`` [B] int64.

        Returns:
            The model's belief after the real frames, the last of these {key: [B, ...]} with the goals, and
            the goals alone.
        """
        frames = {key: value[row] for key, value in seen_by(self.model, self._starts.observation).items()}
        belief = self.model.initial({key: value[:, 0] for key, value in frames.items()})
        if self._starts.action.shape[1]:
            later = {key: value[:, 1:] for key, value in frames.items()}
            belief = self.model.observe(belief, self._starts.action[row], later)
        observation = {key: self._last[key][row] for key in self._spaces if key in self._last}
        goal = {key: value for key, value in observation.items() if key.startswith(GOAL_PREFIX)}
        return belief, observation, goal

    @torch.no_grad()
    def step_tensors(self, action: Tensor) -> Transition:
        """Take one step of every slot under action [N, A], or [N] int64.

        Raises:
            ResetNeeded: before the first reset.
            ActionError: for actions of another shape, with NaN, or outside a Discrete.
            DivergedError: if a reward is not finite, because a policy would learn from it.
        """
        if self.belief is None:
            raise gymnasium.error.ResetNeeded("reset() the environment before the first step()")
        checked_action(action.detach().cpu().numpy(), self.single_action_space, range(self.num_envs))
        action = self._executed(action)
        with autocast(self.device, self.precision):
            prediction = self.model.predict(self.belief, action.unsqueeze(1), **self._draws(self._generator))
        arrived = self._seen(prediction.observation, self._goal)
        reward, terminated = self._outcome(prediction, self._observation, arrived, self._generator)
        self._time += 1
        truncated = torch.zeros_like(terminated)
        if self.max_steps is not None:
            truncated = self._time >= self.max_steps
        self.belief, self._observation = prediction.belief, arrived
        ended, broken = terminated | truncated, ~reward.isfinite()
        if bool((ended | broken).any()):
            if bool(broken.any()):
                raise self._diverged(broken)
            self._begin_again(ended, arrived)
        return Transition(arrived, self._observation, reward.float(), terminated, truncated)

    def _begin_again(self, ended: Tensor, arrived: Observation) -> None:
        """Begin the next episodes in the rows [N] that ended."""
        rows = ended.nonzero().squeeze(1)
        belief, first, goal = self.begin(self._any_start(len(rows)))
        self.belief = put_rows(self.belief, rows, belief)
        self._goal = put_rows(self._goal, rows, goal)
        self._time[rows] = 0
        self._observation = LazyMapping(arrived, lambda key: arrived[key].index_copy(0, rows, first[key]))

    def snapshot(self) -> tuple[Belief, Observation, Observation, Tensor]:
        """Return all state that changes from step to step, except the generator, for ``put_back``."""
        return self.belief, self._observation, self._goal, self._time.clone()

    def put_back(self, rows: Tensor, snapshot: tuple[Belief, Observation, Observation, Tensor]) -> None:
        """Restore rows [R] from a snapshot, as if they had not been stepped since."""
        belief, before, goal, time = snapshot
        self.belief = put_rows(self.belief, rows, take_rows(belief, rows))
        self._goal = put_rows(self._goal, rows, take_rows(goal, rows))
        self._time[rows] = time[rows]
        now = self._observation
        self._observation = {key: now[key].index_copy(0, rows, before[key][rows]) for key in now}

    def _diverged(self, broken: Tensor) -> DivergedError:
        """Return the error for rows [N] bool whose reward is not finite."""
        return DivergedError(
            f"{int(broken.sum())} of {self.num_envs} episodes imagined by {type(self.model).__name__} "
            f"have a reward that is not finite, the first at step {int(self._time[broken].min())}",
            advice="fit the model longer, or end episodes earlier with learned.max_steps",
        )

    def _any_start(self, count: int) -> Tensor:
        """Draw [count] starts."""
        starts = len(self._starts.action)
        return torch.randint(starts, (count,), generator=self._generator, device=self.device)

    def _executed(self, action: Tensor) -> Tensor:
        """Return actions [..., A] clipped to their bounds, with gradients within them."""
        if self._bounds is None:
            return action
        low, high = (bound.to(action.dtype) for bound in self._bounds)
        return torch.clamp(action, low, high)

    def rollout(
        self,
        belief: Belief,
        policy: Policy,
        observation: Observation,
        horizon: int = 15,
        generator: torch.Generator | None = None,
    ) -> Rollout:
        """Imagine a policy's future, differentiably: gradients reach the actions and the policy's weights.

        Args:
            belief: of B rows, from ``begin`` or from ``wmplay.observe``.
            policy: any policy.
            observation: {key: [B, ...]}, now, with the goals.
            horizon: H steps.
            generator: of all draws; None is the most likely future of the policy's most likely actions.
        """
        goal = {key: value for key, value in observation.items() if key.startswith(GOAL_PREFIX)}
        draws = self._draws(generator)
        size = len(next(iter(observation.values())))
        carry, first = policy.initial(size), torch.ones(size, dtype=torch.bool, device=self.device)
        action = torch.zeros(
            (size, *self.action_space.shape[1:]),  # type: ignore[index]
            dtype=self._starts.action.dtype,
            device=self.device,
        )
        steps: list[tuple[Observation, Tensor, Tensor, Tensor]] = []
        for _ in range(horizon):
            action, carry = policy.act(
                carry,
                cast("dict[str, Tensor]", observation),  # a real dict would decode every key
                action,
                first,
                explore=generator is not None,
                generator=generator,
            )
            action = self._executed(action)
            prediction = self.model.predict(belief, action.unsqueeze(1), **draws)
            arrived = LazyMapping(
                [*prediction.observation, *goal],
                lambda key, seen=prediction.observation: goal[key] if key in goal else seen[key][:, 0],  # type: ignore[misc]
            )
            steps.append((arrived, action, *self._outcome(prediction, observation, arrived, generator)))
            belief, observation, first = prediction.belief, arrived, torch.zeros_like(first)
        observations, actions, rewards, terminated = zip(*steps, strict=True)
        return Rollout(list(observations), *(torch.stack(x, 1) for x in (actions, rewards, terminated)))

    # ---- reward and ending -----------------------------------------------------------------------

    def _outcome(
        self, prediction: Any, before: Observation, arrived: Observation, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return (reward, terminated), each [B]; without a generator, the more likely ending."""
        if self._reward_from == "task":
            reward, terminated = self.task.reward_and_terminated(before, arrived)
            return reward, terminated
        reward = prediction.reward[:, 0]
        if prediction.discount is None:
            return reward, torch.zeros_like(reward, dtype=torch.bool)
        chance: Tensor | float = 0.5
        if generator is not None and self._sampling is not None:
            chance = torch.rand(reward.shape, generator=generator, device=self.device)
        return reward, prediction.discount[:, 0] <= chance

    def _draws(self, generator: torch.Generator | None) -> dict[str, Any]:
        """Return the arguments with which ``predict`` samples, empty for the most likely future."""
        if generator is None or self._sampling is None:
            return {}
        return {**self._sampling, "generator": generator}

    def _seen(self, predicted: Observation, goal: Observation) -> Observation:
        """Return the observation that the env shows: expected values in its spaces, computed lazily."""

        @torch.no_grad()  # it may be read only after the step
        def show(key: str) -> Tensor:
            return goal[key] if key in goal else as_observed(predicted[key][:, 0], self._spaces[key])

        return LazyMapping([key for key in self._spaces if key in predicted or key in goal], show)

    def _shown(self) -> list[str]:
        """Return the env's observation keys that an imagined step has: predicted ones and goals.

        Raises:
            ConfigError: if the keys, or the model's heads, do not determine the reward.
        """
        if self._reward_from == "task" and not isinstance(self.task, HasReward):
            raise ConfigError(
                "learned.reward=task takes the reward from the env's task, and this env has none",
                advice="give learned.reward=model, or a task if the env has some (env.task)",
            )
        belief, observation, goal = self.begin(torch.zeros(1, dtype=torch.long, device=self.device))
        action = self._starts.action.new_zeros(1, 1, *self._starts.action.shape[2:])
        with torch.no_grad():
            prediction = self.model.predict(belief, action)
        arrived = self._seen(prediction.observation, goal)
        name = type(self.model).__name__
        if self._reward_from == "model":
            if prediction.reward is None:
                raise ConfigError(
                    f"{name} predicts no reward, as learned.reward=model needs it",
                    advice="give it a reward head (model.reward_weight above 0)",
                )
            return list(arrived)
        try:
            self._outcome(prediction, observation, arrived, None)
        except KeyError as error:
            raise ConfigError(
                f"the task's reward needs {error}, but {name} predicts "
                f"{', '.join(prediction.observation)} and the starts have {', '.join(goal) or 'no goal'}",
                advice="choose another model, or learned.reward=model",
            ) from error
        return list(arrived)

    # ---- Gymnasium ---------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Begin episodes in all slots. One seed is for all of them."""
        number = (
            seed
            if seed is None or isinstance(seed, int | np.integer)
            else int(np.random.SeedSequence([each or 0 for each in seed]).generate_state(1)[0])
        )
        return self._arrays(self.reset_tensors(None if number is None else int(number))), {}

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """Take one step of every slot; all observation keys are decoded.

        Raises:
            ResetNeeded, ActionError, DivergedError: as ``step_tensors``.
        """
        action = torch.as_tensor(np.asarray(actions), device=self.device)
        arrived, observation, *outcome = self.step_tensors(action)
        reward, terminated, truncated = (x.cpu().numpy() for x in outcome)
        info: dict[str, Any] = {}
        ended = terminated | truncated
        if ended.any():
            last = self._arrays(arrived)
            final = np.full(self.num_envs, None, object)
            for row in np.flatnonzero(ended):
                final[row] = {key: value[row] for key, value in last.items()}
            info = {"final_obs": final, "_final_obs": ended, "final_info": {}, "_final_info": ended.copy()}
        return self._arrays(observation), reward.astype(np.float64), terminated, truncated, info

    def seen(self) -> dict[str, Array]:
        """Return the current observation {key: [N, ...]}, in new arrays."""
        return self._arrays(self._observation)

    def _arrays(self, observation: Observation) -> dict[str, Array]:
        return {key: observation[key].cpu().numpy().copy() for key in self._spaces}


def as_observed(value: Tensor, space: gymnasium.Space[Any]) -> Tensor:
    """Return expected values [B, ...] in the dtype and the bounds of an env's space."""
    assert isinstance(space, Box)
    fractions = np.issubdtype(space.dtype, np.floating)
    dtype = torch.from_numpy(np.zeros(0, space.dtype)).dtype
    # a binary screen, of uint8 or bool, has its threshold at one half
    value = value.to(dtype) if fractions else value.float().round()
    low, high = (value.new_tensor(bound) for bound in (space.low, space.high))
    return torch.clamp(value, low, high).to(dtype)


def _sampling(model: Any, temperature: float) -> dict[str, Any] | None:
    """Return the arguments of ``predict`` besides the generator, or None for the most likely future."""
    if temperature < 0:
        raise ConfigError(f"learned.temperature is {temperature}", got=temperature, expected="at least 0")
    if temperature == 0:
        return None
    if temperature == 1:
        return {}
    if not capabilities(model).temperature:
        name = type(model).__name__
        raise ConfigError(f"{name} has no temperature to set", advice="leave learned.temperature at 1 or 0")
    return {"temperature": temperature}
