"""The names of Gymnasium's autoreset modes, as configs spell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from gymnasium.vector import AutoresetMode

from wmplay.errors import UnknownName

Autoreset: TypeAlias = Literal["same_step", "next_step", "disabled"]

_MODES: Mapping[str, AutoresetMode] = {
    "same_step": AutoresetMode.SAME_STEP,
    "next_step": AutoresetMode.NEXT_STEP,
    "disabled": AutoresetMode.DISABLED,
}


def autoreset_mode(name: str) -> AutoresetMode:
    """Return Gymnasium's autoreset mode of this name.

    Raises:
        UnknownName: if no mode has it.
    """
    if name not in _MODES:
        raise UnknownName("autoreset", name, _MODES)
    return _MODES[name]
