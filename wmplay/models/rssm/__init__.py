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

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import GOAL_PREFIX, LazyMapping, Segment, Surprise
from wmplay.errors import ConfigError, SpaceError
from wmplay.models.rssm.state_space import Belief, StateSpace
from wmplay.nets.by_key import ModulesByKey, term
from wmplay.nets.heads import FrameReader, OutcomeHeads, masked_mean
from wmplay.nets.layers import mlp
from wmplay.nets.modalities import Binary, chosen_space, modalities
from wmplay.nets.observations import ImageHead, ObservationEncoder, vectors


class RSSM(StateSpace):
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
        keys: the observation keys that it reads and predicts; None = all.
        goals: whether the heads of reward and continuation see the goal.
        blocks: of the deterministic state, with the cell, the norms and the prior of DreamerV3 (8 blocks);
            0 = a GRU.
        reward_from: what they see besides: the "latent" after a step, or the expected "frames" before and
            after it, through which no gradient goes (Babaeizadeh et al. 2020, arXiv 2012.04603).

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range, or a key that the observations lack.
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
        keys: Sequence[str] | None = None,
        goals: bool = False,
        reward_from: Literal["latent", "frames"] = "latent",
        blocks: int = 0,
    ) -> None:
        if reward_from not in ("latent", "frames"):
            raise ConfigError(f"rssm: reward_from is {reward_from!r}", expected="latent or frames")
        widths = {"vector_sigma": vector_sigma, "pixel_sigma": pixel_sigma}
        known = modalities(chosen_space(observation_space, keys), **widths, symlog=symlog, goals=goals)
        wanted = {key: m for key, m in known.items() if key.startswith(GOAL_PREFIX)}
        seen = {key: m for key, m in known.items() if key not in wanted}
        super().__init__(
            seen,
            action_space,
            deter=deter,
            stoch=stoch,
            classes=classes,
            hidden=hidden,
            image_hidden=image_hidden,
            layers=layers,
            min_sigma=min_sigma,
            unimix=unimix,
            free_nats=free_nats,
            kl_weight=kl_weight,
            kl_balance=kl_balance,
            position_features=position_features,
            blocks=blocks,
        )
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
        self.goals, self.reads = goals, list(seen)
        self.predicted = self.reads
        self.goal, self.reader = None, None
        if wanted:
            self.goal = ObservationEncoder(wanted, position_features, image_hidden, 1, hidden)
        if reward_from == "frames":
            self.reader = FrameReader(seen, position_features, hidden, self.encode_action.size)
        inputs = (features if self.reader is None else self.reader.size) + hidden * bool(wanted)
        self.outcome = OutcomeHeads(inputs, hidden, layers, reward_weight, continuation_weight, two_hot)

    def initial(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the belief after an episode's first frame {key: [B, ...]}: the mode of its posterior."""
        return {**super().initial(observation), **self._wanted(observation)}

    def begun(self, segment: Segment) -> Belief:
        """Return the goal of each row."""
        return self._wanted({key: value[:, 0] for key, value in segment.observation.items()})

    def _wanted(self, observation: Mapping[str, Tensor]) -> Belief:
        """Return the code of the goal, [B, hidden], by the name that it has in a belief."""
        return {} if self.goal is None else {"goal": self.goal(observation)}

    def seen_by_heads(self, before: Tensor, latent: Tensor, action: Tensor, belief: Belief) -> Tensor:
        """Return the inputs [B, T, F] of the heads of reward and continuation."""
        seen = super().seen_by_heads(before, latent, action, belief)
        if self.reader is not None:
            every = self.decode(torch.cat([before.unsqueeze(1), latent], 1))
            frames = {key: decoded.mean for key, decoded in every.items()}
            seen = self.reader(frames, action)
        if self.goal is None:
            return seen
        return torch.cat([seen, belief["goal"].unsqueeze(1).expand(-1, seen.shape[1], -1)], -1)

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

    # ---- training --------------------------------------------------------------------------------

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the negative evidence lower bound per step, in nats, with KL balance and free nats.

        Negative log-likelihoods are summed over each observation's dimensions and averaged over the steps
        that the mask keeps. Metrics: ``loss/<key>``, ``loss/reward``, ``loss/continuation``, ``loss/kl``,
        each before its weight.
        """
        latent, posterior, prior = self.reconstruct(segment, self.embed_frames(segment))
        seen = F.pad(segment.mask, (1, 0), value=True)
        decoded = self.decode(latent)
        terms = {
            term(key): masked_mean(-decoded[key].log_prob(segment.observation[key].float()), seen)
            for key in self.modalities
        }
        return self.total(terms, segment, latent, (posterior, prior))

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
        latent, posterior, prior = self.reconstruct(segment, self.embed_frames(segment))
        decoded = self.decode(latent)
        nats = self.latent.kl(posterior, prior)
        for key in screens:
            nats = nats - decoded[key].log_prob(segment.observation[key].float())
        return Surprise(nats[:, 1:], "bound")
