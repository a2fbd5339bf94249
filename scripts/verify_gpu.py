"""Compares a GPU with the CPU, piece by piece, runs two experiments on it, and measures how fast it is.

    python scripts/verify_gpu.py                         on the first CUDA device; writes docs/gpu.md
    python scripts/verify_gpu.py --device cpu --small    everything in little, on the CPU; writes nothing

It takes about `--minutes` (8) at most: what is then still to do is left out, and the page says so. A
difference that is larger than its bound makes the exit code 1, after the rest was tried.
"""

from __future__ import annotations

import argparse
import copy
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks.document import number, table
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

import wmplay
from wmplay import registry
from wmplay.contracts import Segment
from wmplay.envs.learned.env import LearnedVectorEnv
from wmplay.envs.learned.starts import real_starts
from wmplay.loop.fitter import StageFitter, stages_of
from wmplay.planners.cem import CEM
from wmplay.planners.random_shooting import RandomShooting
from wmplay.policies.ppo import PPO
from wmplay.policies.sac import SAC
from wmplay.simulation import observe, predict, simulate
from wmplay.vector.stepping import TensorEnv

PAGE = Path(__file__).parents[1] / "docs" / "gpu.md"
CPU = torch.device("cpu")
TOLERANCE = 2e-3  # of what is predicted, in parts of its largest value
DRAWN = 0.1  # of a loss that draws, the mean over DRAWS draws, which differ between devices
DRAWS = 16
CONTEXT, HORIZON, BATCH, LENGTH = 3, 10, 48, 12
PLANNERS = {"cem": CEM, "random_shooting": RandomShooting}
POLICIES = {"ppo": PPO, "sac": SAC}
EXPERIMENTS = ("quickstart", "luxo_learned")
MINI = (
    "collect.random_episodes=6",
    "collect.num_workers=0",
    "fit.steps=3",
    "evaluate.policy.episodes=3",
    "evaluate.prediction.episodes=4",
    "evaluate.generation.clips=0",
    "report=false",
)
COMPILED = {"torch.compile": {}, "CUDA graphs": {"mode": "reduce-overhead"}}


@dataclass
class Report:
    """The findings so far."""

    device: torch.device
    small: bool
    until: float  # time.monotonic
    parts: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def out_of_time(self, what: str) -> bool:
        """Return whether the time is over, and report the part that is left out."""
        late = time.monotonic() > self.until
        if late:
            self.add(f"Left out, for want of time: {what}.")
        return late

    def add(self, text: str) -> None:
        """Add a section to the page and print it."""
        self.parts.append(text)
        print(f"{text}\n", flush=True)

    def differs(self, what: str, difference: float, bound: float) -> str:
        """Return the difference as a cell, and record it if it is too large."""
        if not difference <= bound:
            self.broken.append(f"{what}: {difference:.2g}, at most {bound:g}")
            return f"**{difference:.1e}**"
        return f"{difference:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--small", action="store_true", help="everything in little, to try the script")
    parser.add_argument("--minutes", type=float, default=8.0, help="to take at most")
    parser.add_argument("--out", type=Path, help="where to write; with a CUDA device docs/gpu.md")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here: try --device cpu --small")
    report = Report(device, options.small, time.monotonic() + 60 * options.minutes)
    report.add("# On a GPU")
    report.add(setting(device))
    env = wmplay.make_env("luxo", task="body_goal")
    with tempfile.TemporaryDirectory() as folder:
        store = wmplay.save_trajectories(simulate(wmplay.make_env("luxo", num_envs=8), None, 8, 0), folder)
        segment = store.sample(BATCH, LENGTH, 0)
        models = list(built_in_models(env, options.small))
        for section in (parity_of_models, parity_of_planners, parity_of_policies, speed_of_updates, compiled):
            section(report, models, segment)
        transitions(report, models)
    end_to_end(report)
    if report.broken:
        report.add("**Differences larger than their bounds:** " + "; ".join(report.broken))
    page = options.out or (PAGE if device.type == "cuda" else None)
    if page is not None:
        page.write_text("\n\n".join(report.parts) + "\n")
    sys.exit(bool(report.broken))


