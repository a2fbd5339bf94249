"""Other people's packages, where they are installed."""

from __future__ import annotations

import importlib.util
import sys


def not_installed(package: str) -> str | None:
    """A note that the package is not there, or None where it is."""
    if importlib.util.find_spec(package) is not None:
        return None
    return f"{package} is not installed: `make bench` runs this with all peers."


def load_stable_worldmodel() -> None:
    """Makes the submodules of stable_worldmodel importable, without running its ``__init__``.

    That imports every environment and wrapper, and with them cv2, which a default install lacks. Neither
    the data reader nor the planners need it. Of torchvision they would use the JPEG decoder if it were
    there, but fail where its build does not fit torch's, so it must then look as if it were missing.
    """
    if "stable_worldmodel" in sys.modules:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        sys.modules["torchvision"] = None  # type: ignore[assignment]
    spec = importlib.util.find_spec("stable_worldmodel")
    assert spec is not None
    sys.modules["stable_worldmodel"] = importlib.util.module_from_spec(spec)
