"""Contrastive predictive coding in place of pixels (van den Oord et al. 2018, arXiv 1807.03748).

As in a recurrent state-space model by Hafner et al. 2020 (arXiv 1912.01603, section 5).

The states of ``rssm`` have to tell their own frame from all other frames of the batch:

    loss = -log( exp s(z[i], o[i]) / sum over j of exp s(z[i], o[j]) ) + KL(posterior || prior)

with s(z, o) the cosine of two linear maps of state and embedding, divided by a temperature; with plain
products the fit diverged. log N minus the first term bounds the information between states and frames from
below, so that N frames reveal log N nats at most. Nothing is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from wmplay.contracts import Segment
from wmplay.errors import check_values
from wmplay.models.rssm.state_space import StateSpace
from wmplay.nets.heads import OutcomeHeads, masked_mean
from wmplay.nets.modalities import modalities
from wmplay.nets.observations import chosen

TEMPERATURE = 0.1  # of the cosines: scores are within -10..10


class CPC(StateSpace):
    """A recurrent state-space model that is fitted to recognise frames, and predicts no observation.

    Args:
        observation_space: a Dict of the kinds in ``wmplay.nets.modalities``.
        action_space: a one-dimensional Box, or Discrete.
        keys: the observation keys that it reads; None = the images, or all where there is none.
        contrast: size of the space in which states and frames are compared.
        others: as for ``RSSM``.

    Raises:
        SpaceError: for other spaces.
        ConfigError: for sizes and weights out of range, or a key that the observations lack.
    """

    predicted: Sequence[str] = ()

    def __init__(
        self,
        observation_space: gym.Space[Any],
        action_space: gym.Space[Any],
        keys: Sequence[str] | None = None,
        deter: int = 200,
        stoch: int = 30,
        classes: int = 0,
        hidden: int = 200,
        image_hidden: int = 256,
        layers: int = 1,
        contrast: int = 64,
        min_sigma: float = 0.1,
        unimix: float = 0.01,
        free_nats: float = 0.0,
        kl_weight: float = 1.0,
        kl_balance: float = 0.9,
        position_features: int = 5,
        reward_weight: float = 1.0,
        continuation_weight: float = 1.0,
    ) -> None:
        seen = chosen(modalities(observation_space, vector_sigma=1.0, pixel_sigma=1.0), keys)
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
        )
        check_values("cpc", at_least_one={"contrast": contrast})
        self.reads, features = list(seen), deter + self.latent.size
        self.of_state, self.of_frame = nn.Linear(features, contrast), nn.Linear(image_hidden, contrast)
        self.outcome = OutcomeHeads(features, hidden, layers, reward_weight, continuation_weight)

    def decode(self, latent: Tensor) -> Mapping[str, Distribution]:
        """Return nothing: no observation is predicted."""
        return {}

    def loss(self, segment: Segment) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the InfoNCE of all frames of the batch, in nats, plus the KL and the outcomes' losses.

        Metrics: ``loss/contrast``, ``loss/reward``, ``loss/continuation``, ``loss/kl``, each before its
        weight.
        """
        embedding = self.embed_frames(segment)
        latent, posterior, prior = self.reconstruct(segment, embedding)
        seen = F.pad(segment.mask, (1, 0), value=True)
        state = F.normalize(self.of_state(latent).float().flatten(0, 1), dim=-1)
        frame = F.normalize(self.of_frame(embedding).float().flatten(0, 1), dim=-1)
        with torch.autocast(state.device.type, enabled=False):
            contrast = info_nce(state @ frame.T / TEMPERATURE, seen.flatten()).reshape(seen.shape)
        return self.total({"contrast": masked_mean(contrast, seen)}, segment, latent, (posterior, prior))


def info_nce(scores: Tensor, kept: Tensor) -> Tensor:
    """Return -log softmax(scores) of the diagonal, [N] nats, over the columns that ``kept`` [N] bool keeps.

    Args:
        scores: [N, N], of each state (row) and frame (column).
        kept: the entries that exist; those of others have no meaning.
    """
    others = torch.where(kept, scores, -torch.inf).masked_fill(~kept[:, None], 0.0)
    return others.logsumexp(1) - scores.diagonal()
