"""A vector environment whose slots are shared by several processes.

Each worker runs a vector env of its share of the slots. Observations, rewards and actions are in shared
memory; only commands and infos go through pipes. Slot i has the same seed, and so the same numbers, in any
process.

The processes are spawned, so a script that uses workers must start from ``if __name__ == "__main__":``.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import numpy as np
from gymnasium.spaces import Box, Dict
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from wmplay import registry
from wmplay.config.plugins import failed_at
from wmplay.contracts import env_spec
from wmplay.errors import ConfigError, Portable, SpaceError, portable, restored
from wmplay.system.arrays import Array
from wmplay.vector.actions import checked_action
from wmplay.vector.autoreset import Autoreset, autoreset_mode

Infos: TypeAlias = dict[str, Any]

THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Build: TypeAlias = Callable[[Mapping[str, Any], int, Autoreset], Any]


class WorkerVectorEnv(VectorEnv[Any, Any, Any]):
    """A vector env of a config, shared by several processes, with the same numbers as in one.

    Args:
        build: makes a worker's share: ``build(config, num_envs, autoreset)``.
        config: of the env, resolved.
        num_envs: total number of slots.
        num_workers: processes; their shares differ by at most one slot.
        autoreset: as for ``make_env``.

    Raises:
        ConfigError: for fewer than one worker, or more than one per slot.
        SpaceError: if the observation is not a dict of arrays.
    """

    def __init__(
        self,
        build: Build,
        config: Mapping[str, Any],
        num_envs: int,
        num_workers: int,
        autoreset: Autoreset = "same_step",
    ) -> None:
        if not 1 <= num_workers <= num_envs:
            raise ConfigError(
                f"num_workers is {num_workers}",
                got=num_workers,
                expected=f"1 to {num_envs}, the number of envs",
            )
        self._processes: list[Any] = []
        self._pipes: list[Connection] = []
        self.num_envs = num_envs
        self._describe(config, autoreset)
        own = registry.of_a_script(config)
        context = multiprocessing.get_context("spawn")
        buffers = {name: context.RawArray("b", size) for name, size in self._sizes().items()}
        self._shared = _Shared(buffers, self.observation_space, self.action_space, num_envs)
        bounds = np.linspace(0, num_envs, num_workers + 1).astype(int).tolist()
        self._shares = [slice(*pair) for pair in itertools.pairwise(bounds)]
        with _single_threaded():
            for share in self._shares:
                pipe, theirs = context.Pipe()
                arguments = (build, dict(config), own, autoreset, buffers, num_envs, share, theirs)
                process = context.Process(target=_work, args=arguments, daemon=True)
                process.start()
                theirs.close()  # otherwise a dead worker would go unnoticed
                self._processes.append(process)
                self._pipes.append(pipe)
        self._collect(range(num_workers))  # each reports that it is ready, or its error

    def _describe(self, config: Mapping[str, Any], autoreset: Autoreset) -> None:
        """Set spaces, metadata and task from an env of this process, which is then closed."""
        env = registry.build(config)
        self.task = env_spec(env).task
        self.metadata = {**env.metadata, "autoreset_mode": autoreset_mode(autoreset)}
        self.render_mode = env.render_mode
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        env.close()
        parts = self.single_observation_space
        if not (isinstance(parts, Dict) and all(isinstance(part, Box) for part in parts.values())):
            raise SpaceError(
                f"observation is {parts}", expected="a Dict of Boxes: num_workers shares arrays only"
            )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def _sizes(self) -> dict[str, int]:
        layout = _layout(self.observation_space, self.action_space, self.num_envs)
        return {name: int(np.prod(shape)) * dtype.itemsize for name, (shape, dtype) in layout.items()}

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], Infos]:
        """Begin episodes as the vector env does: seeds s + i or a list of seeds, and options by row."""
        if isinstance(seed, (int, np.integer)):
            seed = [int(seed) + i for i in range(self.num_envs)]
        elif seed is not None and len(seed) != self.num_envs:
            raise ConfigError(
                f"{len(seed)} seeds for {self.num_envs} envs",
                got=len(seed),
                advice="pass one for each, or one int",
            )
        by_row = {key: self._rows_of(key, value) for key, value in (options or {}).items()}
        asked = []
        for worker, share in enumerate(self._shares):
            mine = {key: value[share] for key, value in by_row.items()}
            if "reset_mask" in mine and not np.any(mine["reset_mask"]):
                continue
            seeds = None if seed is None else list(seed[share])
            self._send(worker, ("reset", (seeds, mine or None)))
            asked.append(worker)
        if not asked:
            raise ConfigError("reset option 'reset_mask' chooses no env: it needs at least one True")
        infos = self._merge(asked, self._collect(asked))
        return self._shared.observation(), infos

    def _rows_of(self, key: str, value: Any) -> Any:
        if not isinstance(value, Sized) or len(value) != self.num_envs:
            raise ConfigError(f"reset option '{key}' must have one row for each of {self.num_envs} envs")
        return value

    def step(self, actions: Any) -> tuple[dict[str, Array], Array, Array, Array, Infos]:
        """Take one step of every env, in all workers at once."""
        self._shared.arrays["action"][:] = checked_action(
            actions, self.single_action_space, range(self.num_envs)
        )
        workers = range(len(self._pipes))
        for worker in workers:
            self._send(worker, ("step", None))
        infos = self._merge(workers, self._collect(workers))
        rewards, terminated, truncated = (
            self._shared.arrays[name].copy() for name in ("reward", "terminated", "truncated")
        )
        return self._shared.observation(), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """Return the images of all envs."""
        if self.render_mode is None:
            return None
        workers = range(len(self._pipes))
        for worker in workers:
            self._send(worker, ("render", None))
        return tuple(picture for pictures in self._collect(workers) for picture in pictures)

    def close_extras(self, **kwargs: Any) -> None:
        """Stop the workers."""
        for pipe in self._pipes:
            pipe.close()  # a worker stops when its pipe is closed
        for process in self._processes:
            process.join(timeout=5)
            if process.is_alive():
                process.kill()
                process.join()

    def _send(self, worker: int, message: tuple[str, Any]) -> None:
        try:
            self._pipes[worker].send(message)
        except OSError:
            raise self._died(worker) from None

    def _collect(self, workers: Sequence[int]) -> list[Any]:
        """Return an answer of each worker; all answers are read before the first error is raised."""
        answers: list[Any] = []
        errors: list[Portable] = []
        for worker in workers:
            try:
                good, answer = self._pipes[worker].recv()
            except (EOFError, OSError):
                raise self._died(worker) from None
            (answers if good else errors).append(answer)
        for error in errors:
            raise restored(error, "an env worker")
        return answers

    def _died(self, worker: int) -> Exception:
        process = self._processes[worker]
        process.join(timeout=1)
        self.close()
        return ConfigError(
            f"env worker {worker} died (exit code {process.exitcode})",
            advice=(
                "see its output above; a script that uses num_workers must start from 'if "
                '__name__ == "__main__":\''
            ),
        )

    def _merge(self, workers: Sequence[int], infos: list[Infos]) -> Infos:
        """Merge the infos of some workers' shares into those of all envs, in Gymnasium's form."""
        given = dict(zip(workers, infos, strict=True))
        counts = [share.stop - share.start for share in self._shares]
        return _merged([given.get(worker, {}) for worker in range(len(counts))], counts)


class _Shared:
    """Views of one process on the arrays of all envs in shared memory."""

    def __init__(self, buffers: Mapping[str, Any], observation: Any, action: Any, num_envs: int) -> None:
        layout = _layout(observation, action, num_envs)
        self.arrays = {
            name: np.frombuffer(buffers[name], dtype).reshape(shape)
            for name, (shape, dtype) in layout.items()
        }
        self._keys = list(observation)

    def observation(self) -> dict[str, Array]:
        """Return a copy of all envs' observations."""
        return {key: self.arrays[f"observation/{key}"].copy() for key in self._keys}


