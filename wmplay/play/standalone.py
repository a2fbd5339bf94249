"""A learned world as one HTML file: weights inside, no server, no network."""

from __future__ import annotations

import base64
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch.utils._pytree import tree_leaves

from wmplay.contracts import Array, Belief, Segment, Trajectory, seen_by
from wmplay.envs import build_env
from wmplay.play.game.screen import Shown
from wmplay.play.games import Games
from wmplay.play.program import Weights, step_program
from wmplay.runs.load import LoadedRun
from wmplay.simulation import observe, simulate
from wmplay.system.files import written_beside

EPISODES = 4  # real ones that a page replays
STEPS = 100  # of each at most
PROMPT_EVERY = 25  # steps between moments from which the learned world can begin
SCRIPTS = ("engine.js", "screens.js", "strip.js", "stick.js", "standalone.js")
MODULE_LINES = re.compile(r"^import .*\n|^export (?=class|function|const)", re.MULTILINE)


def write_page(path: Path, games: Games, run: LoadedRun, seed: int = 0) -> None:
    """Write the page of a run's model.

    Args:
        path: of the HTML file.
        games: of the run.
        run: whose policy, if it has one, acts in the real episodes that the page replays.
        seed: of these episodes.

    Raises:
        ConfigError: if the model's arithmetic is not the page's (see ``step_program``).
        WriteError: if the file cannot be written.
    """
    content = page(games, run, seed)
    with written_beside(path) as beside:
        beside.write_text(content)


def page(games: Games, run: LoadedRun, seed: int = 0) -> str:
    """Return the page as HTML."""
    env, weights = build_env(games.config, num_envs=EPISODES), Weights()
    episodes = [
        episode.steps(0, min(len(episode), STEPS))
        for episode in simulate(env, run.policy, episodes=EPISODES, seed=seed, max_steps=STEPS)
    ]
    env.close()
    shown, space = games.shown, env.single_action_space
    prompts = [_prompts(run.model, episode) for episode in episodes]
    action = _actions(episodes[0])[:1, None]
    programs = {
        name: step_program(run.model, prompts[0][0], action, shown.key, sampled=name == "sampled").as_json(
            weights
        )
        for name in ("likely", "sampled")
    }
    box = isinstance(space, Box)
    data = {
        "world": games.world,
        "model": type(run.model).__name__,
        "fps": games.fps,
        "size": shown.size,
        "binary": shown.binary,
        "discrete": not box,
        "actions": len(space.low) if box else int(space.n),
        "low": space.low.tolist() if box else [],
        "high": space.high.tolist() if box else [],
        "promptEvery": PROMPT_EVERY,
        "programs": programs,
        "episodes": [
            _episode(episode, beliefs, shown, weights)
            for episode, beliefs in zip(episodes, prompts, strict=True)
        ],
        "weights": base64.b64encode(weights.content()).decode(),
    }
    return _filled(json.dumps(data, separators=(",", ":")))


@torch.no_grad()
def _prompts(model: Any, episode: Trajectory) -> list[Belief]:
    """Return the model's beliefs after the real frames up to moments 0, ``PROMPT_EVERY``, ..."""
    frames = {key: torch.from_numpy(np.array(value))[None] for key, value in episode.observation.items()}
    action = _actions(episode)[None]
    no = torch.zeros(action.shape[:2])
    segment = seen_by(model, Segment(frames, action, no, no > 0, no == 0))
    return [observe(model, segment, moment + 1) for moment in range(0, len(episode), PROMPT_EVERY)]


def _actions(episode: Trajectory) -> torch.Tensor:
    return torch.from_numpy(np.array(episode.action))


def _episode(episode: Trajectory, beliefs: list[Belief], shown: Shown, weights: Weights) -> dict[str, Any]:
    """Return an episode for the page, after adding its numbers to the page's weights."""

    def kept(tensor: torch.Tensor) -> list[Any]:
        return [list(tensor.shape), *weights.add(tensor)]

    return {
        "screens": base64.b64encode(_packed(shown.pixels(episode.observation[shown.key]), shown)).decode(),
        "actions": kept(_actions(episode)),
        "prompts": [[kept(leaf) for leaf in tree_leaves(belief)] for belief in beliefs],
    }


def _packed(pixels: Array, shown: Shown) -> bytes:
    """Return screens uint8 [T + 1, h, w, c] as bytes, or as bits if they are binary."""
    return (np.packbits(pixels > 0, bitorder="little") if shown.binary else pixels).tobytes()


def _filled(data: str) -> str:
    """Return the page with its style, its scripts and its data inside."""
    static = files("wmplay.play") / "static"
    script = "\n".join(MODULE_LINES.sub("", (static / name).read_text()) for name in SCRIPTS)
    parts = {"STYLE": (static / "style.css").read_text(), "DATA": data, "SCRIPT": script}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], (static / "standalone.html").read_text())
