"""Processes that train one network together, and what they tell each other.

Each process has a number, its rank. A *replicated* tensor has the same value on every rank, and
its gradient is the whole one on every rank. Where a computation is *split* over ranks (each has
some of the classes), every rank holds one summand of the gradient. `Ranks.enter` and `Ranks.sum`
lead from the one to the other and back.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, final

import torch
import torch.distributed as dist
from torch import Tensor

from nas_face.errors import ConfigError, RanksLost

T = TypeVar("T")

TIMEOUT_S = 600.0


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among those that train together.

    Every method but `share` and the properties is collective: all ranks call it, in the same
    order. With one rank each returns its argument at once. A rank that dies or hangs makes the
    others raise `RanksLost`, within `timeout_s`; in code between the collectives, such as the
    backward pass of DistributedDataParallel, under `guard`.

    Attributes:
        n: processes in all, on every machine.
        rank: number of this one, from 0.
        local_rank: number of this one on its machine, from 0: which GPU it uses.
        timeout_s: longest time that one rank waits for another.
    """

    n: int = 1
    rank: int = 0
    local_rank: int = 0
    timeout_s: float = TIMEOUT_S

    @staticmethod
    def from_environment(
        device: Literal["cpu", "cuda"] = "cpu", *, timeout_s: float = TIMEOUT_S
    ) -> "Ranks":
        """The ranks that ``torchrun`` started, or `ALONE` where it did not start this process.

        Args:
            device: where the network is; gloo on ``cpu``, NCCL on ``cuda`` (gloo beside it for
                what lies in main memory).
            timeout_s: longest time that one rank waits for another.

        Raises:
            ConfigError: a variable of ``torchrun``'s is missing or no number.
            RanksLost: not all of them came.
        """
        if "WORLD_SIZE" not in os.environ:
            return ALONE
        n, rank, local_rank = map(_number, ("WORLD_SIZE", "RANK", "LOCAL_RANK"))
        if n == 1:
            return ALONE
        return Ranks.join(
            "env://", n=n, rank=rank, local_rank=local_rank, device=device, timeout_s=timeout_s
        )

    @staticmethod
    def join(
        address: str,
        *,
        n: int,
        rank: int,
        local_rank: int = 0,
        device: Literal["cpu", "cuda"] = "cpu",
        timeout_s: float = TIMEOUT_S,
    ) -> "Ranks":
        """Meet the other ranks at an address: ``env://``, ``tcp://host:port``, ``file:///path``.

        Raises:
            RanksLost: not all of them came in time.
        """
        ranks = Ranks(n=n, rank=rank, local_rank=local_rank, timeout_s=timeout_s)
        if device == "cuda":
            torch.cuda.set_device(local_rank)
            # A lost rank shall end the collective, not the process before it can say a word.
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
        with ranks.guard():
            dist.init_process_group(
                "gloo" if device == "cpu" else "cpu:gloo,cuda:nccl",
                init_method=address,
                timeout=timedelta(seconds=timeout_s),
                world_size=n,
                rank=rank,
            )
        return ranks

    def close(self) -> None:
        """Leave the others. Nothing collective may follow."""
        if self.n > 1 and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this is rank 0, the one that writes files and talks to people."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This rank's contiguous share of `n` things; sizes differ by one at most, the larger
        ones first."""
        return slice(_start(n, self.n, self.rank), _start(n, self.n, self.rank + 1))

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn errors of the process group inside the block into `RanksLost`."""
        try:
            yield
        except RuntimeError as failure:
            if self.n == 1 or not _is_of_the_group(failure):
                raise
            reason = " ".join(str(failure).split())[:160]
            raise RanksLost(
                f"rank {self.rank} of {self.n}: another process of this training ended, or gave "
                f"no answer for {self.timeout_s:g} s ({reason}); start again, with any number of "
                "processes: it goes on from the last checkpoint"
            ) from failure

    def gather(self, x: Tensor, *, total: int | None = None) -> Tensor:
        """Rows of all ranks.

        Backward: each rank gets its own rows of the gradient, times the number of ranks.
        DistributedDataParallel averages the gradients of weights over ranks; the gradient of a
        loss of the global batch is their sum.

        Args:
            x: `(N_local, ...)`; other dimensions equal on all ranks, sizes may differ.
            total: rows of all ranks where each has its `share` of them; saves an exchange.

        Returns:
            `(N_global, ...)`, in the order of ranks.
        """
        if self.n == 1:
            return x
        if total is None:
            sizes = self._sizes(len(x))
        else:
            starts = [_start(total, self.n, rank) for rank in range(self.n + 1)]
            sizes = [after - start for start, after in zip(starts, starts[1:], strict=False)]
            if sizes[self.rank] != len(x):
                raise ValueError(f"rank {self.rank} has {sizes[self.rank]} of {total}: {len(x)}")
        gathered: Tensor = _Gather.apply(x, self, sizes)
        return gathered

    def enter(self, x: Tensor) -> Tensor:
        """A replicated tensor, about to enter a computation that is split over ranks.

        Backward: sum over ranks.
        """
        if self.n == 1:
            return x
        entered: Tensor = _Enter.apply(x, self)
        return entered

    def sum(self, x: Tensor) -> Tensor:
        """Sum over ranks of the results of a split computation. Backward: identity."""
        if self.n == 1:
            return x
        total: Tensor = _Sum.apply(x, self)
        return total

    def max(self, x: Tensor) -> Tensor:
        """Elementwise maximum over ranks; without gradient."""
        return x.detach() if self.n == 1 else self._reduced(x.detach(), dist.ReduceOp.MAX)

    def agree(self, flag: bool) -> bool:
        """Whether any rank says so; the same answer on all."""
        return flag if self.n == 1 else bool(self.max(torch.tensor(float(flag))))

    def total(self, n: int) -> int:
        """Sum over ranks of a count."""
        return n if self.n == 1 else int(self.sum(torch.tensor(n)))

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        self.sum(torch.zeros(1))

    def tell(self, value: T) -> T:
        """Rank 0's value, for all: anything that pickles, in main memory."""
        if self.n == 1:
            return value
        box: list[Any] = [value if self.leads else None]
        with self.guard():
            dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        told: T = box[0]
        return told

    def gather_rows(self, x: Tensor) -> Tensor | None:
        """Rows of all ranks in the main memory of rank 0, for a checkpoint.

        No rank holds more than its own rows, but rank 0.

        Args:
            x: `(N_local, ...)`.

        Returns:
            `(N_global, ...)` on rank 0, a copy; None elsewhere.
        """
        own = x.detach().cpu().contiguous()
        if self.n == 1:
            return own.clone()
        sizes = self._sizes(len(own))
        if not self.leads:
            self._send(own, to=0)
            return None
        rows = own.new_empty(sum(sizes), *own.shape[1:])
        for rank, part in enumerate(rows.split(sizes)):
            if rank == 0:
                part.copy_(own)
            else:
                self._receive_(part, source=rank)
        return rows

    def scatter_rows_(self, own: Tensor, rows: Tensor | None) -> None:
        """Overwrite this rank's rows by those that rank 0 has; undoes `gather_rows`, also among
        another number of ranks.

        Args:
            own: `(N_local, ...)`; changes.
            rows: `(N_global, ...)` on rank 0; not read elsewhere.
        """
        sizes = self._sizes(len(own))
        if not self.leads:
            buffer = torch.empty(own.shape, dtype=own.dtype)
            self._receive_(buffer, source=0)
            own.copy_(buffer)
            return
        if rows is None or len(rows) != sum(sizes):
            raise ValueError(f"rank 0 must give {sum(sizes)} rows")
        for rank, part in enumerate(rows.to("cpu", own.dtype).split(sizes)):
            if rank == 0:
                own.copy_(part)
            else:
                self._send(part, to=rank)

    def _send(self, x: Tensor, *, to: int) -> None:
        if x.numel():
            with self.guard():
                dist.send(x.contiguous(), to)

    def _receive_(self, x: Tensor, *, source: int) -> None:
        if x.numel():
            with self.guard():
                dist.recv(x, source)

    def _sizes(self, size: int) -> list[int]:
        if self.n == 1:
            return [size]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.n)]
        with self.guard():
            dist.all_gather(sizes, torch.tensor([size]))
        return [int(each) for each in sizes]

    def _gathered(self, x: Tensor, sizes: list[int]) -> Tensor:
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        with self.guard():
            dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    def _reduced(self, x: Tensor, how: dist.ReduceOp.RedOpType) -> Tensor:
        result = x.detach().clone(memory_format=torch.contiguous_format)
        with self.guard():
            dist.all_reduce(result, how)
        return result


