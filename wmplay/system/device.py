"""Where tensors live and in which precision they are multiplied: decided here and nowhere else."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias

import torch

from wmplay.errors import ConfigError

MOST_THREADS = 256  # with too many, the process ends without a word

Precision = Literal["auto", "float32", "bfloat16"]
Threads: TypeAlias = int | Literal["auto"] | None


def choose_device(name: str, local_rank: int | None = None) -> torch.device:
    """The device of that name; "auto" is the first CUDA device, or the CPU where there is none.

    Args:
        name: auto, cpu, cuda, cuda:1, ...
        local_rank: of this process, where several on this machine fit together: "auto" and "cuda" are then
            the CUDA device of that number.

    Raises:
        ConfigError: if there is no such device, or several processes were to share one.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if local_rank is not None and name.startswith("cuda"):
        if name != "cuda":
            raise ConfigError(
                f"device is '{name}', on which several processes cannot fit together: use device=cuda, "
                "which gives each of them its own"
            )
        name = f"cuda:{local_rank}"
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
            + ("" if local_rank is None else ", or start no more processes than there are devices")
        )
    return device


def use_threads(asked: Threads = "auto", chosen: int | None = None) -> None:
    """Sets how many threads torch computes with on the CPU.

    Args:
        asked: a number; "auto" is what was chosen, or one as long as nothing is: several cost much on a busy
            machine; None leaves torch its own choice.
        chosen: for the run that goes on or is looked at, as ``run.json`` says: sums of several threads differ
            in their last digits.
    """
    number = chosen or 1 if asked == "auto" else asked
    if number is not None:
        torch.set_num_threads(min(number, MOST_THREADS))


def seed_draws(seed: int) -> None:
    """Seed the global generators of torch on the CPU and on each CUDA device.

    ``torch.manual_seed`` formats the Python stack for each kind of device that is not in use, which takes
    longer than a small update.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


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
    return bool(device.type == "cpu" and probe is not None and probe())
