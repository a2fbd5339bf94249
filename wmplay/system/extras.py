"""Optional packages: which extra brings which, whether it is here, and the line that says what to install."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from types import ModuleType

from wmplay.errors import ConfigError

PACKAGES: Mapping[str, str] = {  # extra, spelled as PEP 685 has it -> the package that it is about
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
    """Return the extra that a built-in piece of this name needs, or None where it needs none."""
    extra = piece.replace("_", "-")  # pip before 23.3 knows an extra by its normalised name only
    return extra if extra in PACKAGES else None


def installed(extra: str) -> str | None:
    """The version of an extra's package, or None where it is not here; imports nothing."""
    try:
        return metadata.version(PACKAGES[extra])
    except metadata.PackageNotFoundError:
        return None


def how_to_install(extra: str) -> str:
    """The command that brings an extra."""
    return f"pip install 'wmplay[{extra}]'"


def import_extra(module: str, extra: str, who: str) -> ModuleType:
    """Imports a module of an optional package.

    Args:
        module: its dotted name.
        extra: the extra of wmplay that brings it.
        who: needs it, in the words of the error.

    Raises:
        ConfigError: where it is not here, or cannot be imported.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)  # first, so that the error tells which of them is not here
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name == package
        why = "which is not here" if absent else f"which cannot be imported ({' '.join(str(error).split())})"
        raise ConfigError(f"{who} needs the package {package}, {why}: {how_to_install(extra)}") from error
