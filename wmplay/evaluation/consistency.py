"""Whether a predicted future agrees with itself: does its screen show what its vectors say?

For LCD worlds, whose own renderer can draw any positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import gymnasium
import numpy as np
import torch
from torch import Tensor

from wmplay.contracts import WorldModel
from wmplay.envs.lcd.screen import Rounding, Screen
from wmplay.envs.lcd.tasks import ENTRIES
from wmplay.envs.lcd.worlds.world import World
from wmplay.evaluation.clips import Episodes, batches, cut_windows
from wmplay.evaluation.metrics import foreground_iou
from wmplay.evaluation.scores import AgreementScore, Curve
from wmplay.evaluation.spread import sample_futures

Measure: TypeAlias = Literal["iou", "covered"]

SCREEN = "lcd"  # the key of the screen in LCD worlds


class Drawing:
    """Screens drawn from a world's vectors, as the world itself would.

    ``full_state`` says where everything is; ``proprio`` leaves out the objects: only the robot is drawn.

    Args:
        world: with a robot, unless full_state is drawn.
        key: "full_state" or "proprio".
        rounding: as its screen has it.
    """

    def __init__(self, world: World, key: str, rounding: Rounding = "outwards") -> None:
        self.key = key
        whole = key == "full_state" or not world.objects
        self.measure: Measure = "iou" if whole else "covered"
        self._world = world if whole else dataclasses.replace(world, objects=(), statics=())
        self._screen = Screen(self._world, rounding)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Bool screens [..., H, W] of vectors [..., bodies * 4]: scaled x and y, cos and sin of each body."""
        bodies = vectors.double().cpu().numpy().reshape(-1, len(self._world.bodies), ENTRIES)
        place = (bodies[..., :2] + 1) / 2 * (self._world.width, self._world.height)
        angle = np.arctan2(bodies[..., 3], bodies[..., 2])
        pose = np.concatenate([place, angle[..., None]], -1)
        screens = self._screen.draw(pose, np.zeros(pose.shape[:2], np.intp))
        return torch.from_numpy(screens > 0).reshape(*vectors.shape[:-1], *screens.shape[1:])

    def agreement(self, screens: Tensor, vectors: Tensor) -> Tensor:
        """[...] of bool screens [..., H, W] and vectors [..., bodies * 4]; 1 where nothing is drawn."""
        drawn = self(vectors)
        if self.measure == "iou":
            return foreground_iou(screens, drawn)
        covered = (screens & drawn).flatten(-2).sum(-1) / drawn.flatten(-2).sum(-1).clamp(min=1)
        return torch.where(drawn.flatten(-2).any(-1), covered, 1.0)


def drawing_of(env: gymnasium.Env[Any, Any], keys: Iterable[str]) -> Drawing | None:
    """How to draw what is observed under these keys; None where it cannot be.

    That is: outside of LCD worlds, without a screen, and where the vectors do not tell what is where (a
    passive world without ``full_state``, objects that may have one shape or another).
    """
    world = getattr(env.unwrapped, "world", None)
    keys = set(keys)
    if not isinstance(world, World) or SCREEN not in keys:
        return None
    rounding: Rounding = getattr(env.unwrapped, "screen", "outwards")
    if "full_state" in keys and all(len(options) == 1 for options in world.shapes):
        return Drawing(world, "full_state", rounding)
    return Drawing(world, "proprio", rounding) if world.robots and "proprio" in keys else None


@torch.no_grad()
def evaluate_agreement(
    model: WorldModel,
    store: Episodes,
    env: gymnasium.Env[Any, Any],
    *,
    context: int = 3,
    horizon: int = 20,
    clips: int = 256,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> AgreementScore | None:
    """Screens of sampled futures beside what the world's renderer makes of their vectors, by horizon.

    Args:
        model: any world model.
        store: held-out episodes.
        env: a single env of their world.
        context: frames shown before predicting.
        horizon: steps predicted.
        clips: windows, at most one of each episode.
        seed: chooses the windows and draws one future of each.
        device: where the model is.

    Returns:
        None where nothing can be drawn (see ``drawing_of``), or the model does not predict what is needed.

    Raises:
        WmplayError: if no episode is long enough.
    """
    drawing = drawing_of(env, store[0].observation)
    if drawing is None:
        return None
    windows = cut_windows(store, context, horizon, clips, seed)
    generator = torch.Generator(device).manual_seed(seed)
    screens, vectors = [], []
    for batch in batches(windows, device):
        future = sample_futures(model, batch, context, 1, generator)
        if not {SCREEN, drawing.key} <= future.keys():
            return None
        screens.append(future[SCREEN][:, 0].cpu() > 0.5)
        vectors.append(future[drawing.key][:, 0].cpu())
    screen, vector = torch.cat(screens), torch.cat(vectors)
    true_screen, true_vector = (windows.observation[key][:, context:] for key in (SCREEN, drawing.key))
    floor = drawing.agreement(screen, vector.roll(1, 0))
    return AgreementScore(
        drawing.measure,
        drawing.key,
        context=context,
        horizon=horizon,
        clips=len(screen),
        seed=seed,
        model=Curve.over(drawing.agreement(screen, vector)),
        ceiling=Curve.over(drawing.agreement(true_screen > 0, true_vector)),
        floor=Curve.over(floor if len(floor) > 1 else floor[:0]),
    )
