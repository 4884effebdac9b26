"""What a training tells while it runs."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """Where a training is after an optimiser step.

    Attributes:
        step: steps done, from 1, all epochs counted.
        n_steps: steps in all.
        epoch: the epoch that is under way, from 1.
        n_epochs: epochs in all.
        loss: of this step.
        images: of this step.
        learning_rate: of this step.
        seconds: that the step took.
        wait_s: seconds of these in which it waited for images.
    """

    step: int
    n_steps: int
    epoch: int
    n_epochs: int
    loss: float
    images: int
    learning_rate: float
    seconds: float = field(compare=False)
    wait_s: float = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """What one epoch came to.

    Attributes:
        epoch: finished epochs, from 1.
        n_epochs: epochs in all.
        loss: mean over the images of the epoch.
        images: images seen in this epoch.
        seconds: that the epoch took.
        wait_s: seconds of these in which the training waited for images to be read and decoded.
    """

    epoch: int
    n_epochs: int
    loss: float
    images: int
    # Two runs of one training report the same, however long they took.
    seconds: float = field(default=0.0, compare=False)
    wait_s: float = field(default=0.0, compare=False)

    @property
    def pace(self) -> str:
        """For people: images a second, and the share of the time spent waiting for them."""
        if self.seconds <= 0:
            return ""
        return (
            f"{self.images / self.seconds:.0f} images/s, "
            f"{self.wait_s / self.seconds:.0%} waiting for data"
        )
