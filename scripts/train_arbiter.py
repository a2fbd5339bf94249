"""Trains the arbiter of a world and writes it where wmplay ships it from.

    python scripts/train_arbiter.py luxo

One core, about two minutes for each world. An arbiter that is shipped is frozen: to change one, raise VERSION
in wmplay/arbiter.py and train all of them again.
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
from wmplay.arbiter import FOLDER, VERSION, save_arbiter
from wmplay.arbiter_training import train_arbiter
from wmplay.store import Store

HELD_OUT_SEED = 1  # added to the data's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("worlds", nargs="+", metavar="WORLD", help="as env=... takes it")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and batches (default: 0)")
    parser.add_argument("--data-seed", type=int, default=9000, help="of the episodes (default: 9000)")
    parser.add_argument("--steps", type=int, default=100_000, help="to train on (default: 100,000)")
    parser.add_argument("--updates", type=int, default=4000, help="of the weights (default: 4000)")
    parser.add_argument("--out", type=Path, default=FOLDER, help=f"the folder (default: {FOLDER})")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for world in options.worlds:
        with tempfile.TemporaryDirectory() as folder:
            store = collect(world, options.steps, options.data_seed, Path(folder) / "train")
            held_out = collect(
                world, options.steps // 5, options.data_seed + HELD_OUT_SEED, Path(folder) / "held_out"
            )
            about = {
                "command": shlex.join(["python", "scripts/train_arbiter.py", *sys.argv[1:]]),
                "commit": commit(),
                "data_seed": options.data_seed,
                "episodes": len(store),
                "clips": int((store.lengths - 3).sum()),
                "versions": {"wmplay": wmplay.__version__, "torch": torch.__version__},
            }
            arbiter = train_arbiter(
                store, held_out, world, options.seed, updates=options.updates, about=about
            )
        options.out.mkdir(parents=True, exist_ok=True)
        path = options.out / f"{world}-v{VERSION}.npz"
        save_arbiter(arbiter, path)
        print(
            f"{path}: {path.stat().st_size:,} bytes, {arbiter.digest}, {arbiter.about['losses']}", flush=True
        )


def collect(world: str, steps: int, seed: int, path: Path) -> Store:
    """Whole episodes of uniformly random actions, with at least so many steps."""
    with closing(wmplay.make_env(world, num_envs=64)) as env:
        length = len(wmplay.simulate(env, None, 1, seed)[0])
        return wmplay.save_trajectories(wmplay.simulate(env, None, -(-steps // length), seed), path)


def commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent).stdout.strip()


if __name__ == "__main__":
    main()
