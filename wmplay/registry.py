"""The registry: every piece is a class and a name in a kind, and the registry is the Hydra config groups.

What ``wmplay list`` shows, what ``model=<name>`` accepts and what ``make`` builds are one list, from

- ``configs/<kind>/<name>.yaml``, built in: a ``_target_`` and its parameters, imported when built;
- ``@register(kind, name)`` over a class in a plugin: its constructor's defaults become the config;
- ``configs/`` of a plugin package.

Plugins are files and packages in ``./plugins`` and in the folders of ``$WMPLAY_PLUGINS``, and installed
distributions with an entry point in the group ``wmplay.plugins``.

A constructor's parameters *with* a default are its config. Those *without* one come from the run and are
filled in by name: ``env`` (which also gives ``observation_space`` and ``action_space``), ``model``,
``planner``, ``objective``, ``policy``.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wmplay import plugins
from wmplay.errors import ConfigError, PluginError, UnknownName, UnknownSetting, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

KINDS = ("env", "model", "planner", "policy", "explorer", "objective", "logger")
FROM_RUN = (*KINDS[:-1], "observation_space", "action_space", "run_dir", "config")  # by parameters' names

C = TypeVar("C", bound=type)


@dataclass(frozen=True)
class Piece:
    """One entry of the registry: ``<kind>=<name>``, and where it comes from."""

    kind: str
    name: str
    source: str  # "built in", a plugin's path, or an installed distribution's name


_registered: dict[tuple[str, str], type] = {}


def register(kind: str, name: str) -> Callable[[C], C]:
    """Class decorator: makes a class the piece ``<kind>=<name>``.

    Raises:
        UnknownName: if there is no such kind.
        PluginError: if the name is taken.
    """
    if kind not in KINDS:
        raise UnknownName("kind of piece", kind, KINDS)

    def decorate(cls: C) -> C:
        holder = registered().get((kind, name))
        redefined = holder is not None and _path(holder) == _path(cls)  # a notebook's cell, run again
        if (holder is not None and not redefined) or name in _config_names(kind):
            owner = _path(holder) if holder else "a built-in piece"
            raise PluginError(
                f"{kind} '{name}' is taken by {owner}: register {cls.__qualname__} under another name"
            )
        _registered[kind, name] = cls
        return cls

    return decorate


# ---- what there is -------------------------------------------------------------------------------


def pieces(kind: str) -> list[Piece]:
    """All pieces of a kind ("experiment" too), built in and plugged in, sorted by name.

    Plugin files are read, not imported, so that listing stays quick.

    Raises:
        UnknownName: if there is no such kind.
    """
    if kind not in (*KINDS, "experiment"):
        raise UnknownName("kind of piece", kind, (*KINDS, "experiment"))
    found = {name: Piece(kind, name, source) for name, source in _config_names(kind).items()}
    for plugin in plugins.plugins():
        for declared_kind, name in plugins.declared(plugin):
            if declared_kind == kind:
                found.setdefault(name, Piece(kind, name, plugin.source))
    for (registered_kind, name), cls in registered().items():
        if registered_kind == kind:
            found.setdefault(name, Piece(kind, name, cls.__module__))
    return [found[name] for name in sorted(found)]


def names(kind: str) -> list[str]:
    """The names of all pieces of a kind: what can be swapped in."""
    return [piece.name for piece in pieces(kind)]


def registered() -> dict[tuple[str, str], type]:
    """(kind, name) -> class of what ``@register`` has seen and is still loaded."""
    return {key: cls for key, cls in _registered.items() if not _is_stale(cls)}


def _is_stale(cls: type) -> bool:
    """Whether a class is of a plugin file that has since failed, changed or gone out of sight."""
    if not cls.__module__.startswith(f"{plugins.NAMESPACE}."):
        return False
    return getattr(sys.modules.get(cls.__module__), cls.__name__, None) is not cls or (
        cls.__module__ not in {plugin.module for plugin in plugins.plugins()}
    )


def _path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _config_names(kind: str) -> dict[str, str]:
    """name -> source of the kind's YAML files; the first folder that has a name wins."""
    found: dict[str, str] = {}
    for source, folder in plugins.config_folders():
        for path in (folder / kind).glob("*.yaml"):
            found.setdefault(path.stem, source)
    return found


def reload() -> list[str]:
    """Imports plugin files again that have changed since they were imported: for a notebook, after an edit.

    Nothing else does, so that a run or sweep keeps the code that it began with, as does what has been built.
    Installed plugins are left alone: these need a new process.

    Returns:
        What was read again, such as ``["plugins/mine.py"]``. One that fails is named when it is used.
    """
    changed = plugins.changed()
    for plugin in changed:
        plugins.load_again(plugin)
    return [plugin.source for plugin in changed]


def _warn_of_changes() -> None:
    for plugin in plugins.changed():
        text = "changed since it was imported: wmplay.registry.reload(), or a new process, reads it again"
        warnings.warn_explicit(text, UserWarning, plugin.source, 1)  # each time: again after the next edit


