"""A training's figures for TensorBoard; nothing else here knows of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Self, final

from nas_face.errors import ConfigError
from nas_face.train import EpochReport, StepReport
from nas_face.verify import VerificationResult

if TYPE_CHECKING:
    pass


@final
class TensorBoardLog:
    """Event files of one training in a folder.

    A training that goes on from a checkpoint replaces what was written of the steps that it
    repeats.

    Args:
        folder: to write to.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as failure:
            raise ConfigError(
                "TensorBoard is an extra: pip install 'nas-face[tensorboard]'"
            ) from failure
        self._make = SummaryWriter
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def step(self, report: StepReport) -> None:
        """Loss, learning rate and pace of a step."""
        self._step = report.step
        self._write("train/loss", report.loss)
        self._write("train/learning_rate", report.learning_rate)
        if report.seconds > 0:
            self._write("pace/images_per_s", report.images / report.seconds)
            self._write("pace/wait_share", report.wait_s / report.seconds)

    def epoch(self, report: EpochReport) -> None:
        """Mean loss of an epoch, at its last step."""
        self._write("epoch/loss", report.loss)

    def verified(self, result: VerificationResult) -> None:
        """Figures of the trained network, at the last step."""
        self._write("verify/accuracy", result.accuracy)
        self._write("verify/auc", result.auc)
        self._write("verify/eer", result.eer)

    def _write(self, name: str, value: float) -> None:
        if self._writer is None:
            self._writer = self._make(self._folder, purge_step=self._step)
        self._writer.add_scalar(name, value, self._step)
