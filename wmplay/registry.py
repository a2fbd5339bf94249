"""The registry: every piece is a class and a name in a kind, and the registry is the Hydra config groups.

What ``wmplay list`` shows, what ``model=<name>`` accepts and what ``make`` builds are one list, from

- ``configs/<kind>/<name>.yaml``, built in: the path of a class and its parameters, imported when built;
- ``@register(kind, name)`` over a class in a plugin: its constructor's defaults become the config;
- ``configs/`` of a plugin package.

Plugins are files and packages in ``./plugins`` and in the folders of ``$WMPLAY_PLUGINS``, and installed
distributions with an entry point in the group ``wmplay.plugins``.

A constructor's parameters *with* a default are its config. Those *without* one come from the run and are
filled in by name: ``env`` (which also gives ``observation_space`` and ``action_space``), ``model``,
``planner``, ``objective``, ``policy``.
"""

from __future__ import annotations

import functools
import pkgutil
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmplay.config import plugins
from wmplay.config.catalogue import Piece as Piece
from wmplay.config.catalogue import (
    check_loads,
    config_names,
    declared_path,
    load_declaring,
    path_of,
    registered,
    still_loaded,
    unknown_piece,
    warn_of_changes,
)
from wmplay.config.catalogue import names as names
from wmplay.config.catalogue import pieces as pieces
from wmplay.config.catalogue import register as register
from wmplay.config.catalogue import reload as reload
from wmplay.config.constructors import check_settings, default_settings, label, required, shortened
from wmplay.config.references import KINDS as KINDS
from wmplay.config.references import MOVED, PIECE, TARGET, settings, with_reference
from wmplay.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from omegaconf import DictConfig

REFERENCE = re.compile(r"(\w+)/([\w.-]{1,99})")
FROM_RUN = (*KINDS[:-1], "observation_space", "action_space", "run_dir", "config")  # by parameters' names

# ---- composing a run -----------------------------------------------------------------------------


def compose(overrides: Sequence[str] = (), tell: Callable[[str], object] = lambda line: None) -> DictConfig:
    """The config of a run: ``configs/train.yaml`` with overrides as on the command line; read-only.

    Args:
        overrides: where these swap a piece of their experiment, what it sets for that piece falls away.
        tell: is called with a line for each piece that is swapped so.

    Raises:
        ConfigError, UnknownName: for anything that does not compose, in one line.
    """
    from wmplay.config import composing
    from wmplay.config.swaps import Pieces, find_swaps

    prepare(overrides)
    composing.check_single(overrides)
    swaps = find_swaps(overrides, Pieces(KINDS, composing.run_defaults(), functools.cache(class_of)))
    taken_out = {f"~{key}" for key in swaps.fallen}  # as one had to, before settings fell away by themselves
    kept = [text for text in overrides if text not in taken_out]
    config = composing.compose([*kept, *swaps.choices], KINDS, by_reference, swaps.fallen)
    check(config)
    for line in swaps.lines:
        tell(line)
    return config


def check(config: DictConfig) -> None:
    """Checks the names and types of everything in a run's config; builds nothing.

    Raises:
        ConfigError: for a key that nothing takes, or a value of the wrong type.
    """
    from wmplay.config import composing
    from wmplay.config.settings import check as check_run

    defaults = composing.run_defaults()
    check_run(config, defaults, KINDS)
    for kind in KINDS:
        if config[kind] is None:
            continue
        lent = defaults.get(kind, {})  # a piece's key may hold a setting of the loop too: env.data
        piece = {key: value for key, value in composing.plain(config[kind]).items() if key not in lent}
        check_piece(piece)


def check_piece(config: Mapping[str, Any]) -> None:
    """Checks the names and types of one piece's config; builds nothing.

    Raises:
        ConfigError: for a key that its constructor does not take, or a value of the wrong type.
    """
    check_settings(target(config), settings(config))


def prepare(overrides: Sequence[str]) -> None:
    """Imports the plugins, gives Hydra the classes they register, and checks names in ``kind=name``.

    Raises:
        UnknownName: for a name that its kind does not have, also within a sweep over several.
        PluginError: for a name in a plugin that does not load.
    """
    from wmplay.config import composing

    warn_of_changes()
    plugins.load_all()
    for kind, name in composing.chosen(overrides, (*KINDS, "experiment")):
        check_loads(kind, name)
        if name not in names(kind):
            raise unknown_piece(kind, name)
    for kind, name in registered():
        composing.store(kind, name, _class_config(kind, name))


