"""Trains the arbiter of a world and writes it where wmplay ships it from.

    python scripts/train_arbiter.py luxo

One core, one to two minutes. An arbiter that is shipped is frozen: to change one, because its world
has changed, raise its number in VERSIONS (wmplay/evaluation/arbiter/network.py); for another recipe, that of
all of them.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import torch

import wmplay
from wmplay.evaluation.arbiter.network import FOLDER, FRAMES, save_arbiter
from wmplay.evaluation.arbiter.training import train_arbiter
from wmplay.store import Store
from wmplay.system.progress import bar

HELD_OUT_SEED = 1000  # further than the data's: a vector env seeds its slots one after the other


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and batches (default: 0)")
    parser.add_argument("--data-seed", type=int, default=9000, help="of the episodes (default: 9000)")
    parser.add_argument("--steps", type=int, default=100_000, help="to train on (default: 100,000)")
    parser.add_argument("--updates", type=int, default=4000, help="of the weights (default: 4000)")
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder (default: the package's)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store, held_out = (
            collect(options.world, steps, seed, Path(folder) / str(seed))
            for steps, seed in (
                (options.steps, options.data_seed),
                (options.steps // 5, options.data_seed + HELD_OUT_SEED),
            )
        )
        with bar("train", options.updates, "updates") as advance:
            arbiter = train_arbiter(
                store,
                held_out,
                options.world,
                options.seed,
                updates=options.updates,
                about={
                    "command": shlex.join(["python", "scripts/train_arbiter.py", *sys.argv[1:]]),
                    "commit": commit(),
                    "data_seed": options.data_seed,
                    "episodes": len(store),
                    "clips": int((store.lengths - FRAMES + 2).sum()),
                    "versions": {"wmplay": wmplay.__version__, "torch": torch.__version__},
                },
                progress=lambda updates: advance(updates, ""),
            )
    path = options.out / f"{arbiter.name}.npz"
    save_arbiter(arbiter, path)
    print(f"{path}: {path.stat().st_size:,} bytes, {arbiter.digest}, {arbiter.about['losses']}")


def collect(world: str, steps: int, seed: int, path: Path) -> Store:
    """Return whole episodes of uniformly random actions, with at least ``steps`` steps."""
    with closing(wmplay.make_env(world, num_envs=64)) as env:
        length = len(wmplay.simulate(env, None, 1, seed)[0])
        return wmplay.save_trajectories(wmplay.simulate(env, None, -(-steps // length), seed), path)


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()


if __name__ == "__main__":
    main()
