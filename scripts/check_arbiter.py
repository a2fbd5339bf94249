"""Shows that an arbiter judges: what it says of real clips that are spoiled in known ways, as a table.

python scripts/check_arbiter.py luxo
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing

import torch
from torch import Tensor

import wmplay
from wmplay.evaluation.arbiter.network import FRAMES, load_arbiter
from wmplay.evaluation.arbiter.realism import compare
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.scores import Likeness

HORIZON = 20
CONTEXT = 3
Frames = dict[str, Tensor]  # {"lcd": [W, H, ...], "proprio": [W, H, P]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("--episodes", type=int, default=512, help="half prompt, half compare (default: 512)")
    parser.add_argument("--seed", type=int, default=7000, help="of the episodes (default: 7000)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    arbiter = load_arbiter(options.world)
    with closing(wmplay.make_env(options.world, num_envs=64)) as env:
        episodes = wmplay.simulate(env, None, options.episodes, options.seed)
    clips = cut_clips(episodes, CONTEXT, HORIZON, options.episodes, options.seed)
    half = options.episodes // 2
    frames = {key: clips.segment.observation[key] for key in arbiter.shapes}
    real = {key: clips.truth[key][half : 2 * half] for key in arbiter.shapes}
    true = {key: clips.truth[key][:half] for key in arbiter.shapes}
    last = {key: value[:half, CONTEXT - 1 : CONTEXT].expand(true[key].shape) for key, value in frames.items()}
    actions = clips.actions[:half]
    print(f"{arbiter.name} ({arbiter.digest}), {half * (HORIZON // FRAMES)} clips in each set\n")
    print("| clips | Frechet distance | P@3 | R@3 | F1@3 | P@5 | R@5 | F1@5 | action error |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, futures in [("real", true), ("copy-last", last), *spoiled(true, options.seed)]:
        print(row(name, compare(arbiter, futures, real, actions)), flush=True)


def spoiled(true: Frames, seed: int) -> Iterator[tuple[str, Frames]]:
    """Return ways to spoil real futures, the mild ones first."""
    generator = torch.Generator().manual_seed(seed)
    lcd = true["lcd"] > 0
    for part in (0.001, 0.003, 0.01, 0.03, 0.1):
        flipped = torch.rand(lcd.shape, generator=generator) < part
        yield f"{part:.1%} of the pixels flipped", {**true, "lcd": lcd ^ flipped}
    if "proprio" in true:
        scale = true["proprio"].std((0, 1))
        for size in (0.02, 0.05, 0.1, 0.2, 0.5):
            noise = size * scale * torch.randn(true["proprio"].shape, generator=generator)
            yield f"proprio with noise of {size:g} sigma", {**true, "proprio": true["proprio"] + noise}
        yield "screens and proprio of different clips", {**true, "lcd": true["lcd"].roll(1, 0)}
    yield "backwards in time", each_clip(true, lambda clip: clip.flip(2))
    order = torch.randperm(FRAMES, generator=generator)
    yield f"frames of a clip in the order {order.tolist()}", each_clip(true, lambda clip: clip[:, :, order])
    still = lcd.float().flatten(2).diff(dim=1).abs().sum((1, 2)).argsort()
    calm = still[: len(still) // 2].repeat_interleave(2)
    yield "only the calmer half of the windows, twice", {key: value[calm] for key, value in true.items()}


def each_clip(frames: Frames, change: Callable[[Tensor], Tensor]) -> Frames:
    """Apply changes [W, clips, 5, ...] to each key."""
    return {key: change(value.unflatten(1, (-1, FRAMES))).flatten(1, 2) for key, value in frames.items()}


def row(name: str, likeness: Likeness) -> str:
    low, high = likeness.frechet[1:]
    cells = [name, f"{likeness.frechet.value:.2f} [{low:.2f}, {high:.2f}]"]
    for k in (3, 5):
        cells += [f"{likeness.neighbours[f'{part}@{k}'].value:.2f}" for part in ("precision", "recall", "f1")]
    cells.append("-" if likeness.action_error is None else f"{likeness.action_error.value:.3f}")
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
