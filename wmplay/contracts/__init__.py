"""The contracts: the data that flows between the pieces, and the methods of each kind of piece.

Shapes: B batch, T steps observed, H steps predicted (the horizon), A action size, ``...`` the observation's
own shape. Observations are always a dict of named arrays.

**The time rule** holds everywhere, on disk and in memory: ``action[t]`` leads from ``observation[t]`` to
``observation[t + 1]``, with ``reward[t]``. T steps have T actions and T + 1 observations.

Discrete actions are int64 without the A axis.

**Observation keys that start with ``goal_`` belong to the task.** Policies and objectives receive them. A
world model receives them in ``initial``, ``observe``, ``loss`` and ``surprise`` only if it has
``goals = True``; ``seen_by`` returns the part of an observation that a model receives.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from wmplay.system.arrays import Array as Array
from wmplay.system.lazy import LazyMapping as LazyMapping

if TYPE_CHECKING:
    from wmplay.contracts.data import *  # noqa: F403  # here and below: all names that the file defines
    from wmplay.contracts.envs import *  # noqa: F403
    from wmplay.contracts.models import *  # noqa: F403
    from wmplay.contracts.pieces import *  # noqa: F403

# Imported on first use, in this order, so that env workers, which need the specs only, do without torch.
_FILES = ("envs", "data", "models", "pieces")


def __getattr__(name: str) -> Any:
    for file in () if name.startswith("_") else _FILES:
        found = vars(importlib.import_module(f"wmplay.contracts.{file}"))
        if name in found:
            globals()[name] = found[name]
            return found[name]
    raise AttributeError(f"module 'wmplay.contracts' has no attribute '{name}'")
