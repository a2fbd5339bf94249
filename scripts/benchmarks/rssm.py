"""The RSSM's rollout, forward and backward, against torchrl's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn

from wmplay.models.rssm import RSSM

from .measure import Result, Side, take_turns, time_ratio
from .peers import not_installed

BATCH, STEPS, ACTION = 50, 50, 3
DETER, STOCH, HIDDEN = 200, 30, 200
EMBEDDINGS = (1024, 256)  # what PlaNet's convolutions give, and wmplay's default
REPEATS = 20
BAR = 0.7

Part = tuple[str, Callable[[], None], list[nn.Parameter]]  # a side's name, an update, its weights


def benchmark() -> Result:
    missing = not_installed("torchrl")
    sides = []
    for size in EMBEDDINGS:
        action, embedding = torch.rand(BATCH, STEPS, ACTION), torch.randn(BATCH, STEPS, size)
        parts = [_ours(action, embedding)] + ([] if missing else [_torchrl(action, embedding)])
        for name, update, _ in parts:
            sides.append(Side(f"{name}, embeddings of {size:,}", lambda update=update: update))
        numbers = {sum(weight.numel() for weight in weights) for _, _, weights in parts}
        assert len(numbers) == 1, "the two models are not of the same size"
    timings = take_turns(sides, REPEATS, warm_up=2)
    checks, notes = [], [missing] if missing else []
    if missing is None:
        check, smaller = (
            time_ratio(f"RSSM 200/30/200, embeddings of {size:,}, against torchrl", ours, theirs, BAR)
            for size, ours, theirs in zip(EMBEDDINGS, timings[::2], timings[1::2], strict=True)
        )
        checks.append(check)
        notes.append(f"The bar is for PlaNet's sizes; {smaller.what}: {smaller.value:.3g}{smaller.unit}.")
    return Result(
        "rssm: a rollout forward and backward",
        f"A Gaussian RSSM ({DETER} deterministic, {STOCH} stochastic, {HIDDEN} hidden), batch {BATCH} x "
        f"{STEPS} steps, actions and embeddings given, float32, not compiled. Both sides sample the "
        "posterior along the sequence and compute the priors; the loss is the KL between the two plus the "
        "mean of the states, and the loss has a gradient for all weights, whose number is equal on both "
        "sides. torchrl: `RSSMRollout` over `RSSMPrior` and `RSSMPosterior`, with ELU where wmplay has SiLU.",
        timings,
        1,
        "updates",
        checks,
        notes,
    )


def _ours(action: Tensor, embedding: Tensor) -> Part:
    space = Dict(lcd=Box(0, 1, (16, 32), np.uint8))
    model = RSSM(
        space,
        Box(-1, 1, (ACTION,)),
        deter=DETER,
        stoch=STOCH,
        hidden=HIDDEN,
        image_hidden=embedding.shape[-1],
    )
    used = [model.input_stoch, model.input_action, model.cell, model.prior]
    used += [model.posterior_deter, model.posterior_embedding, model.posterior_out]
    start = {"deter": torch.zeros(BATCH, DETER), "stoch": torch.zeros(BATCH, STOCH)}

    def update() -> None:
        model.zero_grad()
        noise = model.latent.noise((STEPS, BATCH), action.device)
        deter, stoch, posterior = model.rollout(start, action, embedding, noise)
        kl = model.latent.kl(posterior, model.prior(deter))
        (kl.mean() + deter.mean() + stoch.mean()).backward()

    return "wmplay", update, [p for module in used for p in module.parameters()]


def _torchrl(action: Tensor, embedding: Tensor) -> Part:
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl.data import Unbounded
    from torchrl.modules.models.model_based import RSSMPosterior, RSSMPrior, RSSMRollout

    prior = TensorDictModule(
        RSSMPrior(
            Unbounded((ACTION,)),
            hidden_dim=HIDDEN,
            rnn_hidden_dim=DETER,
            state_dim=STOCH,
            action_dim=ACTION,
        ),
        in_keys=["state", "belief", "action"],
        out_keys=[("next", "prior_mean"), ("next", "prior_std"), "_", ("next", "belief")],
    )
    posterior = TensorDictModule(
        RSSMPosterior(
            hidden_dim=HIDDEN, state_dim=STOCH, rnn_hidden_dim=DETER, obs_embed_dim=embedding.shape[-1]
        ),
        in_keys=[("next", "belief"), ("next", "encoded_latents")],
        out_keys=[("next", "posterior_mean"), ("next", "posterior_std"), ("next", "state")],
    )
    rollout = RSSMRollout(prior, posterior)
    given = {
        "state": torch.zeros(BATCH, STEPS, STOCH),
        "belief": torch.zeros(BATCH, STEPS, DETER),
        "action": action,
        "next": TensorDict({"encoded_latents": embedding}, [BATCH, STEPS]),
    }

    def update() -> None:
        rollout.zero_grad()
        out = rollout(TensorDict(given, [BATCH, STEPS]))["next"]
        ratio = (out["posterior_std"] / out["prior_std"]).square()
        distance = ((out["posterior_mean"] - out["prior_mean"]) / out["prior_std"]).square()
        kl = 0.5 * (ratio + distance - 1 - ratio.log()).sum(-1)
        (kl.mean() + out["belief"].mean() + out["state"].mean()).backward()

    return "torchrl", update, list(rollout.parameters())
