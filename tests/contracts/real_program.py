"""The program as a user runs it, in a process of its own that starts at once."""

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from fork_server import fork_server

from nas_face.cli import main


class Program:
    """One `nas-face`, started at once.

    Args:
        arguments: its command line, of anything that says itself as a word.
        err: where what it writes to standard error goes.
    """

    def __init__(self, arguments: Iterable[object], err: Path) -> None:
        self._err = err
        err.write_bytes(b"")  # nothing of an earlier one
        self._process = fork_server().Process(target=_run, args=([*map(str, arguments)], err))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def errors(self) -> str:
        """What it has written to standard error."""
        return self._err.read_text(encoding="utf-8")

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def wait_until(self, reached: Callable[[], object], timeout_s: float) -> None:
        """Let it run until something is so."""
        end = time.monotonic() + timeout_s
        while not reached():
            assert self.runs, self.errors
            assert time.monotonic() < end
            time.sleep(0.003)

    def send(self, sign: int) -> None:
        """Send a signal, unless it has ended."""
        if self.runs:
            os.kill(self.pid, sign)

    def ended(self, timeout_s: float) -> int:
        """How it ends: the exit code, or the signal below zero."""
        self._process.join(timeout_s)
        code = self._process.exitcode
        assert code is not None, f"still running after {timeout_s} s"
        return code


def _run(arguments: list[str], err: Path) -> None:
    with open(os.devnull, "wb") as nowhere, open(err, "ab") as file:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["nas-face", *arguments]
    main()
