"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1801.01290, with the temperature of arXiv 1812.05905).

A truncated episode has the value of its last state, a terminated one the value 0. With ``real_fraction``
below 1 the remaining part of each batch comes from a learned env: model-based policy optimisation (Janner et
al. 2019, arXiv 1906.08253).
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Carry, Practice
from wmplay.errors import ConfigError, check_values
from wmplay.nets.actions import action_bounds
from wmplay.nets.agents.distributions import HALF_LOG_TAU
from wmplay.nets.inputs import VectorInputs
from wmplay.nets.layers import ParallelNets
from wmplay.nets.optimizers import Adam
from wmplay.policies.replay import Batch, Replay
from wmplay.system.device import Precision, autocast
from wmplay.vector.stepping import TensorEnv

LOG_STD = (-5.0, 2.0)  # bounds of the Gaussian's log width before squashing
READ_AHEAD = 64  # batches of real experience that are read at once


class SAC(nn.Module):
    """A policy that learns from all its transitions so far, by practising in a vector env; it reads the
    vectors.

    Actions are a Gaussian squashed by tanh, in units of half the range.

    Args:
        observation_space: with at least one vector.
        action_space: a bounded one-dimensional Box.
        hidden: units of each hidden layer.
        layers: hidden layers of the policy, and of each of the two critics.
        lr: learning rate of Adam.
        gamma: discount per step.
        tau: part by which the target networks approach the critics in each update.
        temperature: first weight of the entropy; it is then learned to reach ``target_entropy``.
        target_entropy: of the policy; None is minus the number of action dimensions.
        batch_size: transitions per update.
        replay: transitions kept; the oldest are dropped.
        random_steps: transitions by random actions, before the policy's own and its first update.
        updates_per_step: updates per transition.
        real_fraction: part of each batch that is drawn from the store of real experience; 0 = none.
        rollout: steps of each slot in a round, at whose end progress is reported.
        precision: of the hidden layers' products in updates, see ``wmplay.system.device``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    center: Tensor
    scale: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        hidden: int = 256,
        layers: int = 2,
        lr: float = 3e-4,
        gamma: float = 0.99,
        tau: float = 0.005,
        temperature: float = 1.0,
        target_entropy: float | None = None,
        batch_size: int = 256,
        replay: int = 1_000_000,
        random_steps: int = 1000,
        updates_per_step: float = 1.0,
        real_fraction: float = 0.0,
        rollout: int = 32,
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "layers": layers, "batch_size": batch_size, "rollout": rollout}
        check_values(
            "sac",
            at_least_one={**sizes, "replay": replay},
            positive={"lr": lr, "temperature": temperature, "updates_per_step": updates_per_step},
            not_negative={"random_steps": random_steps},
            fractions={"gamma": gamma, "tau": tau, "real_fraction": real_fraction},
        )
        low, high = action_bounds(action_space)
        self.register_buffer("center", (low + high) / 2, persistent=False)
        self.register_buffer("scale", (high - low) / 2, persistent=False)
        self.gamma, self.tau, self.batch_size, self.random_steps = gamma, tau, batch_size, random_steps
        self.updates_per_step, self.rollout, self.precision = updates_per_step, rollout, precision
        self.target_entropy = -float(len(low)) if target_entropy is None else target_entropy
        self.real = round(real_fraction * batch_size)
        self.inputs = VectorInputs(observation_space)
        self.actor = ParallelNets(1, self.inputs.size, hidden, layers, 2 * len(low))
        self.critic = ParallelNets(2, self.inputs.size + len(low), hidden, layers, 1)
        self.target = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        self.replay = Replay(replay, self.inputs.size, len(low))
        self.owed = 0.0  # updates that are due
        learned = {
            "critic": [*self.critic.parameters()],
            "actor": [*self.actor.parameters(), self.log_temperature],
        }
        self.optimizers = {name: Adam(part, lr=lr, fused=True) for name, part in learned.items()}

    # ---- acting ------------------------------------------------------------------------------------

    def initial(self, batch_size: int) -> Carry:
        """Return an empty carry."""
        return ()

    def act(
        self,
        carry: Carry,
        observation: dict[str, Tensor],
        last_action: Tensor,
        first: Tensor,
        *,
        explore: bool = False,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Carry]:
        """Return the squashed means of the Gaussians, [B, A]; with ``explore``, samples."""
        x = self.inputs(self.inputs.flat(observation))
        action = self.sample(x, generator)[0] if explore else self.gaussian(x)[0].tanh()
        return self.center + self.scale * action, carry

    def gaussian(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log width, each [..., A], before squashing, for normalised inputs."""
        mean, log_std = self.actor(x)[0].chunk(2, dim=-1)
        return mean, log_std.clamp(*LOG_STD)

    def sample(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Draw actions [M, A] in -1..1, reparametrised, and return their log densities [M, 1] (appendix
        C)."""
        mean, log_std = self.gaussian(x)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        wide = mean + log_std.exp() * noise
        log_prob = -0.5 * noise.square() - log_std - HALF_LOG_TAU
        log_slope = 2 * (math.log(2) - wide - F.softplus(-2 * wide))  # log(1 - tanh^2), without cancellation
        return wide.tanh(), (log_prob - log_slope).sum(-1, keepdim=True)

    # ---- learning ----------------------------------------------------------------------------------

    def improve(self, practice: Practice) -> dict[str, float]:
        """Step in the env and update until ``practice.steps`` transitions are taken.

        Raises:
            ConfigError: if part of the batches is real, and the store is missing or lacks a vector.
        """
        env = TensorEnv(practice.env, practice.device)
        generator = torch.Generator(practice.device).manual_seed(practice.seed)
        real = self.real_rows(practice)
        if self.real:  # so that a missing store is reported before the first step
            real = itertools.chain([next(real)], real)
        flat = self.inputs.flat(env.reset(practice.seed))
        taken, metrics = 0, dict[str, float]()
        while taken < practice.steps:
            rewards, updates = [], []
            for _ in range(self.rollout):
                flat, reward = self.step(env, flat, generator)
                rewards.append(reward)
                if self.replay.added < self.random_steps:
                    continue
                self.owed += env.num_envs * self.updates_per_step
                for _ in range(int(self.owed)):
                    rows = self.replay.sample(self.batch_size - self.real, generator)
                    if self.real:
                        rows = torch.cat([rows, next(real)])
                    updates.append(self.update(self.replay.batch(rows), generator))
                self.owed %= 1
            taken += self.rollout * env.num_envs
            metrics = {"reward": float(torch.stack(rewards).mean())}
            for name in updates[0] if updates else ():
                metrics[name] = float(torch.stack([update[name] for update in updates]).mean())
            practice.advance(taken, metrics)
        return metrics

    @torch.no_grad()
    def step(self, env: TensorEnv, flat: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Add one transition of each slot to the replay; return the next inputs to act on, and the rewards
        [N]."""
        if self.replay.added < self.random_steps:
            shape = (env.num_envs, len(self.scale))
            action = 2 * torch.rand(shape, generator=generator, device=flat.device) - 1
        else:
            action = self.sample(self.inputs(flat), generator)[0]
        arrived, observation, reward, terminated, _ = env.step(self.center + self.scale * action)
        self.inputs.update(flat)
        outcome = torch.stack([reward, terminated.float()], dim=1)
        self.replay.add(torch.cat([flat, self.inputs.flat(arrived), action, outcome], dim=1))
        return self.inputs.flat(observation), reward

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Take a gradient step of the critics, the policy and the temperature; return metrics."""
        with autocast(batch.flat.device, self.precision):
            x, after = self.inputs(batch.flat), self.inputs(batch.after)
            temperature = self.log_temperature.detach().exp()
            with torch.no_grad():
                action, log_prob = self.sample(after, generator)
                value = self.target(torch.cat([after, action], -1)).amin(0) - temperature * log_prob
                goal = batch.reward + self.gamma * (1 - batch.terminated) * value
            error = self.critic(torch.cat([x, batch.action], -1)) - goal
            critic_loss = 0.5 * error.square().mean(1).sum()
        self._descend("critic", critic_loss)
        with autocast(batch.flat.device, self.precision):
            action, log_prob = self.sample(x, generator)
            value = self.critic(torch.cat([x, action], -1)).amin(0)
            actor_loss = (temperature * log_prob - value).mean()
        entropy = -log_prob.detach().mean()
        self._descend("actor", actor_loss + self.log_temperature * (entropy - self.target_entropy))
        with torch.no_grad():
            for slow, quick in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(quick, self.tau)
        found = {"critic_loss": critic_loss, "value": value.mean(), "temperature": temperature}
        return {"entropy": entropy, **{name: each.detach() for name, each in found.items()}}

    def _descend(self, name: str, loss: Tensor) -> None:
        """Take a gradient step of the parameters of this name; the others get no gradients."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad(set_to_none=True)
        loss.backward(inputs=optimizer.param_groups[0]["params"])  # type: ignore[no-untyped-call]
        optimizer.step()

    def real_rows(self, practice: Practice) -> Iterator[Tensor]:
        """Yield the real part [R, width] of one batch after another, in the replay's format.

        Raises:
            ConfigError: if the store is missing, is empty or lacks a vector.
        """
        store, rng = practice.store, np.random.default_rng(practice.seed)
        while True:
            if store is None or not store.steps:
                raise ConfigError(
                    "sac: real_fraction is above 0, but there is no real experience: collect some "
                    "(collect.episodes), give a store (env.data), or set real_fraction=0"
                )
            segment = store.sample(READ_AHEAD * self.real, 1, rng).to(practice.device)
            missing = [key for key in self.inputs.keys if key not in segment.observation]
            if missing:
                raise ConfigError(
                    f"sac: real_fraction is above 0, but the real experience has no '{missing[0]}' (it has "
                    f"{', '.join(segment.observation)}): collect with the task (collect.env.task), or set "
                    "real_fraction=0"
                )
            action = ((segment.action[:, 0] - self.center) / self.scale).clamp(-1, 1)
            frames = self.inputs.flat(segment.observation).unbind(1)
            rows = torch.cat([*frames, action, segment.reward, segment.terminated.float()], dim=1)
            yield from torch.split(rows, self.real)

    def learner_state(self) -> dict[str, Any]:
        """Return the optimisers' state and the replay."""
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return {"optimizers": optimizers, "replay": self.replay.state(), "owed": self.owed}

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restore ``learner_state``."""
        for name, optimizer in self.optimizers.items():
            (lr,) = (group["lr"] for group in optimizer.param_groups)
            optimizer.load_state_dict(state["optimizers"][name])
            optimizer.param_groups[0]["lr"] = lr  # the setting may have changed
        self.replay.load(state["replay"], self.center.device)
        self.owed = state["owed"]
