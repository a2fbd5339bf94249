"""The recurrent states that ``rssm`` and ``cpc`` share: encoder, prior, posterior, and the verbs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import LazyPrediction, Prediction, Segment
from wmplay.errors import ConfigError, check_values
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import ModulesByKey
from wmplay.nets.heads import OutcomeHeads, masked_mean
from wmplay.nets.layers import NORM_EPS, BlockGRU, mlp
from wmplay.nets.modalities import Modality
from wmplay.nets.observations import ObservationEncoder

Belief: TypeAlias = dict[str, Tensor]  # deter [B, D], stoch [B, S], and what a model adds


class StateSpace(nn.Module, ABC):
    """Recurrent states with a deterministic and a random part, without a decoder.

    A model of the family makes its own heads, and ``outcome``, after these networks.

    Args:
        seen: the modalities of the observation keys that it reads.
        action_space: a one-dimensional Box, or Discrete.
        others: as for ``RSSM``.

    Raises:
        ConfigError: for sizes and weights out of range.
    """

    outcome: OutcomeHeads

    def __init__(
        self,
        seen: Mapping[str, Modality],
        action_space: gym.Space[Any],
        *,
        deter: int,
        stoch: int,
        classes: int,
        hidden: int,
        image_hidden: int,
        layers: int,
        min_sigma: float,
        unimix: float,
        free_nats: float,
        kl_weight: float,
        kl_balance: float,
        position_features: int,
        blocks: int = 0,
    ) -> None:
        super().__init__()
        sizes = {"deter": deter, "stoch": stoch, "hidden": hidden, "image_hidden": image_hidden}
        weights = {"min_sigma": min_sigma, "free_nats": free_nats, "kl_weight": kl_weight}
        check_values(
            type(self).__name__.lower(),
            at_least_one={**sizes, "layers": layers},
            not_negative={**weights, "position_features": position_features, "blocks": blocks},
            fractions={"kl_balance": kl_balance, "unimix": unimix},
        )
        if classes < 0 or classes == 1:
            raise ConfigError(f"classes is {classes}", got=classes, expected="0 (Gaussian) or at least 2")
        if blocks and deter % blocks:
            raise ConfigError(f"deter is {deter}", got=deter, expected=f"a multiple of the {blocks} blocks")
        self.free_nats, self.kl_weight, self.kl_balance = free_nats, kl_weight, kl_balance

        self.modalities = dict(seen)
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        self.encode_action = ActionEncoder(action_space)
        self.encoder = ObservationEncoder(
            self.modalities, position_features, image_hidden, layers, image_hidden
        )

        self.latent = Categorical(stoch, classes, unimix) if classes else Gaussian(stoch, min_sigma)
        self.deter = deter
        self.input_stoch = nn.Linear(self.latent.size, hidden)
        self.input_action = nn.Linear(self.encode_action.size, hidden, bias=False)
        self.blocks = blocks
        self.cell: nn.Module = nn.GRUCell(hidden, deter)
        self.prior = mlp(deter, hidden, 1, self.latent.statistics)
        if blocks:
            self.cell = BlockGRU(2 * hidden, deter, hidden, blocks)
            self.prior = mlp(deter, hidden, 2, self.latent.statistics, norm=True)
            self.norms = nn.ModuleList(nn.RMSNorm(hidden, NORM_EPS) for _ in range(3))
        self.posterior_deter = nn.Linear(deter, hidden)
        self.posterior_embedding = nn.Linear(image_hidden, hidden, bias=False)
        self.posterior_out = nn.Linear(hidden, self.latent.statistics)

    @abstractmethod
    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of the keys that are predicted, from latents [..., D + S]."""

    def seen_by_heads(self, before: Tensor, latent: Tensor, action: Tensor, belief: Belief) -> Tensor:
        """Return the inputs [B, T, F] of the heads of reward and continuation: the latents after each step.

        Args:
            before: [B, D + S], the latent before the first step.
            latent: [B, T, D + S], after each step.
            action: [B, T, A] of the steps, encoded.
            belief: of an earlier time.
        """
        return latent.contiguous()  # a layer takes other rows one by one

    # ---- the verbs ------------------------------------------------------------------------------

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}: the mode of its posterior."""
        embedding = self.encoder(observation).unsqueeze(1)
        start = self._blank(len(embedding), embedding.device)
        action = embedding.new_zeros(len(embedding), 1, self.encode_action.size)
        deter, stoch, _ = self.rollout(start, action, embedding)
        return {"deter": deter[:, -1], "stoch": stoch[:, -1]}

    def observe(self, belief: Belief, action: Tensor, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after action [B, T, A] and the frames that it led to, {key: [B, T, ...]}.

        Latents are the modes of the posteriors.
        """
        embedding = self.encoder(observation)
        deter, stoch, _ = self.rollout(belief, self.encode_action(action), embedding)
        return {**belief, "deter": deter[:, -1], "stoch": stoch[:, -1]}

    def predict(
        self,
        belief: Belief,
        action: Tensor,
        *,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
    ) -> Prediction:
        """Predict under action [B, H, A]: prior samples with a generator, prior modes without.

        ``temperature`` multiplies the noise: it scales the widths of Gaussian latents, and divides the logits
        of categorical ones.
        """
        acted = self.encode_action(action)
        deter, stoch = belief["deter"], belief["stoch"]
        steps = []
        for action_input in self._acted(acted).unbind(1):
            deter = self.cell(self._inputs(stoch, action_input), deter)
            statistics = self.prior(deter)
            noise = None
            if generator is not None:
                noise = temperature * self.latent.noise(deter.shape[:1], deter.device, generator)
            stoch = self.latent.pick(statistics, noise)
            steps.append(torch.cat([deter, stoch], dim=-1))
        latent = torch.stack(steps, dim=1)
        outcomes = self.outcome(lambda: self.seen_by_heads(self.features(belief), latent, acted, belief))
        after = {**belief, "deter": deter, "stoch": stoch}
        return LazyPrediction(latent, outcomes, after, self.decode)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the latents [B, D + S] of beliefs."""
        return torch.cat([belief["deter"], belief["stoch"]], dim=-1)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        deter, stoch, _ = self._along(segment, self.embed_frames(segment))
        begun = {name: x.repeat_interleave(deter.shape[1], 0) for name, x in self.begun(segment).items()}
        return {**begun, "deter": deter.flatten(0, 1), "stoch": stoch.flatten(0, 1)}

    def begun(self, segment: Segment) -> Belief:
        """Return the part of a segment's beliefs that does not change in an episode: nothing."""
        return {}

    # ---- training --------------------------------------------------------------------------------

    def total(
        self,
        terms: dict[str, Tensor],
        segment: Segment,
        latent: Tensor,
        statistics: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of a model's own terms, the outcomes' and the KL's, and metrics of each.

        Args:
            terms: the model's own, by name.
            segment: the segment.
            latent: [B, T + 1, D + S], of all its frames.
            statistics: of posterior and prior.
        """
        action, begun = self.encode_action(segment.action), self.begun(segment)
        seen = self.seen_by_heads(latent[:, 0], latent[:, 1:], action, begun)
        outcomes = self.outcome.negative_log_likelihoods(seen, segment)
        terms |= {name: masked_mean(values, segment.mask) for name, values in outcomes.items()}
        terms["kl"] = masked_mean(self._balanced_kl(*statistics), F.pad(segment.mask, (1, 0), value=True))

        weights = {**self.outcome.weights, "kl": self.kl_weight}
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        metrics = {f"loss/{name}": term.detach() for name, term in terms.items()}
        return total, metrics

    def embed_frames(self, segment: Segment) -> Tensor:
        """Return the encoder's embeddings [B, T + 1, E] of all frames of a segment."""
        embedding: Tensor = self.encoder({key: segment.observation[key] for key in self.modalities})
        return embedding

    def reconstruct(self, segment: Segment, embedding: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return sampled posterior latents [B, T+1, D+S] of all frames, and the statistics of posterior and
        prior.

        ``embedding`` is that of ``embed_frames``.
        """
        deter, stoch, posterior = self._along(segment, embedding, sampled=True)
        return torch.cat([deter, stoch], dim=-1), posterior, self.prior(deter)

    def _along(
        self, segment: Segment, embedding: Tensor, sampled: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the posterior states of all frames of a segment, as ``rollout`` does."""
        action = F.pad(self.encode_action(segment.action), (0, 0, 1, 0))  # no action led to the first frame
        batch, frames = embedding.shape[:2]
        noise = self.latent.noise((frames, batch), embedding.device) if sampled else None
        return self.rollout(self._blank(batch, embedding.device), action, embedding, noise)

    def rollout(
        self, start: Belief, action: Tensor, embedding: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return posterior states along a sequence of actions and the observations that they led to.

        Terms that do not depend on the state are computed for all steps at once before the loop.

        Args:
            start: the belief before the first step.
            action: [B, T, A], encoded; action[:, t] led to embedding[:, t].
            embedding: [B, T, E].
            noise: [T, B, ...] to sample with; None takes modes.

        Returns:
            deter [B, T, D], stoch [B, T, S], and the posterior's statistics [B, T, ...].
        """
        action_inputs = self._acted(action.transpose(0, 1)).unbind(0)
        embedding_inputs = self.posterior_embedding(embedding.transpose(0, 1)) + self.posterior_deter.bias
        embedding_inputs = embedding_inputs.unbind(0)
        from_deter = self.posterior_deter.weight.t()
        noises = [None] * len(action_inputs) if noise is None else noise.unbind(0)
        deter, stoch = start["deter"], start["stoch"]
        deters, stochs, posteriors = [], [], []
        for action_input, embedding_input, step_noise in zip(
            action_inputs, embedding_inputs, noises, strict=True
        ):
            deter = self.cell(self._inputs(stoch, action_input), deter)
            hidden = torch.addmm(embedding_input, deter, from_deter)
            posterior = self.posterior_out(F.silu(self.norms[2](hidden) if self.blocks else hidden))
            stoch = self.latent.pick(posterior, step_noise)
            deters.append(deter)
            stochs.append(stoch)
            posteriors.append(posterior)
        return torch.stack(deters, 1), torch.stack(stochs, 1), torch.stack(posteriors, 1)

    def _acted(self, action: Tensor) -> Tensor:
        """Return the part [..., hidden] of encoded actions [..., A] in the inputs of the cell."""
        if self.blocks:
            return F.silu(self.norms[1](self.input_action(action)))
        acted: Tensor = self.input_action(action) + self.input_stoch.bias
        return acted

    def _inputs(self, stoch: Tensor, acted: Tensor) -> Tensor:
        """Return the inputs of the cell for latents [B, S] and the part [B, hidden] of the actions."""
        if self.blocks:
            return torch.cat([F.silu(self.norms[0](self.input_stoch(stoch))), acted], -1)
        return F.silu(torch.addmm(acted, stoch, self.input_stoch.weight.t()))

    def _balanced_kl(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """Return the balanced KL, [B, T] nats, at least ``free_nats``."""
        to_prior = self.latent.kl(posterior.detach(), prior).clamp(min=self.free_nats)
        to_posterior = self.latent.kl(posterior, prior.detach()).clamp(min=self.free_nats)
        return self.kl_balance * to_prior + (1 - self.kl_balance) * to_posterior

    def _blank(self, rows: int, device: torch.device) -> Belief:
        return {
            "deter": torch.zeros(rows, self.deter, device=device),
            "stoch": torch.zeros(rows, self.latent.size, device=device),
        }


class Gaussian:
    """S independent Gaussian latents; statistics [..., 2S] hold means and, before softplus, widths."""

    def __init__(self, stoch: int, min_sigma: float) -> None:
        self.size = stoch
        self.statistics = 2 * stoch
        self.min_sigma = min_sigma

    def noise(
        self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return noise [*shape, S] to sample with."""
        return torch.randn(*shape, self.size, device=device, generator=generator)

    def pick(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        """Return a reparametrised sample [..., S], or the mean without noise."""
        mean, sigma = self._split(statistics)
        return mean if noise is None else torch.addcmul(mean, sigma, noise)

    def kl(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """Return KL(posterior || prior), [...] nats."""
        mean, sigma = self._split(posterior)
        prior_mean, prior_sigma = self._split(prior)
        ratio = (sigma / prior_sigma).square()
        distance = ((mean - prior_mean) / prior_sigma).square()
        return 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)

    def _split(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        mean, width = statistics.float().chunk(2, dim=-1)
        # softplus is ten times slower on memory that is not contiguous
        return mean, F.softplus(width.contiguous()) + self.min_sigma


class Categorical:
    """S independent categorical latents of C classes: S one-hot vectors, with straight-through gradients."""

    def __init__(self, stoch: int, classes: int, unimix: float) -> None:
        self.size = self.statistics = stoch * classes
        self.shape = (stoch, classes)
        self.unimix = unimix

    def noise(
        self, shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return Gumbel noise [*shape, S * C]: the largest of log p + noise is a sample of p."""
        uniform = torch.rand(*shape, self.size, device=device, generator=generator)
        return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()

    def pick(self, statistics: Tensor, noise: Tensor | None) -> Tensor:
        """Return a sample [..., S * C], or the most likely classes without noise."""
        logs = self._logs(statistics)
        scores = logs if noise is None else logs + noise.reshape(logs.shape)
        hard = F.one_hot(scores.argmax(-1), self.shape[1]).to(logs.dtype)
        probabilities = logs.exp()
        return (hard + probabilities - probabilities.detach()).flatten(-2)

    def kl(self, posterior: Tensor, prior: Tensor) -> Tensor:
        """Return KL(posterior || prior), [...] nats."""
        logs, prior_logs = self._logs(posterior), self._logs(prior)
        return (logs.exp() * (logs - prior_logs)).sum((-1, -2))

    def _logs(self, statistics: Tensor) -> Tensor:
        """Return log probabilities [..., S, C], mixed with a part of a uniform distribution."""
        logits = statistics.float().reshape(*statistics.shape[:-1], *self.shape)
        # written out, because torch's softmax is five times slower over few classes
        parts = (logits - logits.detach().amax(-1, keepdim=True)).exp()
        mixed: Tensor = (1 - self.unimix) * parts / parts.sum(-1, keepdim=True) + self.unimix / self.shape[1]
        return mixed.log()