# ---- composing a run -----------------------------------------------------------------------------


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The config of a run: ``configs/train.yaml`` with overrides as on the command line; read-only.

    Raises:
        ConfigError, UnknownName: for anything that does not compose, in one line.
    """
    from wmplay import configuration

    prepare(overrides)
    config = configuration.compose(overrides, KINDS)
    check(config, overrides)
    return config


def check(config: DictConfig, overrides: Sequence[str] = ()) -> None:
    """Checks the names and types of everything in a run's config; builds nothing.

    Args:
        config: of the run.
        overrides: that it was composed with; what none of them set is the experiment's.

    Raises:
        ConfigError: for a key that nothing takes, or a value of the wrong type.
    """
    from wmplay import configuration, settings

    defaults = configuration.run_defaults()
    settings.check(config, defaults, KINDS)
    for kind in KINDS:
        if config[kind] is None:
            continue
        lent = defaults.get(kind, {})  # a piece's key may hold a setting of the loop too: env.data
        piece = {key: value for key, value in configuration.plain(config[kind]).items() if key not in lent}
        try:
            check_piece(piece)
        except UnknownSetting as error:
            setting = f"{kind}.{error.key}"
            experiment = next((text for text in overrides if text.startswith("experiment=")), None)
            if experiment is None or any(text.lstrip("+").startswith(f"{setting}=") for text in overrides):
                raise
            raise ConfigError(f"{error} ({experiment} sets it: '~{setting}' takes it out)") from None


def check_piece(config: Mapping[str, Any]) -> None:
    """Checks the names and types of one piece's config; builds nothing.

    Raises:
        ConfigError: for a key that its constructor does not take, or a value of the wrong type.
    """
    make_piece = target(config)
    _check_config(make_piece, _parameters(make_piece), config)


def prepare(overrides: Sequence[str]) -> None:
    """Imports the plugins, gives Hydra the classes they register, and checks names in ``kind=name``.

    Raises:
        UnknownName: for a name that its kind does not have, also within a sweep over several.
        PluginError: for a name in a plugin that does not load.
    """
    from wmplay import configuration

    _warn_of_changes()
    plugins.load_all()
    for kind, name in configuration.chosen(overrides, (*KINDS, "experiment")):
        _check_loads(kind, name)
        if name not in names(kind):
            raise unknown_piece(kind, name)
    for (kind, name), cls in registered().items():
        configuration.store(kind, name, class_config(cls))


# ---- building ------------------------------------------------------------------------------------


def piece_config(kind: str, name: str, **overrides: Any) -> dict[str, Any]:
    """The config of a piece as a plain dict: ``_target_`` and its parameters.

    Raises:
        UnknownName: if the kind has no such piece.
        PluginError: if it is in a plugin that does not load.
    """
    _warn_of_changes()
    if name not in names(kind):
        raise unknown_piece(kind, name)
    if name in _config_names(kind):
        from wmplay import configuration  # Hydra, which a registered class does not need

        config = configuration.load_group(kind, name)
    else:
        for plugin in plugins.plugins():
            if (kind, name) in plugins.declared(plugin):
                plugins.load(plugin)
        _check_loads(kind, name)
        if (kind, name) not in registered():
            raise unknown_piece(kind, name)
        config = class_config(registered()[kind, name])
    return {**config, **overrides}


def _check_loads(kind: str, name: str) -> None:
    """Whether what a name may mean has been imported: also where a plugin wants a name that is taken."""
    failures = plugins.failures()
    for plugin in plugins.plugins():
        if plugin.source in failures and (kind, name) in plugins.declared(plugin):
            raise PluginError(
                f"{kind} '{name}' is in {plugin.source}, which does not load: {failures[plugin.source]}"
            )


def unknown_piece(kind: str, name: str) -> UnknownName:
    """The error for a name that is not there; names what might have held it: broken plugins, or a package
    that is here and not installed."""
    error = UnknownName(kind, name, names(kind))
    broken = "; ".join(f"{source} does not load ({why})" for source, why in plugins.failures().items())
    if broken:
        error.args = (f"{error.args[0]} [{broken}]",)
    elif plugins.is_package(Path(name)):
        error.args = (f"{error.args[0]} [./{name} is not installed: pip install --editable {name}]",)
    return error


def class_config(cls: type) -> dict[str, Any]:
    """``_target_`` and the defaults of a class's constructor."""
    return {"_target_": _path(cls), **default_settings(cls)}


def default_settings(make_piece: Callable[..., Any]) -> dict[str, Any]:
    """The parameters of a class (or function) that have a default: its config."""
    return {name: p.default for name, p in _parameters(make_piece).items() if p.default is not p.empty}


