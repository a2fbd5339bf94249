"""A model's next step as a program of tensor operations, which the page computes without torch.

``torch.export`` turns ``predict`` for one step into a graph of ATen operations. What depends on weights alone
is computed here, and the rest becomes a list of instructions for ``static/engine.js``.
"""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from wmplay.contracts import Array, Belief, WorldModel
from wmplay.errors import ConfigError

RANDOM = ("rand", "randn")
NAMES = {
    "_softmax": "softmax",
    "_to_copy": "to_copy",
    "_unsafe_view": "view",
    "reshape": "view",
    "detach": "alias",
}


class Constant(NamedTuple):
    """A tensor that a program holds."""

    value: int  # its number among the program's values
    tensor: Tensor


@dataclass(frozen=True)
class Program:
    """One step of a model: from an action and the leaves of a belief to the next leaves and the screen."""

    values: int  # number of values: inputs, constants and results
    inputs: list[int]  # the action [1, 1, A] or [1, 1], then the leaves of the belief
    outputs: list[int]  # the next leaves, then the screen [1, ...]
    instructions: list[list[Any]]  # [operation, value, shape, arguments, named arguments]
    constants: list[Constant]

    def as_json(self, weights: Weights) -> dict[str, Any]:
        """Return the program for the page, after adding its constants to the page's weights."""
        return {
            "values": self.values,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "instructions": self.instructions,
            "constants": [
                [value, list(tensor.shape), *weights.add(tensor)] for value, tensor in self.constants
            ],
        }


