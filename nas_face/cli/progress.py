"""What a search and a training show while they run."""

import contextlib
import math
import os
import signal
from collections import deque
from collections.abc import Iterator
from datetime import timedelta
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
    from nas_face.train import EpochReport, StepReport

_N_RECENT = 50  # steps that pace and time left are taken from


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


@final
class TrainingDisplay:
    """A bar over the steps of a training on a terminal; a line an epoch anywhere else.

    Args:
        progress: where to draw.
        terminal: where to print.
    """

    def __init__(self, progress: Progress, terminal: Console) -> None:
        self._progress = progress
        self._terminal = terminal
        self._task = progress.add_task("", total=None, note="")
        self._recent: deque[StepReport] = deque(maxlen=_N_RECENT)

    def step(self, report: "StepReport") -> None:
        """A step is done."""
        self._recent.append(report)
        note = f"loss {report.loss:.3f}, {self._pace()}, {self._left()} left"
        self._progress.update(
            self._task,
            description=f"epoch {report.epoch}/{report.n_epochs} step",
            total=report.n_steps,
            completed=report.step,
            note=note,
        )

    def epoch(self, report: "EpochReport") -> None:
        """An epoch is done."""
        if self._terminal.is_terminal:
            return
        parts = [f"loss {report.loss:.3f}"]
        if self._recent:  # not so where the epoch's steps were all done before an interruption
            parts += [self._pace(), f"{self._left()} left"]
        self._terminal.print(f"epoch {report.epoch}/{report.n_epochs}: {', '.join(parts)}")

    def note(self, line: str) -> None:
        """Something that people should read."""
        self._terminal.print(line)

    def _pace(self) -> str:
        seconds = sum(each.seconds for each in self._recent) or math.inf
        images = sum(each.images for each in self._recent)
        wait_s = sum(each.wait_s for each in self._recent)
        return f"{images / seconds:.0f} images/s, {wait_s / seconds:.0%} waiting for data"

    def _left(self) -> timedelta:
        last = self._recent[-1]
        mean_s = sum(each.seconds for each in self._recent) / len(self._recent)
        return timedelta(seconds=round(mean_s * (last.n_steps - last.step)))


@contextlib.contextmanager
def training_display(terminal: Console) -> Iterator[TrainingDisplay]:
    """A display for the time of a training."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=terminal, disable=not terminal.is_terminal) as progress:
        yield TrainingDisplay(progress, terminal)


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
