"""Several workers on one machine: started, listened to, replaced when they die, ended."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol, final

from optuna.trial import FrozenTrial

from nas_face.errors import NasFaceError, SearchFailed
from nas_face.study import storage
from nas_face.study.config import StudyConfig
from nas_face.study.run import Run
from nas_face.train import EpochReport

MAX_REPLACED = 5
END_S = 20
INSIST_S = 0.1


class Listener(Protocol):
    """Who is told what the workers do."""

    def epoch(self, worker: int, report: EpochReport) -> None:
        """A worker finished an epoch."""

    def trial(self, worker: int, trial: FrozenTrial) -> None:
        """A worker saw a trial to its end."""

    def waits(self, worker: int, n_busy: int) -> None:
        """A worker has nothing left to do but to see whether others live."""

    def note(self, line: str) -> None:
        """Something that people should read."""


def search_in_parallel(run: Run, n_workers: int, listener: Listener, *, grace_s: float) -> None:
    """Search with several processes until the run has its trials.

    A worker that is killed is replaced, a few times in all; the others do not notice. All are
    ended in order when this process is interrupted, and end by themselves when it is killed.

    Args:
        run: started.
        n_workers: how many.
        listener: is told, in this process.
        grace_s: see `nas_face.search.workers.Worker`.

    Raises:
        NasFaceError: a worker raised it.
        OSError: as well.
        SearchFailed: workers died again and again.
    """
    with storage.naming(run.url):
        sitting = storage.now_of(run.url)
    order = _Order(
        folder=run.folder,
        config=run.config,
        storage_url=run.storage_url,
        sitting=sitting,
        grace_s=grace_s,
    )
    crew = {number: _Child(number, order) for number in range(1, n_workers + 1)}
    heard: set[str] = set()
    n_replaced = 0
    try:
        while crew:
            ready = wait([child.pipe for child in crew.values()])
            for child in [each for each in crew.values() if each.pipe in ready]:
                try:
                    message = child.pipe.recv()
                except (EOFError, OSError):
                    del crew[child.number]
                    died, by_signal = child.ended()
                    if not by_signal:  # its traceback is on the terminal
                        raise SearchFailed(f"worker {child.number} {died}") from None
                    if n_replaced < MAX_REPLACED:
                        n_replaced += 1
                        listener.note(f"worker {child.number} {died}; it is replaced")
                        crew[child.number] = _Child(child.number, order)
                    elif crew:
                        listener.note(f"worker {child.number} {died}; the others go on")
                    else:
                        raise SearchFailed(
                            f"worker after worker ended; the last one {died}: is there too little "
                            "memory?"
                        ) from None
                else:
                    if message.what == "end":
                        del crew[child.number]
                        child.ended()
                        if message.content is not None:
                            raise message.content
                    elif message.what == "note":
                        if message.content not in heard:
                            heard.add(message.content)
                            listener.note(message.content)
                    else:
                        _pass_on(listener, child.number, message)
    finally:
        _end(list(crew.values()))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What a worker is to do."""

    folder: Path
    config: StudyConfig
    storage_url: str
    sitting: float
    grace_s: float


@final
@dataclass(frozen=True, slots=True)
class _Message:
    """What a worker says: ``epoch``, ``trial``, ``wait``, ``note`` or ``end``."""

    what: str
    content: Any = None


@final
class _Child:
    """A worker, seen from its supervisor."""

    def __init__(self, number: int, order: _Order) -> None:
        context = multiprocessing.get_context("spawn")
        self.number = number
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process: BaseProcess = context.Process(
            target=_work, args=(order, theirs), name=f"nas-face worker {number}"
        )
        # Ctrl-C reaches all processes of a terminal; the workers wait for their supervisor's word.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self.process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()

    def ended(self) -> tuple[str, bool]:
        """Wait for the end; how it was, and whether a signal brought it."""
        self.process.join(END_S)
        if self.process.is_alive():  # it has closed its pipe, and goes on to nobody's use
            self.process.kill()
            self.process.join()
        code = self.process.exitcode or 0
        return (
            (f"was killed by signal {-code}", True)
            if code < 0
            else (f"ended with code {code}", False)
        )


def _pass_on(listener: Listener, worker: int, message: _Message) -> None:
    if message.what == "epoch":
        listener.epoch(worker, message.content)
    elif message.what == "trial":
        listener.trial(worker, message.content)
    elif message.what == "wait":
        listener.waits(worker, message.content)


def _end(crew: list[_Child]) -> None:
    for child in crew:
        child.process.terminate()
    for child in crew:
        child.process.join(END_S)
        if child.process.is_alive():
            child.process.kill()
            child.process.join()


def _work(order: _Order, pipe: Connection) -> None:
    """What a worker's process does."""
    lock = threading.Lock()  # warnings come from any thread

    def say(what: str, content: Any = None) -> None:
        with lock:
            pipe.send(_Message(what, content))

    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        sys.unraisablehook = _insist
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        threading.Thread(target=_outlive_nobody, daemon=True).start()
        logging.getLogger().addHandler(_Saying(lambda line: say("note", line)))
        end: Exception | None = None
        try:
            run = Run.start(order.folder, order.config, order.storage_url)
            run.search(
                run.faces(),
                on_epoch=lambda report: say("epoch", report),
                on_trial=lambda trial: say("trial", trial),
                on_wait=lambda n_busy: say("wait", n_busy),
                on_note=lambda line: say("note", line),
                sitting=order.sitting,
                grace_s=order.grace_s,
            )
        except BrokenPipeError:
            raise
        except (NasFaceError, OSError) as failure:
            end = failure
        say("end", end)


@final
class _Saying(logging.Handler):
    """Warnings of a worker, for its supervisor to print."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(self.format(record))


def _outlive_nobody() -> None:
    """End this worker in order when its supervisor is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _insist(ignored: "sys.UnraisableHookArgs") -> None:
    """Ask once more for an end that a destructor swallowed: Python drops what is raised there."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        again = threading.Timer(INSIST_S, os.kill, (os.getpid(), signal.SIGTERM))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(ignored)
