"""The cross-entropy planner against nothing but the model's evaluations."""

from __future__ import annotations

import torch
from gymnasium.spaces import Box
from torch import Tensor, nn

from wmplay.contracts import Prediction
from wmplay.planners.cem import CEM

from .measure import Result, Side, take_turns, time_ratio
from .peers import load_without_init, not_installed, solver_side

CANDIDATES, HORIZON, ITERATIONS = 1000, 12, 10
STATE, ACTION, HIDDEN = 16, 3, 200
REPEATS = 30
BAR = 1.05


class Dynamics(nn.Module):
    """state + MLP(state, action), two hidden layers: the smallest model for a planner."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(STATE + ACTION, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU()]
        self.change = nn.Sequential(*layers, nn.Linear(HIDDEN, STATE))

    def predict(
        self, belief: Tensor, action: Tensor, *, generator: torch.Generator | None = None
    ) -> Prediction:
        """Return states [R, H, S] for a state [R, S] and action [R, H, A]."""
        states = [belief]
        for step in action.unbind(1):
            states.append(states[-1] + self.change(torch.cat([states[-1], step], dim=-1)))
        return Prediction(
            torch.stack(states[1:], 1), None, None, states[-1], lambda latent: {"state": latent}
        )

    def get_cost(self, info: dict[str, Tensor], action: Tensor) -> Tensor:
        """Return costs [B, N] for states [B, N, S] and action [B, N, H, A], for stable-worldmodel."""
        prediction = self.predict(info["state"].flatten(0, 1), action.flatten(0, 1))
        return -score(prediction).reshape(action.shape[:2])


def score(prediction: Prediction) -> Tensor:
    """Return scores [R] that are higher nearer to the origin at the end."""
    return -prediction.latent[:, -1].square().sum(-1)


def benchmark() -> Result:
    missing = not_installed("stable_worldmodel")
    model = Dynamics()
    state = torch.randn(1, STATE)
    planner = CEM(
        Box(-1, 1, (ACTION,)), horizon=HORIZON, candidates=CANDIDATES, iterations=ITERATIONS, hold=1
    )
    generator = torch.Generator().manual_seed(0)
    repeated = state.repeat(CANDIDATES, 1)
    plans = torch.rand(ITERATIONS, CANDIDATES, HORIZON, ACTION) * 2 - 1

    @torch.no_grad()
    def evaluate() -> None:
        for plan in plans:
            score(model.predict(repeated, plan))

    sides = [
        Side("wmplay, CEM", lambda: lambda: planner.plan(model, state, score, generator=generator)),
        Side("the model's evaluations alone", lambda: evaluate),
    ]
    if missing is None:
        sides.append(_stable_worldmodel(model, state))
    timings = take_turns(sides, REPEATS, warm_up=2)
    return Result(
        "cem: planning against the model's evaluations alone",
        f"One plan of {HORIZON} steps for one environment: {CANDIDATES:,} candidates x {ITERATIONS} "
        f"iterations, {CANDIDATES // 10} elites, a model of two hidden layers of {HIDDEN} (state {STATE}, "
        f"action {ACTION}), float32. The bare side predicts and scores the same number of candidates, drawn "
        "beforehand. "
        "stable-worldmodel's `CEMSolver` has the same model, score and numbers.",
        timings,
        1,
        "plans",
        [time_ratio("CEM 1,000 x 12 x 10, against the bare evaluations", timings[0], timings[1], BAR)],
        [missing] if missing else [],
    )


def _stable_worldmodel(model: Dynamics, state: Tensor) -> Side:
    load_without_init()
    from stable_worldmodel.solver.cem import CEMSolver

    solver = CEMSolver(model, num_samples=CANDIDATES, n_steps=ITERATIONS, topk=CANDIDATES // 10)
    return solver_side("stable-worldmodel, CEMSolver", solver, {"state": state}, HORIZON, ACTION)