# ---- building ------------------------------------------------------------------------------------


def piece_config(kind: str, name: str, **overrides: Any) -> dict[str, Any]:
    """The config of a piece as a plain dict: ``_piece_`` and its settings.

    Raises:
        UnknownName: if the kind has no such piece.
        PluginError: if it is in a plugin that does not load.
    """
    warn_of_changes()
    if name not in names(kind):
        raise unknown_piece(kind, name)
    if name in config_names(kind):
        from wmplay.config import composing  # Hydra, which a registered class does not need

        config = by_reference(composing.load_group(kind, name))
    else:
        load_declaring(kind, name)
        if (kind, name) not in registered():
            raise unknown_piece(kind, name)
        config = _class_config(kind, name)
    return {**config, **overrides}


def _class_config(kind: str, name: str) -> dict[str, Any]:
    return {PIECE: f"{kind}/{name}", **default_settings(registered()[kind, name])}


def target(config: Mapping[str, Any]) -> Callable[..., Any]:
    """The class (or function) of a piece's config. What is not registered is neither imported nor called.

    Raises:
        ConfigError: if the config names no piece, or one that is not here.
        PluginError: for a piece of a plugin that does not load.
    """
    reference, path = config.get(PIECE), config.get(TARGET)
    if (reference is None) == (path is None):
        raise ConfigError(f"a piece's config needs {PIECE}: <kind>/<name>")
    if reference is None:
        reference = reference_of(path)
        if reference is None:  # a plugin may register in ways that cannot be read off its text
            plugins.load_all()
            reference = reference_of(path)
        if reference is None:
            raise ConfigError(_not_here(f"no piece is the class {shortened(path)}", _plugin_in(path)))
    parts = REFERENCE.fullmatch(reference) if isinstance(reference, str) else None
    if parts is None or parts[1] not in KINDS:
        raise ConfigError(f"{PIECE} is {shortened(reference)}, expected <kind>/<name>, as in model/rssm")
    return class_of(parts[1], parts[2])


def reference_of(path: Any) -> str | None:
    """The piece, as ``kind/name``, that a dotted path is or was; None for any other. Nothing is imported."""
    if not isinstance(path, str):
        return None
    if path in MOVED:
        return MOVED[path]
    for kind in KINDS:
        for name in sorted(config_names(kind)):
            if declared_path(kind, name) == path:
                return f"{kind}/{name}"
    for (kind, name), cls in registered().items():
        if path_of(cls) == path:
            return f"{kind}/{name}"
    for plugin in plugins.plugins():
        for (kind, name), class_name in plugins.declared(plugin).items():
            if f"{plugin.module}.{class_name}" == path:
                return f"{kind}/{name}"
    return None


def by_reference(config: Mapping[str, Any]) -> dict[str, Any]:
    """A piece's config with a path that is known replaced by the piece's name."""
    return with_reference(config, None if PIECE in config else reference_of(config.get(TARGET)))


def as_first_written(config: Mapping[str, Any]) -> dict[str, Any]:
    """A piece's config as version 0.1 wrote it, by path: what is known by a digest of that stays known."""
    paths = {reference: path for path, reference in MOVED.items()}
    make = target(config)
    path = paths.get(by_reference(config)[PIECE], f"{make.__module__}.{label(make)}")
    return {TARGET: path, **settings(config)}


def plugins_of(config: DictConfig) -> dict[str, str]:
    """{piece: the file, folder or entry point of its plugin}, of those of a run that plugins bring."""
    found = {}
    for kind in KINDS:
        if config[kind] is None:
            continue
        module = target(config[kind]).__module__
        for plugin in plugins.plugins():
            if f"{module}.".startswith(f"{plugin.module}."):
                found[config[kind][PIECE]] = Path(plugin.source).name
    return found


def of_a_script(config: Mapping[str, Any]) -> tuple[str, str, type] | None:
    """(kind, name, class) of a piece that a script or a notebook registers; None for any other.

    Another process does not find such a piece by itself, as it finds what is built in or a plugin.
    """
    make = target(config)
    modules = [plugin.module for plugin in plugins.plugins()]
    if any(f"{make.__module__}.".startswith(f"{module}.") for module in modules):
        return None
    return next(((*key, cls) for key, cls in registered().items() if cls is make), None)


