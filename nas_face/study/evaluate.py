"""The search's `evaluate`: train a candidate, measure it, keep it."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.spec import ArchSpec
from nas_face.data import PairList
from nas_face.deploy import LatencyMeter
from nas_face.errors import TrainingDiverged
from nas_face.nn import FaceModel
from nas_face.search import Report, TrialStopped
from nas_face.study.config import StudyConfig
from nas_face.study.faces import StudyFaces
from nas_face.train import EpochReport, train
from nas_face.verify import VerificationResult, verify_embeddings

SPEC_FILE = "spec.json"


class Embedder(Protocol):
    """Something that turns crops of its size into embeddings: a torch model or an ONNX file."""

    @property
    def height(self) -> int:
        """Of the crops."""

    @property
    def width(self) -> int:
        """Of the crops."""

    def embed(self, images: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Embeddings `(N, D)` of RGB crops `(N, height, width, 3)`, mirrored ones added."""


def verify_on(model: Embedder, pairs: PairList) -> VerificationResult:
    """Verification of a model or file on a list of pairs, mirrored crops included.

    Raises:
        TrainingDiverged: embeddings are not finite.
    """
    embeddings = model.embed(pairs.images.batch(np.arange(len(pairs.images))))
    if not np.isfinite(embeddings).all():
        raise TrainingDiverged("embeddings are not finite; lower training.learning_rate")
    return verify_embeddings(embeddings, pairs)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAndVerify:
    """Trains one candidate and measures it on search pairs and, for the record, on test pairs.

    Attributes:
        config: the study.
        faces_of: its faces, by height and width of the crops.
        meter: measures latency, or none where no objective needs it.
        reference_ms: latency of the meter's reference network when the run began, so that figures
            of different sittings can be compared.
        folder: trained candidates are kept here, one model folder an `arch_id`.
        on_epoch: told of every epoch, for progress displays.
    """

    config: StudyConfig
    faces_of: Callable[[tuple[int, int]], StudyFaces]
    meter: LatencyMeter | None
    reference_ms: float
    folder: Path
    on_epoch: Callable[[EpochReport], None]

    def __call__(self, spec: ArchSpec, *, seed: int, report: Report) -> Mapping[str, float]:
        faces = self.faces_of((spec.input_shape[1], spec.input_shape[2]))
        model = FaceModel.fresh(spec, seed=seed)
        timed = self._time(model)

        def after_epoch(epoch: EpochReport) -> None:
            self.on_epoch(epoch)
            if epoch.epoch in self.config.rungs.epochs:
                search = verify_on(model, faces.search_pairs)
                if not report(epoch.epoch, {**timed, **figures_of(search)}):
                    raise TrialStopped

        train(model, faces.split.train, self.config.training, seed=seed, on_epoch=after_epoch)
        search = verify_on(model, faces.search_pairs)
        test = verify_on(model, faces.test_pairs)
        folder = self.folder / spec.arch_id
        model.noting(
            f"trained {self.config.training.epochs} epochs on {len(faces.split.train)} "
            "images "
            f"with seed {seed} in study {self.config.name}"
        ).save(folder)
        (folder / SPEC_FILE).write_text(json.dumps(spec.to_data(), indent=1) + "\n")
        return {
            **timed,
            **figures_of(search),
            **{f"test_{name}": value for name, value in figures_of(test).items()},
        }

    def _time(self, model: FaceModel) -> dict[str, float]:
        if self.meter is None:
            return {}
        ratio = self.meter.measure(model).ratio
        return {"latency_ms": ratio * self.reference_ms, "latency_ratio": ratio}


def figures_of(result: VerificationResult) -> dict[str, float]:
    """Figures of a verification by the names of objectives."""
    return {
        "accuracy": result.accuracy,
        "accuracy_std": result.accuracy_std,
        "auc": result.auc,
        "eer": result.eer,
        "log_tar": result.log_tar if result.log_tar is not None else math.nan,
    }
