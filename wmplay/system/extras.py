"""Optional packages: the extra that installs each of them, and the error if one is missing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from types import ModuleType

from wmplay.errors import ConfigError

PACKAGES: Mapping[str, str] = {  # extra, spelled as in PEP 685 -> its main package
    "atari": "ale-py",
    "dm-control": "dm-control",
    "minigrid": "minigrid",
    "optuna": "optuna",
    "ray": "ray",
    "submitit": "hydra-submitit-launcher",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
}


def extra_of(piece: str) -> str | None:
    """Return the extra that the built-in piece of this name needs, or None if it needs none."""
    extra = piece.replace("_", "-")  # pip before 23.3 finds an extra only by its normalised name
    return extra if extra in PACKAGES else None


def installed(extra: str) -> str | None:
    """Return the version of an extra's package without importing it, or None if it is not installed."""
    try:
        return metadata.version(PACKAGES[extra])
    except metadata.PackageNotFoundError:
        return None


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'wmplay[{extra}]'"


def import_extra(module: str, extra: str, who: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: its dotted name.
        extra: the extra of wmplay that installs it.
        who: the subject of the error message, for example "this logger".

    Raises:
        ConfigError: if the package is not installed or cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)  # first, to tell which of the two is missing
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        why = "which is not here" if absent else f"which cannot be imported ({' '.join(str(error).split())})"
        raise ConfigError(f"{who} needs the package {package}, {why}: {how_to_install(extra)}") from error
