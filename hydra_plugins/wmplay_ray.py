"""The launcher ``hydra/launcher=ray``: the jobs of a sweep as tasks of a Ray cluster, or of Ray on this
machine.

Hydra imports this file in every application that it composes, so that no heavy package is imported at the
top.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from wmplay.errors import ConfigError

PATIENCE = 60.0  # seconds for jobs to save their state after Ctrl-C
PASSED_ON = ("WMPLAY_PLUGINS",)  # environment variables that a running cluster lacks


class RayLauncher(Launcher):
    """A launcher that runs each job as one Ray task, in the directory from which the sweep was started.

    All nodes need the same Python environment and file system.

    Args:
        address: of a cluster; ``auto`` searches for one on this machine. None is ``$RAY_ADDRESS``; without
            that variable Ray is started on this machine for the time of the sweep.
        num_cpus: of each job; as many jobs run at once as the CPUs allow.
        num_gpus: of each job.
        max_retries: number of times that a job starts again, from its checkpoint, when its process or node
            dies.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        max_retries: int = 3,
    ) -> None:
        self._address = address
        self._options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": max_retries}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep the arguments for the jobs."""
        self._hydra_context = hydra_context
        self._task_function = task_function
        self._config = config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run a batch of jobs; a job whose process died too often returns None."""
        import ray

        begun = not ray.is_initialized()
        if begun:
            self._connect()
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        task = ray.remote(**self._options)(_run)
        shared = ray.put((self._hydra_context, self._config, self._task_function, Singleton.get_state()))
        tasks = [
            task.remote(shared, list(overrides), initial_job_idx + i, str(Path.cwd()), environment)
            for i, overrides in enumerate(job_overrides)
        ]
        try:
            return [_result(task, overrides) for task, overrides in zip(tasks, job_overrides, strict=True)]
        except KeyboardInterrupt:
            for each in tasks:
                ray.cancel(each)  # acts as Ctrl-C on running jobs
            ray.wait(tasks, num_returns=len(tasks), timeout=PATIENCE)
            raise
        finally:
            if begun:
                ray.shutdown()

    def _connect(self) -> None:
        import ray

        address = self._address or os.environ.get("RAY_ADDRESS") or "local"
        before = signal.getsignal(signal.SIGTERM)  # Ray replaces the handler with which a run saves its state
        dashboard = {"include_dashboard": False} if address == "local" else {}
        try:
            ray.init(address=address, logging_level=logging.ERROR, **dashboard)
        except Exception as error:  # Ray raises many types, Exception itself among them
            ray.shutdown()  # stops the parts that have started
            why = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConfigError(
                f"hydra.launcher.address is {address}, where there is no Ray cluster ({why}): start one with "
                "ray start --head, or leave the address out"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, before)


def _run(
    shared: tuple[HydraContext, DictConfig, TaskFunction, Any],
    overrides: list[str],
    number: int,
    directory: str,
    environment: dict[str, str],
) -> JobReturn:
    """Run one job in a process of Ray, as if it were the sweep's own process."""
    os.chdir(directory)
    os.environ.update(environment)
    hydra_context, config, task_function, singletons = shared
    setup_globals()
    Singleton.set_state(singletons)
    job_config = hydra_context.config_loader.load_sweep_config(config, overrides)
    with open_dict(job_config):
        job_config.hydra.job.id = f"{job_config.hydra.job.name}_{number}"
        job_config.hydra.job.num = number
    HydraConfig.instance().set_config(job_config)
    return run_job(
        task_function=task_function,
        config=job_config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=hydra_context,
    )


def _result(task: Any, overrides: Sequence[str]) -> JobReturn:
    import ray
    from ray.exceptions import RayError

    try:
        found: JobReturn = ray.get(task)
    except RayError:  # it is missing from the sweep's directory, which reports more than Ray does
        return JobReturn(overrides, status=JobStatus.COMPLETED, _return_value=None)
    return found
