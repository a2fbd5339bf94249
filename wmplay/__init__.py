"""wmplay: a world-models playground.

Bring one piece (an environment, a world model, a planner, a policy); the rest of the pipeline is here.
The names below are imported on first use, so that ``wmplay --help`` loads nothing heavy.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wmplay import check as check
    from wmplay import registry as registry
    from wmplay.contracts import Plan as Plan
    from wmplay.contracts import Prediction as Prediction
    from wmplay.contracts import Segment as Segment
    from wmplay.contracts import Trajectory as Trajectory
    from wmplay.envs import make_env as make_env
    from wmplay.errors import WmplayError as WmplayError
    from wmplay.loading import load_run as load_run
    from wmplay.registry import make as make
    from wmplay.registry import register as register
    from wmplay.rollout import observe as observe
    from wmplay.rollout import predict as predict
    from wmplay.simulate import simulate as simulate
    from wmplay.store import load_trajectories as load_trajectories
    from wmplay.store import save_trajectories as save_trajectories
    from wmplay.train import train as train

__version__ = "0.1.0"

_PUBLIC = {
    "Plan": "contracts",
    "Prediction": "contracts",
    "Segment": "contracts",
    "Trajectory": "contracts",
    "WmplayError": "errors",
    "load_run": "loading",
    "load_trajectories": "store",
    "make": "registry",
    "make_env": "envs",
    "observe": "rollout",
    "predict": "rollout",
    "register": "registry",
    "save_trajectories": "store",
    "simulate": "simulate",
    "train": "train",
}
_MODULES = ("check", "registry")
__all__ = [*_PUBLIC, *_MODULES]  # noqa: PLE0604  # plain strings, kept in one place


class _Package(ModuleType):
    """Lets ``wmplay.simulate`` and ``wmplay.train`` be functions although modules bear these names.

    Importing the submodule ``wmplay.train`` would bind the module over the function of the same name;
    the function is what scripts call, and ``from wmplay.train import ...`` does not need the binding.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _PUBLIC or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name in _PUBLIC:
            value = getattr(importlib.import_module(f"wmplay.{_PUBLIC[name]}"), name)
        elif name in _MODULES:
            value = importlib.import_module(f"wmplay.{name}")
        else:
            raise AttributeError(f"module 'wmplay' has no attribute '{name}'")
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package

# The one thing that importing wmplay does: gymnasium.make("wmplay/Luxo-v0") works from here on, as it does
# for every package with Gymnasium envs. It imports neither Box2D nor torch.
importlib.import_module("wmplay.envs.registration").register_envs()
