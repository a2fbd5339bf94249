"""Stochastic variational video prediction (SV2P; Babaeizadeh et al. 2018, arXiv 1710.11252).

    latent              z ~ N(0, 1), one map or vector for the whole video; q(z | all frames) in training
    next frame          x_{t+1} ~ p(x_{t+1} | x_0 .. x_t, a_0 .. a_t, z), pixels moved by CDNA
    loss                -log p(x_1 .. x_T | x_0, z) + beta KL(q || p)

Two departures. The posterior is a product of the evidence of each pair of successive frames, in place of one
network of all frames, so that it exists for any number of them, and a belief has it after the frames that it
has seen: the prior after one frame. Binary screens have a Bernoulli likelihood, so that beta 1 is the bound.

The loss sees all frames by the posterior. Every number that is to be compared is therefore predicted from a
belief, or estimated by draws from the prior (``surprise``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from wmplay.contracts import LazyMapping, LazyPrediction, Prediction, Segment, Surprise
from wmplay.errors import ConfigError, check_values
from wmplay.models.video.frames import Frames, image_goals
from wmplay.models.video.latent import Evidence, PairEvidence, log_mean_exp, ramp
from wmplay.models.video.predictor import FramePredictor, State
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import term
from wmplay.nets.heads import FrameReader, OutcomeHeads, masked_mean
from wmplay.nets.observations import ObservationEncoder
from wmplay.system.processes import joint_count

# frame [B, C, H, W], goal [B, G], the predictor's state, and of the latent: precision, pull and z
# [B, L, h, w], and open [B] bool, whether z is the posterior's mean, and not yet drawn
Belief: TypeAlias = dict[str, Tensor]

STRIDES = {32: 2}  # the predictor's stride by the largest shorter side of a frame; else LARGE
LARGE = 4


class Rollout(NamedTuple):
    """T steps of the predictor."""

    before: Tensor  # [B, T, C, H, W], the frames that it was given
    after: Tensor  # [B, T, C, H, W], the next frames that it predicted
    middle: Tensor  # [B, T, channels, h, w], its smallest maps


class SV2P(nn.Module):
    """A video model with one latent per video, and the reward from its frames or from its features.

    It reads one image: a binary screen or a uint8 image; other observations are left alone. Sampled futures
    draw the latent once, from the posterior of the frames seen, and keep it.

    Args:
        observation_space: a Dict with exactly one image.
        action_space: a one-dimensional Box, or Discrete.
        stochastic: whether the video has a latent; False is the deterministic twin.
        vector: numbers of the latent; 0 = a map of one number for each of the smallest maps' places, as
            published.
        reward_from: what the heads of reward and continuation see: the "frames" before and after a step,
            through which no gradient goes, or the "features" of the predictor.
        channels: of the predictor's larger scale; the smaller one has twice as many.
        kernels: that move the last frame.
        kernel_size: edge of a kernel in pixels, odd.
        hidden: units of each hidden layer of the heads.
        layers: hidden layers of the heads.
        context: first frames of a segment that are always the real ones in training.
        sampling: the parts of all updates between which the probability that a later input in training is the
            real frame, and not the predicted one, falls from 1 to ``teacher`` (scheduled sampling).
        teacher: the last value of that probability.
        posterior_from: part of all updates after which the latent is drawn from the posterior; before, from
            the prior.
        kl_ramp: the parts of all updates between which the KL's weight rises from 0 to ``kl_weight``.
        kl_weight: beta.
        draws: latents from the prior in an estimate of a likelihood (``surprise``).
        pixel_sigma: width of the Gaussian around pixels, as a part of 0..255.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    goals = True  # for the rewards
    smooths = True
    progress: Tensor

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        stochastic: bool = True,
        vector: int = 0,
        reward_from: Literal["frames", "features"] = "features",
        channels: int = 8,
        kernels: int = 10,
        kernel_size: int = 5,
        hidden: int = 64,
        layers: int = 1,
        context: int = 2,
        sampling: Sequence[float] = (0.0, 0.6),
        teacher: float = 0.0,
        posterior_from: float = 0.1,
        kl_ramp: Sequence[float] = (0.2, 0.6),
        kl_weight: float = 1.0,
        draws: int = 16,
        pixel_sigma: float = 0.1,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"channels": channels, "kernels": kernels, "kernel_size": kernel_size, "hidden": hidden}
        check_values(
            "sv2p",
            at_least_one={**sizes, "layers": layers, "context": context, "draws": draws},
            not_negative={"kl_weight": kl_weight, "vector": vector},
            fractions={"teacher": teacher, "posterior_from": posterior_from},
        )
        for name, value in (("sampling", sampling), ("kl_ramp", kl_ramp)):
            if len(value) != 2 or not 0 <= value[0] <= value[1] <= 1:
                raise ConfigError(
                    f"sv2p: {name} is {list(value)}", got=list(value), expected="two rising numbers in 0 .. 1"
                )
        if kernel_size % 2 == 0:
            raise ConfigError(
                f"sv2p: kernel_size is {kernel_size}", got=kernel_size, expected="an odd number"
            )
        if reward_from not in ("frames", "features"):
            raise ConfigError(
                f"sv2p: reward_from is {reward_from!r}", got=reward_from, expected="frames or features"
            )
        self.context, self.sampling, self.teacher, self.draws = context, sampling, teacher, draws
        self.posterior_from, self.kl_ramp, self.kl_weight = posterior_from, kl_ramp, kl_weight
        shape = Frames(observation_space, pixel_sigma, 1).shape
        stride = next((s for side, s in STRIDES.items() if min(shape[:2]) <= side), LARGE)
        self.frames = Frames(observation_space, pixel_sigma, 2 * stride)
        self.reads = self.predicted = (self.frames.key,)
        self.encode_action = ActionEncoder(action_space)
        frame = (self.frames.channels, self.frames.height, self.frames.width)
        latent = vector if stochastic else None
        self.predictor = FramePredictor(
            *frame, self.encode_action.size, latent, channels, stride, kernels, kernel_size
        )
        self.pairs = PairEvidence(frame[0], channels, stride, vector) if stochastic else None
        goals = image_goals(observation_space, self.frames.key)
        self.goal = ObservationEncoder(goals, 0, hidden, 1, hidden) if goals else None
        self.reader = None
        inputs = self.predictor.middle_size
        if reward_from == "frames":
            self.reader = FrameReader(
                {self.frames.key: self.frames.modality}, 0, hidden, self.encode_action.size
            )
            inputs = self.reader.size
        inputs += hidden * bool(goals)
        self.outcome = OutcomeHeads(inputs, hidden, layers, reward_weight, continuation_weight)
        self.register_buffer("progress", torch.zeros(()))

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}: the prior of the latent."""
        frame = self.frames.planes(observation)
        rows, device = len(frame), frame.device
        nothing = torch.zeros(rows, *self.predictor.latent_shape, device=device)
        return {
            **self.predictor.blank(rows, device),
            "frame": frame,
            "goal": self._goal(observation),
            "precision": nothing,
            "pull": nothing,
            "z": nothing,
            "open": torch.ones(rows, dtype=torch.bool, device=device),
        }

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}.

        The predictor's memory of a step is made with the posterior's mean after that step.
        """
        frames = torch.cat([belief["frame"].unsqueeze(1), self.frames.planes(observation)], 1)
        latent, evidence = belief["z"].unsqueeze(1), Evidence(belief["precision"], belief["pull"])
        if self.pairs is not None:
            each = zip(evidence, self.pairs(frames), strict=True)
            evidence = Evidence(*(known.unsqueeze(1) + new.cumsum(1) for known, new in each))
            latent = evidence.gaussian()[0]
            evidence = Evidence(*(sums[:, -1] for sums in evidence))
        conditions = self.predictor.conditions(self.encode_action(action), latent)
        _, state = self.predictor(belief, frames[:, :-1], conditions)
        return {
            **state,
            "frame": frames[:, -1],
            "goal": belief["goal"],
            **evidence._asdict(),
            "z": latent[:, -1],
            "open": torch.ones_like(belief["open"]),
        }

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: under a latent drawn from the posterior with a generator, under the
        posterior's mean without.

        ``temperature`` multiplies the posterior's width.
        """
        z = belief["z"]
        if generator is not None and self.pairs is not None:
            _, log_variance = Evidence(belief["precision"], belief["pull"]).gaussian()
            noise = torch.randn(z.shape, device=z.device, generator=generator)
            drawn = z + temperature * (0.5 * log_variance).exp() * noise
            z = torch.where(belief["open"][:, None, None, None], drawn, z)
        acted = self.encode_action(action)
        conditions = self.predictor.conditions(acted, z.unsqueeze(1))
        rollout, state = self._unroll(belief, belief["frame"].unsqueeze(1), conditions)
        latent = self.frames.image(rollout.after)
        outcomes = self.outcome(lambda: self._seen_by_heads(rollout, acted, belief["goal"]))
        after = {"frame": rollout.after[:, -1], "z": z}
        if generator is not None:
            after["open"] = torch.zeros_like(belief["open"])
        return LazyPrediction(latent, outcomes, {**belief, **state, **after}, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return the distribution of the image around expected ones [..., *shape] within 0 and 1."""
        return LazyMapping(self.predicted, lambda key: self.frames.distribution(latent))

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative evidence lower bound per step, in nats, with the weights of this time of the
        training.

        Metrics: ``loss/<key>``, ``loss/kl``, ``loss/reward``, ``loss/continuation``, each before its weight.
        """
        frames, action = self.frames.planes(segment.observation), self.encode_action(segment.action)
        latent, kl = self._video_latent(frames, segment.mask)
        rollout = self._practise(frames, self.predictor.conditions(action, latent))
        likelihood = self._log_likelihood(rollout, segment)
        terms = {
            term(self.frames.key): masked_mean(-likelihood, segment.mask),
            "kl": kl.sum() / joint_count(segment.mask),
        }
        goal = self._goal({key: value[:, 0] for key, value in segment.observation.items()})
        seen = self._seen_by_heads(rollout, action, goal)
        outcomes = self.outcome.negative_log_likelihoods(seen, segment)
        terms |= {name: masked_mean(values, segment.mask) for name, values in outcomes.items()}
        weights = {**self.outcome.weights, "kl": self.kl_weight * float(ramp(self.progress, *self.kl_ramp))}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def after_update(self, progress: float) -> None:
        """Note the part of all updates that are done, which the phases of the training depend on."""
        self.progress.fill_(progress)

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return the negative log-likelihood of each frame after the first, given all frames before it.

        With a latent it is estimated by ``draws`` latents from the prior, which have seen no frame: summed
        over the frames, the estimate is an upper bound on average (Burda et al. 2015, arXiv 1509.00519).
        Draws come from torch's global generator.
        """
        frames, action = self.frames.planes(segment.observation), self.encode_action(segment.action)
        before = frames[:, :-1]
        state = self.predictor.blank(len(frames), frames.device)
        below, _ = self.predictor.read(state, before)  # the same under all latents

        def likelihood(latent: Tensor | None) -> Tensor:
            maps, _ = self.predictor.think(state, below, self.predictor.conditions(action, latent))
            after = self.predictor.decode(maps, before)
            return self._log_likelihood(Rollout(before, after, maps.middle), segment)

        if self.pairs is None:
            return Surprise(-likelihood(None), "exact")
        shape = (len(frames), 1, *self.predictor.latent_shape)
        draws = [likelihood(torch.randn(shape, device=frames.device)) for _ in range(self.draws)]
        so_far = log_mean_exp(torch.stack(draws).double().cumsum(-1))
        return Surprise(-so_far.diff(dim=-1, prepend=torch.zeros_like(so_far[:, :1])).float(), "bound")

    # ---- parts -----------------------------------------------------------------------------------

    def _video_latent(self, frames: Tensor, mask: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return latents [B, 1, L, h, w] of videos of frames [B, T + 1, C, H, W], and the KL [B] in nats.

        They are drawn from the posterior, or from the prior before ``posterior_from``.
        """
        if self.pairs is None:
            return None, frames.new_zeros(len(frames))
        count = mask[:, :, None, None, None].float()
        evidence = Evidence(*((count * x).sum(1) for x in self.pairs(frames)))
        mean, log_variance = evidence.gaussian()
        noise = torch.randn_like(mean)
        inferred = float(self.progress) >= self.posterior_from
        latent = mean + (0.5 * log_variance).exp() * noise if inferred else noise
        return latent.unsqueeze(1), evidence.kl() if inferred else mean.new_zeros(len(mean))

    def _practise(self, frames: Tensor, conditions: Tensor) -> Rollout:
        """Return the steps along a video, by scheduled sampling: each input after the context is the real
        frame, or else the predicted one, by a draw for each row."""
        steps = conditions.shape[1]
        teacher = 1 - (1 - self.teacher) * float(ramp(self.progress, *self.sampling))
        known = steps if teacher == 1 else min(self.context, steps)
        blank = self.predictor.blank(len(frames), frames.device)
        real = torch.rand(steps, len(frames), device=frames.device) < teacher
        rollout, _ = self._unroll(blank, frames[:, :known], conditions, (real, frames))
        return rollout

    def _unroll(
        self,
        state: State,
        known: Tensor,
        conditions: Tensor,
        sampling: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Rollout, State]:
        """Take steps: all from known frames [B, K, C, H, W] at once, then from the predicted ones, or from
        real frames [B, T + 1, C, H, W] where [T, B] is True."""
        first = known.shape[1]
        maps, state = self.predictor(state, known, conditions[:, :first])
        after = self.predictor.decode(maps, known)
        steps = [Rollout(known, after, maps.middle)]
        for t in range(first, conditions.shape[1]):
            given = after[:, -1:]
            if sampling is not None:
                real, frames = sampling
                given = torch.where(real[t, :, None, None, None, None], frames[:, t : t + 1], given)
            maps, state = self.predictor(state, given, conditions[:, t : t + 1])
            after = self.predictor.decode(maps, given)
            steps.append(Rollout(given, after, maps.middle))
        return Rollout(*(torch.cat(parts, 1) for parts in zip(*steps, strict=True))), state

    def _log_likelihood(self, rollout: Rollout, segment: Segment) -> Tensor:
        """Return the log-likelihood [B, T] of each frame after the first, in nats."""
        predicted = self.frames.distribution(self.frames.image(rollout.after))
        likelihood: Tensor = predicted.log_prob(segment.observation[self.frames.key][:, 1:].float())
        return likelihood

    def _seen_by_heads(self, rollout: Rollout, action: Tensor, goal: Tensor) -> Tensor:
        """Return the inputs [B, T, F] of the heads of reward and continuation."""
        if self.reader is None:
            seen = rollout.middle.flatten(2).float()
        else:
            around = torch.cat([rollout.before[:, :1], rollout.after], 1)
            images = self.frames.largest * self.frames.image(around)
            seen = self.reader({self.frames.key: images}, action)
        return torch.cat([seen, goal.unsqueeze(1).expand(-1, seen.shape[1], -1).to(seen.dtype)], -1)

    def _goal(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Return the code [B, G] of the goal in frames {key: [B, ...]}; G is 0 without one."""
        if self.goal is None:
            return torch.zeros(len(observation[self.frames.key]), 0, device=self.progress.device)
        code: Tensor = self.goal(observation)
        return code
