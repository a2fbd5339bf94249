"""The config of a run that goes on, and of one that is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from wmplay import registry
from wmplay.config.composing import check
from wmplay.config.overrides import parse, set_values
from wmplay.errors import ConfigError, WorldError
from wmplay.runs.directory import RunDirectory
from wmplay.runs.pieces import env_config
from wmplay.store.provenance import in_words, origin_of, same_world


def run_to_continue(overrides: Sequence[str]) -> Path | None:
    """The directory that ``run=<dir>`` names, if it is among the overrides."""
    values = [override.value() for override in parse(overrides) if override.key_or_group == "run"]
    return Path(str(values[-1])) if values and values[-1] is not None else None


def plugins_of(about: Mapping[str, Any]) -> str:
    """The plugins that ``run.json`` (or ``export.json``) names, for the end of a message."""
    told = about.get("plugins")
    files = sorted({str(file)[:99] for file in told.values()}) if isinstance(told, Mapping) else []
    return f" (the run was made with {', '.join(map(repr, files))})" if files else ""


def checked_config(directory: RunDirectory) -> DictConfig:
    """The config of a run.

    Raises:
        ConfigError: if the present version or the present plugins cannot take it.
    """
    config = directory.config()
    try:
        check(config)
    except ConfigError as error:
        about = plugins_of(directory.read())
        raise ConfigError(f"{directory.path / 'config.yaml'}: {error}{about}") from error
    return config


def continued_config(directory: RunDirectory, overrides: Sequence[str]) -> DictConfig:
    """The config of a run that goes on: its own, with overrides of single values (``iterations=20``).

    Raises:
        ConfigError: for a key that is not there, a bad value, or another piece.
        WorldError: for settings that make another world.
    """
    config = checked_config(directory)
    for override in parse(overrides):
        if override.key_or_group in (*registry.KINDS, "experiment"):
            raise ConfigError(
                f"cannot override '{override.key_or_group}': a run that goes on keeps its pieces; leave it "
                "out, or begin a new run without run="
            )
    before = origin_of(env_config(config))
    set_values(config, overrides)
    if config.fit.get("minutes") is not None:
        raise ConfigError("fit.minutes chooses the updates of a new run: give one that goes on fit.steps")
    config.run = None
    check(config)
    after = origin_of(env_config(config))
    if not same_world(before, after):
        raise WorldError(
            f"{directory.path} is a run in {in_words(before)}, the overrides make it {in_words(after)}: a "
            "run keeps its world; try its policy in another by wmplay simulate --run=<dir> --other-world"
        )
    OmegaConf.set_readonly(config, True)
    return config
