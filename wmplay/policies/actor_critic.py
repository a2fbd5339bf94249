"""The actor and the critic of the Dreamers: networks on features, their losses on imagined futures, updates.

Dreamer (Hafner et al. 2020, arXiv 1912.01603), DreamerV2 (arXiv 2010.02193) and DreamerV3 (arXiv 2301.04104)
differ in switches. An action, its baseline and its weight belong to the same step: the state that the action
was taken in.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Actions, Segment
from wmplay.nets.actions import ActionEncoder, action_bounds
from wmplay.nets.agents.distributions import BoundedNormal, Categorical, SquashedNormal
from wmplay.nets.agents.returns import ReturnScale, lambda_returns
from wmplay.nets.agents.two_hot import of_values
from wmplay.nets.layers import in_blocks, mlp
from wmplay.nets.optimizers import AdamW, LaProp, clip_by_weight_
from wmplay.policies.imagination import Imagined, weights_of

Gradient: TypeAlias = Literal["reinforce", "dynamics"]
Distribution: TypeAlias = Literal["bounded_normal", "tanh_normal"]
CriticLoss: TypeAlias = Literal["two_hot", "mse"]
SlowCritic: TypeAlias = Literal["none", "target", "regulariser"]
Optimizer: TypeAlias = Literal["laprop", "adam"]

WIDTHS = (0.1, 1.0)  # of bounded Gaussians
FIRST_WIDTH, LEAST_WIDTH, MOST = 5.0, 1e-4, 5.0  # of squashed Gaussians: first and least width, largest mean


@dataclass(frozen=True)
class Rules:
    """The rules that distinguish the Dreamers; see the arguments of ``Dreamer``."""

    gamma: float
    decay: float
    gradient: Gradient
    entropy: float
    critic: CriticLoss
    slow_critic: SlowCritic
    slow_rate: float
    slow_every: int
    return_scale: bool
    replay_value: float


class Actor(nn.Module):
    """A network from states [..., S] to distributions over actions."""

    low: Tensor
    high: Tensor

    def __init__(
        self,
        size: int,
        action_space: gym.Space[Any],
        hidden: int,
        layers: int,
        norm: bool,
        distribution: Distribution,
        unimix: float,
        last: float,
    ) -> None:
        super().__init__()
        self.discrete, self.unimix, self.distribution = False, unimix, distribution
        if isinstance(action_space, gym.spaces.Discrete):
            self.discrete, outputs = True, ActionEncoder(action_space).size
        else:
            low, high = action_bounds(action_space)
            self.register_buffer("low", low, persistent=False)
            self.register_buffer("high", high, persistent=False)
            outputs = 2 * len(low)
        self.network = mlp(size, hidden, layers, outputs, norm)
        scale_last_(self.network, last)

    def forward(self, state: Tensor) -> Actions:
        """Return the actions of each row."""
        output = in_blocks(self.network, state)
        if self.discrete:
            return Categorical(output, self.unimix)
        mean, width = output.chunk(2, dim=-1)
        if self.distribution == "bounded_normal":
            least, most = WIDTHS
            sigma = least + (most - least) * (width + 2).sigmoid()
            return BoundedNormal(mean.tanh(), sigma, self.low, self.high)
        sigma = F.softplus(width + math.log(math.expm1(FIRST_WIDTH))) + LEAST_WIDTH
        return SquashedNormal(MOST * (mean / MOST).tanh(), sigma, self.low, self.high)


class Critic(nn.Module):
    """A network from states [..., S] to outputs, of which each stands for an expected return."""

    def __init__(
        self, size: int, hidden: int, layers: int, norm: bool, loss: CriticLoss, last: float
    ) -> None:
        super().__init__()
        self.bins = of_values() if loss == "two_hot" else None
        self.network = mlp(size, hidden, layers, 1 if self.bins is None else self.bins.size, norm)
        scale_last_(self.network, last)

    def forward(self, state: Tensor) -> Tensor:
        """Return outputs [..., 1], or logits [..., C]."""
        return in_blocks(self.network, state)

    def value(self, output: Tensor) -> Tensor:
        """Return the expected returns [...] of outputs."""
        return output.squeeze(-1) if self.bins is None else self.bins.mean(output)

    def loss(self, output: Tensor, *targets: Tensor) -> Tensor:
        """Return the sum of the losses [...] of outputs for each of some target returns [...]."""
        if self.bins is None:
            return torch.stack([0.5 * (output.squeeze(-1) - target).square() for target in targets]).sum(0)
        wanted = torch.stack([self.bins.encode(target) for target in targets]).sum(0)
        return -(output.float().log_softmax(-1) * wanted).sum(-1)


class Descent:
    """Gradient steps of several networks, each clipped by itself.

    Args:
        networks: by name.
        kind: "laprop" or "adam".
        lr: after ``warmup`` steps, over which it rises linearly.
        eps: see the optimisers.
        weight_decay: part of the weights taken away in each step, times ``lr``.
        agc: largest norm of a tensor's gradient, as a part of the norm of its weights; None = no limit.
        clip: largest norm of a network's gradient; None = no limit.
        warmup: steps.
    """

    def __init__(
        self,
        networks: dict[str, nn.Module],
        kind: Optimizer,
        lr: float,
        eps: float,
        weight_decay: float,
        agc: float | None,
        clip: float | None,
        warmup: int,
    ) -> None:
        self.weights = {name: [*network.parameters()] for name, network in networks.items()}
        self.lr, self.agc, self.clip, self.warmup, self.count = lr, agc, clip, warmup, 0
        every = [weight for weights in self.weights.values() for weight in weights]
        how: dict[str, Any] = {"lr": lr, "eps": eps, "weight_decay": weight_decay}
        self.optimizer: torch.optim.Optimizer = (
            LaProp(every, **how) if kind == "laprop" else AdamW(every, fused=True, **how)
        )

    def step(self, losses: dict[str, Tensor]) -> None:
        """Take a step of each network along the gradient of the loss of its name."""
        self.optimizer.zero_grad(set_to_none=True)
        for name, loss in losses.items():
            # the losses share futures and values; the inputs leave all other gradients out
            loss.backward(inputs=self.weights[name], retain_graph=True)  # type: ignore[no-untyped-call]
            if self.agc is not None:
                clip_by_weight_(self.weights[name], self.agc)
            if self.clip is not None:
                nn.utils.clip_grad_norm_(self.weights[name], self.clip)
        self.count += 1
        (group,) = self.optimizer.param_groups
        group["lr"] = self.lr * min(1.0, self.count / max(self.warmup, 1))
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Return all state besides the weights."""
        return {"optimizer": self.optimizer.state_dict(), "count": self.count}

    def load(self, state: dict[str, Any]) -> None:
        """Restore ``state``."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.count = state["count"]


class ActorCritic(nn.Module):
    """An actor and a critic that learn from imagined futures.

    Args:
        actor: proposes actions.
        critic: of the same states.
        rules: of learning.
        descent: settings of ``Descent``.
    """

    def __init__(self, actor: Actor, critic: Critic, rules: Rules, **descent: Any) -> None:
        super().__init__()
        self.actor, self.critic, self.rules = actor, critic, rules
        self.slow = None
        if rules.slow_critic != "none":
            self.slow = copy.deepcopy(critic).requires_grad_(False)
        self.scale = ReturnScale() if rules.return_scale else None
        self.descent = Descent({"actor": actor, "critic": critic}, **descent)

    def learn(self, imagined: Imagined, segment: Segment | None = None) -> dict[str, Tensor]:
        """Take a gradient step of both on imagined futures, and return metrics; see ``losses``."""
        losses, metrics = self.losses(imagined, segment)
        self.descent.step(losses)
        self._follow()
        return metrics

    @torch.enable_grad()
    def losses(
        self, imagined: Imagined, segment: Segment | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the losses of ``actor`` and ``critic``, and metrics.

        Args:
            imagined: futures; with the gradient of rewards and states to actions if ``gradient=dynamics``.
            segment: whose frames, in their order, are the roots, for the critic's loss on real rewards.
        """
        rules = self.rules
        # step by step: no gradient flows from the first values to the actor, or from the critic's loss to the
        # last ones
        first, *later = imagined.state.unbind(1)
        steps = [self.critic(state) for state in (first.detach(), *later)]
        output = torch.stack(steps[:-1], 1)  # of the states in which actions are taken
        values = self._values(imagined.state, steps)
        discount = rules.gamma * imagined.discount
        returns = lambda_returns(imagined.reward, discount, values[:, 1:], rules.decay)
        goal, kept = returns.detach(), imagined.root > 0
        if self.scale is not None and bool(kept.any()):
            self.scale.update(goal[kept])
        aim, entropy = self.aim(imagined, returns, values)
        weight = weights_of(imagined, rules.gamma)
        losses = {
            "actor": -(aim * weight).sum(),
            "critic": self._critic_loss(imagined.state.detach(), output, goal, weight, segment),
        }
        means = {"reward": imagined.reward, "return": goal, "value": values, "entropy": entropy}
        metrics = {name: each.detach()[kept].mean() for name, each in means.items()}
        return losses, metrics | {f"{name}_loss": loss.detach() for name, loss in losses.items()}

    def aim(self, imagined: Imagined, returns: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the actor maximises in each step, [B, H], before weights, and the entropies of its
        actions.

        By ``dynamics`` the returns themselves, whose gradient flows through the model; by ``reinforce``
        log-likelihoods times advantages.
        """
        rules, scale = self.rules, 1.0 if self.scale is None else self.scale()
        if rules.gradient == "dynamics":
            shown = imagined.actions[: None if rules.entropy else 1]  # with no weight it is a metric alone
            with torch.set_grad_enabled(rules.entropy > 0):
                entropy = torch.stack([actions.entropy() for actions in shown], 1)
            return returns / scale + rules.entropy * entropy, entropy
        actions = self.actor(imagined.state[:, :-1].detach())
        entropy = actions.entropy()
        advantage = ((returns - values[:, :-1]) / scale).detach()
        return actions.log_prob(imagined.action) * advantage + rules.entropy * entropy, entropy

    def _values(self, state: Tensor, steps: Sequence[Tensor]) -> Tensor:
        """Return the values [B, H + 1] from which returns are bootstrapped, and which are baselines."""
        if self.slow is not None and self.rules.slow_critic == "target":
            return self.slow.value(self.slow(state))
        return torch.stack([self.critic.value(output) for output in steps], 1)

    def _critic_loss(
        self, states: Tensor, output: Tensor, goal: Tensor, weight: Tensor, segment: Segment | None
    ) -> Tensor:
        near = []  # where the critic is to stay
        if self.slow is not None and self.rules.slow_critic == "regulariser":
            with torch.no_grad():
                near = [self.slow.value(self.slow(states[:, :-1]))]
        total = (self.critic.loss(output, goal, *near) * weight).sum()
        if segment is None or not self.rules.replay_value:
            return total
        frames = (segment.reward.shape[0], segment.reward.shape[1] + 1)
        real = real_returns(segment, goal[:, 0].reshape(frames), self.rules)
        near = [each[:, 0].reshape(frames)[:, :-1] for each in near]
        replayed = self.critic.loss(output[:, 0].reshape(*frames, -1)[:, :-1], real, *near)
        mask = segment.mask.float()
        return total + self.rules.replay_value * (replayed * mask).sum() / mask.sum().clamp(min=1)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the slow critic, each ``slow_every`` updates."""
        if self.slow is not None and self.descent.count % self.rules.slow_every == 0:
            for slow, quick in zip(self.slow.parameters(), self.critic.parameters(), strict=True):
                slow.lerp_(quick, self.rules.slow_rate)


def real_returns(segment: Segment, values: Tensor, rules: Rules) -> Tensor:
    """Return the lambda returns [B, T] of a segment's rewards, bootstrapped by values [B, T + 1] of its
    frames. Padded steps have no meaning."""
    goes_on = (~segment.terminated).float()
    known = F.pad(segment.mask[:, 1:], (0, 1), value=False).float()  # a real step follows in the segment
    return lambda_returns(segment.reward, rules.gamma * goes_on, values[:, 1:], rules.decay * known)


def scale_last_(network: nn.Sequential, factor: float) -> None:
    """Scale the first weights of a network's last layer; its biases begin at 0."""
    last = network[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.mul_(factor)
        last.bias.zero_()
