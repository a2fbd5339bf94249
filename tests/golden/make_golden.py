"""Writes lcd_worlds.json: where ten random steps take each world. ``python tests/golden/make_golden.py``

Run it only after a change that is meant to change the worlds, and look at the difference.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from wmplay.envs.lcd import WORLDS, LcdEnv

FILE = Path(__file__).with_name("lcd_worlds.json")
SEED, STEPS = 7, 10  # few: contacts amplify the last bits in which processors differ


def play(world: str) -> dict[str, Any]:
    """The last frame of a short random episode."""
    env = LcdEnv(world, full_state=True)
    observation, _ = env.reset(seed=SEED)
    rng = np.random.default_rng(SEED)
    for _ in range(STEPS):
        observation, *_ = env.step(rng.uniform(-1, 1, env.action_space.shape))
    return {
        "full_state": [round(float(value), 5) for value in observation["full_state"]],
        "lcd": ["".join(".#"[pixel] for pixel in row) for row in observation["lcd"]],
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps({world: play(world) for world in WORLDS}, indent=1) + "\n")
