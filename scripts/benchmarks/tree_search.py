"""Gumbel search for many rows at once against the same search written plainly, row by row."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wmplay.nets.search import Reached, search

from .measure import Result, Side, take_turns, time_ratio
from .plain_search import Said, plain_search

ROWS, ACTIONS, SIMULATIONS, STATE = 256, 4, 32, 64
REPEATS = 3
BAR = 0.1


class Model(nn.Module):
    """A random model of one hidden layer: a state and an action to the next state, reward, policy, value."""

    def __init__(self) -> None:
        super().__init__()
        self.change = nn.Sequential(nn.Linear(STATE + ACTIONS, STATE), nn.SiLU(), nn.Linear(STATE, STATE + 1))
        self.judge = nn.Linear(STATE, ACTIONS + 1)
        self.one_hot = torch.eye(ACTIONS)

    def at(self, state: Tensor, reward: Tensor) -> Reached:
        """Return what the model says of states [B, S]."""
        said = self.judge(state)
        return Reached(state, reward, torch.full_like(reward, 0.99), said[:, :ACTIONS], said[:, ACTIONS])

    def expand(self, state: Tensor, action: Tensor) -> Reached:
        """Take one step of the model."""
        after = self.change(torch.cat([state, self.one_hot[action]], 1))
        return self.at(after[:, :STATE].tanh(), after[:, STATE])

    def plainly(self, reached: Reached) -> Said:
        """Return what the model says of one state."""
        numbers = float(reached.reward), float(reached.discount), reached.logits[0].tolist()
        return Said(reached.belief, *numbers, float(reached.value))

    def step(self, state: Tensor, action: int, outcome: int) -> Said:
        """Take one step of the model from one state [1, S]."""
        return self.plainly(self.expand(state, torch.tensor([action])))


def benchmark() -> Result:
    model, state = Model(), torch.rand(ROWS, STATE)

    @torch.no_grad()
    def at_once() -> None:
        search(model.expand, model.at(state, torch.zeros(ROWS)), SIMULATIONS)

    @torch.no_grad()
    def plainly() -> None:
        for row in state.split(1):
            plain_search(model.step, model.plainly(model.at(row, torch.zeros(1))), SIMULATIONS, "gumbel")

    sides = [
        Side("wmplay, all trees at once", lambda: at_once),
        Side("plainly, tree by tree", lambda: plainly),
    ]
    timings = take_turns(sides, REPEATS)
    return Result(
        "tree-search: many trees at once against one by one",
        f"Gumbel MuZero's search of {SIMULATIONS} simulations for {ROWS} rows, {ACTIONS} actions, in a model "
        f"of one hidden layer of {STATE} units. The plain side, `scripts/benchmarks/plain_search.py`, makes "
        "the same visits (`tests/unit/test_search.py`); it asks the model for one state at a time.",
        timings,
        ROWS,
        "searches",
        [time_ratio(f"search of {SIMULATIONS} x {ROWS}, against tree by tree", timings[0], timings[1], BAR)],
    )
