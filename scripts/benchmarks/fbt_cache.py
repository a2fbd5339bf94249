"""FBT's next step in a batch of envs, from its key-value cache, against the same step from all codes anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from gymnasium.spaces import Box, Dict

from wmplay.models.boxlcd.fbt import FBT

from .measure import Result, Side, speed_ratio, take_turns

ENVS, AT, REPEATS = 256, 50, 20
CONTEXTS = (50, 12)  # the whole past at that step, as published; and the default
BAR = 5.0


def benchmark() -> Result:
    sides = [side for context in CONTEXTS for side in _sides(context)]
    timings = take_turns(sides, REPEATS, warm_up=3)
    whole, window = (
        speed_ratio(f"cached against uncached at step {AT}, context {context}", ours, theirs, BAR)
        for context, ours, theirs in zip(CONTEXTS, timings[::2], timings[1::2], strict=True)
    )
    return Result(
        "fbt-cache: one predicted step",
        f"`fbt` of the default size on Luxo's spaces, {ENVS} envs, one step after {AT - 1} others, without "
        "drawing or decoding anything. Cached: `predict` from the belief. Uncached: the transformer over the "
        f"codes of all {AT} frames so far, or of the last {CONTEXTS[1]} if that is the context, and the same "
        "heads on its output for the last frame.",
        timings,
        ENVS,
        "transitions",
        [whole],
        [f"The bar is for a context of {CONTEXTS[0]}; {window.what}: {window.value:.3g}{window.unit}."],
    )


@torch.no_grad()
def _sides(context: int) -> tuple[Side, Side]:
    space = Dict(lcd=Box(0, 1, (16, 32), np.uint8), proprio=Box(-1, 1, (16,), np.float32))
    model = FBT(space, Box(-1, 1, (3,), np.float32), context=context).eval()
    screen = torch.randint(0, 2, (ENVS, 16, 32), dtype=torch.uint8)
    first = model.initial({"lcd": screen, "proprio": 2 * torch.rand(ENVS, 16) - 1})
    action = 2 * torch.rand(ENVS, AT, 3) - 1
    past = model.predict(first, action[:, :-1])
    codes = torch.cat([first["code"].unsqueeze(1), past.latent], dim=1)[:, -context:]
    actions = action[:, -context:]

    @torch.no_grad()
    def cached() -> torch.Tensor:
        return model.predict(past.belief, action[:, -1:]).latent

    @torch.no_grad()
    def uncached() -> torch.Tensor:
        step = model.dynamics(codes, actions)
        bits = model.autoencoder.symbols.pick(step.output[:, -1:], None)
        latent = torch.cat([bits, step.mean[:, -1:].clamp(-1, 1)], dim=-1)
        model.dynamics.outcome(torch.cat([step.hidden[:, -1:], latent], dim=-1))
        return latent

    if context >= AT:  # in a shorter window deeper layers still see a little further in the cache
        assert torch.allclose(cached(), uncached(), atol=1e-4), "cached and uncached differ"

    def side(name: str, work: Callable[[], torch.Tensor]) -> Side:
        return Side(f"{name}, context {context}", lambda: work)

    return side("cached", cached), side("uncached", uncached)