def _layout(observation: Any, action: Any, num_envs: int) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return the shape and dtype of every shared array."""
    parts = {f"observation/{key}": (space.shape, space.dtype) for key, space in observation.items()}
    flags = {name: ((num_envs,), np.dtype(bool)) for name in ("terminated", "truncated")}
    reward = {"reward": ((num_envs,), np.dtype(np.float64))}
    return {**parts, **flags, **reward, "action": (action.shape, action.dtype)}


def _merged(infos: list[Infos], counts: list[int]) -> Infos:
    merged: Infos = {}
    for key in {key: None for info in infos for key in info}:
        parts = [info.get(key) for info in infos]
        example = next(part for part in parts if part is not None)
        if isinstance(example, dict):
            merged[key] = _merged([part or {} for part in parts], counts)
            continue
        missing = None if example.dtype == object else 0
        merged[key] = np.concatenate(
            [
                np.full((count, *example.shape[1:]), missing, example.dtype) if part is None else part
                for part, count in zip(parts, counts, strict=True)
            ]
        )
    return merged


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Limit processes started in the block to one thread each for linear algebra, as they share the cores."""
    before = {name: os.environ.get(name) for name in THREAD_LIMITS}
    os.environ.update(dict.fromkeys(THREAD_LIMITS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(
    build: Build,
    config: dict[str, Any],
    own: tuple[str, str, type] | None,
    autoreset: Autoreset,
    buffers: Mapping[str, Any],
    num_envs: int,
    share: slice,
    pipe: Connection,
) -> None:
    """Serve commands until the pipe is closed, which also happens when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    try:
        if own is not None:
            registry.register(*own[:2])(own[2])
        envs = build(config, share.stop - share.start, autoreset)
        if envs.metadata["autoreset_mode"] is not autoreset_mode(autoreset):
            raise ConfigError(
                f"{type(envs).__name__} begins the next episode in a way of its own, not by '{autoreset}'",
                advice="use num_workers=0 with it",
            )
        whole = (
            batch_space(envs.single_observation_space, num_envs),
            batch_space(envs.single_action_space, num_envs),
        )
        shared = _Shared(buffers, *whole, num_envs)
    except Exception as error:
        pipe.send((False, portable(error, failed_at(error))))
        return
    views = {name: array[share] for name, array in shared.arrays.items()}
    pipe.send((True, None))
    while True:
        try:
            command, arguments = pipe.recv()
        except (EOFError, OSError):
            break
        try:
            answer = (True, _obey(envs, views, command, arguments))
        except Exception as error:
            answer = (False, portable(error, failed_at(error)))
        try:
            pipe.send(answer)
        except OSError:
            break
    envs.close()


def _obey(envs: Any, views: Mapping[str, Array], command: str, arguments: Any) -> Any:
    if command == "render":
        return envs.render()
    if command == "reset":
        seeds, options = arguments
        observation, infos = envs.reset(seed=seeds, options=options)
    else:
        observation, *results, infos = envs.step(views["action"].copy())
        for name, values in zip(("reward", "terminated", "truncated"), results, strict=True):
            views[name][:] = values
    for key, values in observation.items():
        views[f"observation/{key}"][:] = values
    return infos