def setting(device: torch.device) -> str:
    """Return the card, the versions and the command."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"
    rows = [["device", card], ["torch", torch.__version__], ["command", f"`python {' '.join(sys.argv)}`"]]
    return f"Written by the command below.\n\n{table(['', ''], rows)}"


def built_in_models(env: Any, small: bool) -> Iterator[tuple[str, Any]]:
    """Return every built-in model for an env, untrained, of its default size."""
    names = ("mlp", "gru", "rssm", "ensemble") if small else registry.names("model")
    for name in names:
        torch.manual_seed(0)
        yield name, wmplay.make("model", name, env=env)


# ---- parity --------------------------------------------------------------------------------------


def parity_of_models(report: Report, models: Sequence[tuple[str, Any]], segment: Segment) -> None:
    """Compare predictions and losses on the CPU and on the device."""
    rows = []
    for name, model in models:
        if report.out_of_time(f"parity of {name}"):
            break
        results = []
        for device in (CPU, report.device):
            here, data = copy.deepcopy(model).to(device).eval(), segment.to(device)
            with torch.no_grad():
                future = predict(here, observe(here, data, CONTEXT), data.action[:, CONTEXT - 1 :])
                seen = {"reward": future.reward, "discount": future.discount, **future.observation}
                losses = [loss_of(stage.loss, data) for stage in stages_of(here)]
            results.append((tree_map(to_cpu, (future.latent, seen)), losses))
        (expected, losses), (got, others) = results
        of_loss = max(abs(a - b) / max(abs(a), 1e-6) for a, b in zip(losses, others, strict=True))
        rows.append(
            [
                f"`{name}`",
                report.differs(f"prediction of {name}", difference(expected, got), TOLERANCE),
                report.differs(f"loss of {name}", of_loss, DRAWN),
            ]
        )
    what = f"largest value; of the loss: of the mean over {DRAWS} draws, which are others on each device"
    report.add(f"## Parity with the CPU\n\nFloat32; the largest difference, in parts of the {what}.")
    report.add(table(["model", "prediction", "loss"], rows))


def parity_of_planners(report: Report, models: Sequence[tuple[str, Any]], segment: Segment) -> None:
    """Compare a plan found on the device, scored on the CPU, with plans found on the CPU."""
    name, model = models[0]
    space = wmplay.make_env("luxo").action_space
    rows = []
    for planner_name, planner in PLANNERS.items():
        found = []
        for device in (CPU, report.device):
            here, data = copy.deepcopy(model).to(device).eval(), segment.to(device)
            belief, generator = observe(here, data, CONTEXT), torch.Generator(device).manual_seed(0)
            found.append(planner(space, horizon=6).plan(here, belief, worth, generator=generator))
        belief = observe(model.eval(), segment, CONTEXT)
        with torch.no_grad():
            again = worth(model.predict(belief, to_cpu(found[1].action)))
        scores = [to_cpu(plan.score) for plan in found]
        spread = float(scores[0].std()) + 1e-6
        rows.append(
            [
                f"`{planner_name}`",
                report.differs(f"score of {planner_name}", difference(again, scores[1]), 10 * TOLERANCE),
                report.differs(f"{planner_name}", abs(float((scores[0] - scores[1]).mean())) / spread, 0.5),
            ]
        )
    report.add(
        f"Plans with `{name}`: their scores, and in parts of the scores' spread how much better one side is."
    )
    report.add(table(["planner", "score", "quality"], rows))


def parity_of_policies(report: Report, models: Sequence[tuple[str, Any]], segment: Segment) -> None:
    """Compare the mean actions of the policies that learn."""
    env = wmplay.make_env("luxo", task="body_goal")
    frame = {key: torch.from_numpy(value)[None] for key, value in env.reset(seed=0)[0].items()}
    first, last = torch.ones(1, dtype=torch.bool), torch.zeros(1, *env.action_space.shape)
    rows = []
    for name, policy in POLICIES.items():
        torch.manual_seed(0)
        net = policy(env.observation_space, env.action_space)
        actions = []
        for device in (CPU, report.device):
            here = copy.deepcopy(net).to(device)
            given = tree_map(lambda x, device=device: x.to(device), (frame, last, first))
            with torch.no_grad():
                actions.append(to_cpu(here.act(here.initial(1), *given)[0]))
        rows.append([f"`{name}`", report.differs(f"action of {name}", difference(*actions), 1e-2)])
    report.add(table(["policy", "mean action"], rows))


def loss_of(loss: Callable[[Segment], tuple[Tensor, Any]], data: Segment) -> float:
    """Return the mean loss over draws."""
    values = []
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        values.append(float(loss(data)[0]))
    return statistics.fmean(values)


def worth(future: Any) -> Tensor:
    """Return a score that is smooth in the predictions."""
    return future.observation["proprio"].float().mean((1, 2))


def to_cpu(value: Any) -> Any:
    return value.detach().float().cpu() if isinstance(value, Tensor) else value


def difference(expected: Any, got: Any) -> float:
    """Return the largest difference over all tensors, relative to the largest value."""
    worst = 0.0
    for a, b in zip(tree_leaves(expected), tree_leaves(got), strict=True):
        if isinstance(a, Tensor):
            worst = max(worst, float((a - b).abs().max() / a.abs().max().clamp(min=1e-3)))
    return worst


# ---- speed ---------------------------------------------------------------------------------------


def speed_of_updates(report: Report, models: Sequence[tuple[str, Any]], segment: Segment) -> None:
    """Measure updates per second of each model."""
    rows = []
    for name, model in models:
        if report.out_of_time(f"updates of {name}"):
            break
        cells = [f"`{name}`"]
        for times in (1,) if report.small else (1, 16):
            here, data = (
                copy.deepcopy(model).to(report.device).train(),
                larger(segment, times).to(report.device),
            )
            seconds = 0.0
            for stage in stages_of(here):
                fitter = StageFitter(name, stage, report.device)
                seconds += stage.share * timed(
                    report, lambda fitter=fitter, data=data: fitter.update(data, 0)
                )
            cells.append(number(1 / seconds))
        rows.append(cells)
    sizes = [f"{BATCH} x {LENGTH}"] if report.small else [f"{n * BATCH} x {LENGTH}" for n in (1, 16)]
    report.add(
        f"## Speed\n\nUpdates per second, `fit.precision=auto`, by batch.\n\n{table(['model', *sizes], rows)}"
    )


def compiled(report: Report, models: Sequence[tuple[str, Any]], segment: Segment) -> None:
    """Measure a planner's rollout, eager and compiled with CUDA graphs."""
    if report.device.type != "cuda" and not report.small:
        return
    rows = []
    data = larger(segment, 1 if report.small else 20).to(report.device)
    for name, model in models:
        if report.out_of_time(f"torch.compile of {name}"):
            break
        here = copy.deepcopy(model).to(report.device).eval()
        with torch.no_grad():
            rows.append([f"`{name}`", *rollouts(report, here, observe(here, data, CONTEXT), data.action)])
        torch._dynamo.reset()
    report.add(f"Milliseconds of {LENGTH} predicted steps of {len(data.action)} rows.")
    report.add(table(["model", "eager", *COMPILED], rows))


