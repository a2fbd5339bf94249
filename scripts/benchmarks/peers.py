"""Packages of others, if they are installed."""

from __future__ import annotations

import importlib.util
import sys


def not_installed(package: str) -> str | None:
    """Return a note that the package is not installed, or None if it is."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: `make bench` runs this with all peers."


def load_without_init(package: str = "stable_worldmodel") -> None:
    """Make the submodules of stable_worldmodel, or of a package in it, importable without its ``__init__``.

    The ``__init__`` imports every environment and wrapper, and with them cv2, which a default install lacks.
    Neither the data reader nor the planners need cv2. They would use torchvision's JPEG decoder if it were
    importable, but fail if its build does not fit torch's, so torchvision must look as if it were missing.
    """
    if package in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    spec = importlib.util.find_spec(package)
    assert spec is not None
    sys.modules[package] = importlib.util.module_from_spec(spec)
