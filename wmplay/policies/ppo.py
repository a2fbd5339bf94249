"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), for continuous and discrete actions.

Advantages are generalised (Schulman et al. 2016, arXiv 1506.02438) and end with the episode: after a
termination with the value 0, after a truncation with the value of the last state.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from wmplay.contracts import Carry, Practice
from wmplay.errors import SpaceError, check_values
from wmplay.nets.actions import action_bounds
from wmplay.nets.agents.distributions import HALF_LOG_TAU
from wmplay.nets.inputs import VectorInputs
from wmplay.nets.optimizers import Adam
from wmplay.system.device import Precision, autocast
from wmplay.vector.stepping import TensorEnv

WORTH_CASTING = 2**15  # rows x units; below it, casting to bfloat16 takes longer than it saves
RATE_CHANGE = 1.2  # factor of the learning rate after a round


class Batch(NamedTuple):
    """The transitions of a round, with the steps of all slots concatenated."""

    inputs: Tensor  # [M, inputs], normalised as when the policy acted
    action: Tensor  # [M, A] in -1..1 units, before clipping to the bounds, or [M] int64
    log_prob: Tensor  # [M]
    advantage: Tensor  # [M]
    target: Tensor  # [M]: the target of the value function


class PPO(nn.Module):
    """A policy that learns by practising in a vector env, real or learned; it reads the vector observations,
    and binary screens if asked to.

    Continuous actions are Gaussian, in units of half the range, and are clipped to the bounds when executed.

    Args:
        observation_space: with at least one vector, or a binary screen that is read.
        action_space: a bounded one-dimensional Box, or Discrete.
        hidden: units of each hidden layer.
        layers: hidden layers of the policy, and of the value function.
        changes: whether to read the vectors' changes in the last step as well, see ``VectorInputs``.
        screens: whether to read the pixels of binary screens.
        log_std: of a new policy's Gaussian, the same in all states; it is learned.
        lr: the highest learning rate of Adam.
        anneal: whether to lower that limit linearly, to zero at the end of each practice.
        target_kl: change of the policy in a round above which the learning rate is lowered; 0 = never.
        gamma: discount per step.
        gae_lambda: 0 trusts the value function, 1 the returns.
        clip: limit of the change of an action's probability ratio, from 1.
        entropy_weight: of the bonus for randomness.
        value_weight: of the value function's loss.
        rollout: steps of each slot in a round.
        epochs: passes over a round.
        minibatch: steps per gradient step.
        max_gradient: the largest gradient norm.
        precision: of the hidden layers' products while practising, see ``wmplay.system.device``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    center: Tensor
    scale: Tensor
    log_std: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        hidden: int = 128,
        layers: int = 2,
        changes: bool = False,
        screens: bool = False,
        log_std: float = -1.0,
        lr: float = 2e-3,
        anneal: bool = False,
        target_kl: float = 0.01,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip: float = 0.2,
        entropy_weight: float = 0.0,
        value_weight: float = 0.5,
        rollout: int = 32,
        epochs: int = 2,
        minibatch: int = 4096,
        max_gradient: float = 0.5,
        precision: Precision = "auto",
    ) -> None:
        super().__init__()
        sizes = {"hidden": hidden, "layers": layers, "rollout": rollout, "epochs": epochs}
        check_values(
            "ppo",
            at_least_one={**sizes, "minibatch": minibatch},
            positive={"lr": lr, "clip": clip, "max_gradient": max_gradient},
            not_negative={"target_kl": target_kl},
            fractions={"gamma": gamma, "gae_lambda": gae_lambda},
        )
        self.lr, self.anneal, self.target_kl = lr, anneal, target_kl
        self.gamma, self.gae_lambda, self.clip = gamma, gae_lambda, clip
        self.entropy_weight, self.value_weight = entropy_weight, value_weight
        self.rollout, self.epochs, self.minibatch = rollout, epochs, minibatch
        self.hidden, self.max_gradient, self.precision = hidden, max_gradient, precision
        self.discrete = isinstance(action_space, gym.spaces.Discrete)
        self.inputs = VectorInputs(observation_space, changes, screens)
        if isinstance(action_space, gym.spaces.Discrete):
            if action_space.start != 0:
                raise SpaceError(
                    f"ppo: action space is {action_space}", got=action_space, expected="a Discrete from 0"
                )
            outputs = int(action_space.n)
        else:
            low, high = action_bounds(action_space)
            outputs = len(low)
            self.register_buffer("center", (low + high) / 2, persistent=False)
            self.register_buffer("scale", (high - low) / 2, persistent=False)
            self.log_std = nn.Parameter(torch.full((outputs,), log_std))
        self.actor = _tanh_mlp(self.inputs.size, hidden, layers, outputs, gain=0.01)
        self.critic = _tanh_mlp(self.inputs.size, hidden, layers, 1, gain=1.0)
        self.optimizer = Adam(self.parameters(), lr=lr, eps=1e-5, fused=True)

    # ---- acting ------------------------------------------------------------------------------------

    def initial(self, batch_size: int) -> Carry:
        """Return the inputs of the previous step, zero at first, if changes are read; else nothing."""
        return self.inputs.mean.new_zeros(batch_size, self.inputs.size) if self.inputs.moving else ()

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
        """Return the most likely actions [B, A] or [B] int64; with ``explore``, sampled ones."""
        flat = self.inputs.flat(observation)
        if self.inputs.moving:
            flat = torch.where(first.unsqueeze(-1), flat, self.inputs.flat(observation, carry))
            carry = flat
        output = self.actor(self.inputs(flat))
        action = self._sample(output, generator) if explore else self._mode(output)
        return self._executable(action), carry

    def log_prob(self, output: Tensor, action: Tensor) -> Tensor:
        """Return the log density of actions [..., A] in units of half the range (or [...] int64) given the
        output."""
        if self.discrete:
            return output.log_softmax(-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)
        standard = (action - output) * (-self.log_std).exp()
        return -0.5 * standard.square().sum(-1) - (self.log_std + HALF_LOG_TAU).sum()

    def entropy(self, output: Tensor) -> Tensor:
        """Return the mean entropy of the actions given the actor's output, a scalar."""
        if self.discrete:
            log_prob = output.log_softmax(-1)
            return -(log_prob.exp() * log_prob).sum(-1).mean()
        return (self.log_std + HALF_LOG_TAU + 0.5).sum()

    def _mode(self, output: Tensor) -> Tensor:
        return output.argmax(-1) if self.discrete else output

    def _sample(self, output: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.discrete:
            return torch.multinomial(output.softmax(-1), 1, generator=generator).squeeze(-1)
        noise = torch.randn(output.shape, generator=generator, device=output.device)
        return output + self.log_std.exp() * noise

    def _executable(self, action: Tensor) -> Tensor:
        return action if self.discrete else self.center + self.scale * action.clamp(-1, 1)

    # ---- learning ----------------------------------------------------------------------------------

    def improve(self, practice: Practice) -> dict[str, float]:
        """Practise in rounds, with gradient steps after each, until ``practice.steps`` transitions are
        taken."""
        env = TensorEnv(practice.env, practice.device)
        generator = torch.Generator(practice.device).manual_seed(practice.seed)
        flat = self.inputs.flat(env.reset(practice.seed))
        if not self.inputs.count:
            self.inputs.update(flat)  # a first estimate of the inputs' scales
        taken, metrics = 0, dict[str, float]()
        while taken < practice.steps:
            if self.anneal:
                self._limit_rate(taken / practice.steps)
            batch, flat, seen = self.collect(env, flat, generator)
            metrics = {**seen, **self.update(batch, generator)}
            taken += len(batch.target)
            practice.advance(taken, metrics)
        return metrics

    @torch.no_grad()
    def collect(
        self, env: TensorEnv, flat: Tensor, generator: torch.Generator
    ) -> tuple[Batch, Tensor, dict[str, float]]:
        """Collect a round with a fixed policy; return its batch, the next inputs to act on, and metrics.

        ``flat`` [N, size] are the first inputs to act on, as ``VectorInputs.flat`` returns them.
        """
        steps: list[tuple[Tensor, ...]] = []
        for _ in range(self.rollout):
            x = self.inputs(flat)
            output = self.run(self.actor, x)
            action = self._sample(output, generator)
            arrived, observation, reward, terminated, truncated = env.step(self._executable(action))
            value_after, after = torch.zeros_like(reward), self.inputs.flat(arrived, flat)
            cut, ended = truncated & ~terminated, terminated | truncated
            if bool(cut.any()):  # truncated, not terminated: the last state has a value
                value_after[cut] = self.run(self.critic, self.inputs(after[cut])).squeeze(-1)
            steps.append((flat, x, output, action, reward, terminated, ended, value_after))
            if bool(ended.any()):
                after = torch.where(ended.unsqueeze(-1), self.inputs.flat(observation), after)
            flat = after
        columns = (torch.stack(column) for column in zip(*steps, strict=True))
        flats, inputs, outputs, actions, rewards, terminated, ended, value_after = columns
        values = self.run(self.critic, torch.cat([inputs, self.inputs(flat)[None]])).squeeze(-1)
        next_values = torch.where(ended, value_after, values[1:])
        error = rewards + self.gamma * next_values - values[:-1]
        advantage = generalised_advantage(error, ended, self.gamma * self.gae_lambda)
        self.inputs.update(flats)  # not earlier, so that the policy stays the same within a round
        target = advantage + values[:-1]
        batch = (inputs, actions, self.log_prob(outputs, actions), advantage, target)
        reached = float(terminated.sum() / ended.sum().clamp(min=1))
        metrics = {"reward": float(rewards.mean()), "terminated": reached}
        return Batch(*(x.flatten(0, 1) for x in batch)), flat, metrics

    def run(self, network: nn.Sequential, inputs: Tensor) -> Tensor:
        """Return a network's output [..., outputs]; the last layer is in float32, because values differ by
        little."""
        *hidden, last = network
        x, small = inputs, self.precision == "auto" and inputs[..., 0].numel() * self.hidden < WORTH_CASTING
        with autocast(inputs.device, "float32" if small else self.precision):
            for layer in hidden:
                x = layer(x)
        output: Tensor = last(x.float())
        return output

    def update(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Take gradient steps on a round's batch and return metrics."""
        divergences, losses, weights = [], [], list(self.parameters())
        for _ in range(self.epochs):
            order = torch.randperm(len(batch.target), generator=generator, device=batch.target.device)
            for index in torch.split(order, self.minibatch):
                x, old = batch.inputs[index], batch.log_prob[index]
                output, value = self.run(self.actor, x), self.run(self.critic, x).squeeze(-1)
                log_ratio = self.log_prob(output, batch.action[index]) - old
                ratio = log_ratio.exp()
                advantage = batch.advantage[index]
                advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
                clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
                surrogate = torch.minimum(ratio * advantage, clipped * advantage).mean()
                value_loss = 0.5 * (value - batch.target[index]).square().mean()
                loss = -surrogate + self.value_weight * value_loss
                if self.entropy_weight:
                    loss = loss - self.entropy_weight * self.entropy(output)
                self.optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(weights, self.max_gradient)
                self.optimizer.step()
                divergences.append((ratio - 1 - log_ratio).mean().detach())  # Schulman's estimate of the KL
                losses.append(value_loss.detach())
        kl, error = (float(torch.stack(values).mean()) for values in (divergences, losses))
        metrics = {"kl": kl, "value_loss": error, "lr": self._adapt_rate(kl)}
        if not self.discrete:
            metrics["std"] = float(self.log_std.detach().exp().mean())
        return metrics

    def _adapt_rate(self, divergence: float) -> float:
        """Lower the learning rate after a round with too much change, or raise it again; return it."""
        for group in self.optimizer.param_groups:
            if self.target_kl and divergence > 1.5 * self.target_kl:
                group["lr"] = group["lr"] / RATE_CHANGE
            elif divergence < self.target_kl / 1.5:
                group["lr"] = min(group["lr"] * RATE_CHANGE, self.lr)
        return float(self.optimizer.param_groups[0]["lr"])

    def _limit_rate(self, progress: float) -> None:
        """Lower the limit of the learning rate with the progress (0 to 1) of a practice, which begins at
        ``lr``."""
        for group in self.optimizer.param_groups:
            group["lr"] = min(group["lr"], self.lr * (1 - progress)) if progress else self.lr

    def learner_state(self) -> dict[str, Any]:
        """Return the optimiser's state."""
        state: dict[str, Any] = self.optimizer.state_dict()
        return state

    def load_learner_state(self, state: dict[str, Any]) -> None:
        """Restore ``learner_state``, with a learning rate of at most ``lr``, which may be lower by now."""
        self.optimizer.load_state_dict(state)
        for group in self.optimizer.param_groups:
            group["lr"] = min(group["lr"], self.lr)


def generalised_advantage(error: Tensor, ended: Tensor, decay: float) -> Tensor:
    """Return the sum, for each step, of the later errors [T, N] of its episode, decayed once per step.

    ``error`` is r + gamma V(next) - V, and ``ended`` marks the last step of each episode.
    """
    advantage = torch.empty_like(error)
    later = torch.zeros_like(error[0])
    for t in reversed(range(len(error))):
        later = error[t] + decay * torch.where(ended[t], 0.0, later)
        advantage[t] = later
    return advantage


def _tanh_mlp(inputs: int, hidden: int, layers: int, outputs: int, gain: float) -> nn.Sequential:
    """Return a network with orthogonal weights, which suit policy gradients (Andrychowicz 2021, arXiv
    2006.05990)."""
    stack: list[nn.Module] = []
    for size in [inputs] + [hidden] * (layers - 1):
        linear = nn.Linear(size, hidden)
        nn.init.orthogonal_(linear.weight, 2**0.5)
        nn.init.zeros_(linear.bias)
        stack += [linear, nn.Tanh()]
    last = nn.Linear(hidden, outputs)
    nn.init.orthogonal_(last.weight, gain)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*stack, last)
