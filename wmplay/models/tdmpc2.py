"""TD-MPC2 (Hansen et al. 2024, arXiv 2310.16828): a model of what matters for rewards, without a picture.

    latent         z = h(o, goal)            dynamics    z' = d(z, a)
    reward         r = R(z, a)               value       q = Q(z, a), an ensemble
    policy prior   a ~ p(z)

All parts are fitted along short rollouts of the dynamics from encoded frames (equations 3 to 5 of the paper):
the latent after each step is the one that the encoder gives for the frame, rewards are the real ones, and
values are one-step temporal-difference targets. The policy prior maximises the values. ``policy=mpc
planner=mppi_tdmpc2`` plans with them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Group, LazyMapping, LazyPrediction, Prediction, Segment, env_spec
from wmplay.errors import ConfigError, ShapeError, check_values
from wmplay.nets.actions import ActionEncoder, action_bounds
from wmplay.nets.agents.distributions import HALF_LOG_TAU, SquashedNormal
from wmplay.nets.agents.frames import FrameInputs
from wmplay.nets.agents.returns import ReturnScale
from wmplay.nets.agents.two_hot import of_symlogs
from wmplay.nets.heads import masked_mean

SIMPLEX = 8  # entries of a latent that sum to 1
LOG_STD = (-10.0, 2.0)  # bounds of the policy's log width before squashing
INIT_STD = 0.02  # of the weights, which are drawn within two of these
POLICY_EPSILON = 1e-5  # of the policy's Adam

Belief: TypeAlias = dict[str, Tensor]  # frames [B, k, I]: inputs of the last k frames; latent [B, L]


class TDMPC2(nn.Module):
    """A latent model with a reward, a value and a policy prior, for continuous actions.

    It predicts no observations. Goals (``goal_`` keys) are inputs of the encoder, together with their
    differences to what they are goals of.

    Args:
        env: the environment, for its spaces and its time limit.
        latent: size L of the latent, a multiple of 8.
        hidden: units of each of the two hidden layers of the dynamics, the reward, the policy and the values.
        encoder_hidden: units of the encoder's hidden layer.
        frames: number k of frames that the encoder reads.
        images: whether to read screens and images; None = only where there is no vector.
        critics: number of value networks.
        dropout: of the value networks' first layer.
        horizon: steps H of the rollouts that are fitted.
        rho: weight of each step of a rollout relative to the one before.
        gamma: discount per step; None = by the time limit, 1 - 5 / max_steps within .95 and .995.
        tau: part by which the slow value networks follow in each update.
        consistency_weight: weight of the loss of the latents.
        reward_weight: weight of the reward's loss.
        value_weight: weight of the values' loss.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head, for envs whose
            episodes end by the clock.
        entropy_weight: of the policy's entropy, in units of the scale of returns.

    Raises:
        SpaceError: unless actions are a bounded one-dimensional Box; for other observations.
        ConfigError: for sizes and weights out of range.
    """

    goals = True  # it receives them
    predicted: Sequence[str] = ()

    def __init__(
        self,
        env: Any,
        latent: int = 64,
        hidden: int = 128,
        encoder_hidden: int = 128,
        frames: int = 1,
        images: bool | None = None,
        critics: int = 5,
        dropout: float = 0.01,
        horizon: int = 3,
        rho: float = 0.5,
        gamma: float | None = None,
        tau: float = 0.01,
        consistency_weight: float = 20.0,
        reward_weight: float = 0.1,
        value_weight: float = 0.1,
        continuation_weight: float = 0.0,
        entropy_weight: float = 1e-4,
    ) -> None:
        super().__init__()
        sizes = {"latent": latent, "hidden": hidden, "encoder_hidden": encoder_hidden, "frames": frames}
        losses = {"consistency_weight": consistency_weight, "reward_weight": reward_weight}
        not_negative = {"continuation_weight": continuation_weight, "entropy_weight": entropy_weight}
        fractions = {"dropout": dropout, "rho": rho, "tau": tau} | ({} if gamma is None else {"gamma": gamma})
        check_values(
            "tdmpc2",
            at_least_one={**sizes, "horizon": horizon},
            positive={**losses, "value_weight": value_weight},
            not_negative=not_negative,
            fractions=fractions,
        )
        if latent % SIMPLEX:
            raise ConfigError(f"tdmpc2: latent is {latent}", got=latent, expected=f"a multiple of {SIMPLEX}")
        if critics < 2:
            raise ConfigError(f"tdmpc2: critics is {critics}", got=critics, expected="at least 2")
        spec = env_spec(env)
        self.frames, self.horizon, self.rho, self.tau = frames, horizon, rho, tau
        self.gamma = _discount(spec.max_steps) if gamma is None else gamma
        self.weights = {"consistency": consistency_weight, "reward": reward_weight, "value": value_weight}
        self.weights["continuation"] = continuation_weight
        self.entropy_weight = entropy_weight
        self.least_length = horizon + frames - 1

        low, high = action_bounds(spec.action_space)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)
        self.encode_action = ActionEncoder(spec.action_space)
        actions = len(low)
        self.inputs = FrameInputs(spec.observation_space, frames, images)
        self.bins = of_symlogs()
        self.encoder = _mlp(self.inputs.size, encoder_hidden, 1, latent, SimNorm())
        self.dynamics = _mlp(latent + actions, hidden, 2, latent, SimNorm())
        self.reward = _mlp(latent + actions, hidden, 2, self.bins.size)
        self.proposal = _mlp(latent, hidden, 2, 2 * actions)
        self.continuation = _mlp(latent, hidden, 2, 1) if continuation_weight else None
        nn.init.zeros_(self.reward[-1].weight)  # type: ignore[arg-type]
        self.critics = Critics(critics, latent + actions, hidden, self.bins.size, dropout)
        self.slow = copy.deepcopy(self.critics).requires_grad_(False)
        self.scale = ReturnScale(floored=True)
        self._noted: list[float] = []  # values in the last loss, for the scale: they are no part of the state

    low: Tensor
    high: Tensor

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}, as if nothing had moved before
        it."""
        return self._believe(self.inputs(observation).unsqueeze(1).repeat(1, self.frames, 1))

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        frames = torch.cat([belief["frames"], self.inputs(observation)], dim=1)
        return self._believe(frames[:, -self.frames :])

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Predict under action [B, H, A]; the model has one future, which a generator does not change."""
        acted = self.encode_action(action)
        latent = belief["latent"]
        before, after = [], []
        for each in acted.unbind(1):
            before.append(latent)
            latent = self._next(latent, each)
            after.append(latent)
        latents = torch.stack(after, 1)

        def outcome(name: str) -> Tensor | None:
            if name == "reward":
                return self.bins.mean(self.reward(torch.cat([torch.stack(before, 1), acted], -1)))
            if self.continuation is None:
                return None
            goes_on: Tensor = self.continuation(latents).squeeze(-1).float().sigmoid()
            return goes_on

        outcomes = LazyMapping(("reward", "discount"), outcome)
        return LazyPrediction(latents, outcomes, {**belief, "latent": latent}, self.decode)

    def decode(self, latent: Tensor) -> dict[str, Tensor]:
        """Return nothing: the latents hold no picture."""
        return {}

    # ---- features, values, proposals -------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the latent [B, L]."""
        return belief["latent"]

    def track(self, segment: Segment) -> Belief:
        """Return the beliefs at every frame: row b * (T + 1) + t."""
        return self._believe(self.inputs.stacked(segment.observation).flatten(0, 1))

    def value(self, belief: Belief) -> Tensor:
        """Return the expected discounted return [B] of the policy prior's most likely actions.

        It is the mean of two value networks. The authors draw both, and the actions; here nothing is drawn.
        """
        latent = belief["latent"]
        mean, _ = self._gaussian(latent)
        two = torch.arange(2, device=latent.device)
        values: Tensor = self.bins.mean(self.critics(torch.cat([latent, mean.tanh()], -1), two, frozen=True))
        return values.mean(0)

    def policy(self, belief: Belief) -> SquashedNormal:
        """Return the policy prior's actions: Gaussians, squashed into the bounds."""
        mean, log_std = self._gaussian(belief["latent"])
        return SquashedNormal(mean, log_std.exp(), self.low, self.high)

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all losses along rollouts of H steps.

        A rollout begins at every frame with k - 1 frames before it and H steps after it, and at the first
        ones of an episode. The policy's loss adds its gradient, which reaches no other part, and nothing to
        the sum: minus the value of the policy's actions falls and rises with the values. Metrics:
        ``loss/consistency``, ``loss/reward``, ``loss/value``, ``loss/continuation`` and ``loss/policy``, each
        before its weight, and ``value``, the mean target.
        """
        frames, known, steps = self._rollouts(segment)
        action, mask = self.encode_action(steps.action), steps.mask
        with torch.no_grad():
            seen = self._encode(frames[:, 1:])  # [B, H, L]
            target = self._targets(seen, steps)
        latents = [self._encode(frames[:, 0])]
        for acted in action.unbind(1):
            latents.append(self._next(latents[-1], acted))
        latent = torch.stack(latents, 1)  # [B, H + 1, L]
        pairs = torch.cat([latent[:, :-1], action], -1)
        weight = self.rho ** torch.arange(latent.shape[1], device=latent.device)
        values = self.critics(pairs)
        each = {
            "consistency": (latent[:, 1:] - seen).square().mean(-1),
            "reward": self.bins.loss(self.reward(pairs), steps.reward),
            "value": self.bins.loss(values, target.expand(values.shape[:-1])).mean(0),
        }
        terms = {name: masked_mean(value * weight[:-1], mask) for name, value in each.items()}
        if self.continuation is not None:
            logits = self.continuation(latent[:, 1:]).squeeze(-1).float()
            goes_on = (~steps.terminated).float()
            errors = F.binary_cross_entropy_with_logits(logits, goes_on, reduction="none")
            terms["continuation"] = masked_mean(errors, mask)
        policy = masked_mean(self._policy_loss(latent.detach(), known) * weight, known)
        total = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
        total = total + policy - policy.detach()
        metrics = {f"loss/{name}": term.detach() for name, term in {**terms, "policy": policy}.items()}
        return total, {**metrics, "value": masked_mean(target, mask)}

    def after_update(self, progress: float) -> None:
        """Let the slow value networks and the scale of returns follow."""
        for slow, quick in zip(self.slow.parameters(), self.critics.parameters(), strict=True):
            slow.lerp_(quick, self.tau)
        if self._noted:
            self.scale.update(torch.tensor(self._noted, device=self.low.device))
            self._noted = []

    def groups(self) -> list[Group]:
        """Return the encoder, which is fitted slowly, and the policy prior, which is clipped by itself."""
        encoder = [*self.inputs.parameters(), *self.encoder.parameters()]
        return [
            Group(encoder, rate=0.3),
            Group([*self.proposal.parameters()], clip=20.0, epsilon=POLICY_EPSILON),
        ]

    def _policy_loss(self, latent: Tensor, known: Tensor) -> Tensor:
        """Return the losses [B, H + 1] of the policy in latents without gradient: minus the value of what it
        draws, in units of the scale, minus its weighted entropy.

        As in the authors' code, the entropy is that before squashing, times the number of action dimensions.
        """
        mean, log_std = self._gaussian(latent)
        noise = torch.randn_like(mean)
        drawn = (mean + log_std.exp() * noise).tanh()
        value = self.bins.mean(self.critics(torch.cat([latent, drawn], -1), self._two(), frozen=True)).mean(0)
        self._noted = value[:, 0][known[:, 0]].tolist()
        entropy = mean.shape[-1] * (0.5 * noise.square() + log_std + HALF_LOG_TAU).sum(-1)
        loss: Tensor = -(value / self.scale() + self.entropy_weight * entropy)
        return loss

    def _targets(self, latent: Tensor, steps: Segment) -> Tensor:
        """Return r + gamma (1 - end) Q(z', a') [B, H] by the smaller of two slow networks, for the latents z'
        [B, H, L] that the steps led to and actions a' of the policy."""
        mean, log_std = self._gaussian(latent)
        drawn = (mean + log_std.exp() * torch.randn_like(mean)).tanh()
        values: Tensor = self.bins.mean(self.slow(torch.cat([latent, drawn], -1), self._two(), frozen=True))
        target: Tensor = steps.reward + self.gamma * (~steps.terminated) * values.amin(0)
        return target

    def _two(self) -> Tensor:
        """Draw two value networks."""
        return torch.randperm(self.critics.count)[:2].to(self.low.device)

    def _gaussian(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and the log width, each [..., A], of the policy before squashing."""
        mean, width = self.proposal(latent).float().chunk(2, dim=-1)
        low, high = LOG_STD
        return mean, low + 0.5 * (high - low) * (width.tanh() + 1)

    def _next(self, latent: Tensor, acted: Tensor) -> Tensor:
        after: Tensor = self.dynamics(torch.cat([latent, acted], -1))
        return after

    def _encode(self, frames: Tensor) -> Tensor:
        latent: Tensor = self.encoder(self.inputs.history(frames))
        return latent

    def _believe(self, frames: Tensor) -> Belief:
        return {"frames": frames, "latent": self._encode(frames)}

    def _rollouts(self, segment: Segment) -> tuple[Tensor, Tensor, Segment]:
        """Return the R rollouts in a segment: their H + 1 stacks of frames [R, H + 1, k, I], which of these
        are no padding [R, H + 1] bool, and their H steps."""
        length, missing = segment.mask.shape[1], self.frames - 1
        horizon = min(self.horizon, length - missing)
        if horizon < 1:
            raise ShapeError("tdmpc2: a segment's mask", segment.mask.shape, ("B", self.least_length))
        whole = torch.zeros_like(segment.mask[:, 0]) if segment.first is None else segment.first
        begins = torch.arange(length - horizon + 1, device=whole.device)
        row, begin = (x.unsqueeze(1) for x in (whole.unsqueeze(1) | (begins >= missing)).nonzero().unbind(1))
        frame = begin + torch.arange(horizon + 1, device=begin.device)
        step = frame[:, :-1]
        frames = self.inputs.stacked(segment.observation)[row, frame]
        known = F.pad(segment.mask, (1, 0), value=True)[row, frame]
        names = ("action", "reward", "terminated", "mask")
        return frames, known, Segment({}, **{name: vars(segment)[name][row, step] for name in names})


class Critics(nn.Module):
    """``count`` value networks in parallel: [..., inputs] -> [count, ..., outputs]; their last layers begin
    at 0."""

    def __init__(self, count: int, inputs: int, hidden: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.count, self.dropout = count, dropout
        sizes = [(inputs, hidden), (hidden, hidden), (hidden, outputs)]
        self.weights = nn.ParameterList(nn.Parameter(torch.zeros(count, *size)) for size in sizes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, end)) for _, end in sizes)
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(count, 1, hidden)) for _ in sizes[:-1])
        self.offsets = nn.ParameterList(nn.Parameter(torch.zeros(count, 1, hidden)) for _ in sizes[:-1])
        for weight in self.weights[:-1]:
            _initialise(weight)

    def forward(self, x: Tensor, chosen: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        """Return the outputs of all networks, or of those ``chosen`` [N].

        With ``frozen`` no weight gets a gradient, and nothing is dropped out.
        """

        def of(weights: nn.ParameterList) -> list[Tensor]:
            found = [weight.detach() if frozen else weight for weight in weights]
            return found if chosen is None else [weight[chosen] for weight in found]

        (*inner, last), (*biases, end) = of(self.weights), of(self.biases)
        rows, x = x.shape[:-1], x.reshape(-1, x.shape[-1]).expand(len(last), -1, -1)
        norms = zip(inner, biases, of(self.gains), of(self.offsets), strict=True)
        for layer, (weight, bias, gain, offset) in enumerate(norms):
            x = torch.baddbmm(bias, x, weight)
            if layer == 0 and self.training and not frozen:
                x = F.dropout(x, self.dropout)
            x = F.mish(torch.addcmul(offset, F.layer_norm(x, x.shape[-1:]), gain))
        return torch.baddbmm(end, x, last).reshape(len(last), *rows, -1)


class SimNorm(nn.Module):
    """A latent as simplices: each ``SIMPLEX`` entries are a softmax (section 3.1 of the paper)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised latent [..., L]."""
        return x.float().reshape(*x.shape[:-1], -1, SIMPLEX).softmax(-1).flatten(-2)


def _mlp(inputs: int, hidden: int, layers: int, outputs: int, end: nn.Module | None = None) -> nn.Sequential:
    """Return linear layers, each followed by LayerNorm and Mish; the last one by LayerNorm and ``end``, or by
    nothing."""
    stack: list[nn.Module] = []
    for layer in range(layers):
        stack += [nn.Linear(hidden if layer else inputs, hidden), nn.LayerNorm(hidden), nn.Mish()]
    stack.append(nn.Linear(hidden, outputs))
    if end is not None:
        stack += [nn.LayerNorm(outputs), end]
    for module in stack:
        if isinstance(module, nn.Linear):
            _initialise(module.weight)
            nn.init.zeros_(module.bias)
    return nn.Sequential(*stack)


def _initialise(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)


def _discount(max_steps: int | None) -> float:
    """Return the discount for episodes of ``max_steps`` steps."""
    return 0.995 if max_steps is None else min(max(1 - 5 / max_steps, 0.95), 0.995)
