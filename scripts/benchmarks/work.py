"""The floating-point work of every experiment, and how fast this machine does such work."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch.utils.flop_counter import FlopCounterMode

from wmplay import registry
from wmplay.config.settings import Settings
from wmplay.contracts import Learner, Policy, Practice
from wmplay.envs import build_env
from wmplay.loop.fitter import segment_length
from wmplay.loop.session import Session
from wmplay.runs.pieces import env_config
from wmplay.runs.worlds import practice_env
from wmplay.simulation import simulate
from wmplay.store import Store, save_trajectories

from .document import number, table
from .measure import Check, Result, Side, Timing, speed_ratio, take_turns

QUICKSTART = "experiment=quickstart"
BEFORE = (
    QUICKSTART,
    "model=rssm",
    "fit.steps=4200",
    "collect.random_episodes=1792",
    "planner.candidates=48",
    "planner.iterations=3",
)  # the quickstart of version 0.1.0
SKIPPED = ("offline",)  # it has no data of its own
SIZE, PRODUCTS, REPEATS = 1024, 20, 10
FITTING = 4000.0  # GFLOP
SLOTS, STEPS = 8, 4


@dataclass(frozen=True)
class Work:
    """GFLOP of a run."""

    fitting: float
    planning: float  # and other acting: for episodes that last as long as they can
    practising: float


def benchmark() -> Result:
    products = _products()
    fast, slow = _updates("bfloat16"), _updates("float32")
    updates = take_turns([fast, slow], REPEATS, clock=time.process_time)
    chosen: list[Sequence[str]] = [
        [f"experiment={name}"] for name in registry.names("experiment") if name not in SKIPPED
    ]
    works = {" ".join(overrides): work_of(overrides) for overrides in [*chosen, BEFORE]}
    rows = [
        [f"`{name}`", *(number(x) for x in (w.fitting, w.planning, w.practising))]
        for name, w in works.items()
    ]
    quickstart, before = works[QUICKSTART], works[" ".join(BEFORE)]
    ratio = speed_ratio("", updates[0], updates[1], 0).value
    return Result(
        "work: floating-point work of the experiments",
        f"The machine: {PRODUCTS} products of matrices of {SIZE} x {SIZE} (`torch.mm`), in "
        "processor time. The minutes of two "
        "machines compare as these rates, as far as products take the time: small networks also "
        "wait for Python.",
        products,
        round(2e-9 * SIZE**3 * PRODUCTS),
        "GFLOP",
        [
            Check("quickstart, fitting", quickstart.fitting, FITTING, " GFLOP"),
            Check(
                "quickstart, planning, against that of 0.1.0",
                quickstart.planning / before.planning,
                0.25,
                " x the work",
            ),
        ],
        [
            "GFLOP (1e9 multiplications and additions, counted by `torch.utils.flop_counter`) of a whole "
            "run: an update times the updates, a step of acting times the steps of all episodes at full "
            "length (episodes that reach a goal are shorter), a step of practice times the steps. "
            "The last row is the quickstart of version 0.1.",
            table(["experiment", "fitting", "planning and acting, at most", "practice"], rows),
            f"An update of the quickstart takes {number(1000 * updates[0].median)} ms with "
            f"`fit.precision=bfloat16`, {number(ratio)} times as long with `float32`.",
        ],
    )


def work_of(overrides: Sequence[str]) -> Work:
    """Return the work of a run, extrapolated from a short part of each phase."""
    session = Session(registry.compose(overrides))
    settings, parts, device = session.settings, session.parts, torch.device("cpu")
    iterations = settings.iterations
    with tempfile.TemporaryDirectory() as folder:
        store = _some_data(settings, folder)
        fitting = practising = 0.0
        if session.fitter is not None:
            segment = store.sample(settings.fit.batch_size, segment_length(settings, parts.model), 0)
            parts.model.train()
            for stage in session.fitter.stages:
                fitter = session.fitter.fitters[stage.name]
                fitting += stage.share * counted(lambda fitter=fitter: fitter.update(segment, 0))  # type: ignore[misc]
            parts.model.eval()
            fitting *= settings.fit.steps * iterations + _replayed(settings)
        if isinstance(parts.policy, Learner) and settings.improve.steps:
            practising = _practice(session, store, device) * settings.improve.steps * iterations
    cfg = settings.evaluate
    done = iterations // cfg.every + (iterations % cfg.every > 0)
    planning = cfg.policy.episodes * done * _acting(settings, parts.policy)
    planning += settings.collect.episodes * iterations * _acting(settings, parts.explorer)
    return Work(fitting, planning, practising)


def counted(work: Callable[[], object]) -> float:
    """Return the GFLOP of a call."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops()) / 1e9


def _some_data(settings: Settings, folder: str) -> Store:
    with closing(build_env(env_config(settings, settings.collect.env))) as env:
        return save_trajectories(simulate(env, None, 1, 0, max_steps=50), folder)


def _replayed(settings: Settings) -> float:
    """Return the number of updates that follow from the collected steps, at the full length of episodes."""
    steps = _clock(settings) * (
        settings.collect.random_episodes + settings.collect.episodes * settings.iterations
    )
    return float(settings.fit.replay_ratio * steps)


def _practice(session: Session, store: Store, device: torch.device) -> float:
    """Return the GFLOP of a step of practice."""
    settings = replace(
        session.settings,
        improve=replace(session.settings.improve, num_workers=0),
        learned=replace(session.settings.learned, count=8),
    )
    policy = copy.deepcopy(session.parts.policy)
    taken = 0

    def look(steps: int, metrics: object) -> None:
        nonlocal taken
        taken = steps

    with closing(practice_env(settings, session.parts, None, device, 0)) as env:
        practice = Practice(env, 33 * env.num_envs, 0, device, store, session.parts.model, look)
        return counted(lambda: policy.improve(practice)) / max(taken, 1)


def _acting(settings: Settings, policy: Policy | None) -> float:
    """Return the GFLOP of acting through an episode of full length."""
    if policy is None:
        return 0.0
    with closing(build_env(env_config(settings), num_envs=SLOTS)) as env:
        steps = 0

        def act() -> None:
            nonlocal steps
            steps = sum(map(len, simulate(env, policy, SLOTS, 0, max_steps=STEPS)))

        return counted(act) * _clock(settings) / steps


def _clock(settings: Settings) -> int:
    with closing(build_env(env_config(settings))) as env:
        known = getattr(env, "max_steps", None) or getattr(env.spec, "max_episode_steps", None)
        return int(settings.collect.max_episode_steps or known or 0)


def _products() -> list[Timing]:
    def side(dtype: torch.dtype) -> Side:
        a, b = torch.randn(2, SIZE, SIZE).to(dtype).unbind()

        def run() -> None:
            for _ in range(PRODUCTS):
                torch.mm(a, b)

        return Side(f"torch.mm, {str(dtype).removeprefix('torch.')}", lambda: run)

    return take_turns([side(torch.float32), side(torch.bfloat16)], REPEATS, clock=time.process_time)


def _updates(precision: str) -> Side:
    session = Session(registry.compose([QUICKSTART, f"fit.precision={precision}"]))
    with tempfile.TemporaryDirectory() as folder:
        store = _some_data(session.settings, folder)
        segment = store.sample(
            session.settings.fit.batch_size, segment_length(session.settings, session.parts.model), 0
        )
    assert session.fitter is not None

    def run() -> None:
        assert session.fitter is not None
        session.fitter.update(segment, 0, (0, 1000))

    return Side(precision, lambda: run)
