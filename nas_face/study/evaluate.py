"""The search's `evaluate`: train a candidate, measure it, keep it."""

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray

from nas_face.arch.spec import ArchSpec
from nas_face.data import PairList
from nas_face.deploy import LatencyMeter
from nas_face.errors import NasFaceError, TrainingDiverged
from nas_face.nn import FaceModel
from nas_face.search import Report, TrialStopped
from nas_face.search.ledger import Ledger, Seconds, process_clock
from nas_face.study.config import StudyConfig
from nas_face.study.faces import StudyFaces
from nas_face.study.files import write_text
from nas_face.study.layout import CHECKPOINTS_FOLDER, MODEL_FILE
from nas_face.study.verification.groups import PairGroups
from nas_face.study.verification.trained_on import write_trained_on
from nas_face.train import Checkpoints, EpochReport, train
from nas_face.train.teachers import TeacherTargets
from nas_face.verify import VerificationResult, cosine_scores, verify_embeddings

SPEC_FILE = "spec.json"
SPENT_FILE = "spent.json"
"""Beside a candidate's checkpoints: the ledger up to them."""

CPU = torch.device("cpu")


class Embedder(Protocol):
    """Something that turns crops of its size into embeddings: a torch model or an ONNX file."""

    @property
    def height(self) -> int:
        """Of the crops."""

    @property
    def width(self) -> int:
        """Of the crops."""

    def embed(self, images: NDArray[np.uint8], /, *, flip: bool = True) -> NDArray[np.float32]:
        """Embeddings `(N, D)` of RGB crops `(N, height, width, 3)`; with `flip` those of the
        mirrored crops are added."""


def verify_on(model: Embedder, pairs: PairList) -> VerificationResult:
    """Verification of a model or file on a list of pairs, mirrored crops included.

    Raises:
        TrainingDiverged: embeddings are not finite.
    """
    return verify_embeddings(embed_pairs(model, pairs), pairs)


def embed_pairs(model: Embedder, pairs: PairList) -> NDArray[np.float32]:
    """Embeddings `(N, D)` of the images of pairs, mirrored crops added.

    Raises:
        TrainingDiverged: embeddings are not finite.
    """
    embeddings = model.embed(pairs.images.batch(np.arange(len(pairs.images))))
    if not np.isfinite(embeddings).all():
        raise TrainingDiverged("embeddings are not finite; lower training.learning_rate")
    return embeddings


