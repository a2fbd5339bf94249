"""The registry: every piece is a class with a kind and a name, and an option of a Hydra config group.

``wmplay list`` shows, ``model=<name>`` accepts and ``make`` builds the same pieces, from

- ``configs/<kind>/<name>.yaml``, built in: the path of a class and its settings, imported when built;
- ``@register(kind, name)`` on a class in a plugin: the defaults of its constructor become the config;
- ``configs/`` of a plugin package.

Plugins are files and packages in ``./plugins`` and in the folders of ``$WMPLAY_PLUGINS``, and installed
distributions with an entry point in the group ``wmplay.plugins``.

The parameters of a constructor *with* a default are the piece's settings. The parameters *without* one come
from the run and are filled in by name: ``env`` (which also gives ``observation_space`` and ``action_space``),
``model``, ``planner``, ``objective``, ``policy``; for a logger ``run_dir`` and ``config``. Those with the
name of a kind of piece and the default None are filled in where the run has such a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wmplay.config import plugins
from wmplay.config.catalogue import Piece as Piece
from wmplay.config.catalogue import config_names, load_declaring, registered, unknown_piece, warn_of_changes
from wmplay.config.catalogue import names as names
from wmplay.config.catalogue import pieces as pieces
from wmplay.config.catalogue import register as register
from wmplay.config.catalogue import reload as reload
from wmplay.config.constructors import check_settings, label, optional_parts, required
from wmplay.config.kinds import KINDS as KINDS
from wmplay.config.kinds import PIECE
from wmplay.config.kinds import Kind as Kind
from wmplay.config.references import by_reference, own_config, settings
from wmplay.config.references import target as target
from wmplay.errors import ConfigError, SpaceError, suggestion

if TYPE_CHECKING:
    from wmplay.config.settings import Settings

FROM_RUN = (
    *tuple(KINDS)[:-1],
    "observation_space",
    "action_space",
    "run_dir",
    "config",
)  # by parameters' names


def compose(overrides: Sequence[str] = (), tell: Callable[[str], object] = lambda line: None) -> Settings:
    """Return the settings of a run: ``configs/train.yaml`` with overrides as on the command line.

    Args:
        overrides: if they swap a piece of their experiment, the experiment's settings of that piece are
            dropped.
        tell: called with a line of text for each swapped piece.

    Raises:
        ConfigError, UnknownName: in one line, for anything that does not compose.
    """
    from wmplay.config import composing  # imports Hydra, which a listing does not need

    return composing.compose(overrides, tell)


def piece_config(kind: str, name: str, **overrides: Any) -> dict[str, Any]:
    """Return the config of a piece as a plain dict: ``_piece_`` and its settings.

    Raises:
        UnknownName: if the kind has no piece of this name.
        PluginError: for a piece of a plugin that does not load.
    """
    warn_of_changes()
    if name not in names(kind):
        raise unknown_piece(kind, name)
    if name in config_names(kind):
        from wmplay.config import loading  # Hydra, which a registered class does not need

        config = by_reference(loading.load_group(kind, name))
    else:
        load_declaring(kind, name)
        if (kind, name) not in registered():
            raise unknown_piece(kind, name)
        config = own_config(kind, name)
    return {**config, **overrides}


def make(kind: str, name: str, *, device: Any = None, **arguments: Any) -> Any:
    """Build a registered piece by name.

    Args:
        kind: one of ``KINDS``.
        name: as ``wmplay list`` shows it.
        device: moves an ``nn.Module`` there.
        arguments: overrides of the config, and the parts that come from the run (``env=env``, ...).

    Raises:
        UnknownName, ConfigError: see ``piece_config`` and ``build``.
    """
    config = piece_config(kind, name)
    from_run = {*needs(config)} | {"env"} - set(config)
    run = {key: value for key, value in arguments.items() if key in from_run}
    overrides = {key: value for key, value in arguments.items() if key not in from_run}
    piece = build({**config, **overrides}, **run)
    if device is None:
        return piece
    from torch import nn

    from wmplay.system.device import choose_device

    return piece.to(choose_device(str(device))) if isinstance(piece, nn.Module) else piece


def build(config: Mapping[str, Any], /, **run: Any) -> Any:
    """Build a piece from its config and the parts that the run provides.

    Args:
        config: the piece's name (``_piece_: kind/name``) and its settings; each must be a parameter of the
            constructor with a default, and its value of the annotated type.
        run: ``env`` and other built pieces, for the parameters without a default.

    Raises:
        ConfigError: for a piece that is not available, a key that is no setting of the constructor, a value
            of the wrong type, or a part that the run does not provide.
        SpaceError: for an env whose spaces the piece cannot handle; the message names the piece.
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
            f"{label(make_piece)} needs {foreign[0]} from the run, which has none (with a default: config)",
            advice=suggestion(foreign[0], FROM_RUN),
        )
    if missing:
        source = "env" if missing[0].endswith("_space") else missing[0]
        raise ConfigError(
            f"{label(make_piece)} needs {' and '.join(missing)} from the run", advice=f"give it {source}=..."
        )
    needed += [name for name in optional_parts(make_piece) if provided.get(name) is not None]
    try:
        return make_piece(**given, **{name: provided[name] for name in needed})
    except SpaceError as error:
        error.name(str(config.get(PIECE, label(make_piece))).replace("/", "="))
        raise


def needs(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the parts that a piece takes from the run: those that it requires, then optional
    ones."""
    make_piece = target(config)
    return [name for name in (*required(make_piece), *optional_parts(make_piece)) if name not in config]


def plugins_of(run: Settings) -> dict[str, str]:
    """Return {piece: the file, folder or entry point of its plugin} of a run's pieces from plugins."""
    found = {}
    for piece in run.pieces().values():
        plugin = plugins.holding(target(piece).__module__)
        if plugin is not None:
            found[piece[PIECE]] = Path(plugin.source).name
    return found


def of_a_script(config: Mapping[str, Any]) -> tuple[str, str, type] | None:
    """Return (kind, name, class) of a piece that a script or a notebook registers; None for any other.

    Another process cannot find such a piece, unlike built-in pieces and plugins.
    """
    make_piece = target(config)
    if plugins.holding(make_piece.__module__) is not None:
        return None
    return next(((*key, cls) for key, cls in registered().items() if cls is make_piece), None)


def _provided(run: Mapping[str, Any]) -> dict[str, Any]:
    env = run.get("env")
    if env is None:
        return dict(run)
    from wmplay.contracts import env_spec  # torch, which listing pieces does not need

    known = env_spec(env)
    return {"observation_space": known.observation_space, "action_space": known.action_space, **run}
