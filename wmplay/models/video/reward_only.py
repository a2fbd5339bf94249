"""A model of rewards alone: R of "Models, Pixels, and Rewards" (Babaeizadeh et al. 2020, arXiv 2012.04603).

    code      c_t = f(last frames up to o_t)
    recurrent r_{t+h} from m_{t+h+1}, where m_{i+1} = GRU(m_i, (c, a_i)), c of the last real frame
    otherwise r_{t+h} = g(c_t, a_t .. a_{t+h}, h)

Nothing is predicted but rewards and ends. The fit unrolls from some of a segment's frames, each time up to
the horizon. GRUs stand in the place of the published LSTMs, because their output is their state: one pass
along the real frames gives the memory at each of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import LazyPrediction, Prediction, Segment
from wmplay.errors import check_values
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.agents.frames import FrameInputs
from wmplay.nets.heads import OutcomeHeads, masked_mean
from wmplay.nets.modalities import chosen_space
from wmplay.system.lazy import LazyMapping

# frames [B, k, I] of numbers, code [B, C], and the memory: all batch first
Belief: TypeAlias = dict[str, Tensor]


class RewardOnly(nn.Module):
    """A predictor of rewards and ends from the last frames and the actions after them.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        recurrent: whether actions are read by GRUs; else all at once, by a feed-forward network.
        keys: the observation keys that it reads; None = all.
        frames: number k of last frames that enter the code.
        code: size of the code.
        encoder_hidden: units of the encoder's hidden layer.
        sizes: units of the layers that read code and actions.
        horizon: steps of each unroll in training. Without ``recurrent``, the last so many actions are read.
        every: frames from the start of one unroll to that of the next.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range, or a key that the observations lack.
    """

    goals = True
    predicted = ()  # no observations

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        recurrent: bool = True,
        keys: Sequence[str] | None = None,
        frames: int = 2,
        code: int = 16,
        encoder_hidden: int = 64,
        sizes: Sequence[int] = (256, 128, 64),
        horizon: int = 12,
        every: int = 4,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        counts = {"frames": frames, "code": code, "encoder_hidden": encoder_hidden, "horizon": horizon}
        layers = {f"sizes[{i}]": size for i, size in enumerate(sizes)}
        check_values("reward_only", at_least_one={**counts, "every": every, "sizes": len(sizes), **layers})
        self.horizon, self.every, self.size = horizon, every, frames
        self.inputs = FrameInputs(chosen_space(observation_space, keys), frames, True)
        self.reads = self.inputs.seen
        self.encode_action = ActionEncoder(action_space)
        self.encoder = _normed(self.inputs.size, encoder_hidden, code)
        widths = (code, self.encode_action.size, sizes)
        self.memory: Memory = Recurrent(*widths) if recurrent else Window(*widths, horizon)
        self.outcome = OutcomeHeads(sizes[-1], sizes[-1], 0, reward_weight, continuation_weight)

    # ---- the verbs -------------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}, as if nothing had moved before
        it."""
        frames = self.inputs(observation).unsqueeze(1).repeat(1, self.size, 1)
        return self._believe(frames, self.memory.blank(len(frames), frames.device))

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        inputs = torch.cat([belief["frames"], self.inputs(observation)], 1)
        windows = inputs.unfold(1, self.size, 1).transpose(-1, -2)  # [B, T + 1, k, I]
        code = torch.cat([belief["code"].unsqueeze(1), self._code(windows[:, 1:-1])], 1)
        memory = self.memory.along(belief, code, self.encode_action(action))
        return self._believe(windows[:, -1], {name: x[:, -1] for name, x in memory.items()})

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Predict under action [B, H, A]. The model has no noise: with a generator it is the same."""
        latent, memory = self.memory.unroll(belief, belief["code"], self.encode_action(action))
        return LazyPrediction(latent, self.outcome(lambda: latent), {**belief, **memory}, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Tensor]:
        """Return nothing: observations are not predicted."""
        return LazyMapping((), lambda key: latent)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the code and the memory, [B, F]: all that later rewards depend on."""
        rows, memory = len(belief["code"]), self.memory.blank(0, belief["code"].device)
        return torch.cat([belief["code"], *(belief[name].reshape(rows, -1) for name in memory)], -1)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        frames, code, memory = self._along(segment)
        beliefs = {"frames": frames, "code": code, **memory}
        return {name: x.flatten(0, 1) for name, x in beliefs.items()}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-likelihood, in nats, of the outcomes of all unrolls' steps.

        Metrics: ``loss/reward`` and ``loss/continuation``, each before its weight.
        """
        _, code, memory = self._along(segment)
        action, steps = self.encode_action(segment.action), segment.mask.shape[1]
        starts = torch.arange(0, steps, self.every, device=action.device)
        ahead = min(self.horizon, steps)
        # each unroll of `ahead` steps, those after the segment's end without a meaning
        step = (starts.unsqueeze(1) + torch.arange(ahead, device=action.device)).clamp(max=steps)
        known = F.pad(segment.mask, (0, 1))[:, step].flatten(0, 1)
        padded = {"action": F.pad(action, (0, 0, 0, 1)), "reward": F.pad(segment.reward, (0, 1))}
        padded["terminated"] = F.pad(segment.terminated, (0, 1))
        taken = {name: x[:, step].flatten(0, 1) for name, x in padded.items()}
        start = {name: x[:, starts].flatten(0, 1) for name, x in memory.items()}
        latent, _ = self.memory.unroll(start, code[:, starts].flatten(0, 1), taken["action"])
        unrolls = Segment({}, mask=known, **taken)
        each = self.outcome.negative_log_likelihoods(latent, unrolls)
        terms = {name: masked_mean(values, known) for name, values in each.items()}
        total = torch.stack([self.outcome.weights[name] * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def _along(self, segment: Segment) -> tuple[Tensor, Tensor, Belief]:
        """Return the last k frames' numbers, their code and the memory at each frame, [B, T + 1, ...]."""
        frames = self.inputs.stacked(segment.observation)
        code = self._code(frames)
        blank = self.memory.blank(len(code), code.device)
        return frames, code, self.memory.along(blank, code[:, :-1], self.encode_action(segment.action))

    def _code(self, frames: Tensor) -> Tensor:
        code: Tensor = self.encoder(self.inputs.history(frames)).float()
        return code

    def _believe(self, frames: Tensor, memory: Belief) -> Belief:
        return {"frames": frames, "code": self._code(frames), **memory}


