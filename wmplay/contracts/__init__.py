"""The contracts: the data that flows between the pieces, and the methods of each kind of piece.

Shapes: B batch, T steps observed, H steps predicted (the horizon), A action size, ``...`` the observation's
own shape. Observations are always a dict of named arrays.

**The time rule** holds everywhere, on disk and in memory: ``action[t]`` leads from ``observation[t]`` to
``observation[t + 1]``, with ``reward[t]``. T steps have T actions and T + 1 observations.

Discrete actions are int64 without the A axis.

**Observation keys that start with ``goal_`` belong to the task.** Policies and objectives receive them. World
models do not: ``initial``, ``observe``, ``loss`` and ``surprise`` receive the keys that ``modelled`` keeps.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wmplay.system.arrays import Array as Array
from wmplay.system.lazy import LazyMapping as LazyMapping

if TYPE_CHECKING:
    from wmplay.contracts.data import GOAL_PREFIX as GOAL_PREFIX
    from wmplay.contracts.data import Belief as Belief
    from wmplay.contracts.data import Carry as Carry
    from wmplay.contracts.data import Decoded as Decoded
    from wmplay.contracts.data import Latent as Latent
    from wmplay.contracts.data import LazyPrediction as LazyPrediction
    from wmplay.contracts.data import Plan as Plan
    from wmplay.contracts.data import Prediction as Prediction
    from wmplay.contracts.data import Score as Score
    from wmplay.contracts.data import Segment as Segment
    from wmplay.contracts.data import Surprise as Surprise
    from wmplay.contracts.data import Trajectory as Trajectory
    from wmplay.contracts.data import model_keys as model_keys
    from wmplay.contracts.data import modelled as modelled
    from wmplay.contracts.envs import PROVENANCE as PROVENANCE
    from wmplay.contracts.envs import EnvSpec as EnvSpec
    from wmplay.contracts.envs import HasDistance as HasDistance
    from wmplay.contracts.envs import HasReward as HasReward
    from wmplay.contracts.envs import Provenance as Provenance
    from wmplay.contracts.envs import Task as Task
    from wmplay.contracts.envs import env_spec as env_spec
    from wmplay.contracts.envs import observation_spaces as observation_spaces
    from wmplay.contracts.envs import provenance_of as provenance_of
    from wmplay.contracts.models import Capabilities as Capabilities
    from wmplay.contracts.models import Stage as Stage
    from wmplay.contracts.models import WorldModel as WorldModel
    from wmplay.contracts.models import capabilities as capabilities
    from wmplay.contracts.pieces import HasHorizon as HasHorizon
    from wmplay.contracts.pieces import Learner as Learner
    from wmplay.contracts.pieces import Logger as Logger
    from wmplay.contracts.pieces import NeedsPackage as NeedsPackage
    from wmplay.contracts.pieces import Objective as Objective
    from wmplay.contracts.pieces import Planner as Planner
    from wmplay.contracts.pieces import Policy as Policy
    from wmplay.contracts.pieces import Practice as Practice
    from wmplay.contracts.pieces import StoreView as StoreView
    from wmplay.contracts.pieces import missing_methods as missing_methods

_NAMES = {  # by file; imported on first use, so that env workers, which need the specs only, do without torch
    "data": (
        "GOAL_PREFIX",
        "Belief",
        "Carry",
        "Decoded",
        "Latent",
        "LazyPrediction",
        "Plan",
        "Prediction",
        "Score",
        "Segment",
        "Surprise",
        "Trajectory",
        "model_keys",
        "modelled",
    ),
    "envs": (
        "PROVENANCE",
        "EnvSpec",
        "HasDistance",
        "HasReward",
        "Provenance",
        "Task",
        "env_spec",
        "observation_spaces",
        "provenance_of",
    ),
    "models": (
        "Capabilities",
        "Stage",
        "WorldModel",
        "capabilities",
    ),
    "pieces": (
        "HasHorizon",
        "Learner",
        "Logger",
        "NeedsPackage",
        "Objective",
        "Planner",
        "Policy",
        "Practice",
        "StoreView",
        "missing_methods",
    ),
}


def __getattr__(name: str) -> Any:
    for file, names in _NAMES.items():
        if name in names:
            value = getattr(importlib.import_module(f"wmplay.contracts.{file}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'wmplay.contracts' has no attribute '{name}'")