def rollouts(report: Report, model: Any, belief: Any, action: Tensor) -> Iterator[str]:
    """Return milliseconds of a rollout: eager, and compiled in each way."""

    def rollout(belief: Any, action: Tensor) -> Any:
        return model.predict(belief, action).latent

    yield milliseconds(report, lambda: rollout(belief, action))
    for settings in COMPILED.values():
        quick = torch.compile(rollout, **({"backend": "eager"} if report.small else settings))
        try:
            yield milliseconds(report, lambda quick=quick: quick(belief, action))
        except Exception as error:  # whatever torch cannot capture
            yield f"no ({type(error).__name__})"


def transitions(report: Report, models: Sequence[tuple[str, Any]]) -> None:
    """Measure transitions per second of the models as vector envs."""
    env = wmplay.make_env("luxo", task="body_goal")
    with closing(wmplay.make_env("luxo", num_envs=8, task="body_goal")) as few:
        starts = real_starts(few, 64, context=1, seed=0)
    sizes = (8,) if report.small else (512, 8192)
    rows = []
    for name, model in models:
        if report.out_of_time(f"transitions of {name}"):
            break
        cells = [f"`{name}`"]
        for slots in sizes:
            here = copy.deepcopy(model).to(report.device).eval()
            learned = TensorEnv(
                LearnedVectorEnv(here, env, starts, slots, device=report.device), report.device
            )
            learned.reset(0)
            action = 2 * torch.rand(slots, 3, device=report.device) - 1
            cells.append(number(slots / timed(report, lambda: learned.step(action))))  # noqa: B023
        rows.append(cells)
    report.add(f"Learned transitions per second, by slots.\n\n{table(['model', *map(str, sizes)], rows)}")


def timed(report: Report, work: Callable[[], object]) -> float:
    """Return the median seconds of several calls, after warm-up calls."""
    seconds = []
    for turn in range(3 if report.small else 15):
        began = time.perf_counter()
        work()
        if report.device.type == "cuda":
            torch.cuda.synchronize(report.device)
        if turn >= (1 if report.small else 5):
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def milliseconds(report: Report, work: Callable[[], object]) -> str:
    return number(1000 * timed(report, work))


def larger(segment: Segment, times: int) -> Segment:
    """Return the same rows several times."""
    repeated = {key: value.repeat_interleave(times, 0) for key, value in segment.observation.items()}
    parts = (segment.action, segment.reward, segment.terminated, segment.mask, segment.first)
    return Segment(repeated, *(None if x is None else x.repeat_interleave(times, 0) for x in parts))  # type: ignore[arg-type]


# ---- end to end ----------------------------------------------------------------------------------


def end_to_end(report: Report) -> None:
    """Run whole trainings."""
    rows = []
    for name in EXPERIMENTS:
        if report.out_of_time(f"experiment={name}"):
            break
        overrides = [f"experiment={name}", f"device={report.device}"]
        if report.small:
            learns = ["improve.steps=40", "improve.num_envs=4", "learned.count=4", "collect.episodes=4"]
            overrides += [*MINI, *(learns if name == "luxo_learned" else [])]
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            run = wmplay.train(overrides, dir=Path(folder) / name)
            seconds = time.monotonic() - began
            last = [line for line in run.metrics if line["phase"] == "evaluate"][-1]
            success = {key: value for key, value in last.items() if key.endswith("policy/success")}
            rows.append([f"`{name}`", f"{seconds:.0f} s", *(f"{value:.1%}" for value in success.values())])
    report.add(f"## End to end\n\n{table(['experiment', 'from start to end', 'success'], rows)}")


if __name__ == "__main__":
    main()