def class_of(kind: str, name: str) -> Callable[..., Any]:
    """The class (or function) of a piece by its name.

    Raises:
        ConfigError: if the kind has no such piece.
        PluginError: for a piece of a plugin that does not load.
    """
    if name not in config_names(kind):
        load_declaring(kind, name)
        if (kind, name) not in registered():
            plugins.load_all()  # one may register in ways that cannot be read off its text
        found = registered().get((kind, name)) or still_loaded(kind, name)
        if found is None:
            raise ConfigError(_not_here(str(unknown_piece(kind, name)), None))
        return found
    path = declared_path(kind, name)
    if path is None:  # a variant of another piece
        from wmplay.config import composing

        path = composing.load_group(kind, name).get(TARGET)
    return _imported(path)


def _imported(path: Any) -> Callable[..., Any]:
    """The class that the YAML of a config group names."""
    if not isinstance(path, str):
        raise ConfigError(f"{TARGET} is {shortened(path)}, expected the dotted path of a class")
    if path.startswith(f"{plugins.NAMESPACE}."):
        plugins.load_all()
    module, _, attribute = path.rpartition(".")
    try:
        found = pkgutil.resolve_name(f"{module}:{attribute}")
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{TARGET} '{path}' cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigError(f"{TARGET} '{path}' is not a class")
    return typing.cast(Callable[..., Any], found)


def _plugin_in(path: Any) -> str | None:
    """The plugin in the path of a plugin's class."""
    parts = path.split(".") if isinstance(path, str) else []
    return parts[1] if parts[:1] == [plugins.NAMESPACE] and len(parts) > 2 else None


def _not_here(problem: str, plugin: str | None) -> str:
    where = "./plugins or a folder of $WMPLAY_PLUGINS, or install it"
    if plugin is not None:
        return f"{problem}: put the plugin {shortened(plugin)} into {where}"
    return f"{problem}; if a plugin registers it, put that into {where}"


def build(config: Mapping[str, Any], /, **run: Any) -> Any:
    """Builds a piece from its config and from what the run provides.

    Args:
        config: the piece's name (``_piece_: kind/name``) and its settings; each must be a parameter with a
            default of the constructor, of the annotated type.
        run: ``env`` and other built pieces, for the parameters without a default.

    Raises:
        ConfigError: for a piece that is not here, a key that the constructor does not take, a value of the
            wrong type, or a part that the run does not provide.
    """
    make_piece = target(config)
    given = settings(config)
    check_settings(make_piece, given)
    provided = _provided(run)
    needed = [name for name in required(make_piece) if name not in given]
    missing = [name for name in needed if name not in provided]
    foreign = [name for name in missing if name not in FROM_RUN]
    if foreign:
        raise ConfigError(
            f"{label(make_piece)} needs {foreign[0]} from the run, which has none (with a default: config)"
            f": {suggestion(foreign[0], FROM_RUN)}"
        )
    if missing:
        source = "env" if missing[0].endswith("_space") else missing[0]
        raise ConfigError(
            f"{label(make_piece)} needs {' and '.join(missing)} from the run: give it {source}=..."
        )
    return make_piece(**given, **{name: provided[name] for name in needed})


def needs(config: Mapping[str, Any]) -> list[str]:
    """What a piece's constructor wants from the run, by name: its parameters without a default."""
    return [name for name in required(target(config)) if name not in config]


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
    from_run = {*required(target(config))} | {"env"} - set(config)
    run = {key: value for key, value in arguments.items() if key in from_run}
    overrides = {key: value for key, value in arguments.items() if key not in from_run}
    piece = build({**config, **overrides}, **run)
    if device is None:
        return piece
    from torch import nn

    from wmplay.system.device import choose_device

    return piece.to(choose_device(str(device))) if isinstance(piece, nn.Module) else piece


def _provided(run: Mapping[str, Any]) -> dict[str, Any]:
    env = run.get("env")
    if env is None:
        return dict(run)
    from wmplay.contracts import env_spec  # torch, which listing pieces does not need

    known = env_spec(env)
    return {"observation_space": known.observation_space, "action_space": known.action_space, **run}