class Memory(nn.Module, ABC):
    """A reader of actions, given the code of the last real frame."""

    @abstractmethod
    def blank(self, rows: int, device: torch.device) -> Belief:
        """Return the memory at an episode's first frame."""

    @abstractmethod
    def along(self, memory: Belief, code: Tensor, action: Tensor) -> Belief:
        """Return the memory at a frame and at each of the T frames after it, [B, T + 1, ...].

        Args:
            memory: at the first frame.
            code: [B, T, C] of all frames but the last.
            action: [B, T, A], encoded, between the frames.
        """

    @abstractmethod
    def unroll(self, memory: Belief, code: Tensor, action: Tensor) -> tuple[Tensor, Belief]:
        """Return the outputs [B, H, F] of each step under actions [B, H, A] without further frames, and the
        memory after them."""


class Recurrent(Memory):
    """GRUs, one after the other."""

    def __init__(self, code: int, actions: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.layers = nn.ModuleList(
            nn.GRU(before, after, batch_first=True) for before, after in pairwise([code + actions, *sizes])
        )
        self.norms = nn.ModuleList(nn.LayerNorm(size) for size in sizes)

    def blank(self, rows: int, device: torch.device) -> Belief:
        """Return zeros."""
        return {f"memory{i}": torch.zeros(rows, size, device=device) for i, size in enumerate(self.sizes)}

    def along(self, memory: Belief, code: Tensor, action: Tensor) -> Belief:
        """Return the memory at each frame."""
        x, found = torch.cat([code, action], -1), {}
        for i, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            before = memory[f"memory{i}"]
            states = layer(x, before.unsqueeze(0))[0].float()
            found[f"memory{i}"] = torch.cat([before.unsqueeze(1), states], 1)
            x = norm(states)
        return found

    def unroll(self, memory: Belief, code: Tensor, action: Tensor) -> tuple[Tensor, Belief]:
        """Return the last layer's outputs, and the memory after them."""
        found = self.along(memory, code.unsqueeze(1).expand(-1, action.shape[1], -1), action)
        last: Tensor = self.norms[-1](list(found.values())[-1][:, 1:])
        return last, {name: x[:, -1] for name, x in found.items()}


class Window(Memory):
    """A feed-forward network of the last actions since the last real frame."""

    def __init__(self, code: int, actions: int, sizes: Sequence[int], horizon: int) -> None:
        super().__init__()
        self.horizon, self.actions = horizon, actions
        widths = [code + horizon * actions + 1, *sizes]
        self.layers = _normed(*widths)

    def blank(self, rows: int, device: torch.device) -> Belief:
        """Return no actions, and 0 steps."""
        past = torch.zeros(rows, self.horizon - 1, self.actions, device=device)
        return {"past": past, "since": torch.zeros(rows, device=device)}

    def along(self, memory: Belief, code: Tensor, action: Tensor) -> Belief:
        """Return blank memories after the first: a real frame makes the actions before it needless."""
        blank = self.blank(len(action), action.device)
        steps = action.shape[1]
        return {
            name: torch.cat([memory[name].unsqueeze(1), x.unsqueeze(1).expand(-1, steps, *x.shape[1:])], 1)
            for name, x in blank.items()
        }

    def unroll(self, memory: Belief, code: Tensor, action: Tensor) -> tuple[Tensor, Belief]:
        """Return the last layer's outputs, and the actions so far."""
        steps = action.shape[1]
        past = torch.cat([memory["past"], action], 1)
        windows = past.unfold(1, self.horizon, 1).flatten(2)
        since = memory["since"].unsqueeze(1) + torch.arange(1, steps + 1, device=action.device)
        age = (since / self.horizon).clamp(max=1).unsqueeze(-1)
        x = torch.cat([code.unsqueeze(1).expand(-1, steps, -1), windows, age], -1)
        x = self.layers(x)
        return x.float(), {"past": past[:, steps:], "since": since[:, -1]}


def _normed(*widths: int) -> nn.Sequential:
    """Return linear layers, each followed by a layer norm, with SiLU between them."""
    stack: list[nn.Module] = []
    for before, after in pairwise(widths):
        stack += [nn.SiLU(), nn.Linear(before, after), nn.LayerNorm(after)]
    return nn.Sequential(*stack[1:])