def figures_on(
    model: Embedder, pairs: PairList, groups: PairGroups | None = None
) -> dict[str, float]:
    """Figures of a model on pairs by the names of objectives, that of groups among them if there
    are any.

    Raises:
        TrainingDiverged: embeddings are not finite.
    """
    embeddings = embed_pairs(model, pairs)
    figures = figures_of(verify_embeddings(embeddings, pairs))
    if groups is not None:
        scores = cosine_scores(embeddings, pairs.first, pairs.second)
        figures["worst_group_tar"] = groups.worst_tar(scores)
    return figures


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TrainAndVerify:
    """Trains one candidate and measures it on search pairs and, for the record, on test pairs.

    A candidate that was interrupted goes on from its last finished epoch, with the same outcome
    as if it had not been. What it had cost until then is kept beside its checkpoints.

    Attributes:
        config: the study.
        faces_of: its faces, by height and width of the crops.
        teacher_of: what a teacher makes of the faces that are trained on, likewise; none where the
            recipe has no teacher.
        meter: measures latency, or none where no objective needs it.
        reference_ms: latency of the meter's reference network when the run began, so that figures
            of different sittings can be compared.
        folder: trained candidates are kept here, one model folder an `arch_id`.
        on_epoch: told of every epoch, for progress displays.
        device: on which candidates are trained and verified; latency is the processor's.
    """

    config: StudyConfig
    faces_of: Callable[[tuple[int, int]], StudyFaces]
    teacher_of: Callable[[tuple[int, int]], TeacherTargets | None]
    meter: LatencyMeter | None
    reference_ms: float
    folder: Path
    on_epoch: Callable[[EpochReport], None]
    device: torch.device = CPU

    def time(self, spec: ArchSpec) -> Mapping[str, float]:
        """Latency of the untrained network, in milliseconds and times the reference network's.

        Empty without a meter.
        """
        if self.meter is None:
            return {}
        ratio = self.meter.measure(FaceModel.fresh(spec, seed=0)).ratio
        return {"latency_ms": ratio * self.reference_ms, "latency_ratio": ratio}

    def __call__(
        self,
        spec: ArchSpec,
        *,
        seed: int,
        report: Report,
        timed: Mapping[str, float],
        ledger: Ledger,
    ) -> Mapping[str, float]:
        """Train, verify and save.

        Args:
            spec: the candidate.
            seed: of its weights and its training.
            report: called with the figures at every rung.
            timed: of `time`; part of the figures.
            ledger: gets what this candidate cost, earlier sittings that were killed included.

        Returns:
            `timed`, figures on the search pairs, and those on the test pairs as `test_NAME`.

        Raises:
            TrialStopped: `report` said so.
            TrainingDiverged: the loss, the weights or the embeddings stopped being finite.
        """
        folder = self.folder / spec.arch_id
        folder.mkdir(parents=True, exist_ok=True)
        own = _taken_up(folder / SPENT_FILE, _clock_of(self.device))
        try:
            figures = self._evaluated(spec, folder, seed, report, timed, own)
        except OSError:  # such as a full disk: the trial stays open, and goes on from what is here
            raise
        except Exception as end:
            ledger.add(own)
            if isinstance(end, TrialStopped | NasFaceError):
                shutil.rmtree(folder)
            raise
        ledger.add(own)
        Checkpoints(folder / CHECKPOINTS_FOLDER).clear()
        (folder / SPENT_FILE).unlink(missing_ok=True)
        return figures

    def _evaluated(
        self,
        spec: ArchSpec,
        folder: Path,
        seed: int,
        report: Report,
        timed: Mapping[str, float],
        ledger: Ledger,
    ) -> dict[str, float]:
        with ledger.phase("build"):
            input_size = (spec.input_shape[1], spec.input_shape[2])
            faces = self.faces_of(input_size)
            note = (
                f"trained {self.config.training.epochs} epochs on {len(faces.split.train)} images "
                f"with seed {seed} in study {self.config.name}"
            )
            kept = _kept(folder, note)
            model = FaceModel.fresh(spec, seed=seed) if kept is None else kept
            model.module.to(self.device)

        def after_epoch(epoch: EpochReport) -> None:
            self.on_epoch(epoch)
            ledger.count("epochs")
            if epoch.epoch in self.config.rungs.epochs:
                with ledger.phase("verify"):
                    figures = figures_on(model, faces.search_pairs, faces.search_groups)
                if not report(epoch.epoch, {**timed, **figures}):
                    raise TrialStopped
            write_text(folder / SPENT_FILE, json.dumps(ledger.to_data()) + "\n")

        if kept is None:
            with ledger.phase("train"):
                train(
                    model,
                    faces.split.train,
                    self.config.training,
                    seed=seed,
                    on_epoch=after_epoch,
                    checkpoints=Checkpoints(folder / CHECKPOINTS_FOLDER, keep=1),
                    teacher=self.teacher_of(input_size),
                )
        with ledger.phase("verify"):
            search = figures_on(model, faces.search_pairs, faces.search_groups)
            test = figures_on(model, faces.test_pairs, faces.test_groups)
        if kept is None:
            with ledger.phase("save"):
                write_text(folder / SPEC_FILE, json.dumps(spec.to_data(), indent=1) + "\n")
                write_trained_on(folder, faces.split.train.identities)
                model.noting(note).save(folder)
        return {**timed, **search, **{f"test_{name}": value for name, value in test.items()}}


def figures_of(result: VerificationResult) -> dict[str, float]:
    """Figures of a verification by the names of objectives."""
    return {
        "accuracy": result.accuracy,
        "accuracy_std": result.accuracy_std,
        "auc": result.auc,
        "eer": result.eer,
        "log_tar": result.log_tar if result.log_tar is not None else math.nan,
    }


def _kept(folder: Path, note: str) -> FaceModel | None:
    """The model of a sitting that was killed between saving it and telling its figures."""
    if not (folder / MODEL_FILE).exists():  # written last, so the folder is whole
        return None
    model = FaceModel.load(folder)
    return model if model.description.lineage == (note,) else None


def _taken_up(path: Path, clock: Callable[[], Seconds]) -> Ledger:
    """What earlier sittings spent on the candidate, to go on with."""
    data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return Ledger.of(data, clock)


def _clock_of(device: torch.device) -> Callable[[], Seconds]:
    """The clock of the process, with the time of a CUDA device where there is one."""
    if device.type != "cuda":
        return process_clock
    began = _cuda_event(device)

    def clock() -> Seconds:
        gpu_ms = began.elapsed_time(_cuda_event(device))
        return process_clock() + Seconds(gpu_s=gpu_ms / 1000)

    return clock


def _cuda_event(device: torch.device) -> torch.cuda.Event:
    """An event that all work given to the device so far has reached."""
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    event.synchronize()
    return event
