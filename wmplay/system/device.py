"""The device and the precision of tensor computations; no other module chooses them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import torch

from wmplay.errors import ConfigError

MOST_THREADS = 256  # torch ends the process without a message if it is given far more

Precision = Literal["auto", "float32", "bfloat16"]
Threads: TypeAlias = int | Literal["auto"] | None


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """Return the device of this name; "auto" is the first CUDA device, or the CPU if CUDA is not available.

    Args:
        name: auto, cpu, cuda, cuda:1, ...
        local_rank: the number of this process on this machine if several processes fit one model: "auto" and
            "cuda" then stand for the CUDA device of that number.

    Raises:
        ConfigError: if the device does not exist, or if several processes would share it.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if local_rank is not None and name.startswith("cuda"):
        if name != "cuda":
            raise ConfigError(
                f"device is '{name}', on which several processes cannot fit together",
                got=name,
                advice="use device=cuda, which gives each of them its own",
            )
        name = f"cuda:{local_rank}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(
            f"device is '{name}'", got=name, expected="auto, cpu, cuda or cuda:<number>"
        ) from None
    if device.type != "cuda":
        try:
            torch.zeros((), device=device).item()
        except (RuntimeError, NotImplementedError, AssertionError):
            raise ConfigError(
                f"device is '{name}', which is not here", advice="use device=auto or cpu"
            ) from None
    elif (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is '{name}', but {torch.cuda.device_count()} CUDA devices are here: use device=cpu"
            + ("" if local_rank is None else ", or start no more processes than there are devices"),
            got=name,
        )
    return device


def use_threads(asked: Threads = "auto", chosen: int | None = None) -> None:
    """Set the number of CPU threads that torch computes with.

    Args:
        asked: a number; "auto" for ``chosen``, or for 1 if ``chosen`` is None, because more threads cost much
            on a busy machine; None to leave torch's default.
        chosen: the number recorded in ``run.json`` when a run continues or is loaded: sums computed by a
            different number of threads differ in their last digits.
    """
    number = chosen or 1 if asked == "auto" else asked
    if number is not None:
        torch.set_num_threads(min(number, MOST_THREADS))


def seed_draws(seed: int) -> None:
    """Seed the global generators of torch on the CPU and on each CUDA device.

    ``torch.manual_seed`` takes longer than a small update, because it formats the Python stack for each kind
    of device that is not in use.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return a context in which matrix products use bfloat16: if requested, or if "auto" and the hardware is
    fast.

    Without native support (AVX512-BF16, AMX, or a GPU since Ampere) bfloat16 is slower than float32.
    """
    if precision == "bfloat16" or (precision == "auto" and _has_native_bfloat16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # torch has no public query yet
    return bool(device.type == "cpu" and probe is not None and probe())
