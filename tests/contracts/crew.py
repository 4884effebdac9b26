"""Processes for tests of what several of them do together."""

import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from fork_server import fork_server

from nas_face.nn.ranks import Ranks

PATIENCE_S = 120.0


class Crew:
    """`n` processes that have met as `Ranks`, and do what they are told until the block ends.

    With ``timeout_s`` a rank waits no longer for another.
    """

    def __init__(self, folder: Path, n: int, *, timeout_s: float = 60.0) -> None:
        context = fork_server()
        address = f"file://{folder / 'meeting'}"
        self.pipes: list[Connection] = []
        self.processes = []
        for rank in range(n):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, address, n, rank, timeout_s))
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def __call__(self, task: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What ``task(ranks, *arguments)`` gives on each rank; a function of a module."""
        self.start(task, *arguments)
        return [self.result(rank) for rank in range(len(self.pipes))]

    def start(self, task: Callable[..., Any], *arguments: Any) -> None:
        for pipe in self.pipes:
            pipe.send((task, arguments))

    def result(self, rank: int) -> Any:
        assert self.pipes[rank].poll(PATIENCE_S), f"rank {rank} is silent"
        done, result = self.pipes[rank].recv()
        assert done, result
        return result

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, *failure: object) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()


def _work(pipe: Connection, address: str, n: int, rank: int, timeout_s: float) -> None:
    torch.set_num_threads(1)
    ranks = Ranks.join(address, n=n, rank=rank, timeout_s=timeout_s)
    while True:
        try:
            task, arguments = pipe.recv()
        except (EOFError, ConnectionResetError):
            break
        try:
            pipe.send((True, task(ranks, *arguments)))
        except BaseException:  # pytest's own among them
            pipe.send((False, traceback.format_exc()))
    ranks.close()
