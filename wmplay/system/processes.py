"""Several processes that fit one model together, as ``torchrun`` starts them: data-parallel, by DDP.

They share each batch: all draw the same segments from the same seed, and process r of R takes rows r, r + R,
r + 2 R ... of them. The first process does everything else, and writes everything, while the others wait.
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

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells its processes, besides WORLD_SIZE
PATIENCE = timedelta(days=7)  # the others wait for as long as the first one collects or evaluates

T = TypeVar("T")

_jointly: ContextVar[bool] = ContextVar("jointly", default=False)


class Stopped(Interrupted):
    """The first process has stopped, and says why itself."""


@dataclass(frozen=True)
class Team:
    """The processes of a run, seen from one of them; by default there is only this one.

    Every method but ``part`` is called by all of them, in the same order.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # among those of this machine

    @property
    def leads(self) -> bool:
        """Whether this is the first process, which alone writes."""
        return self.rank == 0

    def part(self) -> slice:
        """Its rows of the joint batch: every R-th, so that consecutive parts of the batch (of an ensemble's
        members, say) are the same parts in each process."""
        return slice(self.rank, None, self.size)

    def lead(self, work: Callable[[], T]) -> T:
        """The first process works, the others wait for what it returns.

        Raises:
            Stopped: in the others, where the work failed. In the first one, whatever it raised.
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
        """All work, the first process before the others: a mistake shows once. Returns when all are done.

        The work calls no method of the team: where the first process is, it is alone.
        """
        mine: list[T] = []
        self.lead(lambda: mine.append(work()))
        if not self.leads:
            mine.append(work())
        self.any(False)
        return mine[0]

    def any(self, flag: bool) -> bool:
        """Whether the flag is True in any of them."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def mean(self, values: Mapping[str, float]) -> dict[str, float]:
        """The mean over the processes of each value."""
        if self.size == 1:
            return dict(values)
        total = torch.tensor([*values.values()], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(values, (total / self.size).tolist(), strict=True))

    def align(self, module: nn.Module) -> None:
        """Gives a module in all of them the weights that it has in the first one."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                dist.broadcast(tensor, 0)

    def parallel(self, module: nn.Module, loss: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """A loss whose gradients by a module's weights are those of the joint batch, in all of them.

        They are if the loss is a mean over rows, or over what a mask keeps by ``joint_count``.
        """
        if self.size == 1:
            return loss
        wrapped: nn.Module | None = None

        def joint_loss(batch: Any) -> Any:
            nonlocal wrapped
            if wrapped is None:  # not earlier: all processes have to be here
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
    """A loss as the forward pass of the module that it trains: what DDP can wrap."""

    def __init__(self, module: nn.Module, loss: Callable[[Any], Any]) -> None:
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, batch: Any) -> Any:
        return self.loss(batch)


def joint_count(mask: Tensor) -> Tensor:
    """How many entries of a mask are True, at least 1, as a tensor without axes.

    Within a ``Team.parallel`` loss: in the joint batch, divided by the processes. A sum over this process's
    rows divided by that has, in the mean over the processes, the value and the gradient of the mean over the
    joint batch, however unevenly the mask is spread. All processes must call it alike.
    """
    count = mask.sum()
    if not _jointly.get():
        return count.clamp(min=1)
    dist.all_reduce(count)
    return count.clamp(min=1) / dist.get_world_size()


def rank() -> int:
    """Which of the processes that ``torchrun`` started this one is; 0 also where there is no other."""
    return int(os.environ.get("RANK", 0)) if size() > 1 else 0


def size() -> int:
    """How many processes ``torchrun`` started."""
    return int(os.environ.get("WORLD_SIZE", 1))


@contextmanager
def joined() -> Iterator[Team]:
    """The team that this process was started in; alone, unless by ``torchrun``.

    All but the first process are silent within.

    Raises:
        ConfigError: if it was started in one, but not told where the others are.
        WmplayError: where another process of it died.
    """
    if size() == 1:
        yield Team()
        return
    missing = [name for name in NEEDED if name not in os.environ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size()}, but {missing[0]} is not set: start the processes by torchrun "
            "--nproc_per_node=<n> -m wmplay train ..., or unset WORLD_SIZE"
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
            f"another of the {team.size} processes is gone: its own error stands above; when that is mended, "
            "go on from the last checkpoint with run=<dir>"
        ) from error
    finally:
        console.quiet = quiet
        dist.destroy_process_group()


def _is_of_a_peer(error: RuntimeError) -> bool:
    """Whether this is how a collective call fails when another process is gone."""
    return isinstance(error, dist.DistError) or "Connection closed by peer" in str(error)
