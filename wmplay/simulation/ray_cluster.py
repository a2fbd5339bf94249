"""The cluster of Ray: joined or started; and the objects sent through it, packed and unpacked."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

from wmplay.config import plugins
from wmplay.errors import ConfigError


def connect(ray: ModuleType, number: int) -> None:
    """Join the cluster of ``$RAY_ADDRESS``, or start one on this machine, without output."""
    address = os.environ.get("RAY_ADDRESS")
    alone: dict[str, Any] = {"address": "local", "num_cpus": number, "include_dashboard": False}
    where = {"address": address} if address else alone
    try:
        with _signals_kept():
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many classes, Exception itself among them
        why = " ".join(f"{type(error).__name__}: {error}".split())
        if not address:
            ray.shutdown()  # stops the parts that did start
            raise ConfigError(
                f"Ray does not start on this machine ({why})", advice="use workers=local"
            ) from error
        raise ConfigError(
            f"RAY_ADDRESS is {address}, where there is no Ray cluster ({why})",
            got=address,
            advice="start one with ray start --head, or unset RAY_ADDRESS",
        ) from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Restore the signal handlers after the block, because Ray replaces one."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def pack(name: str, part: Any) -> bytes:
    """Return an object as bytes; its tensors can be unpacked on a machine without their device.

    Raises:
        ConfigError: if the object cannot be pickled.
    """
    from ray import cloudpickle

    buffer = io.BytesIO()
    try:
        torch.save(part, buffer, pickle_module=cloudpickle)
    except Exception as error:  # pickling runs anyone's code
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"the {name} cannot be sent to Ray's actors, since it cannot be pickled ({why}): for an env, "
            "give a function that makes it; a policy must be picklable"
        ) from error
    return buffer.getvalue()


def unpack(packed: bytes) -> Any:
    """Undo ``pack``, with all tensors on the CPU."""
    plugins.load_all()  # whose classes the bytes may name
    return torch.load(io.BytesIO(packed), map_location="cpu", weights_only=False, pickle_module=pickle)