class Weights:
    """The numbers of a page, end to end; equal tensors are kept once."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[int, bool]] = {}
        self._parts: list[Array] = []
        self._length = 0

    def add(self, tensor: Tensor) -> tuple[int, bool]:
        """Return the offset of a tensor among 4-byte numbers, and whether these are whole numbers."""
        whole = not tensor.is_floating_point()
        array = tensor.detach().cpu().numpy().astype(np.int32 if whole else np.float32).ravel()
        key = array.tobytes() + bytes([whole])
        if key not in self._known:
            self._known[key] = self._length, whole
            self._parts.append(array)
            self._length += array.size
        return self._known[key]

    def content(self) -> bytes:
        """Return the numbers, little-endian."""
        return b"".join(part.tobytes() for part in self._parts)


class _Step(nn.Module):
    def __init__(self, model: nn.Module, spec: TreeSpec, key: str, generator: torch.Generator | None) -> None:
        super().__init__()
        self.model: Any = model
        self.spec, self.key, self.generator = spec, key, generator

    def forward(self, action: Tensor, *leaves: Tensor) -> list[Tensor]:
        belief = tree_unflatten(list(leaves), self.spec)
        prediction = self.model.predict(belief, action, generator=self.generator)
        return [*tree_flatten(prediction.belief)[0], prediction.observation[self.key][:, 0].float()]


@torch.no_grad()
def step_program(model: WorldModel, belief: Belief, action: Tensor, key: str, *, sampled: bool) -> Program:
    """Return the program of a model's next step.

    Args:
        model: any world model that torch can export.
        belief: an example, of one row.
        action: an example, [1, 1, A] or [1, 1] int64.
        key: of the screen.
        sampled: whether the next step is drawn, or the most likely one.

    Raises:
        ConfigError: if torch cannot export it, or if it needs an operation that the page does not have.
    """
    leaves, spec = tree_flatten(belief)
    assert isinstance(model, nn.Module)
    step = _Step(model, spec, key, torch.Generator() if sampled else None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch.export's own
            exported = torch.export.export(step, (action, *leaves), strict=False).run_decompositions()
    except Exception as error:  # whatever a model does that torch cannot follow
        raise ConfigError(
            f"{type(model).__name__}.predict cannot be exported ({str(error).splitlines()[0]})",
            advice="play it with the server: wmplay play RUN",
        ) from error
    return _Translation(exported, type(model).__name__).program()


@cache
def operations() -> frozenset[str]:
    """Return the names of the operations that ``static/engine.js`` has."""
    engine = (files("wmplay.play") / "static" / "engine.js").read_text()
    table = engine[engine.index("const operations = {") :]
    return frozenset(re.findall(r"^  (\w+)(?:: |,$)", table, re.MULTILINE))


class _Translation:
    def __init__(self, exported: Any, name: str) -> None:
        self._exported, self._name = exported, name
        self._numbers: dict[Node, int] = {}
        self._constants: dict[Node, Any] = {}
        self._instructions: list[list[Any]] = []
        self._kept: dict[Node, Constant] = {}
        self._count = 0

    def program(self) -> Program:
        graph, signature = self._exported.graph, self._exported.graph_signature
        own = {spec.arg.name: spec.target for spec in signature.input_specs if spec.target is not None}
        tensors = {**dict(self._exported.named_parameters()), **dict(self._exported.named_buffers())}
        tensors |= self._exported.constants
        inputs, outputs = list[int](), list[int]()
        for node in graph.nodes:
            if node.op == "placeholder" and node.name in own:
                self._constants[node] = tensors[own[node.name]]
            elif node.op == "placeholder":
                inputs.append(self._number(node))
            elif node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                outputs = [self._argument(each)["v"] for each in node.args[0]]
        return Program(self._count, inputs, outputs, self._instructions, list(self._kept.values()))

    def _call(self, node: Node) -> None:
        operation = _name(node)
        if operation.startswith("_assert"):
            return
        if operation not in RANDOM and self._is_constant(node) and operation != "expand":
            arguments = _with(node.args, self._constants), _with(node.kwargs, self._constants)
            self._constants[node] = node.target(*arguments[0], **arguments[1])  # type: ignore[operator]
            return
        if operation not in operations():
            self._refuse(f"with the operation '{operation}'")
        result = node.meta.get("val")
        shape = list(result.shape) if isinstance(result, Tensor) else []
        named: dict[str, Any] = {
            key: node.kwargs[key] for key in ("alpha", "approximate") if key in node.kwargs
        }
        if operation == "to_copy":
            named["whole"] = isinstance(result, Tensor) and not result.is_floating_point()
        given = list[Any]() if operation in RANDOM else [self._argument(each) for each in node.args]
        self._instructions.append([operation, self._number(node), shape, given, named])

    def _is_constant(self, node: Node) -> bool:
        return all(each in self._constants for each in node.all_input_nodes)

    def _number(self, node: Node) -> int:
        if node not in self._numbers:
            self._numbers[node] = self._count
            self._count += 1
        return self._numbers[node]

    def _argument(self, value: Any) -> Any:
        """Return an argument as JSON: {"v": number} for a value."""
        if isinstance(value, Node):
            if value in self._constants and value not in self._kept:
                self._kept[value] = Constant(self._number(value), self._constants[value])
            return {"v": self._number(value)}
        if isinstance(value, list | tuple):
            return [self._argument(each) for each in value]
        if isinstance(value, float) and not math.isfinite(value):
            return {"n": str(value)}
        return value if isinstance(value, int | float | str | None) else None

    def _refuse(self, why: str) -> Any:
        raise ConfigError(
            f"{self._name}.predict is a program {why}, which the page does not have",
            advice="play it with the server: wmplay play RUN",
        )


def _name(node: Node) -> str:
    """Return the name of a node's operation, without its overload."""
    target = node.target
    plain = target if isinstance(target, str) else target.__name__
    plain = plain.removeprefix("aten.").split(".")[0]
    return NAMES.get(plain, plain)


def _with(arguments: Any, constants: dict[Node, Any]) -> Any:
    """Return arguments in which constants replace their nodes."""
    if isinstance(arguments, Node):
        return constants[arguments]
    if isinstance(arguments, dict):
        return {key: _with(each, constants) for key, each in arguments.items()}
    if isinstance(arguments, list | tuple):
        return type(arguments)(_with(each, constants) for each in arguments)
    return arguments
