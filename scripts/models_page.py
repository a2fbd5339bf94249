"""Measures every built-in model on one ground, and writes the table of docs/models.md.

    python scripts/models_page.py               prints the table
    python scripts/models_page.py --write       writes it into the page, between its two comments
    python scripts/models_page.py --write --models mlp gru      measures these rows anew, and keeps the others

All models see Luxo's screen and joints, `muzero` sees Catch. `torch.utils.flop_counter` counts the work, in
products and convolutions of float32; shares are of the rate that `torch.mm` of 1024 x 1024 matrices reaches
in the same process, in processor time of one thread.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median

import torch
from benchmarks.work import counted
from torch.utils._pytree import tree_leaves

from wmplay import registry
from wmplay.config.plugins import config_folders
from wmplay.contracts import capabilities, seen_by
from wmplay.envs import build_env
from wmplay.loop.session import Session
from wmplay.nets.actions import random_actions
from wmplay.runs.pieces import env_config
from wmplay.simulation import simulate
from wmplay.store import save_trajectories

PAGE = Path(__file__).parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
GROUND = [
    "env=luxo",
    "policy=random",
    "planner=null",
    "objective=null",
    "explorer=null",
    "threads=1",
    "fit.precision=float32",
]
NEEDED = {"muzero": ["env=catch"], "oracle": ["fit.steps=0"]}  # discrete actions; nothing to fit
ROWS, BATCH, LENGTH, REPEATS = 256, 16, 12, 3
PRODUCT = 1024


def main() -> None:
    """Measure all models, and print or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--models", nargs="+", default=built_in())
    given = parser.parse_args()
    torch.set_num_threads(1)
    peak = peak_rate()
    rows = {name: line for name, line in written() if name in built_in()}
    rows |= {name: row(name, peak) for name in given.models}
    lines = [
        f"`torch.mm` reaches {peak:.0f} GFLOP per second.",
        "",
        "| model | weights | a predicted step: MFLOP per future | ms at batch 256 | share | "
        "an update: GFLOP | ms | share | a belief: kB |",
        "|---|---|---|---|---|---|---|---|---|",
        *(line for _, line in sorted(rows.items())),
    ]
    table = "\n".join(lines)
    print(table)
    if given.write:
        page = PAGE.read_text()
        kept = re.sub(f"(?s){BEGIN}.*{END}", lambda _: f"{BEGIN}\n\n{table}\n\n{END}", page)
        PAGE.write_text(kept)


def written() -> Iterator[tuple[str, str]]:
    """Yield the models of the page's table, each with its line."""
    table = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    for line in table.splitlines():
        if found := re.match(r"\| `(\w+)` ", line):
            yield found[1], line


def built_in() -> list[str]:
    """Return the names of the models that are no plugins."""
    return sorted(path.stem for path in (config_folders()[0][1] / "model").glob("*.yaml"))


def row(name: str, peak: float) -> str:
    """Return a model's line of the table."""
    session = Session(registry.compose([*GROUND, *NEEDED.get(name, []), f"model={name}"]))
    model, settings = session.parts.model, session.settings
    length = max(LENGTH, capabilities(model).least_length)
    with tempfile.TemporaryDirectory() as folder, closing(build_env(env_config(settings))) as env:
        store = save_trajectories(simulate(env, None, BATCH, 0), folder)
        segment, space = store.sample(BATCH, length, 0), env.action_space
    weights = sum(weight.numel() for weight in model.parameters())
    seen = seen_by(model, segment).observation
    frame = {key: value[:1, 0].repeat_interleave(ROWS, 0) for key, value in seen.items()}
    model.eval()
    with torch.no_grad():
        belief = model.initial(frame)
        size = sum(leaf.nbytes for leaf in tree_leaves(belief)) / ROWS / 1024
        action, generator = random_actions(space, (ROWS, 1)), torch.Generator().manual_seed(0)

        def predict() -> None:
            future = model.predict(belief, action, generator=generator)
            _ = future.reward, [*future.observation.values()]

        step, step_time = counted(predict), timed(predict)
    cells = [f"`{name}`", f"{weights:,}", *measured(1000 * step / ROWS, step_time, step, peak)]
    if session.fitter is None:
        return f"| {' | '.join([*cells, '', '', '', f'{size:.1f}'])} |"
    model.train()
    work = spent = 0.0
    for stage in session.fitter.stages:
        fitter = session.fitter.fitters[stage.name]
        update = partial(fitter.update, segment, 0)
        work += stage.share * counted(update)
        spent += stage.share * timed(update)
    return f"| {' | '.join([*cells, *measured(work, spent, work, peak), f'{size:.1f}'])} |"


def measured(shown: float, seconds: float, work: float, peak: float) -> list[str]:
    """Return three cells: the work, the milliseconds, and the share of the peak."""
    share = f"{100 * work / seconds / peak:.0f}%" if work else ""
    return [f"{shown:.2f}", f"{1000 * seconds:.0f}", share]


def timed(work: Callable[[], object]) -> float:
    """Return the processor time of a call, in seconds: the median of a few, after one."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return median(times)


def peak_rate() -> float:
    """Return the GFLOP per second of a product of two large matrices."""
    a, b = torch.randn(2, PRODUCT, PRODUCT).unbind()
    return 2e-9 * PRODUCT**3 / timed(lambda: torch.mm(a, b))


if __name__ == "__main__":
    main()
