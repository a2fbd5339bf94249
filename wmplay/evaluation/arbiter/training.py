"""Training of an arbiter: an autoencoder of clips, whose decoders of frames are discarded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wmplay.contracts import Segment, StoreView
from wmplay.evaluation.arbiter.network import FRAMES, Arbiter, version_of
from wmplay.nets.layers import ConvDecoder, mlp

MEASURED = 8192  # clips that means, scales and the whitening are measured on
LARGEST_GRADIENT = 1.0
PROGRESS_EVERY = 50  # updates
NOISE = 0.1  # on latents of variance 1: details smaller than this are not worth a number


def train_arbiter(
    store: StoreView,
    held_out: StoreView,
    world: str,
    seed: int,
    *,
    updates: int = 4000,
    batch_size: int = 128,
    lr: float = 2e-3,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int], object] = lambda updates: None,
) -> Arbiter:
    """Train the arbiter of a world on clips of its episodes by random actions.

    Args:
        store: training data; episodes of at least 4 steps.
        held_out: other episodes, for the losses in its description.
        world: for example "luxo".
        seed: of all random draws.
        updates: of the weights.
        batch_size: clips in each.
        lr: the highest, in one cycle of AdamW.
        about: more entries of its description.
        progress: called with the number of updates, now and then.
    """
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        arbiter = _untrained(store.sample(MEASURED, FRAMES - 1, rng), world)
        autoencoder = Autoencoder(arbiter)
        optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=lr, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, updates, pct_start=0.1)
        for update in range(1, updates + 1):
            losses = autoencoder.losses(store.sample(batch_size, FRAMES - 1, rng))
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(autoencoder.parameters(), LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            if update % PROGRESS_EVERY == 0 or update == updates:
                progress(update)
    autoencoder.eval()
    with torch.no_grad():
        losses = autoencoder.losses(held_out.sample(MEASURED, FRAMES - 1, rng))
        _finish(autoencoder, store.sample(MEASURED, FRAMES - 1, rng))
    arbiter.about |= {
        "seed": seed,
        "updates": updates,
        "batch_size": batch_size,
        "lr": lr,
        "losses": {name: round(value.item(), 4) for name, value in losses.items()},
        **(about or {}),
    }
    return arbiter.eval().requires_grad_(False)


class Autoencoder(nn.Module):
    """An arbiter with decoders of frames and actions from its latents.

    The screens' half also predicts proprio, which teaches it poses rather than pixels.
    """

    def __init__(self, arbiter: Arbiter) -> None:
        super().__init__()
        sizes = arbiter.sizes
        latent, hidden, moves = sizes["latent"], sizes["hidden"], (2 * FRAMES - 1) * sizes["proprio"]
        self.arbiter = arbiter
        self.norm = nn.BatchNorm1d(arbiter.dimensions, affine=False, momentum=0.02)
        self.to_screens = ConvDecoder(latent, (*sizes["screen"], FRAMES), sizes["channels"])
        self.to_moves = mlp(latent, hidden, 1, moves) if moves else None
        self.screens_to_moves = mlp(latent, hidden, 1, moves) if moves else None

    def losses(self, clips: Segment) -> dict[str, Tensor]:
        """Return the losses, each about 1 (times its weight) for a prediction of the means."""
        arbiter, frames = self.arbiter, clips.observation
        latent = self.norm(arbiter.squeeze(frames))
        if self.training:
            latent = latent + NOISE * torch.randn_like(latent)
        screens = latent[:, : arbiter.sizes["latent"]]
        lit = frames["lcd"].float()
        logits = self.to_screens(screens).movedim(-1, 1)
        marginal = lit.mean((0, 1)).clamp(1e-3, 1 - 1e-3).expand_as(lit)
        losses = {
            "screens": F.binary_cross_entropy_with_logits(logits, lit) / F.binary_cross_entropy(marginal, lit)
        }
        if self.to_moves is not None and self.screens_to_moves is not None:
            moves = arbiter.moves(frames["proprio"])
            losses["proprio"] = 2 * F.mse_loss(self.to_moves(latent[:, arbiter.sizes["latent"] :]), moves)
            losses["proprio_of_screens"] = 0.3 * F.mse_loss(self.screens_to_moves(screens), moves)
        read = arbiter.read_actions(latent)
        if read is not None:
            losses["actions"] = F.mse_loss(read, clips.action) / clips.action.var()
        return losses


def _untrained(clips: Segment, world: str) -> Arbiter:
    """Return an arbiter with the sizes and scales of some clips. Constant proprio means no robot."""
    proprio = clips.observation["proprio"].float()
    height, width = clips.observation["lcd"].shape[-2:]
    robot = bool((proprio.amax((0, 1)) > proprio.amin((0, 1))).any())
    about = {"world": world, "version": version_of(world)}
    arbiter = Arbiter(about, (height, width), proprio.shape[-1] * robot, clips.action.shape[-1] * robot)
    if robot:
        arbiter.proprio_mean.copy_(proprio.mean((0, 1)))
        arbiter.proprio_scale.copy_(proprio.std((0, 1)).clamp(min=1e-3))
        arbiter.motion_scale.copy_(proprio.diff(dim=1).std((0, 1)).clamp(min=1e-3))
    return arbiter


def _finish(autoencoder: Autoencoder, clips: Segment) -> None:
    """Round weights as they will be stored, and give latents nearly unit covariance.

    Directions in which latents vary less than the noise of their training carry no information, and are not
    scaled up. The decoder of actions was trained on normalised latents, so its first layer undoes the
    transformation.
    """
    arbiter, norm = autoencoder.arbiter, autoencoder.norm
    for parameter in arbiter.parameters():
        parameter.copy_(parameter.half())
    assert norm.running_var is not None
    normal = norm(arbiter.squeeze(clips.observation)).double()
    values, vectors = torch.linalg.eigh(normal.T.cov())
    size = (values + NOISE**2).sqrt()
    scale = (norm.running_var + norm.eps).sqrt()
    arbiter.center.copy_(norm.running_mean + scale * normal.mean(0))
    arbiter.whitening.copy_(vectors / size / scale[:, None])
    if arbiter.reader is not None:
        first = arbiter.reader[0]
        assert isinstance(first, nn.Linear)
        weight = first.weight.double()
        first.bias.copy_((first.bias + weight @ normal.mean(0)).half())
        first.weight.copy_((weight @ vectors * size).half())
