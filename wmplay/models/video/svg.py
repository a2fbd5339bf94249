"""SVG (Denton and Fergus 2018, arXiv 1802.07687): video with a latent for each frame, under a learned prior.

    code      g_t = f(x_t)
    prior     p(z_t | x_0 .. x_t-1, a), an LSTM over g_t-1 and the action; or N(0, 1)
    posterior q(z_t | x_0 .. x_t, a), an LSTM over g_t-1, g_t and the action
    frame     x_t from the LSTM over (g_t-1, z_t, a), decoded next to the encoder's maps of x_t-1

Made wide it is the "big and simple" model of Villegas et al. 2019 (arXiv 1911.01655). The authors decode next
to the maps of the last frame of the context, and their posterior reads g_t alone, so that it cannot know how
the first frames differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Normal, kl_divergence
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, LazyPrediction, Prediction, Segment, Surprise
from wmplay.errors import ConfigError, check_values
from wmplay.models.video.frames import Frames
from wmplay.models.video.memory import Memory
from wmplay.models.video.pyramid import Pyramid, PyramidDecoder, halvings
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import term
from wmplay.nets.heads import OutcomeHeads, masked_mean
from wmplay.nets.modalities import Binary

UNITS = 8  # times the width: the size of a code, and of each LSTM
LEAST = 0.01  # the smallest width of a latent

Belief: TypeAlias = dict[str, Tensor]  # frame [B, C, H, W], and hidden and cell of each LSTM, [B, D]


class Steps(NamedTuple):
    """The T steps along known frames."""

    after: Tensor  # [B, T, C, H, W]: the next frames, as logits
    told: Tensor  # [B, T, D]: the output of the frames' memory
    kl: Tensor  # [B, T] nats
    belief: Belief


class SVG(nn.Module):
    """A model of the one image among the observations, which sees nothing else.

    The latent of a predicted step is the expected image, within 0 and 1. For a binary screen, the likelier
    pixels are fed back.

    Args:
        observation_space: a Dict with one binary screen or one uint8 image.
        action_space: a one-dimensional Box, or Discrete.
        prior: of the latents: learned, fixed to N(0, 1), or none, for the deterministic twin.
        width: channels at full resolution; everything else grows with it.
        stoch: latents of a frame.
        hidden: units of the hidden layer of the heads.
        kl_weight: beta.
        pixel_sigma: width of the Gaussian around pixels, as a part of 0..255.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for values out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        prior: Literal["learned", "fixed", "none"] = "learned",
        width: int = 16,
        stoch: int = 8,
        hidden: int = 64,
        kl_weight: float = 1.0,
        pixel_sigma: float = 0.1,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"width": width, "stoch": stoch, "hidden": hidden}
        check_values("svg", at_least_one=sizes, not_negative={"kl_weight": kl_weight})
        if prior not in ("learned", "fixed", "none"):
            raise ConfigError(f"svg: prior is {prior!r}", got=prior, expected="learned, fixed or none")
        count = halvings(Frames(observation_space, pixel_sigma, 1).shape)
        self.frames = Frames(observation_space, pixel_sigma, 2**count)
        self.reads = self.predicted = (self.frames.key,)
        self.encode_action = ActionEncoder(action_space)
        self.kind, self.stoch, self.kl_weight, self.code = prior, stoch, kl_weight, UNITS * width
        code, actions, image = self.code, self.encode_action.size, self.frames.channels
        self.encoder = Pyramid(image, (self.frames.height, self.frames.width), width, count, code)
        self.memories, self.statistics = nn.ModuleDict(), nn.ModuleDict()
        inputs = {"posterior": (code, code, actions), "prior": (code, actions)}
        for name in {"learned": ("posterior", "prior"), "fixed": ("posterior",), "none": ()}[prior]:
            self.memories[name] = Memory(inputs[name], code)
            self.statistics[name] = nn.Linear(code, 2 * stoch)
        self.memories["frame"] = Memory((code, actions, stoch) if self.statistics else (code, actions), code)
        self.decoder = PyramidDecoder(self.encoder, code, image)
        self.outcome = OutcomeHeads(code, hidden, 1, reward_weight, continuation_weight)

    # ---- the four verbs --------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}."""
        frame = self.frames.planes(observation)
        memory = {
            f"{name}_{part}": frame.new_zeros(len(frame), self.code)
            for name in self.memories
            for part in ("hidden", "cell")
        }
        return {"frame": frame, **memory}

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}.

        Latents are the means of the posteriors.
        """
        frames = torch.cat([belief["frame"].unsqueeze(1), self.frames.planes(observation)], 1)
        return self._along(belief, frames, self.encode_action(action), sampled=False).belief

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: latents are drawn from the prior with a generator, its means
        without.

        ``temperature`` multiplies the prior's widths.
        """
        now, images, told = belief, [], []
        for acted in self.encode_action(action).split(1, 1):
            code, maps = self._encode(now["frame"].unsqueeze(1))
            given = [code, acted]
            known, memory = self._prior(now, given)
            if known is not None:
                latent = known.mean
                if generator is not None:
                    noise = torch.randn(latent.shape, device=latent.device, generator=generator)
                    latent = latent + temperature * known.stddev * noise
                given.append(latent)
            output, frame_memory = self._run("frame", now, given)
            image = self.frames.image(self.decoder(output.squeeze(1), maps)).float().sigmoid()
            now = {**now, **memory, **frame_memory, "frame": self.frames.of_image(self._fed_back(image))}
            images.append(image)
            told.append(output)
        latents = torch.stack(images, 1)
        outcomes = self.outcome(lambda: torch.cat(told, 1))
        return LazyPrediction(latents, outcomes, now, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return the distribution of the image around expected ones [..., *shape] within 0 and 1."""
        return LazyMapping(self.predicted, lambda key: self.frames.distribution(latent))

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative evidence lower bound per step, in nats, given the real frames before it.

        Metrics: ``loss/<key>``, ``loss/kl``, ``loss/reward``, ``loss/continuation``, each before its weight.
        """
        steps = self.along(segment)
        values = {term(self.frames.key): -self._log_likelihood(steps, segment), "kl": steps.kl}
        values |= self.outcome.negative_log_likelihoods(steps.told, segment)
        terms = {name: masked_mean(value, segment.mask) for name, value in values.items()}
        weights = {**self.outcome.weights, "kl": self.kl_weight}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        return total, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def along(self, segment: Segment) -> Steps:
        """Return the steps along a segment, with latents drawn from the posterior."""
        first = self.initial({key: value[:, 0] for key, value in segment.observation.items()})
        frames, action = self.frames.planes(segment.observation), self.encode_action(segment.action)
        return self._along(first, frames, action, sampled=True)

    @torch.no_grad()
    def surprise(self, segment: Segment) -> Surprise:
        """Return -log p(frame | latent) + KL(q || p) of each frame after the first, with latents drawn from
        q: on average an upper bound of the surprise (see ``RSSM.surprise``); exact without latents.

        Draws come from torch's global generator.
        """
        steps = self.along(segment)
        nats = steps.kl - self._log_likelihood(steps, segment)
        return Surprise(nats, "exact" if self.kind == "none" else "bound")

    # ---- parts -----------------------------------------------------------------------------------

    def _along(self, belief: Belief, frames: Tensor, action: Tensor, sampled: bool) -> Steps:
        """Return the steps along known frames [B, T + 1, C, H, W], all at once."""
        code, maps = self._encode(frames)
        before, after = code[:, :-1], code[:, 1:]
        given, kl = [before, action], code.new_zeros(action.shape[:2])
        prior, memory = self._prior(belief, given)
        if prior is not None:
            output, more = self._run("posterior", belief, [before, after, action])
            posterior = _gaussian(self.statistics["posterior"](output))
            kl = kl_divergence(posterior, prior).sum(-1)
            given.append(posterior.rsample() if sampled else posterior.mean)
            memory = {**memory, **more}
        told, more = self._run("frame", belief, given)
        earlier = [x.reshape(*frames.shape[:2], *x.shape[1:])[:, :-1].flatten(0, 1) for x in maps]
        drawn = self.decoder(told.flatten(0, 1), earlier)
        drawn = drawn.reshape(*action.shape[:2], *drawn.shape[1:])
        return Steps(drawn, told, kl, {"frame": frames[:, -1], **memory, **more})

    def _encode(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the codes [B, T, code] of frames [B, T, C, H, W], and their maps [B * T, ...]."""
        code, maps = self.encoder(frames.flatten(0, 1))
        return code.reshape(*frames.shape[:2], self.code), maps

    def _run(self, name: str, belief: Belief, inputs: Sequence[Tensor]) -> tuple[Tensor, Belief]:
        """Return an LSTM's outputs [B, T, D] of its inputs [B, T, ...], and its part of the belief."""
        output, hidden, cell = self.memories[name](inputs, belief[f"{name}_hidden"], belief[f"{name}_cell"])
        return output, {f"{name}_hidden": hidden, f"{name}_cell": cell}

    def _prior(self, belief: Belief, inputs: Sequence[Tensor]) -> tuple[Normal | None, Belief]:
        """Return the prior of the latents [B, T, S], None without latents, and its part of the belief."""
        if self.kind == "learned":
            output, memory = self._run("prior", belief, inputs)
            return _gaussian(self.statistics["prior"](output)), memory
        nothing = inputs[0].new_zeros(*inputs[0].shape[:2], self.stoch).float()
        return None if self.kind == "none" else Normal(nothing, nothing + 1, validate_args=False), {}

    def _fed_back(self, image: Tensor) -> Tensor:
        """Return the image that the next step sees: of a binary screen the likelier pixels, with the
        gradient of their probabilities."""
        if not isinstance(self.frames.modality, Binary):
            return image
        return (image > 0.5).float() + (image - image.detach())

    def _log_likelihood(self, steps: Steps, segment: Segment) -> Tensor:
        """Return the log-likelihood [B, T] of each frame after the first, in nats."""
        logits = self.frames.image(steps.after).float()
        modality, target = self.frames.modality, segment.observation[self.frames.key][:, 1:].float()
        output = logits if isinstance(modality, Binary) else logits.sigmoid() - 0.5
        likelihood: Tensor = modality.distribution(output).log_prob(target)
        return likelihood


def _gaussian(statistics: Tensor) -> Normal:
    """Return the Gaussians of statistics [..., 2S]: means and, before softplus, widths."""
    mean, width = statistics.float().chunk(2, -1)
    return Normal(mean, F.softplus(width.contiguous()) + LEAST, validate_args=False)
