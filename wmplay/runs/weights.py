"""Loading of saved weights into pieces that are built from a config, if the weights fit them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from wmplay.errors import RunError, WmplayError
from wmplay.nets.units import missing_units

MOST_PARAMETERS = 1000  # tensors of pieces, plus ten for each saved one: more is refused as hostile


def weights_of(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Return the state of each module, by name.

    A tensor that several modules hold (a model, and a policy that acts with it) is in the state of the first
    one alone.
    """
    found: dict[str, dict[str, Any]] = {}
    others: set[int] = set()
    for name, module in modules.items():
        state = module.state_dict(keep_vars=True)
        own = {key: value for key, value in state.items() if id(value) not in others}
        others |= {id(value) for value in own.values()}
        found[name] = {k: v.detach() if isinstance(v, Tensor) else v for k, v in own.items()}
    return found


def load_weights(modules: Mapping[str, nn.Module], weights: Mapping[str, Any], source: Path) -> None:
    """Load a checkpoint's weights into modules of the same names.

    Raises:
        RunError: if the weights belong to another model, or if they lack statistics that newer versions keep
            (for example those of a policy's observations).
    """
    for name, given in fitting_weights(modules, weights, source).items():
        modules[name].load_state_dict(given, strict=False)  # all are there, except another module's


def fitting_weights(
    modules: Mapping[str, nn.Module], weights: Mapping[str, Any], source: Path
) -> dict[str, dict[str, Tensor]]:
    """Return the weights to load into each module. Raise RunError as ``load_weights`` does."""
    found = {}
    for name, state in weights_of(modules).items():
        module = modules[name]
        saved = weights.get(name, {})
        if not isinstance(saved, Mapping) or not all(isinstance(value, Tensor) for value in saved.values()):
            raise RunError(
                f"the checkpoint in {source} has no weights of the {name}", advice="restore it from a copy"
            )
        others = module.state_dict().keys() - state.keys()
        given = {**missing_units(module), **saved}
        found[name] = given = {key: value for key, value in given.items() if key not in others}
        own, saved = ({key: value.shape for key, value in w.items()} for w in (state, given))
        differing = [key for key in {**own, **saved} if own.get(key) != saved.get(key)]
        statistics = {key for key, _ in module.named_buffers()} - saved.keys()
        if differing and statistics.issuperset(differing):
            raise RunError(
                f"the checkpoint in {source} is from before {type(module).__name__} kept {differing[0]} "
                "with its weights",
                advice=f"train the {name} anew, or use it with the version that wrote it",
            )
        if differing:
            raise RunError(
                f"the checkpoint in {source} is of another {name} than {type(module).__name__} as "
                f"configured: {len(differing)} weights differ in name or shape, such as {differing[0]}"
            )
    return found


class ShapesOnly(TorchFunctionMode):
    """A mode that skips drawing first weights, which a tensor without memory cannot hold."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Return the result of the call, or the tensor unchanged."""
        draws = isinstance(func, FunctionType) and func.__module__ == "torch.nn.init"
        if draws or func in (Tensor.uniform_, Tensor.normal_):
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def check_sizes(
    build: Callable[[], Mapping[str, nn.Module]], weights: Mapping[str, Any], source: Path
) -> None:
    """Compare the sizes of pieces with those of their weights, before memory is taken for them.

    Args:
        build: makes the pieces with weights, by name.
        weights: {name: its state_dict}.
        source: where the weights are from.

    Raises:
        RunError: if they differ.
    """
    most = MOST_PARAMETERS + 10 * sum(map(len, weights.values()))
    left = iter(range(most))

    def count(*_: Any) -> None:
        if next(left, None) is None:
            raise RunError(f"{source}: its config makes over {most} parameters, it has fewer weights")

    counting = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), ShapesOnly():
            modules = build()
    except WmplayError:
        raise
    except Exception:  # a piece that cannot be built without memory: then it is built with it
        return
    finally:
        counting.remove()
    fitting_weights(modules, weights, source)
