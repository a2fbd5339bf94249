"""Constructors of pieces: a parameter with a default is a setting, one without comes from the run.

A parameter that has the name of a kind of piece and the default None is an optional part: it comes from the
run where the run has such a piece, and is no setting.
"""

from __future__ import annotations

import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from wmplay.config.kinds import KINDS
from wmplay.errors import LARGEST_COUNT, LARGEST_SEED, ConfigError, UnknownSetting

SHOWN = 100  # characters of a value in a message


def parameters(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """Return the parameters of a class or function by name, without ``*args`` and ``**kwargs``."""
    skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    signature = inspect.signature(make)
    return {name: p for name, p in signature.parameters.items() if p.kind not in skipped}


def default_settings(make: Callable[..., Any]) -> dict[str, Any]:
    """Return {name: default} of the settings of a class or function: its config."""
    parts = optional_parts(make)
    given = {name: p.default for name, p in parameters(make).items() if p.default is not p.empty}
    return {name: default for name, default in given.items() if name not in parts}


def optional_parts(make: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters that come from the run where it has such a piece."""
    return [name for name, p in parameters(make).items() if name in KINDS and p.default is None]


def required(make: Callable[..., Any]) -> list[str]:
    """Return the names of the parameters without a default."""
    return [name for name, p in parameters(make).items() if p.default is p.empty]


def label(make: Callable[..., Any]) -> str:
    """Return the name of a class or function, or of an object's class, as a message shows it."""
    return make.__qualname__ if inspect.isclass(make) or inspect.isroutine(make) else type(make).__qualname__


def shortened(value: Any) -> str:
    """Return a value as Python writes it, cut off where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def check_settings(make: Callable[..., Any], settings: Mapping[str, Any]) -> None:
    """Compare settings with the annotations of a constructor; build nothing.

    Raises:
        UnknownSetting: for a key that is no parameter, or a parameter without a default.
        ConfigError: for a value of the wrong type, or a whole number that does not fit into 64 bits.
    """
    configurable = default_settings(make)
    function = make.__init__ if inspect.isclass(make) else make
    try:
        hints = typing.get_type_hints(function)
    except NameError:  # annotations that exist for type checkers only cannot be checked here
        hints = {}
    for key, value in settings.items():
        if key not in configurable:
            raise UnknownSetting(label(make), key, configurable)
        if key in hints and not _is_a(value, hints[key]):
            got = "null" if value is None else f"{shortened(value)} ({type(value).__name__})"
            raise ConfigError(f"{label(make)}: {key} is {got}", got=got, expected=f"{in_words(hints[key])}")
        if isinstance(value, int) and abs(value) > LARGEST_SEED:
            raise ConfigError(f"{label(make)}: {key} is {shortened(value)}", expected="a number of 64 bits")


def _is_a(value: Any, hint: Any) -> bool:
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    if isinstance(value, bool) and hint in (int, float):
        return False  # Python's bool is an int, a person's is not
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


def bare(hint: Any) -> Any:
    """Return a type without the ranges in its annotation; ``str`` for a choice of strings."""
    if typing.get_origin(hint) is typing.Annotated:
        return typing.get_args(hint)[0]
    if typing.get_origin(hint) is typing.Literal:
        return str
    parts = [part for part in _parts(hint) if typing.get_origin(part) is not typing.Literal]
    return functools.reduce(operator.or_, map(bare, parts)) if _parts(hint) else hint


def in_words(hint: Any, value: Any = None) -> str:
    """Return a type as its values are written in YAML: "int >= 1 or null", "'lcd' or 'human'".

    The upper bound of all counts is shown only for a value above it.
    """
    if hint is types.NoneType:
        return "null"
    if typing.get_origin(hint) is Mapping:
        return "a mapping of settings"
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Annotated:
        of, meta = typing.get_args(hint)
        told = meta.le is not None and (meta.le < LARGEST_COUNT or (type(value) is int and value > meta.le))
        limits = {">": meta.gt, ">=": meta.ge, "<=": meta.le if told else None}
        ranges = [f"{sign} {limit}" for sign, limit in limits.items() if limit is not None]
        return f"{of.__name__} {' and '.join(ranges)}"
    if parts := _parts(hint):
        return " or ".join(in_words(part, value) for part in parts)
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _parts(hint: Any) -> tuple[Any, ...]:
    """Return the types of a union; none for any other type."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
