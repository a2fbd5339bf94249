"""Properties of world models that concern what is saved, loaded and copied."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from wmplay.check.compare import blank, listed, same
from wmplay.check.fixtures.fitted_model import Trial
from wmplay.check.report import Broken


def save_and_load(trial: Trial) -> None:
    """Check that a state_dict holds everything that predictions depend on."""
    model = trial.model
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = copy.deepcopy(model)
    blank(loaded)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    advice = "keep every tensor as an nn.Parameter or with register_buffer, every part as an nn.Module"
    outside = _unregistered(model)
    if outside:
        raise Broken(f"{listed(outside)} would not be saved, nor moved to a GPU", advice)
    same(trial.outcome(loaded), trial.outcome(model), "loaded weights predict something else", advice, 0)


def copies_are_equal_and_apart(trial: Trial) -> None:
    """Check that a deep copy and a pickled one predict the same, and share nothing with the model."""
    model = trial.model
    usual = trial.outcome(model)
    advice = "hold no function, file or other module from outside that a copy would share or could not take"
    ways: Sequence[tuple[str, Callable[[Any], Any]]] = (
        ("deepcopy", copy.deepcopy),
        ("pickle", lambda x: pickle.loads(pickle.dumps(x))),
    )
    for name, way in ways:
        try:
            twin = way(model)
        except Exception as error:  # whatever a piece's own attributes raise
            raise Broken(f"{name} raised {type(error).__name__}: {error}", advice) from error
        same(trial.outcome(twin), usual, f"a copy by {name} predicts something else", advice, 0)
        blank(twin)
        same(trial.outcome(model), usual, f"changing a copy by {name} changes the model", advice, 0)
        if torch.equal(trial.outcome(twin), usual) and any(True for _ in model.parameters()):
            raise Broken(f"a copy by {name} still predicts with the weights of the original", advice)


def _unregistered(model: torch.nn.Module) -> list[str]:
    """Return attributes with tensors, also in lists and dicts, that are not among the model's own."""
    own = {id(x) for x in [*model.parameters(), *model.buffers()]}

    def is_foreign(leaf: Any) -> bool:
        if isinstance(leaf, torch.nn.Module):
            return any(id(x) not in own for x in [*leaf.parameters(), *leaf.buffers()])
        return isinstance(leaf, Tensor) and id(leaf) not in own

    return [
        f"{name}.{key}" if name else key
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key not in ("_parameters", "_buffers", "_modules") and any(map(is_foreign, tree_leaves(value)))
    ]
