"""Training: one loop, its settings, its checkpoints."""

from nas_face.train.loop import EpochReport, train
from nas_face.train.settings import TrainSettings

__all__ = ["EpochReport", "TrainSettings", "train"]
