"""Packages of others, if they are installed."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from .measure import Side


def not_installed(package: str) -> str | None:
    """Return a note that the package is not installed, or None if it is."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: `make bench` runs this with all peers."


def load_without_init(package: str = "stable_worldmodel") -> None:
    """Make the submodules of stable_worldmodel, or of a package in it, importable without its ``__init__``.

    The ``__init__`` imports every environment and wrapper, and with them cv2, which a default install lacks.
    Neither the data reader nor the planners need cv2. They would use torchvision's JPEG decoder if it were
    importable, but fail if its build does not fit torch's, so torchvision must look as if it were missing.
    """
    if package in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    spec = importlib.util.find_spec(package)
    assert spec is not None
    sys.modules[package] = importlib.util.module_from_spec(spec)


def solver_side(name: str, solver: Any, now: dict[str, Any], horizon: int, actions: int) -> Side:
    """Return a side that plans with a solver of stable_worldmodel for one environment.

    Args:
        name: of the side.
        solver: with its model.
        now: the state, {key: [1, ...]}.
        horizon: steps to plan.
        actions: size of an action, within -1 and 1.
    """
    solver.configure(
        action_space=Box(-1, 1, (1, actions), np.float32),
        n_envs=1,
        config=SimpleNamespace(horizon=horizon, action_block=1),
    )

    def solve() -> None:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # it prints its time
            solver.solve(now)

    return Side(name, lambda: solve)
