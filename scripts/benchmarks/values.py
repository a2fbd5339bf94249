"""MPPI, iCEM and TD-MPC2 against stable-worldmodel's."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from gymnasium.spaces import Box, Dict
from torch import Tensor, nn

from wmplay import registry
from wmplay.contracts import EnvSpec, Segment
from wmplay.loop.fitter import Fitter
from wmplay.planners.icem import ICEM
from wmplay.planners.mppi import MPPI

from .cem import ACTION, CANDIDATES, HORIZON, ITERATIONS, STATE, Dynamics, score
from .measure import Result, Side, take_turns, time_ratio
from .peers import load_without_init, not_installed, solver_side

REPEATS, FEW = 40, 10
BAR = 1.0
SEEN, ACTED, ROWS, STEPS = 24, 6, 256, 3  # of TD-MPC2: an observation, an action, segments, their steps
LATENT, HIDDEN, CODE, BINS, CRITICS = 512, 512, 256, 101, 5
PLANS, ELITES, ROUNDS = 512, 64, 6


def benchmark_planners() -> Result:
    missing = not_installed("stable_worldmodel")
    model, state = Dynamics(), torch.randn(1, STATE)
    space, generator = Box(-1, 1, (ACTION,)), torch.Generator().manual_seed(0)
    elites = CANDIDATES // 10
    sizes = (space, HORIZON, CANDIDATES, ITERATIONS)
    adaptive = MPPI(*sizes, elite_fraction=0.1, hold=1)
    mppi = MPPI(*sizes, elite_fraction=0.1, hold=1, std=1.0, widths=False, scaled=False)
    icem = ICEM(*sizes, decay=1.0, elites=elites, kept=5 / elites)

    def ours(name: str, planner: Any, mode: Callable[[], Any] = torch.inference_mode) -> Side:
        def plan() -> None:
            with mode():
                planner.plan(model, state, score, generator=generator)

        return Side(name, lambda: plan)

    sides = [ours("wmplay, MPPI", mppi), ours("wmplay, iCEM", icem)]
    if missing is None:
        load_without_init()
        from stable_worldmodel.solver.icem import ICEMSolver
        from stable_worldmodel.solver.mppi import MPPISolver

        many: Any = {"num_samples": CANDIDATES, "n_steps": ITERATIONS, "topk": elites}
        now = {"state": state}
        for name, solver in (("MPPISolver", MPPISolver), ("ICEMSolver", ICEMSolver)):
            peer = solver(model, **many)
            sides.append(solver_side(f"stable-worldmodel, {name}", peer, now, HORIZON, ACTION))
    sides.append(ours("wmplay, MPPI, widths and temperature adapt", adaptive))
    sides.append(ours("wmplay, MPPI, in `torch.no_grad`", mppi, torch.no_grad))
    timings = take_turns(sides, REPEATS, warm_up=2, clock=time.process_time)
    what = f"{CANDIDATES:,} x {HORIZON} x {ITERATIONS}, against stable-worldmodel"
    checks = [
        time_ratio(f"{name} {what}", timings[i], timings[i + 2], BAR)
        for i, name in enumerate(("MPPI", "iCEM"))
        if missing is None
    ]
    return Result(
        "mppi, icem: planning against stable-worldmodel",
        f"One plan of {HORIZON} steps for one environment: {CANDIDATES:,} candidates x {ITERATIONS} "
        f"iterations, {elites} elites, the model of the benchmark `cem`. Each iteration has the same number "
        "of candidates; MPPI's standard deviations and temperature are constant, as in MPPISolver (by "
        "default wmplay's follow the elites); iCEM keeps 5 elites. All rows but the last are in "
        "`torch.inference_mode`, as the solvers always are. wmplay leaves that to the caller, and plans in "
        "`torch.no_grad` by itself: in the other mode a model fails that takes a gradient within `predict`, "
        "such as that of an energy. Processor time.",
        timings,
        1,
        "plans",
        checks,
        [missing] if missing else [],
    )


def benchmark_tdmpc2() -> Result:
    missing = not_installed("stable_worldmodel")
    seen, space = Dict({"state": Box(-1, 1, (SEEN,))}), Box(-1, 1, (ACTED,))
    spec = EnvSpec(seen, space, max_steps=500)
    model = registry.make("model", "tdmpc2_published", env=spec)
    planner = registry.make("planner", "mppi_tdmpc2", env=spec, proposed=0.0)
    objective = registry.make("objective", "discounted_return", model=model, gamma=None, bootstrap=True)
    fitter = Fitter(model, torch.device("cpu"), 1000, lr=3e-4, clip=20.0, precision="float32")
    state, action, reward = (
        torch.rand(ROWS, STEPS + 1, SEEN),
        torch.rand(ROWS, STEPS, ACTED),
        torch.randn(ROWS, STEPS),
    )
    every = torch.ones(ROWS, STEPS, dtype=torch.bool)
    segment = Segment({"state": state}, action, reward, ~every, every, every[:, 0])
    now, generator = state[:1, 0], torch.Generator().manual_seed(0)

    def update() -> None:
        model.train()
        fitter.update(segment, 0, (0, 1000))

    @torch.no_grad()
    def plan() -> None:
        model.eval()
        belief = model.initial({"state": now})
        planner.plan(model, belief, lambda future: objective(future, {}), generator=generator)

    sides = [Side("wmplay, update", lambda: update), Side("wmplay, plan", lambda: plan)]
    if missing is None:
        sides += _peer(state, action, reward, now)
    timings = take_turns(sides, FEW, warm_up=1)
    checks = [
        time_ratio(f"TD-MPC2 {name}, against stable-worldmodel", timings[i], timings[i + 2], BAR)
        for i, name in enumerate(("update", "plan"))
        if missing is None
    ]
    return Result(
        "tdmpc2: update and plan against stable-worldmodel",
        f"The published sizes: latent {LATENT}, hidden layers of {HIDDEN}, {CRITICS} value networks, {BINS} "
        f"bins, float32. An update is of {ROWS} segments of {STEPS} steps, with the gradients clipped and a "
        f"step of Adam; a plan is {ROUNDS} iterations of {PLANS} candidates over {STEPS} steps, {ELITES} "
        "elites, for one environment, without proposals of the policy. stable-worldmodel evaluates all value "
        "networks where the authors, and wmplay, evaluate two.",
        timings,
        1,
        "times",
        checks,
        [missing] if missing else [],
    )


def _peer(state: Tensor, action: Tensor, reward: Tensor, now: Tensor) -> list[Side]:
    load_without_init()
    from omegaconf import OmegaConf
    from stable_worldmodel.solver.mppi import MPPISolver
    from stable_worldmodel.wm.tdmpc2.tdmpc2 import TDMPC2, tdmpc2_forward

    sizes = {"enc_dim": CODE, "mlp_dim": HIDDEN, "num_bins": BINS, "num_q": CRITICS, "horizon": STEPS}
    weights = {"consistency_coef": 20.0, "reward_coef": 0.1, "value_coef": 0.1, "rho": 0.5, "tau": 0.01}
    wm = {"encoding": {"state": LATENT}, "vmin": -10.0, "vmax": 10.0, "discount": 0.99, **sizes, **weights}
    config = OmegaConf.create({"action_dim": ACTED, "extra_dims": {"state": SEEN}, "wm": wm})
    model = TDMPC2(config)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=3e-4)
    module = SimpleNamespace(model=model, log_dict=lambda *_, **__: None)
    batch = {
        "state": state,
        "action": torch.cat([action, torch.zeros_like(action[:, :1])], 1),
        "reward": reward,
    }

    def update() -> None:
        loss = tdmpc2_forward(module, dict(batch), "train", config)["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 20.0)
        optimizer.step()

    solver = MPPISolver(_Costs(model), num_samples=PLANS, n_steps=ROUNDS, topk=ELITES)
    plan = solver_side("stable-worldmodel, plan", solver, {"state": now}, STEPS, ACTED)
    return [Side("stable-worldmodel, update", lambda: update), plan]


class _Costs(nn.Module):
    """The peer's model for its solver, without the actor's plan as a start."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def get_cost(self, info: dict[str, Tensor], action: Tensor) -> Tensor:
        """Return costs [B, N] of action [B, N, H, A]."""
        costs: Tensor = self.model.get_cost(info, action)
        return costs
