"""The verb ``prompt``: several futures of one clip, as arrays, as a GIF, and as strips of frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from gymnasium.spaces import Box, Space
from PIL import Image, ImageDraw

from wmplay.contracts import Array, Segment, capabilities, env_spec, observation_spaces
from wmplay.envs.lcd.env import LcdEnv
from wmplay.errors import ConfigError, UnknownName, WmplayError, check_range
from wmplay.nets.actions import random_actions
from wmplay.nets.trees import repeat_rows
from wmplay.play.game.screen import Shown, shown_key
from wmplay.play.prompt.clips import Clip, read_clip
from wmplay.report.colours import BLUE, GREEN
from wmplay.report.pictures.canvas import LABELS, MARGIN, WIDTH, Cell, gif, grid, paint, png
from wmplay.report.style import font
from wmplay.runs.load import LoadedRun
from wmplay.simulation import observe, predict
from wmplay.system.files import explained, written_beside

Acting: TypeAlias = Literal["recorded", "still", "random"]

MOST_FUTURES = 64
MOST_STEPS = 3_000
COLUMNS = 4  # of futures in the GIF


@dataclass(frozen=True)
class Futures:
    """Sampled futures of one clip: probabilities of binary screens, values of other observations."""

    shown: Shown
    clip: Clip
    action: (
        Array  # [F - 1 + H, A], or [F - 1 + H] int64: between the clip's frames, then those of the futures
    )
    observation: dict[str, Array]  # {key: [N, H, ...]}

    def pixels(self) -> Array:
        """Return the screens of each future, after those of the clip: uint8 [N, F + H, h, w, 3]."""
        seen, futures = self.clip.observation[self.shown.key], self.observation[self.shown.key]
        whole = np.broadcast_to(seen, (len(futures), *seen.shape))
        frames = np.concatenate([whole, futures], 1).reshape(-1, *seen.shape[1:])
        painted = np.stack([paint(frame, binary=self.shown.binary) for frame in frames])
        return painted.reshape(len(futures), -1, *painted.shape[1:])

    def gif(self) -> bytes:
        """Return all futures next to each other as a GIF; frames of the clip have a green border."""
        pixels = self.pixels()
        count, total, height, width = pixels.shape[:4]
        columns = min(count, COLUMNS)
        names = [f"{1 + row}" for row in range(0, count, columns)]
        scale = max(1, min((WIDTH - LABELS) // (columns * (width + 8)), 240 // height))
        pictures = []
        for moment in range(total):
            ahead = moment - self.clip.frames + 1
            border = BLUE if ahead > 0 else GREEN
            cells = [Cell(each[moment], border) for each in pixels]
            cells += [Cell(np.full_like(cells[0].pixels, 255), "#ffffff")] * (-count % columns)
            picture = grid(
                [cells[i::columns] for i in range(columns)],
                scale,
                top=34,
                bottom=MARGIN,
                text=14,
                names=names,
            )
            text = f"predicted: step {ahead}" if ahead > 0 else f"prompt: frame {moment + 1}"
            ImageDraw.Draw(picture).text((LABELS, 8), text, fill=border, font=font(15, bold=True))
            pictures.append(picture)
        return gif(pictures)

    def save(self, folder: str | Path) -> None:
        """Write ``futures.gif`` and strips of frames ``future_1.png``, ... Raises WriteError.

        A strip has the world's own pixels, the most likely ones of a binary screen, and so can be a prompt.
        """
        folder = Path(folder)
        futures = self.observation[self.shown.key]
        strips = [np.concatenate(self._painted(each), 1) for each in futures]
        names = [f"future_{number}.png" for number in range(1, len(strips) + 1)]
        contents = {
            "futures.gif": self.gif(),
            **{name: png(Image.fromarray(strip)) for name, strip in zip(names, strips, strict=True)},
        }
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            with written_beside(folder / name) as beside:
                beside.write_bytes(content)

    def _painted(self, frames: Array) -> Sequence[Array]:
        binary = self.shown.binary
        return [paint(np.rint(frame) if binary else frame, binary=binary) for frame in frames]


@torch.no_grad()
def prompt(
    run: LoadedRun,
    clip: Clip | str | Path,
    steps: int = 50,
    futures: int = 4,
    *,
    actions: Acting | None = None,
    seed: int = 0,
) -> Futures:
    """Return futures that a run's model predicts from a clip, all under the same actions.

    Args:
        run: as ``load_run`` returns it.
        clip: as ``read_clip`` returns it, or the path of a store, a case, a GIF or a PNG.
        steps: to predict.
        futures: number of sampled ones.
        actions: "recorded" takes those after the clip's last frame, "still" none (zero), "random" uniform
            ones. None = recorded ones if the clip has them; in a world without motors, none.
        seed: of the random actions and of the futures.

    Raises:
        WmplayError: if the clip cannot be read (see ``read_clip``), if the model does not predict the screen,
            or if the actions are unknown.
    """
    check_range("steps", steps, 1, MOST_STEPS)
    check_range("futures", futures, 1, MOST_FUTURES)
    shown = shown_key(observation_spaces(run.env.observation_space))
    if run.model is None:
        raise ConfigError(f"{run.path} has no world model", advice="choose a run that has one")
    predicted = capabilities(run.model).predicted
    if predicted is not None and shown.key not in predicted:
        raise ConfigError(f"{type(run.model).__name__} predicts no '{shown.key}'", got=list(predicted))
    clip = clip if isinstance(clip, Clip) else read_clip(clip, run)
    action = _actions(run, clip, steps, actions, seed)
    between, device = clip.frames - 1, run.device
    taken = torch.from_numpy(action)[None].to(device)
    belief = observe(run.model, _segment(clip, taken[:, :between]))
    later = taken[:, between:].repeat_interleave(futures, dim=0)
    generator = torch.Generator(device).manual_seed(seed)
    found = predict(run.model, repeat_rows(belief, futures), later, generator=generator).observation
    return Futures(shown, clip, action, {key: found[key].float().cpu().numpy() for key in found})


def _actions(run: LoadedRun, clip: Clip, steps: int, acting: Acting | None, seed: int) -> Array:
    """Return the actions [F - 1 + H, A] between a clip's frames and of its futures."""
    if acting not in (None, "recorded", "still", "random"):
        raise UnknownName("actions", str(acting), ("recorded", "still", "random"))
    space, total, env = env_spec(run.env).action_space, clip.frames - 1 + steps, run.env.unwrapped
    known = np.empty((0, *(space.shape or ())), _dtype(space)) if clip.action is None else clip.action
    if acting is None and isinstance(env, LcdEnv) and not env.world.motors:
        acting = "still"
    if acting in (None, "recorded"):
        if len(known) < total:
            after = max(0, len(known) - clip.frames + 1)
            raise WmplayError(
                f"the clip has {after} actions after its frames" if after else "the clip has no actions",
                got=after,
                expected=f"{steps}, one for each step",
                advice=f"{f'ask for {after} steps, or ' if after else ''}choose others: still or random",
            )
        return known[:total]
    drawn = _still(space, total) if acting == "still" else _random(space, total, seed)
    first = known[: clip.frames - 1]
    return np.concatenate([first, drawn[len(first) :]])


def _still(space: Space[np.ndarray], number: int) -> Array:
    if not isinstance(space, Box):
        raise WmplayError(f"no action of {space} stands for rest", advice="choose random actions")
    return np.tile(np.clip(0, space.low, space.high).astype(np.float32), (number, 1))


def _random(space: Space[np.ndarray], number: int, seed: int) -> Array:
    actions: Array = random_actions(space, (number,), torch.Generator().manual_seed(seed)).numpy()
    return actions


def _dtype(space: Space[np.ndarray]) -> type:
    return np.float32 if isinstance(space, Box) else np.int64


def _segment(clip: Clip, action: torch.Tensor) -> Segment:
    """Return a clip as a batch of one, with the actions [1, F - 1, A] between its frames."""
    no = torch.zeros(action.shape[:2], device=action.device)
    frames = {key: torch.from_numpy(value)[None].to(action.device) for key, value in clip.observation.items()}
    return Segment(frames, action, no, no > 0, no == 0)
