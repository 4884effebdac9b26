"""Where a compression stands between two steps, and what all its steps share."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import final

from nas_face.nn import FaceModel
from nas_face.study.compression.bench import Bench
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.results import FileResult, Runtime, Try
from nas_face.study.config import DataSettings
from nas_face.train import EpochReport, TrainSettings

Epochs = Callable[[int], AbstractContextManager[Callable[[EpochReport], None]]]
"""Opens a progress display over a number of epochs."""

Note = Callable[[str], None]
"""Told in one line what has just come to pass."""

_LOG = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlacedFile:
    """A measured file.

    Attributes:
        path: where it lies.
        result: what it is worth.
    """

    path: Path
    result: FileResult


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Weights, and the files that there are of them.

    Attributes:
        model: float weights.
        file: their float32 file on the recipe's runtime.
        few_bits: files in few bits of the same weights, in the order of their steps; of each step
            the one on the deciding runtime first.
        layers: of the last quantisation, what each layer loses and whether it stayed in float.
    """

    model: FaceModel
    file: PlacedFile
    few_bits: tuple[PlacedFile, ...] = ()
    layers: tuple["LayerLossRow", ...] = ()

    @property
    def judged(self) -> float:
        """Accuracy of the float file on the pairs that decide, 0 to 1."""
        return self.file.result.judged


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLossRow:
    """What one layer loses by int8.

    Attributes:
        path: of the layer.
        mean_loss: mean of 1 - cosine on real crops when this layer alone is quantised.
        in_float: whether it was left in float32.
    """

    path: str
    mean_loss: float
    in_float: bool


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """What all steps of one compression share.

    Attributes:
        recipe: what is done.
        runtime: that decides.
        bench: measures files.
        original: the model that was given.
        training: margin loss and batch size of trainings.
        data: where the training images come from, for teachers of another input size.
        teachers: folder of the embeddings of teachers.
        seed: of everything.
        epochs: progress display.
        note: told what has come to pass.
    """

    recipe: Recipe
    runtime: Runtime
    bench: Bench
    original: State
    training: TrainSettings
    data: DataSettings
    teachers: Path
    seed: int
    epochs: Epochs
    note: Note = _LOG.info


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What a step came to.

    Attributes:
        state: behind it; in front of it, where it was rolled back.
        verdict: see `StepResult`.
        tries: what was tried.
        files: of this step on all runtimes, that which decides first; those in front of it, where
            it was rolled back.
    """

    state: State
    verdict: str
    tries: tuple[Try, ...]
    files: tuple[PlacedFile, ...]