ALONE = Ranks()
"""Training in one process."""


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks, sizes: list[int]) -> Tensor:
        ctx.n = ranks.n
        ctx.start, ctx.size = sum(sizes[: ranks.rank]), sizes[ranks.rank]
        return ranks._gathered(x, sizes)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient[ctx.start : ctx.start + ctx.size] * ctx.n, None, None


class _Enter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks._reduced(gradient, dist.ReduceOp.SUM), None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        return ranks._reduced(x, dist.ReduceOp.SUM)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def _start(n: int, n_ranks: int, rank: int) -> int:
    """Where the share of a rank begins."""
    return rank * (n // n_ranks) + min(rank, n % n_ranks)


def _number(variable: str) -> int:
    """A variable that ``torchrun`` sets."""
    value = os.environ.get(variable, "")
    if not value.isdecimal():
        raise ConfigError(
            f"environment variable {variable} must be a number where WORLD_SIZE is set, got "
            f"{value!r}; start several processes with torchrun"
        )
    return int(value)


def _is_of_the_group(failure: RuntimeError) -> bool:
    """Gloo raises plain RuntimeErrors; they name a file of its own or the lost connection."""
    signs = (
        "gloo/",
        "NCCL",
        "Wait timeout",
        "pair closure",
        "Connection closed by peer",
        "Connection reset",
    )
    return isinstance(failure, dist.DistError) or any(sign in str(failure) for sign in signs)
