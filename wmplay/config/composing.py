"""Composing the config of a run: ``train.yaml``, an experiment and overrides, checked and frozen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from wmplay.config import catalogue, loading, plugins
from wmplay.config.constructors import check_settings
from wmplay.config.kinds import EXPERIMENT, KINDS
from wmplay.config.loading import plain
from wmplay.config.overrides import check_single, chosen, is_hydras, lenient, parse, sets_a_value
from wmplay.config.references import by_reference, class_of, own_config, settings, target
from wmplay.config.settings import RUN_KEYS, Settings, settings_of
from wmplay.config.swaps import Pieces, Swaps, find_swaps
from wmplay.errors import ConfigError


def compose(overrides: Sequence[str] = (), tell: Callable[[str], object] = lambda line: None) -> Settings:
    """Return the settings of a run: ``configs/train.yaml`` with overrides as on the command line.

    Args:
        overrides: if they swap a piece of their experiment, the experiment's settings of that piece are
            dropped.
        tell: called with a line of text for each swapped piece.

    Raises:
        ConfigError, UnknownName: in one line, for anything that does not compose.
    """
    parsed = parse(overrides)
    with plugins.listed_once():
        prepare(parsed)
        check_single(parsed)
        swaps = find_swaps(parsed, Pieces(RUN_KEYS, functools.cache(class_of)))
        run = settings_of(_settled(_composed(parsed, swaps)), complete=True)
        check(run)
    for line in swaps.lines:
        tell(line)
    return run


def prepare(overrides: Sequence[Override]) -> None:
    """Import the plugins, give Hydra the classes that they register, and check the names in ``kind=name``.

    Raises:
        UnknownName: for a name that its kind does not have, also within a sweep over several names.
        PluginError: for a name in a plugin that does not load.
    """
    catalogue.warn_of_changes()
    plugins.load_all()
    for kind, name in chosen(overrides, (*KINDS, EXPERIMENT)):
        catalogue.check_loads(kind, name)
        if name not in catalogue.names(kind):
            raise catalogue.unknown_piece(kind, name)
    for kind, name in catalogue.registered():
        loading.store(kind, name, own_config(kind, name))


def check(run: Settings) -> None:
    """Check the names and types of the settings of a run's pieces; build nothing.

    Raises:
        ConfigError: for a key that is no setting of its piece, or a value of the wrong type.
    """
    for piece in run.pieces().values():
        check_settings(target(piece), settings(piece))


def _composed(overrides: Sequence[Override], swaps: Swaps) -> DictConfig:
    """Return the config as Hydra composes it, but for what the experiment sets for swapped pieces.

    Hydra composes what the overrides choose; their values are set in the result.
    """
    overrides = [*overrides, *parse(swaps.choices)]
    if not swaps.fallen:
        config = loading.load("train", lenient([each for each in overrides if not sets_a_value(each)]))
        with loading.in_one_line():
            for each in filter(sets_a_value, overrides):
                OmegaConf.update(config, each.key_or_group, each.value(), force_add=True)
        return config
    taken_out = {f"~{key}" for key in swaps.fallen}  # by the user, too
    own = [each for each in overrides if each.key_or_group not in (*KINDS, EXPERIMENT)]
    own = [each for each in own if each.input_line not in taken_out]
    pieces = parse([f"{kind}={name or 'null'}" for kind, name in swaps.pieces.items()])
    options = [each for each in own if not each.is_delete() and not sets_a_value(each)]
    config = loading.load("train", lenient([*pieces, *options]))
    rest = OmegaConf.create(swaps.settings)
    for key in swaps.fallen:
        _delete(rest, key)
    with open_dict(config), loading.in_one_line():
        config.merge_with({key: rest[key] for key in rest if rest[key] or key not in KINDS})
        for each in own:  # they come after the experiment
            if is_hydras(each.key_or_group):
                continue
            if each.is_delete():
                _delete(config, each.key_or_group)
            else:
                OmegaConf.update(config, each.key_or_group, each.value(), force_add=True)
    return config


def _delete(config: DictConfig, key: str) -> None:
    """Delete a dotted key, if it exists."""
    section, _, name = key.rpartition(".")
    inside = OmegaConf.select(config, section) if section else config
    if isinstance(inside, DictConfig) and name in inside:
        del inside[name]


def _settled(config: DictConfig) -> dict[str, Any]:
    """Return a composed config resolved, as plain values, pieces by name, null where none is chosen."""
    with loading.in_one_line():
        OmegaConf.resolve(config)
    if EXPERIMENT in config:
        raise ConfigError("the experiment's file has to begin with the line '# @package _global_'")
    content = plain(config)
    for kind in KINDS:
        content.setdefault(kind, None)
        if isinstance(content[kind], dict):
            content[kind] = by_reference(content[kind])
    return content
