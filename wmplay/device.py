"""Where tensors live and in which precision they are multiplied: decided here and nowhere else."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from wmplay.errors import ConfigError

Precision = Literal["auto", "float32", "bfloat16"]


def choose_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first CUDA device, or the CPU where there is none.

    Raises:
        ConfigError: if there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"device is '{name}', expected auto, cpu, cuda or cuda:<number>") from None
    if device.type != "cuda":
        try:
            torch.zeros((), device=device).item()
        except (RuntimeError, NotImplementedError, AssertionError):
            raise ConfigError(f"device is '{name}', which is not here: use device=auto or cpu") from None
    elif (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is '{name}', but {torch.cuda.device_count()} CUDA devices are here: use device=cpu"
        )
    return device


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Runs matrix products in bfloat16, where asked for or (auto) where the hardware is quick at it.

    Without native bfloat16 (AVX512-BF16, AMX, or a GPU since Ampere) it is slower than float32.
    """
    if precision == "bfloat16" or (precision == "auto" and _has_native_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # no public query in torch as yet
    return bool(probe is not None and probe())
