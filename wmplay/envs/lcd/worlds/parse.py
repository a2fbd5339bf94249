"""Worlds from names, mappings and YAML files.

A mapping has the fields of ``World`` and of what is in it, with shapes written in place:

    width: 5
    statics:
      - polygon: [[0, 0], [3, 0], [0, 1.5]]
    objects:
      - {name: ball, circle: 0.4, restitution: 0.8}
      - {name: surprise, shapes: [{circle: 0.3}, {box: [0.3, 0.3]}]}
    robots:
      - urchin
      - name: lever
        root: {box: [0.3, 0.1]}
        parts: [{name: arm, box: [0.1, 0.5], density: 0.5}]
        joints: [{parent: root, child: arm, child_anchor: [0, -0.5], limits: [-1, 1]}]

``base: luxo`` starts from a built-in world and changes only the fields that follow.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wmplay.envs.lcd.worlds.built_in import ROBOTS, WORLDS
from wmplay.envs.lcd.worlds.world import (
    Body,
    Circle,
    Object,
    Occluder,
    Point,
    Polygon,
    Robot,
    Shape,
    Static,
    World,
    box,
)
from wmplay.errors import ConfigError, UnknownName
from wmplay.system.reading import read_yaml

SHAPES = ("circle", "box", "polygon")


def find_world(world: str | Mapping[str, Any] | World) -> World:
    """Return the world that a config names or describes.

    Args:
        world: a built-in name, the path of a YAML file, a mapping (see above), or a world itself.

    Raises:
        UnknownName, ConfigError: for anything else; one line.
    """
    if isinstance(world, World):
        return world
    if isinstance(world, Mapping):
        return _world(world)
    if world.endswith((".yaml", ".yml")):
        return _world(_read(Path(world)))
    if world not in WORLDS:
        raise UnknownName("world", world, WORLDS)
    return WORLDS[world]


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = read_yaml(path, ConfigError)
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"world file '{path}' cannot be read: there is no such file", got=path) from None
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"world file '{path}' holds no mapping", got=path, advice="give it the fields of a world"
        )
    return content


def _world(data: Mapping[str, Any]) -> World:
    given = dict(data)
    base = given.pop("base", None)
    if base is not None and base not in WORLDS:
        raise UnknownName("base world", str(base), WORLDS)
    fields = _fields(World, given, "world")
    return World(**fields) if base is None else dataclasses.replace(WORLDS[base], **fields)


def _fields(cls: type, data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the constructor's arguments of a dataclass, converted to the types of its fields."""
    hints = typing.get_type_hints(cls)
    for key in data:
        if key not in hints:
            raise UnknownName(f"key in {where}", str(key), hints)
    return {key: _convert(hints[key], value, f"{where}.{key}") for key, value in data.items()}


def _build(cls: type, data: Any, where: str) -> Any:
    if cls is Robot and isinstance(data, str):
        if data not in ROBOTS:
            raise UnknownName("robot", data, ROBOTS)
        return ROBOTS[data]()
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} is {data!r}", got=data, expected="a mapping")
    given = dict(data)
    shapes = [_shape(name, given.pop(name), where) for name in SHAPES if name in given]
    if cls is Object and shapes:
        given["shapes"] = tuple(shapes)
    elif cls in (Body, Static, Occluder) and shapes:
        given["shape"] = shapes[0]
    if len(shapes) > 1:
        raise ConfigError(
            f"{where} has two shapes", advice="give it one, or a list under 'shapes' if it is an object"
        )
    if cls is Body and where.endswith(".root"):
        given.setdefault("name", "root")
    fields = _fields(cls, given, where)
    needed = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
    for name in needed:
        if name not in fields:
            missing = f"one of {', '.join(SHAPES)}" if name in ("shape", "shapes") else f"'{name}'"
            raise ConfigError(f"{where} needs {missing}")
    return cls(**fields)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Return a value from YAML in the type of a field."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint == Shape:
        return value if isinstance(value, (Circle, Polygon)) else _one_shape(value, where)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(arguments[0], value, where)
    if origin is typing.Literal:
        return value  # the dataclass validates it
    if hint == Point:
        return _point(value, where)
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise ConfigError(f"{where} is {value!r}", got=value, expected="a list")
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return value if isinstance(value, hint) else _build(hint, value, where)
    if hint is float:
        return _number(value, where)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}", got=value, expected=f"{hint.__name__}")
    return value


def _one_shape(value: Any, where: str) -> Shape:
    if not isinstance(value, Mapping) or len(value) != 1 or next(iter(value)) not in SHAPES:
        raise ConfigError(
            f"{where} is {value!r}", got=value, expected=f"one of {', '.join(SHAPES)}, as in {{circle: 0.5}}"
        )
    name = next(iter(value))
    return _shape(name, value[name], where)


def _shape(name: str, value: Any, where: str) -> Shape:
    if name == "circle":
        return Circle(_number(value, f"{where}.circle"))
    if name == "box":
        return box(*_point(value, f"{where}.box"))
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"{where}.polygon is {value!r}", expected="a list of [x, y]")
    return Polygon(tuple(_point(point, f"{where}.polygon[{i}]") for i, point in enumerate(value)))


def _point(value: Any, where: str) -> Point:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise ConfigError(f"{where} is {value!r}", got=value, expected="two numbers, as in [1, 0.5]")
    return _number(value[0], where), _number(value[1], where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"{where} is {value!r}", got=value, expected="a number")
    return float(value)
