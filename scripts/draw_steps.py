"""Scores the screens of one fitted `shortcut` or `diamond` that is drawn from in several numbers of steps.

    python scripts/draw_steps.py RUN --steps 1 4

Prints the IoU of the likeliest future after 1, 5 and 20 predicted steps, over held-out random episodes with
one clip each, next to that of the last frame.
"""

from __future__ import annotations

import argparse

import torch

import wmplay
from wmplay import registry
from wmplay.contracts import env_spec
from wmplay.evaluation.clips import cut_clips
from wmplay.evaluation.metrics.prediction import evaluate_prediction
from wmplay.evaluation.scores import MODEL
from wmplay.evaluation.statistics import Interval
from wmplay.models.next_screen.next_screen import NextScreen

CONTEXT, SHOWN, SEED = 4, (1, 5, 20), 10_007


@torch.no_grad()
def main() -> None:
    """Print a Markdown table of the run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--episodes", type=int, default=64)
    given = parser.parse_args()
    run = wmplay.load_run(given.run)
    assert isinstance(run.model, NextScreen)
    episodes = wmplay.simulate(run.env, None, given.episodes, SEED)
    clips = cut_clips(list(episodes), CONTEXT, max(SHOWN), given.episodes, 0)
    print(
        f"| steps of a draw | {' | '.join(f'{step} frames' for step in SHOWN)} |\n|---|{'---|' * len(SHOWN)}"
    )
    for steps in given.steps:
        model = registry.build({**run.config["model"], "steps": steps}, env=env_spec(run.env)).eval()
        model.load_state_dict(run.model.state_dict())
        curves = evaluate_prediction(model, clips).keys[run.model.screen].curves
        print(line(str(steps), [curves[MODEL].at(step) for step in SHOWN]))
    print(line("copy last", [curves["copy-last"].at(step) for step in SHOWN]))


def line(name: str, values: list[Interval]) -> str:
    """Return a row of the table."""
    shown = (f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in values)
    return f"| {name} | {' | '.join(shown)} |"


if __name__ == "__main__":
    main()
