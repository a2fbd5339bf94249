"""The choice of the arbiter for an env's world, and its validation before a run."""

from __future__ import annotations

from typing import Any

import gymnasium

from wmplay.envs.lcd import WORLDS
from wmplay.envs.lcd.env import LcdEnv
from wmplay.errors import ArbiterError
from wmplay.evaluation.arbiter.network import FRAMES, Arbiter, load_arbiter, shipped_arbiters
from wmplay.evaluation.arbiter.realism import clips_needed
from wmplay.evaluation.arbiter.set_distances import check_enough


def arbiter_of(env: gymnasium.Env[Any, Any]) -> Arbiter:
    """Return the arbiter of an env's world.

    Raises:
        ArbiterError: if the world has none.
    """
    shown = env.unwrapped.world if isinstance(env.unwrapped, LcdEnv) else None
    names = [name for name, world in WORLDS.items() if world == shown]
    if not names:
        raise ArbiterError(
            f"{type(env.unwrapped).__name__} shows no built-in world",
            got=type(env.unwrapped).__name__,
            expected=f"one with an arbiter ({', '.join(shipped_arbiters())})",
            advice="leave evaluate.arbiter.clips at 0",
        )
    if names[0] not in shipped_arbiters():
        raise ArbiterError(
            f"no arbiter judges the world '{names[0]}' as yet ({', '.join(shipped_arbiters())} have one)",
            got=names[0],
            advice=(
                f"make one by python scripts/train_arbiter.py {names[0]}, or leave "
                "evaluate.arbiter.clips at 0"
            ),
        )
    return load_arbiter(names[0])


def check_arbiter(env: gymnasium.Env[Any, Any], horizon: int, clips: int) -> None:
    """Raise ArbiterError if an env's world has no arbiter, if its horizon is too short for a clip,
    or if the short clips (``evaluate.arbiter.clips``) are too few to be compared.
    """
    if horizon < FRAMES:
        raise ArbiterError(
            f"evaluate.prediction.horizon is {horizon}",
            got=horizon,
            expected=(
                f"at least {FRAMES}, the frames of a clip of the arbiter's; or evaluate.arbiter.clips=0"
            ),
        )
    check_enough(clips_needed(clips, horizon) // 2, horizon // FRAMES, arbiter_of(env).dimensions)
