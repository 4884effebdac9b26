"""What a search shows while it runs."""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from nas_face.study.run import Run
    from nas_face.train import EpochReport


@final
class SearchDisplay:
    """A bar over the trials of a run and, of several workers, one over the epochs of each.

    Args:
        progress: where to draw.
        run: the run.
        n_workers: processes of this search.
    """

    def __init__(self, progress: Progress, run: "Run", n_workers: int) -> None:
        self._progress = progress
        self._run = run
        self._trials = progress.add_task("trials", total=run.config.trials, note="")
        self._workers: dict[int, TaskID] = {}
        for number in range(1, n_workers + 1) if n_workers > 1 else ():
            epochs = run.config.training.epochs
            self._workers[number] = progress.add_task(f"worker {number}", total=epochs, note="")
        self._count()

    def epoch(self, worker: int, report: "EpochReport") -> None:
        """A worker finished an epoch."""
        loss = f"loss {report.loss:.2f} {report.pace}".rstrip()
        if worker in self._workers:
            self._progress.update(self._workers[worker], completed=report.epoch, note=loss)
        else:
            note = f"epoch {report.epoch}/{report.n_epochs} {loss}"
            self._progress.update(self._trials, note=note)

    def trial(self, worker: int, trial: Any) -> None:
        """A worker saw a trial to its end."""
        from nas_face.study.tables import trial_line

        self._progress.console.print(trial_line(trial, self._run.config.objectives))
        self._progress.update(self._workers.get(worker, self._trials), note="")
        self._count()

    def waits(self, worker: int, n_busy: int) -> None:
        """A worker has nothing left to do but to see whether others live."""
        note = f"waits for {n_busy} of other workers"
        self._progress.update(self._workers.get(worker, self._trials), note=note)

    def note(self, line: str) -> None:
        """Something that people should read."""
        self._progress.console.print(line)

    def _count(self) -> None:
        self._progress.update(self._trials, completed=self._run.n_ended())


@contextlib.contextmanager
def search_display(terminal: Console, run: "Run", n_workers: int) -> Iterator[SearchDisplay]:
    """A display for the time of a search."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=terminal) as progress:
        yield SearchDisplay(progress, run, n_workers)


def crowding(n_workers: int, threads: int) -> str | None:
    """One line if workers ask for more processor cores than there are."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    if n_workers * threads <= cores:
        return None
    return (
        f"workers x threads is {n_workers} x {threads}, and the processor has {cores} cores: "
        "trainings and measured latencies will be slower"
    )


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """End in order, as after Ctrl-C, when the system asks to."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
