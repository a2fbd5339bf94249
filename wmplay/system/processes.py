"""Data-parallel fitting of one model by several processes that ``torchrun`` starts (DDP).

The processes share each batch: all sample the same segments from the same seed, and process r of R takes rows
r, r + R, r + 2 R, ... The first process alone collects, evaluates and writes while the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from wmplay.errors import ConfigError, WmplayError
from wmplay.system.progress import Interrupted, console

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun, besides WORLD_SIZE
PATIENCE = timedelta(days=7)  # the others wait while the first process collects or evaluates

T = TypeVar("T")

_jointly: ContextVar[bool] = ContextVar("jointly", default=False)


class Stopped(Interrupted):
    """The first process has stopped, and reports the reason itself."""


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen from one of them; by default only this one.

    Every method but ``part`` must be called by all processes, in the same order.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among the processes of this machine

    @property
    def leads(self) -> bool:
        """True if this is the first process, which alone writes."""
        return self.rank == 0

    def part(self) -> slice:
        """Return the rows of the joint batch that this process takes: every R-th, so that equal sections of
        the batch, for example those of an ensemble's members, are equal sections in each process."""
        return slice(self.rank, None, self.size)

    def lead(self, work: Callable[[], T]) -> T:
        """Run ``work`` in the first process and return its result in all processes.

        Raises:
            Stopped: in the other processes if the work failed; in the first one the error itself is raised.
        """
        if self.size == 1:
            return work()
        if not self.leads:
            done, result = self._from_first(None)
            if not done:
                raise Stopped
            return result  # type: ignore[no-any-return]
        try:
            result = work()
        except BaseException:
            self._from_first((False, None))
            raise
        self._from_first((True, result))
        return result

    def each(self, work: Callable[[], T]) -> T:
        """Run ``work`` in all processes, first in the first one so that a mistake is reported once.

        The work must not call a method of the team, because the first process runs it alone. The call returns
        when all processes are done.
        """
        mine: list[T] = []
        self.lead(lambda: mine.append(work()))
        if not self.leads:
            mine.append(work())
        self.any(False)
        return mine[0]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is True in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the mean of each value over the processes."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor([*values.values()], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def align(self, module: nn.Module) -> None:
        """Copy the weights of a module from the first process to all others."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def parallel(self, module: nn.Module, loss: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a loss whose gradients, in every process, are those of the joint batch.

        This holds for a loss that is a mean over rows, or over a mask by ``joint_count``.
        """
        if self.size == 1:
            return loss
        wrapped: nn.Module | None = None

        def joint_loss(batch: Any) -> Any:
            nonlocal wrapped
            if wrapped is None:  # not earlier: DDP waits for all processes
                # A loss may leave some weights out: heads without a weight, members that are not drawn.
                wrapped = DistributedDataParallel(_Loss(module, loss), find_unused_parameters=True)
            token = _jointly.set(True)
            try:
                return wrapped(batch)
            finally:
                _jointly.reset(token)

        return joint_loss

    def _from_first(self, value: Any) -> Any:
        box = [value]
        dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return box[0]


class _Loss(nn.Module):
    """A loss as the forward pass of the module that it trains, in the form that DDP wraps."""

    def __init__(self, module: nn.Module, loss: Callable[[Any], Any]) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any) -> Any:
        return self.loss(batch)


def joint_count(mask: Tensor) -> Tensor:
    """Return the number of True entries of a mask, at least 1, as a scalar tensor.

    Within a ``Team.parallel`` loss: the number in the joint batch divided by the number of processes.
    Dividing a sum over this process's rows by it gives, averaged over the processes, the value and gradient
    of the mean over the joint batch, however unevenly the mask is spread. All processes must make the same
    calls.
    """
    count = mask.sum()
    if not _jointly.get():
        return count.clamp(min=1)
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


def rank() -> int:
    """Return the number of this process among those that ``torchrun`` started; 0 for a single process."""
    return int(os.environ.get("RANK", 0)) if size() > 1 else 0


def size() -> int:
    """Return the number of processes that ``torchrun`` started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def joined() -> Iterator[Team]:
    """Yield the team of processes that ``torchrun`` started this one in, or a team of one.

    All processes but the first print nothing within the block.

    Raises:
        ConfigError: if the environment lacks the address of the other processes.
        WmplayError: if another process of the team died.
    """
    if size() == 1:
        yield Team()
        return
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size()}, but {missing[0]} is not set",
            advice=(
                "start the processes by torchrun --nproc_per_node=<n> -m wmplay train ..., or "
                "unset WORLD_SIZE"
            ),
        )
    on_cuda = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_cuda else "gloo", timeout=PATIENCE)
    team = Team(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", 0)))
    quiet, console.quiet = console.quiet, not team.leads
    try:
        yield team
    except RuntimeError as error:
        if not _is_of_a_peer(error):
            raise
        raise WmplayError(
            f"another of the {team.size} processes is gone: its own error stands above; when that is fixed, "
            "go on from the last checkpoint with run=<dir>"
        ) from error
    finally:
        console.quiet = quiet
        dist.destroy_process_group()


def _is_of_a_peer(error: RuntimeError) -> bool:
    """Return whether a collective call failed because another process is gone."""
    return isinstance(error, dist.DistError) or "Connection closed by peer" in str(error)
