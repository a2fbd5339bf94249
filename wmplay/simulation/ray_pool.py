"""A pool of Ray actors: processes that share work, on this or other machines, and may die at any time."""

from __future__ import annotations

import math
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from wmplay.config import plugins
from wmplay.errors import Portable, WmplayError, check_range, portable, restored
from wmplay.simulation.ray_cluster import connect, pack, unpack
from wmplay.system.extras import import_extra
from wmplay.system.progress import console

ATTEMPTS = 11  # to do a piece of work whose actor dies
AHEAD = 4  # finished pieces per actor that may wait for one before them
LOOK = 0.2  # seconds between two calls of ``look``
PATIENCE = 30.0  # seconds without any actor before a warning
PASSED_ON = ("WMPLAY_PLUGINS",)  # environment variables that a running cluster lacks

Work = Callable[[Any], Any]


class RayPool:
    """Processes of Ray that share pieces of work, and a context manager that stops them.

    They start with the first work, in the cluster that this process is connected to, or that of
    ``$RAY_ADDRESS``, or else in a new one on this machine that stops with them. Each has one CPU and one
    thread. All machines need the same Python environment and file system. Ray replaces an actor that dies and
    repeats its work, so that the result of a piece of work must follow from its item alone.

    Args:
        number: of actors.

    Raises:
        ConfigError: if Ray is not installed.
    """

    def __init__(self, number: int) -> None:
        check_range("num_workers", number, 1)
        import_extra("ray", "ray", "workers=ray")
        self.number = number
        self._ray: ModuleType | None = None
        self._actors: list[Any] = []
        self._began = False  # whether the cluster was started here
        self._works = 0  # number of calls of ``map``

    def map(
        self,
        make_work: Callable[..., Work],
        parts: Mapping[str, Any],
        items: Sequence[Any],
        *,
        look: Callable[[], None] = lambda: None,
    ) -> Iterator[Any]:
        """Yield the result for each item, in their order, as soon as it is available.

        Args:
            make_work: makes the work function from its parts; importable.
            parts: by name; pickled (with functions and classes of a script or notebook), tensors moved to the
                CPU.
            items: arguments of the work; their text names them in errors.
            look: called now and then; it may raise to stop.

        Raises:
            ConfigError: if Ray cannot be reached, or if a part cannot be pickled.
            WmplayError: for an item at which every actor died. Any error of the work itself.
        """
        packed = {name: pack(name, part) for name, part in parts.items()}
        ray = self._start()
        self._works += 1
        # In a list, since Ray would fetch a reference that is itself an argument with each piece anew.
        yield from self._share(ray, [ray.put((make_work, packed))], items, look)

    def close(self) -> None:
        """Stop the actors, and the cluster if it was started for them."""
        if self._ray is None:
            return
        for actor in self._actors if self._ray.is_initialized() else ():
            self._ray.kill(actor)
        if self._began:
            self._ray.shutdown()
        self._ray, self._actors = None, []

    def __enter__(self) -> RayPool:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> ModuleType:
        """Start all actors and return the module of Ray."""
        if self._ray is not None:
            return self._ray
        ray = import_extra("ray", "ray", "workers=ray")
        self._began = not ray.is_initialized()
        if self._began:
            connect(ray, self.number)
        self._ray = ray
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        worker = ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=ATTEMPTS - 1)(_Worker)
        place = (str(Path.cwd()), sys.path, environment)
        self._actors = [worker.remote(*place) for _ in range(self.number)]
        return ray

    def _share(
        self, ray: ModuleType, work: list[Any], items: Sequence[Any], look: Callable[[], None]
    ) -> Iterator[Any]:
        """Send the items to actors as they become free, and yield the results in the items' order."""
        starting = {actor.ready.remote(): actor for actor in self._actors}
        under_way: dict[Any, tuple[Any, int]] = {}
        free: deque[Any] = deque()
        done: dict[int, Any] = {}
        begun = taken = 0
        patient_until = time.monotonic() + PATIENCE
        try:
            while taken < len(items):
                while free and begun < min(len(items), taken + AHEAD * self.number):
                    actor = free.popleft()
                    under_way[actor.run.remote(self._works, work, items[begun])] = (actor, begun)
                    begun += 1
                ready, _ = ray.wait([*starting, *under_way], timeout=LOOK)
                look()
                if not begun and time.monotonic() > patient_until:
                    patient_until = math.inf
                    console.print("waiting for Ray: no actor has started yet; are all processors taken?")
                for task in ready:
                    if task in starting:
                        actor = starting.pop(task)
                        _check_started(ray, task)
                        free.extend([actor, actor])  # twice: its next piece is there before it asks for it
                    else:
                        actor, index = under_way.pop(task)
                        done[index] = _result(ray, task, items[index])
                        free.append(actor)
                while taken in done:
                    yield done.pop(taken)
                    taken += 1
        finally:
            for task in (*starting, *under_way):
                ray.cancel(task)  # what waits for its actor; what runs cannot be stopped


class _Worker:
    """An actor, whose constructor does nothing that could kill it: only attempts of ``run`` are counted."""

    def __init__(self, directory: str, path: Sequence[str], environment: Mapping[str, str]) -> None:
        os.environ.update(environment)
        os.chdir(directory)
        sys.path += [entry for entry in path if entry not in sys.path]
        torch.set_num_threads(1)
        self.made: tuple[int, Work] | None = None

    def ready(self) -> None:
        """Return once the actor runs."""

    def run(self, number: int, shared: list[Any], item: Any) -> tuple[bool, Any]:
        """Return (True, the result), or (False, the error as data)."""
        import ray

        try:
            if self.made is None or self.made[0] != number:
                make_work, packed = ray.get(shared[0])
                self.made = number, make_work(**{name: unpack(part) for name, part in packed.items()})
            return True, self.made[1](item)
        except Exception as error:
            return False, portable(error, plugins.failed_at(error))


def _check_started(ray: ModuleType, task: Any) -> None:
    try:
        ray.get(task)
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]
        raise WmplayError(
            f"one of Ray's actors does not start ({why}): every machine needs the Python environment and the "
            f"directory {Path.cwd()} of this process"
        ) from error


def _result(ray: ModuleType, task: Any, item: Any) -> Any:
    try:
        good, answer = ray.get(task)
    except ray.exceptions.RayActorError as error:
        raise WmplayError(
            f"{ATTEMPTS} of Ray's actors died one after the other at {item}: simulate it in this process "
            "(num_workers=0) to see why, or look into Ray's logs"
        ) from error
    except ray.exceptions.RayError as error:
        why = " ".join(str(error).split())
        raise WmplayError(f"Ray could not bring what {item} gave ({why})") from error
    if not good:
        trouble: Portable = answer
        raise restored(trouble, "a Ray actor")
    return answer
