"""The true simulator as a world model: the ceiling of every planner's result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from wmplay.contracts import LazyMapping, Prediction, Remembering, Segment, Simulator, model_keys
from wmplay.errors import ConfigError
from wmplay.system.arrays import Array
from wmplay.vector.answers import name_of

Belief: TypeAlias = dict[str, Tensor]  # state [B, S] float64; ended [B] bool


class Oracle(nn.Module):
    """The env's own dynamics, rewards and ends. It has no weights: a run takes ``fit.steps=0``.

    The belief is the true state. Where frames do not show it (``Remembering``), it follows from the episode's
    first frame and its actions, so that a belief that begins within an episode is wrong. An episode that has
    ended stays as it is, and pays nothing. In a world of chance a prediction without a generator is one fixed
    draw for each call, and not the most likely future; so plan with particles there.

    Args:
        env: whose ``unwrapped.simulator`` predicts.
        action_space: of the env; actions are clipped to it.

    Raises:
        ConfigError: if the env has no simulator.
        SpaceError: in ``initial`` and ``observe``, if the frames do not show the state.
    """

    goals = True

    def __init__(self, env: Any, action_space: gym.Space[Any]) -> None:
        super().__init__()
        simulator = getattr(getattr(env, "unwrapped", env), "simulator", None)
        if not isinstance(simulator, Simulator):
            name = name_of(env)
            raise ConfigError(
                f"model=oracle predicts by the env's own dynamics, and {name} has none to ask",
                got=name,
                expected="env.unwrapped.simulator",
                advice=(
                    "choose an lcd world whose factors, if any, are hidden and the same in all episodes, an "
                    "exact world, or env=gym with Pendulum-v1 or CartPole-v1"
                ),
            )
        self.simulator, self.action_space = simulator, action_space

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the states that frames {key: [B, ...]} show."""
        some = next(iter(observation.values()))
        state = self.simulator.states({key: value.cpu().numpy() for key, value in observation.items()})
        ended = torch.zeros(len(some), dtype=torch.bool, device=some.device)
        return {"state": torch.from_numpy(state).to(some.device), "ended": ended}

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the states that the last of the frames {key: [B, T, ...]} show."""
        last = self.initial({key: value[:, -1] for key, value in observation.items()})
        if not isinstance(self.simulator, Remembering):
            return last
        state = belief["state"].cpu().numpy()
        executed = self._executed(action.detach().cpu().numpy())
        for step in range(action.shape[1]):
            frames = {key: value[:, step].cpu().numpy() for key, value in observation.items()}
            state = self.simulator.follow(state, executed[:, step], frames)
        return {**last, "state": torch.from_numpy(state).to(action.device)}

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Step all states under action [B, H, A]; a latent is a state.

        Raises:
            ConfigError: for actions that a gradient is wanted for.
        """
        if action.requires_grad:
            raise ConfigError("the true simulator has no gradient", advice="plan by cem, icem or mppi")
        seed = 0 if generator is None else int(torch.randint(2**62, (), generator=generator))
        draw = np.random.default_rng(seed)
        device, state, ended = action.device, belief["state"].cpu().numpy(), belief["ended"].cpu().numpy()
        run = self.simulator.begin(state) if isinstance(self.simulator, Remembering) else None
        states, rewards, discounts = [], [], []
        for chosen in self._executed(action.detach().cpu().numpy()).swapaxes(0, 1):
            state, ended, reward = state.copy(), ended.copy(), np.zeros(len(state))
            on = np.flatnonzero(~ended)
            if run is not None and len(on):
                state[on], reward[on], ended[on] = run(chosen[on], on)
            elif len(on):
                draws = [draw] * len(on)
                state[on], reward[on], ended[on] = self.simulator.advance(state[on], chosen[on], draws)
            states.append(state)
            rewards.append(reward)
            discounts.append(~ended)
        latent, paid, alive = (
            torch.from_numpy(np.stack(each, 1)).to(device) for each in (states, rewards, discounts)
        )
        last = {"state": latent[:, -1], "ended": ~alive[:, -1]}
        return Prediction(latent, paid.float(), alive.float(), last, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Tensor]:
        """Return the observations of states [..., S]."""
        batch = latent.shape[:-1]
        seen = self.simulator.observe(latent.detach().flatten(0, -2).cpu().numpy())

        def tensor(key: str) -> Tensor:
            return torch.from_numpy(seen[key]).to(latent.device).float().reshape(*batch, *seen[key].shape[1:])

        return LazyMapping(model_keys(seen), tensor)

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Raise ConfigError: nothing can be fitted."""
        raise ConfigError("the true simulator has nothing to fit", advice="give fit.steps=0")

    def _executed(self, action: Array) -> Array:
        space = self.action_space
        return action.clip(space.low, space.high) if isinstance(space, Box) else action
