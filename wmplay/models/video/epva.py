"""EPVA (Wichers et al. 2018, arXiv 1806.04768): long futures of video in a code, without pixels fed back.

    encoder     e_t = f(x_t)
    predictor   g_t+1 from e_t and the action, by LSTMs; later steps from g_t in place of e_t
    analogy     x_t from T(D(e_t) - D(e_0)) next to the maps of x_0, by a mask in front of x_0

A frame is drawn as what differs from the first one, and no drawn frame is seen again, so that nothing blurs
from step to step. The encoder is fitted by the frames that are drawn from its own codes, and by how well the
predictor foresees these: at full weight from the beginning, that would make all codes equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, Literal, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, LazyPrediction, Prediction, Segment, Surprise
from wmplay.errors import ConfigError, check_values
from wmplay.models.video.frames import Frames
from wmplay.models.video.memory import Memory
from wmplay.models.video.pyramid import Pyramid, PyramidDecoder, halvings
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import term
from wmplay.nets.heads import OutcomeHeads, masked_mean

Belief: TypeAlias = dict[str, Tensor]  # first [B, C, H, W]; code [B, E]; hidden and cell [B, L, D]


class EPVA(nn.Module):
    """A model of the one image among the observations, which sees nothing else, and has no noise.

    The latent of a predicted step is its code, with the first frame of the belief behind it.

    Args:
        observation_space: a Dict with one binary screen or one uint8 image.
        action_space: a one-dimensional Box, or Discrete.
        feedback: what a predicted step sees of the step before: its "code"; or, for the deterministic twin,
            its "pixels", as drawn, encoded again. The twin is fitted by the frames that it so predicts.
        width: channels at full resolution.
        code: size E of a code.
        units: of each LSTM.
        layers: LSTMs, one on the other.
        hidden: units of the hidden layer of the heads.
        context: first frames of a segment after which the predictor goes on by itself in training.
        foresight: the last weight of the squared error of predicted codes.
        delay: the part of all updates after which that weight is half of its last one.
        pixel_sigma: width of the Gaussian around pixels, as a part of 0..255.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    progress: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        feedback: Literal["code", "pixels"] = "code",
        width: int = 8,
        code: int = 64,
        units: int = 128,
        layers: int = 2,
        hidden: int = 64,
        context: int = 5,
        foresight: float = 1.0,
        delay: float = 0.1,
        pixel_sigma: float = 0.1,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "code": code, "units": units, "layers": layers, "hidden": hidden}
        check_values(
            "epva",
            at_least_one={**sizes, "context": context},
            positive={"delay": delay},
            not_negative={"foresight": foresight},
        )
        if feedback not in ("code", "pixels"):
            raise ConfigError(f"epva: feedback is {feedback!r}", got=feedback, expected="code or pixels")
        count = halvings(Frames(observation_space, pixel_sigma, 1).shape)
        self.frames = Frames(observation_space, pixel_sigma, 2**count)
        self.reads = self.predicted = (self.frames.key,)
        self.encode_action = ActionEncoder(action_space)
        self.feedback, self.size, self.context = feedback, code, context
        self.foresight, self.delay = foresight, delay
        image = self.frames.channels
        self.sides = image, self.frames.height, self.frames.width
        self.encoder = Pyramid(image, self.sides[1:], width, count, code)
        inputs = [(code, self.encode_action.size), *[(units,)] * (layers - 1)]
        self.memories = nn.ModuleList(Memory(sizes, units) for sizes in inputs)
        self.next_code = nn.Linear(units, code)
        self.difference, self.analogy = nn.Linear(code, code, bias=False), nn.Linear(code, code)
        self.decoder = PyramidDecoder(self.encoder, code, image + 1)
        for layer in (self.encoder.stem, *self.encoder.down, self.encoder.out):
            nn.init.zeros_(layer.bias)  # so that what is lit decides a code, from the first update on
        self.outcome = OutcomeHeads(units, hidden, 1, reward_weight, continuation_weight)
        self.register_buffer("progress", torch.zeros(()))

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}."""
        first = self.frames.planes(observation)
        memory = first.new_zeros(len(first), len(self.memories), self.next_code.in_features)
        return {"first": first, "code": self._encode(first), "hidden": memory, "cell": memory}

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}."""
        codes = torch.cat([belief["code"].unsqueeze(1), self._encode(self.frames.planes(observation))], 1)
        _, memory = self._remember(belief, codes[:, :-1], self.encode_action(action))
        return {**belief, **memory, "code": codes[:, -1]}

    def predict(
        self, belief: Belief, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Predict under action [B, H, A]. The model has no noise: with a generator it is the same."""
        told, codes, after = self._unroll(belief, belief["code"].unsqueeze(1), self.encode_action(action))
        first = belief["first"].flatten(1).unsqueeze(1).expand(-1, codes.shape[1], -1)
        latent = torch.cat([codes, first], -1)
        return LazyPrediction(latent, self.outcome(lambda: told), after, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return the distribution of the image, of codes and first frames [..., E + C H W]."""

        def drawn(key: str) -> Distribution:
            code, first = torch.split(latent, [self.size, prod(self.sides)], -1)
            planes = self._draw(code.reshape(-1, 1, self.size), first.reshape(-1, *self.sides))
            return self.frames.distribution(self.frames.image(planes.reshape(*code.shape[:-1], *self.sides)))

        return LazyMapping(self.predicted, drawn)

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative log-likelihood per step, in nats, of frames drawn from their own codes, and the
        squared error of the codes that are predicted after the context, with the weight of this time of the
        training.

        Metrics: ``loss/<key>``, ``loss/foresight``, ``loss/reward``, ``loss/continuation``, each before its
        weight, and ``code_variance``, the mean variance of a code's entries: towards 0, codes collapse.
        """
        belief, codes, action = self._encoded(segment)
        told, foreseen, _ = self._unroll(belief, codes[:, : self.context], action)
        own = self.feedback == "code"
        drawn = codes[:, 1:] if own else foreseen
        values = {term(self.frames.key): self._nats(belief, drawn, segment)}
        if own:
            values["foresight"] = (foreseen - codes[:, 1:]).float().square().sum(-1)
        values |= self.outcome.negative_log_likelihoods(told, segment)
        terms = {name: masked_mean(value, segment.mask) for name, value in values.items()}
        ramp = ((self.progress - self.delay) / (0.1 * self.delay)).sigmoid()
        weights: dict[str, Any] = {**self.outcome.weights, "foresight": self.foresight * ramp}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        metrics = {f"loss/{name}": value.detach() for name, value in terms.items()}
        return total, {**metrics, "code_variance": codes.detach().float().flatten(0, 1).var(0).mean()}

    def after_update(self, progress: float) -> None:
        """Note the part of all updates that are done, on which the weight of foresight depends."""
        self.progress.fill_(progress)

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return the negative log-likelihood of each frame after the first, given all frames before it."""
        belief, codes, action = self._encoded(segment)
        _, foreseen, _ = self._unroll(belief, codes[:, :-1], action)
        return Surprise(self._nats(belief, foreseen, segment), "exact")

    # ---- parts -----------------------------------------------------------------------------------

    def _encoded(self, segment: Segment) -> tuple[Belief, Tensor, Tensor]:
        """Return the belief at a segment's first frame, all codes [B, T + 1, E], and encoded actions."""
        belief = self.initial({key: value[:, 0] for key, value in segment.observation.items()})
        return (
            belief,
            self._encode(self.frames.planes(segment.observation)),
            self.encode_action(segment.action),
        )

    def _encode(self, frames: Tensor) -> Tensor:
        """Return the codes [..., E] of frames [..., C, H, W]."""
        code: Tensor = self.encoder(frames.flatten(0, -4))[0]
        return normed(code).reshape(*frames.shape[:-3], self.size)

    def _draw(self, code: Tensor, first: Tensor) -> Tensor:
        """Return the expected frames [B, T, C, H, W] of codes [B, T, E] by analogy to first frames [B, C, H,
        W]."""
        before, maps = self.encoder(first)
        change = self.difference(code) - self.difference(normed(before)).unsqueeze(1)
        times = code.shape[1]
        same = [x.repeat_interleave(times, 0) for x in maps]
        output = self.decoder(self.analogy(F.silu(change)).flatten(0, 1), same).float()
        front, mask = output.sigmoid().unflatten(0, code.shape[:2]).split([self.sides[0], 1], 2)
        drawn: Tensor = mask * front + (1 - mask) * first.unsqueeze(1)
        return drawn

    def _nats(self, belief: Belief, codes: Tensor, segment: Segment) -> Tensor:
        """Return the negative log-likelihood [B, T] of frames after the first, drawn from codes [B, T, E]."""
        drawn = self.frames.distribution(self.frames.image(self._draw(codes, belief["first"])))
        likelihood: Tensor = drawn.log_prob(segment.observation[self.frames.key][:, 1:].float())
        return -likelihood

    def _unroll(self, belief: Belief, known: Tensor, action: Tensor) -> tuple[Tensor, Tensor, Belief]:
        """Take steps: from known codes [B, K, E] all at once, then from what is fed back.

        Args:
            belief: before the steps.
            known: codes before the first steps.
            action: [B, T, A], encoded.

        Returns:
            The LSTMs' outputs [B, T, D], the predicted codes [B, T, E], and the belief after the steps.
        """
        known = known[:, : action.shape[1]]
        output, memory = self._remember(belief, known, action[:, : known.shape[1]])
        told, codes = [output], [normed(self.next_code(output))]
        for t in range(known.shape[1], action.shape[1]):
            given = self._fed_back(codes[-1][:, -1], belief["first"]).unsqueeze(1)
            output, memory = self._remember(memory, given, action[:, t : t + 1])
            told.append(output)
            codes.append(normed(self.next_code(output)))
        after = {**belief, **memory, "code": self._fed_back(codes[-1][:, -1], belief["first"])}
        return torch.cat(told, 1), torch.cat(codes, 1), after

    def _fed_back(self, code: Tensor, first: Tensor) -> Tensor:
        """Return the code [B, E] that the step after a predicted one sees."""
        if self.feedback == "code":
            return code
        return self._encode(self._draw(code.unsqueeze(1), first).squeeze(1))

    def _remember(self, belief: Belief, codes: Tensor, action: Tensor) -> tuple[Tensor, Belief]:
        """Return the last LSTM's outputs [B, T, D] of codes [B, T, E] and actions [B, T, A], and the LSTMs'
        part of the belief."""
        given, hidden, cell = [codes, action], [], []
        for layer, memory in enumerate(self.memories):
            output, *state = memory(given, belief["hidden"][:, layer], belief["cell"][:, layer])
            given = [output]
            hidden.append(state[0])
            cell.append(state[1])
        return given[0], {"hidden": torch.stack(hidden, 1), "cell": torch.stack(cell, 1)}


def normed(code: Tensor) -> Tensor:
    """Return codes [..., E] with a mean of 0 and a variance of 1 over their entries: predicted codes so have
    the size of real ones, however long they are fed back."""
    return F.layer_norm(code, code.shape[-1:])
