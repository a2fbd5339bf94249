"""Settings of a run that has an env and a logger, and no other piece."""

from __future__ import annotations

from typing import Any

from wmplay.config.references import KINDS
from wmplay.config.settings import Settings, settings_of

PIECES = {**dict.fromkeys(KINDS), "env": {"_piece_": "env/lcd"}, "logger": {"_piece_": "logger/none"}}


def few_settings(**changes: Any) -> Settings:
    """Return the defaults, with other values for some keys of the config."""
    return settings_of({**PIECES, **changes})
