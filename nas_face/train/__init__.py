"""Training: one loop, its settings, its checkpoints."""

from nas_face.train.checkpoint import Checkpoints
from nas_face.train.loop import train
from nas_face.train.reports import EpochReport, StepReport
from nas_face.train.settings import TrainSettings

__all__ = ["Checkpoints", "EpochReport", "StepReport", "TrainSettings", "train"]
