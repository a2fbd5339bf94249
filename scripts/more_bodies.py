"""Tries a run's `gns` with other numbers of bodies than it was fitted on, against constant velocity.

    python scripts/more_bodies.py RUN --bodies 3 6          springs
    python scripts/more_bodies.py RUN --worlds object2 object3 --set full_state=true

The weights fit any number of bodies. Errors are root mean squares over the first key's numbers, over held-out
episodes of the random policy with one clip each.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

import wmplay
from wmplay.evaluation.statistics import mean_interval

CONTEXT, SHOWN = 3, (1, 5, 10, 20)


def errors(run: Path, world: str, settings: dict[str, Any], episodes: int) -> tuple[Tensor, Tensor]:
    """Return the errors [episodes, H] of the model and of constant velocity."""
    trained, env = wmplay.load_run(run), wmplay.make_env(world, **settings)
    chosen = {key: value for key, value in trained.config["model"].items() if not key.startswith("_")}
    model = wmplay.make("model", "gns", env=env, **chosen).eval()
    model.load_state_dict(trained.model.state_dict())
    horizon = max(SHOWN)
    found = wmplay.simulate(env, None, episodes, 1000, max_steps=CONTEXT + horizon - 1)
    frames = {key: torch.as_tensor([x.observation[key].tolist() for x in found]) for key in model.reads}
    action = torch.as_tensor([x.action.tolist() for x in found])
    belief = model.initial({key: value[:, 0] for key, value in frames.items()})
    seen = {key: value[:, 1:CONTEXT] for key, value in frames.items()}
    belief = model.observe(belief, action[:, : CONTEXT - 1], seen)
    with torch.no_grad():
        predicted = model.predict(belief, action[:, CONTEXT - 1 :]).observation
    key = model.reads[0]
    truth, last = frames[key][:, CONTEXT:], frames[key][:, CONTEXT - 1 : CONTEXT]
    change = last - frames[key][:, CONTEXT - 2 : CONTEXT - 1]
    straight = last + change * torch.arange(1, horizon + 1)[:, None]
    both = [(x - truth).square().mean(-1).sqrt() for x in (predicted[key], straight)]
    return both[0], both[1]


def main() -> None:
    """Print a Markdown table of errors by world and horizon."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--bodies", type=int, nargs="*", default=[], help="of springs")
    parser.add_argument("--worlds", nargs="*", default=[], help="names of worlds")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of these worlds")
    parser.add_argument("--episodes", type=int, default=200)
    given = parser.parse_args()
    chosen = {key: yaml.safe_load(value) for key, value in (text.split("=", 1) for text in given.set)}
    worlds = [("springs", {"bodies": count}) for count in given.bodies]
    worlds += [(name, chosen) for name in given.worlds]
    steps = " | ".join(f"{step} steps" for step in SHOWN)
    print(f"| world | | {steps} |\n|---|---|{'---|' * len(SHOWN)}")
    for name, settings in worlds:
        shown = ", ".join(f"{key}={value}" for key, value in settings.items())
        both = errors(given.run, name, settings, given.episodes)
        for who, error in zip(("model", "constant velocity"), both, strict=True):
            intervals = (mean_interval(error[:, step - 1].double().numpy()) for step in SHOWN)
            cells = " | ".join(f"{mean:.4f} [{low:.4f}, {high:.4f}]" for mean, low, high in intervals)
            print(f"| {name} ({shown}) | {who} | {cells} |")


if __name__ == "__main__":
    main()
