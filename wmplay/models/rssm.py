"""The recurrent state-space model of PlaNet (Hafner et al. 2019, arXiv 1811.04551), with refinements of
DreamerV2 (arXiv 2010.02193) and DreamerV3 (arXiv 2301.04104) as options.

    deterministic state   h_t = f(h_{t-1}, z_{t-1}, a_{t-1})
    prior                 z_t ~ p(z_t | h_t)
    posterior             z_t ~ q(z_t | h_t, o_t)
    observation, reward   o_t ~ p(o_t | h_t, z_t),  r_t ~ p(r_t | h_t, z_t)

Training maximises the evidence lower bound of PlaNet's equation 3; the latent of a step is (h_t, z_t).
By the time rule action[t - 1] leads to observation[t], with reward[t - 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import LazyMapping, LazyPrediction, Prediction, Segment, Surprise
from wmplay.errors import ConfigError, SpaceError, check_values
from wmplay.nets.actions import ActionEncoder
from wmplay.nets.by_key import ModulesByKey, term
from wmplay.nets.heads import OutcomeHeads, masked_mean
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import Binary, modalities
from wmplay.nets.observations import ImageHead, ObservationEncoder, vectors

Belief: TypeAlias = dict[str, Tensor]  # deter [B, D], stoch [B, S]


class RSSM(nn.Module):
    """PlaNet's world model for any mix of screens, images and vectors.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        deter: size D of the deterministic state.
        stoch: number of Gaussian latents, or of categorical ones.
        classes: classes of each categorical latent (DreamerV2); 0 = Gaussian latents (PlaNet).
        hidden: units of each hidden layer outside the image networks.
        image_hidden: units of each hidden layer of the encoder and of the heads that decode images.
        layers: hidden layers of the encoder and of the heads for vectors, reward and continuation.
        min_sigma: added to the standard deviation of Gaussian latents.
        unimix: part of a uniform distribution mixed into categorical latents (DreamerV3).
        free_nats: the smallest value of the KL in the loss.
        kl_weight: weight of the KL (beta).
        kl_balance: part of the KL's gradient that trains the prior; the remaining part trains the posterior
            (DreamerV2, algorithm 2); 0.5 with twice the kl_weight has the gradient of the plain KL.
        vector_sigma: width of the Gaussian around vectors, in half-ranges of their space.
        pixel_sigma: width of the Gaussian around pixels, as a part of 0..255.
        position_features: octaves of sines and cosines of the vectors that enter the encoder and image heads.
        symlog: whether to squash vectors without bounds (DreamerV3).
        two_hot: whether the reward is a distribution over bins (DreamerV3); else a Gaussian of width 1.
        reward_weight: weight of the reward's loss; 0 = no reward head.
        continuation_weight: weight of the continuation's loss; 0 = no continuation head.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        deter: int = 200,
        stoch: int = 30,
        classes: int = 0,
        hidden: int = 200,
        image_hidden: int = 256,
        layers: int = 1,
        min_sigma: float = 0.1,
        unimix: float = 0.01,
        free_nats: float = 0.0,
        kl_weight: float = 1.0,
        kl_balance: float = 0.9,
        vector_sigma: float = 0.03,
        pixel_sigma: float = 1.0,
        position_features: int = 5,
        symlog: bool = False,
        two_hot: bool = False,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        sizes = {"deter": deter, "stoch": stoch, "hidden": hidden, "image_hidden": image_hidden}
        weights = {"min_sigma": min_sigma, "free_nats": free_nats, "kl_weight": kl_weight}
        check_values(
            "rssm",
            at_least_one={**sizes, "layers": layers},
            not_negative={**weights, "position_features": position_features},
            fractions={"kl_balance": kl_balance, "unimix": unimix},
        )
        if classes < 0 or classes == 1:
            raise ConfigError(
                f"rssm: classes is {classes}", got=classes, expected="0 (Gaussian) or at least 2"
            )
        self.free_nats, self.kl_weight, self.kl_balance = free_nats, kl_weight, kl_balance

        self.modalities = modalities(
            observation_space, vector_sigma=vector_sigma, pixel_sigma=pixel_sigma, symlog=symlog
        )
        self.registered = ModulesByKey(self.modalities)  # so that their buffers move with the model
        self.encode_action = ActionEncoder(action_space)
        self.encoder = ObservationEncoder(
            self.modalities, position_features, image_hidden, layers, image_hidden
        )

        self.latent = Categorical(stoch, classes, unimix) if classes else Gaussian(stoch, min_sigma)
        self.deter = deter
        self.input_stoch = nn.Linear(self.latent.size, hidden)
        self.input_action = nn.Linear(self.encode_action.size, hidden, bias=False)
        self.cell = nn.GRUCell(hidden, deter)
        self.prior = mlp(deter, hidden, 1, self.latent.statistics)
        self.posterior_deter = nn.Linear(deter, hidden)
        self.posterior_embedding = nn.Linear(image_hidden, hidden, bias=False)
        self.posterior_out = nn.Linear(hidden, self.latent.statistics)

        features = deter + self.latent.size
        self.vector_sizes = {key: m.size for key, m in vectors(self.modalities).items()}
        positions = sum(self.vector_sizes.values())
        self.vector_head = mlp(features, hidden, layers, positions) if positions else None
        self.image_heads = ModulesByKey(
            {
                key: ImageHead(m, features, positions, position_features, image_hidden)
                for key, m in self.modalities.items()
                if key not in self.vector_sizes
            }
        )
        self.outcome = OutcomeHeads(features, hidden, layers, reward_weight, continuation_weight, two_hot)

    # ---- the four verbs --------------------------------------------------------------------------

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
        return {"deter": deter[:, -1], "stoch": stoch[:, -1]}

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
        inputs = self.input_action(self.encode_action(action)).unbind(1)
        deter, stoch = belief["deter"], belief["stoch"]
        steps = []
        for action_input in inputs:
            deter = self.cell(F.silu(self.input_stoch(stoch) + action_input), deter)
            statistics = self.prior(deter)
            noise = None
            if generator is not None:
                noise = temperature * self.latent.noise(deter.shape[:1], deter.device, generator)
            stoch = self.latent.pick(statistics, noise)
            steps.append(torch.cat([deter, stoch], dim=-1))
        latent = torch.stack(steps, dim=1)
        outcomes = self.outcome(lambda: latent)
        return LazyPrediction(latent, outcomes, {"deter": deter, "stoch": stoch}, self.decode)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return distributions of each observation key from latent [..., D + S], each computed at its first
        use."""
        outputs: dict[str, Tensor] = {}
        if self.vector_head is not None:
            positions = self.vector_head(latent)
            outputs = dict(
                zip(self.vector_sizes, positions.split(list(self.vector_sizes.values()), -1), strict=True)
            )
        else:
            positions = latent[..., :0]

        def distribution(key: str) -> Distribution:
            output = outputs[key] if key in outputs else self.image_heads[key](latent, positions)
            return self.modalities[key].distribution(output)

        return LazyMapping(self.modalities, distribution)

    # ---- as features -----------------------------------------------------------------------------

    def features(self, belief: Belief) -> Tensor:
        """Return the latents [B, D + S] of beliefs."""
        return torch.cat([belief["deter"], belief["stoch"]], dim=-1)

    def track(self, segment: Segment) -> Belief:
        """Return the belief at every frame of a segment: row b * (T + 1) + t is after frames 0 to t."""
        deter, stoch, _ = self._along(segment)
        return {"deter": deter.flatten(0, 1), "stoch": stoch.flatten(0, 1)}

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative evidence lower bound per step, in nats, with KL balance and free nats.

        Negative log-likelihoods are summed over each observation's dimensions and averaged over the steps
        that the mask keeps. Metrics: ``loss/<key>``, ``loss/reward``, ``loss/continuation``, ``loss/kl``,
        each before its weight.
        """
        latent, posterior, prior = self.reconstruct(segment)
        seen = F.pad(segment.mask, (1, 0), value=True)
        decoded = self.decode(latent)
        terms = {
            term(key): masked_mean(-decoded[key].log_prob(segment.observation[key].float()), seen)
            for key in self.modalities
        }
        outcomes = self.outcome.negative_log_likelihoods(latent[:, 1:], segment)
        terms |= {name: masked_mean(values, segment.mask) for name, values in outcomes.items()}
        terms["kl"] = masked_mean(self._balanced_kl(posterior, prior), seen)

        weights = {**self.outcome.weights, "kl": self.kl_weight}
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        metrics = {f"loss/{name}": term.detach() for name, term in terms.items()}
        return total, metrics

    def surprise(self, segment: Segment) -> Surprise:
        """Return -log p(screen | latent) + KL(q || p) of each frame after the first, with latents drawn from
        q.

        The mean over draws is an upper bound of the screen's negative log-likelihood given the frames before
        it, in a model that draws the latents of those frames from q and the latent of this frame from p
        (Jensen's inequality, as in PlaNet's equation 3 with the screen as the only observation). The bound
        holds for any q, so also for a q that reads other observations. The KL is the plain one, without the
        weight, balance and free nats of the loss. Random draws come from torch's global generator, as in
        ``loss``.

        Raises:
            SpaceError: if the observations have no binary screen.
        """
        screens = [key for key, m in self.modalities.items() if isinstance(m, Binary) and len(m.shape) == 2]
        if not screens:
            raise SpaceError(
                f"rssm: observations are {', '.join(self.modalities)}",
                got=list(self.modalities),
                expected="a binary screen",
            )
        latent, posterior, prior = self.reconstruct(segment)
        decoded = self.decode(latent)
        nats = self.latent.kl(posterior, prior)
        for key in screens:
            nats = nats - decoded[key].log_prob(segment.observation[key].float())
        return Surprise(nats[:, 1:], "bound")

    def reconstruct(self, segment: Segment) -> tuple[Tensor, Tensor, Tensor]:
        """Return sampled posterior latents [B, T+1, D+S] of all frames, and the statistics of posterior and
        prior."""
        deter, stoch, posterior = self._along(segment, sampled=True)
        return torch.cat([deter, stoch], dim=-1), posterior, self.prior(deter)

    def _along(self, segment: Segment, sampled: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Return the posterior states of all frames of a segment, as ``rollout`` does."""
        embedding = self.encoder({key: segment.observation[key] for key in self.modalities})
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
        action_inputs = (self.input_action(action.transpose(0, 1)) + self.input_stoch.bias).unbind(0)
        embedding_inputs = self.posterior_embedding(embedding.transpose(0, 1)) + self.posterior_deter.bias
        embedding_inputs = embedding_inputs.unbind(0)
        from_stoch, from_deter = self.input_stoch.weight.t(), self.posterior_deter.weight.t()
        noises = [None] * len(action_inputs) if noise is None else noise.unbind(0)
        deter, stoch = start["deter"], start["stoch"]
        deters, stochs, posteriors = [], [], []
        for action_input, embedding_input, step_noise in zip(
            action_inputs, embedding_inputs, noises, strict=True
        ):
            deter = self.cell(F.silu(torch.addmm(action_input, stoch, from_stoch)), deter)
            posterior = self.posterior_out(F.silu(torch.addmm(embedding_input, deter, from_deter)))
            stoch = self.latent.pick(posterior, step_noise)
            deters.append(deter)
            stochs.append(stoch)
            posteriors.append(posterior)
        return torch.stack(deters, 1), torch.stack(stochs, 1), torch.stack(posteriors, 1)

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