def target(config: Mapping[str, Any]) -> Callable[..., Any]:
    """The class (or function) that a config's ``_target_`` names.

    Raises:
        ConfigError: if there is no ``_target_``, or nothing by that name.
    """
    path = config.get("_target_")
    if not isinstance(path, str):
        raise ConfigError("a piece's config needs a _target_: the dotted path of its class")
    if path.startswith(f"{plugins.NAMESPACE}."):
        plugins.load_all()
    module, _, attribute = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"_target_ '{path}' cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"_target_ '{path}' is not a class")
    return typing.cast(Callable[..., Any], found)


def build(config: Mapping[str, Any], /, **run: Any) -> Any:
    """Builds a piece from its config and from what the run provides.

    Args:
        config: ``_target_`` and parameters; each must be a parameter with a default of the constructor,
            of the annotated type.
        run: ``env`` and other built pieces, for the parameters without a default.

    Raises:
        ConfigError: for a key that the constructor does not take, a value of the wrong type, or a part
            that the run does not provide.
    """
    make_piece = target(config)
    parameters = _parameters(make_piece)
    _check_config(make_piece, parameters, config)
    given = {key: value for key, value in config.items() if key != "_target_"}
    provided = _provided(run)
    needed = needs(config)
    missing = [name for name in needed if name not in provided]
    foreign = [name for name in missing if name not in FROM_RUN]
    if foreign:
        raise ConfigError(
            f"{_label(make_piece)} needs {foreign[0]} from the run, which has none (with a default: config)"
            + did_you_mean(foreign[0], FROM_RUN)
        )
    if missing:
        source = "env" if missing[0].endswith("_space") else missing[0]
        raise ConfigError(
            f"{_label(make_piece)} needs {' and '.join(missing)} from the run: give it {source}=..."
        )
    return make_piece(**given, **{name: provided[name] for name in needed})


def needs(config: Mapping[str, Any]) -> list[str]:
    """What a piece's constructor wants from the run, by name: its parameters without a default."""
    parameters = _parameters(target(config))
    return [name for name, p in parameters.items() if p.default is p.empty and name not in config]


def make(kind: str, name: str, *, device: Any = None, **arguments: Any) -> Any:
    """Builds a registered piece by name.

    Args:
        kind: one of ``KINDS``.
        name: as ``wmplay list`` shows it.
        device: moves an ``nn.Module`` there.
        arguments: overrides of the config, and the parts that come from the run (``env=env``, ...).

    Raises:
        UnknownName, ConfigError: see ``piece_config`` and ``build``.
    """
    config = piece_config(kind, name)
    parameters = _parameters(target(config))
    from_run = {name for name, p in parameters.items() if p.default is p.empty} | {"env"} - set(config)
    run = {key: value for key, value in arguments.items() if key in from_run}
    overrides = {key: value for key, value in arguments.items() if key not in from_run}
    piece = build({**config, **overrides}, **run)
    if device is None or not hasattr(piece, "to"):
        return piece
    from wmplay.device import choose_device

    return piece.to(choose_device(str(device)))


def _provided(run: Mapping[str, Any]) -> dict[str, Any]:
    env = run.get("env")
    if env is None:
        return dict(run)
    spaces = {
        name: getattr(env, f"single_{name}", None) or getattr(env, name)
        for name in ("observation_space", "action_space")
    }
    return {**spaces, **run}


def _parameters(make_piece: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    signature = inspect.signature(make_piece)
    return {name: p for name, p in signature.parameters.items() if p.kind not in skipped}


def _label(make_piece: Callable[..., Any]) -> str:
    return getattr(make_piece, "__qualname__", repr(make_piece))


def _check_config(
    make_piece: Callable[..., Any], parameters: Mapping[str, inspect.Parameter], config: Mapping[str, Any]
) -> None:
    label = _label(make_piece)
    configurable = [name for name, p in parameters.items() if p.default is not p.empty]
    function = make_piece.__init__ if inspect.isclass(make_piece) else make_piece
    try:
        hints = typing.get_type_hints(function)
    except NameError:  # annotations that exist for type checkers only cannot be checked here
        hints = {}
    for key, value in config.items():
        if key == "_target_":
            continue
        if key not in configurable:
            raise UnknownSetting(label, key, configurable)
        if key in hints and not _is_a(value, hints[key]):
            got = "null" if value is None else f"{value!r} ({type(value).__name__})"
            raise ConfigError(f"{label}: {key} is {got}, expected {_in_words(hints[key])}")


def _is_a(value: Any, hint: Any) -> bool:
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    if isinstance(value, bool) and hint in (int, float):
        return False  # Python's bool is an int, a person's is not
    try:
        check_type(value, hint, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


def _in_words(hint: Any) -> str:
    """A type as one writes its values in YAML: "int or null", "'lcd' or 'human'"."""
    if hint is types.NoneType:
        return "null"
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(repr(choice) for choice in typing.get_args(hint))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_in_words(part) for part in typing.get_args(hint))
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)
