"""The settings of a continued run, and of one that is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from wmplay import registry
from wmplay.config.composing import check
from wmplay.config.overrides import parse, with_values
from wmplay.config.settings import Settings, settings_of
from wmplay.errors import ConfigError, WorldError
from wmplay.runs.disk.directory import RunDirectory
from wmplay.runs.pieces import env_config
from wmplay.store.provenance import in_words, origin_of, same_world


def run_to_continue(overrides: Sequence[str]) -> Path | None:
    """Return the directory of ``run=<dir>`` among the overrides, or None."""
    values = [override.value() for override in parse(overrides) if override.key_or_group == "run"]
    return Path(str(values[-1])) if values and values[-1] is not None else None


def plugins_of(about: Mapping[str, Any]) -> str:
    """Return the plugins that ``run.json`` (or ``export.json``) names, for the end of a message."""
    told = about.get("plugins")
    files = sorted({str(file)[:99] for file in told.values()}) if isinstance(told, Mapping) else []
    return f" (the run was made with {', '.join(map(repr, files))})" if files else ""


def read_settings(directory: RunDirectory) -> Settings:
    """Return the validated settings of a run.

    Raises:
        ConfigError: if the present version or the present plugins do not accept the config.
    """
    config = directory.config()
    try:
        settings = settings_of(config)
        check(settings)
    except ConfigError as error:
        about = plugins_of(directory.read())
        raise ConfigError(f"{directory.path / 'config.yaml'}: {error}{about}") from error
    return settings


def continued_settings(directory: RunDirectory, overrides: Sequence[str]) -> Settings:
    """Return the settings of a continued run: its own, with overrides of single values (``fit.lr=1e-4``).

    Raises:
        ConfigError: for an unknown key, a bad value, or another piece.
        WorldError: for settings that make another world.
    """
    settings = read_settings(directory)
    for override in parse(overrides):
        if override.key_or_group in (*registry.KINDS, "experiment"):
            raise ConfigError(
                f"cannot override '{override.key_or_group}': a run that goes on keeps its pieces; leave it "
                "out, or begin a new run without run="
            )
    before = origin_of(env_config(settings))
    settings = settings_of({**with_values(settings.config(), overrides), "run": None}, complete=True)
    if settings.fit.minutes is not None:
        raise ConfigError(
            "fit.minutes chooses the updates of a new run", advice="give one that goes on fit.steps"
        )
    check(settings)
    after = origin_of(env_config(settings))
    if not same_world(before, after):
        raise WorldError(
            f"{directory.path} is a run in {in_words(before)}, the overrides make it {in_words(after)}: a "
            "run keeps its world; try its policy in another by wmplay simulate --run=<dir> --other-world"
        )
    return settings
