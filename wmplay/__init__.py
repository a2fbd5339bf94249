"""wmplay: a world-models playground.

Bring one piece (an environment, a world model, a planner, a policy); the rest of the pipeline is here.
The names below are imported on first use, so that ``wmplay --help`` loads nothing heavy.
"""

from __future__ import annotations

import importlib
import pkgutil
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
    from wmplay.loop.train import train as train
    from wmplay.play.prompt import prompt as prompt
    from wmplay.registry import make as make
    from wmplay.registry import register as register
    from wmplay.runs.load import load_run as load_run
    from wmplay.simulation import observe as observe
    from wmplay.simulation import predict as predict
    from wmplay.simulation import simulate as simulate
    from wmplay.store import load_trajectories as load_trajectories
    from wmplay.store import save_trajectories as save_trajectories
    from wmplay.studies import study as study

__version__ = "0.1.0"

_PUBLIC = {
    "Plan": "contracts",
    "Prediction": "contracts",
    "Segment": "contracts",
    "Trajectory": "contracts",
    "WmplayError": "errors",
    "load_run": "runs.load",
    "load_trajectories": "store",
    "make": "registry",
    "make_env": "envs",
    "observe": "simulation",
    "predict": "simulation",
    "prompt": "play.prompt",
    "register": "registry",
    "save_trajectories": "store",
    "simulate": "simulation",
    "study": "studies",
    "train": "loop.train",
}
_MODULES = ("check", "registry")
__all__ = [*_PUBLIC, *_MODULES]  # noqa: PLE0604  # plain strings, kept in one place


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = pkgutil.resolve_name(f"wmplay.{_PUBLIC[name]}:{name}")
    elif name in _MODULES:
        value = importlib.import_module(f"wmplay.{name}")
    else:
        raise AttributeError(f"module 'wmplay' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# The one thing that importing wmplay does: gymnasium.make("wmplay/Luxo-v0") works from here on, as it does
# for every package with Gymnasium envs. It imports neither Box2D nor torch.
importlib.import_module("wmplay.envs.registration").register_envs()
