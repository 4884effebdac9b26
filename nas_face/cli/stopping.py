"""Ctrl-C and SIGTERM during a training: it ends behind its step, with a checkpoint."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from nas_face.train import StepReport


@final
class Stop:
    """Whether somebody has asked for an end.

    Between steps, before the first of them and after the last, the process is interrupted at once,
    and so it is by whoever asks a second time.

    Attributes:
        asked: whether the next step shall be the last.
        last: the last step that was done.
    """

    def __init__(self) -> None:
        self.asked = False
        self.last: StepReport | None = None
        self._at_it = False

    def step(self, report: "StepReport") -> bool:
        """A step is done; whether to go on."""
        self.last = report
        self._at_it = report.step < report.n_steps
        return not self.asked

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Answer a signal.

        Raises:
            KeyboardInterrupt: there is no step to wait for, or it was asked for before.
        """
        if self.asked or not self._at_it:
            raise KeyboardInterrupt
        self.asked = True


@contextlib.contextmanager
def stopping() -> Iterator[Stop]:
    """Signals are answered by a `Stop` inside the block."""
    stop = Stop()
    before = {each: signal.signal(each, stop.ask) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
