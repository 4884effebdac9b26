"""`nas-face verify`: models on pairs, with curves, threshold cards, groups and galleries."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from nas_face.data import FaceImages, PairList
from nas_face.data.formats.attributes import AttributeTable
from nas_face.data.formats.opening import load_faces
from nas_face.data.formats.template_lists import list_template_folder
from nas_face.deploy import Convention
from nas_face.deploy.onnx_embedder import precision_of, prepares_pixels
from nas_face.errors import ConfigError
from nas_face.nn.model import WEIGHTS_FILE
from nas_face.study.evaluate import Embedder
from nas_face.study.faces import pairs_of
from nas_face.study.layout import MODEL_FILE, STUDY_FILE
from nas_face.study.networks import embedder_of, folder_of
from nas_face.study.verification.embedding import EmbeddingFile, OnImages, embed_images
from nas_face.study.verification.templates import embed_templates
from nas_face.study.verification.trained_on import require_strangers
from nas_face.verify import (
    PairIdentities,
    Resampling,
    Roc,
    ThresholdCard,
    ThresholdCheck,
    VerificationResult,
    cosine_scores,
    roc,
    threshold_card,
    verify_embeddings,
)
from nas_face.verify.gallery import GalleryResult, gallery_scores
from nas_face.verify.groups import GroupReport, group_report
from nas_face.verify.templates import TemplateResult, verify_templates


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """A model that is ready to embed.

    Attributes:
        name: for tables; unique among the models opened together.
        embedder: the model.
        precision: of its weights: `fp32`, `fp16` or `int8`.
        digest: of its files and of what the user says about them; equal models have equal ones.
        folder: in which it lies, with what is known of its training.
    """

    name: str
    embedder: Embedder
    precision: str
    digest: str
    folder: Path | None = None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PairSource:
    """Pairs as a user names them.

    Attributes:
        name: a list, a set or a folder of any format, ``orl``, or a run folder for its test pairs.
        root: of the images that a list names.
        protocol: of CFP: FF or FP.
    """

    name: str
    root: Path | None = None
    protocol: str | None = None

    @property
    def title(self) -> str:
        """The name for tables."""
        name = Path(self.name).name or self.name
        return name if self.protocol is None else f"{name} {self.protocol}"

    def load(self, height: int, width: int) -> PairList:
        """The pairs, with crops of that size.

        Raises:
            DataError: they are missing, broken or of no known format.
            ConfigError: a run folder is broken.
        """
        return pairs_of(self.name, self.root, height=height, width=width, protocol=self.protocol)


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verified:
    """A model on pairs.

    Attributes:
        model: what was verified.
        pairs: on what.
        embeddings: of the images of the pairs, `(N, D)`.
        result: the figures.
        curve: the ROC.
        n_embedded: images embedded for it; 0 where embeddings were kept.
        seconds: that embedding took.
    """

    model: OpenedModel
    pairs: PairList
    embeddings: NDArray[np.float32]
    result: VerificationResult
    curve: Roc
    n_embedded: int
    seconds: float

    @property
    def scores(self) -> NDArray[np.float64]:
        """Cosines of the pairs, `(P,)`."""
        return cosine_scores(self.embeddings, self.pairs.first, self.pairs.second)


def open_models(
    paths: Sequence[Path],
    trial: int | None = None,
    given: Convention | None = None,
    *,
    threads: int | None = None,
) -> tuple[OpenedModel, ...]:
    """Models to verify, in order.

    What is said about an input goes to ONNX files of others; model folders, runs and our own
    exports state theirs.

    Args:
        paths: model folders, ONNX files, and run folders.
        trial: of the run folders.
        given: what the user says about the input of ONNX files.
        threads: that embedding may use; as many as torch takes by default.

    Raises:
        ConfigError: a path is none of these; or an option goes with none of the models.
        NasFaceError: files are broken.
    """
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"--threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)
    n_threads = torch.get_num_threads() if threads is None else threads
    given = given or Convention()
    runs = [path for path in paths if (path / STUDY_FILE).is_file()]
    if trial is not None and not runs:
        raise ConfigError(f"--trial goes with a run folder; {paths[0]} is none")
    foreign = [path for path in paths if path.is_file() and not prepares_pixels(path)]
    if not given.says_nothing and not foreign and all(path.exists() for path in paths):
        raise ConfigError(
            f"options about the input go with ONNX files of others; {paths[0]} prepares pixels "
            "itself"
        )
    found: list[OpenedModel] = []
    for path in paths:
        name = f"{path.name} trial {trial}" if path in runs else path.name or str(path)
        said = given if path in foreign else None
        embedder = embedder_of(path, trial if path in runs else None, said, threads=n_threads)
        if any(each.name == name for each in found):
            name = str(path)
        found.append(
            OpenedModel(
                name=name,
                embedder=embedder,
                precision=precision_of(path) if path.is_file() else "fp32",
                digest=_digest(path, trial if path in runs else None, said),
                folder=folder_of(path, trial if path in runs else None),
            )
        )
    return tuple(found)


def verify_model(
    model: OpenedModel,
    pairs: PairList,
    *,
    flip: bool = True,
    resample: bool = False,
    keep: Path | None = None,
    on_images: OnImages | None = None,
) -> Verified:
    """One model on pairs.

    Args:
        model: which.
        pairs: with crops of its size.
        flip: add the embeddings of mirrored crops, as the protocols do.
        resample: find intervals by bootstrap too; by identity where the pairs tell who is who.
        keep: `.npy` file to take embeddings from, or to write them to.
        on_images: told of progress.

    Raises:
        MetricError: embeddings are zero or not finite.
        ConfigError: `keep` holds something else.
    """
    start = time.perf_counter()
    embeddings, n_embedded = _embeddings(model, pairs.images, flip, keep, on_images)
    seconds = time.perf_counter() - start
    resampling = Resampling(identities=pairs.images.labels) if resample else None
    result = verify_embeddings(embeddings, pairs, resampling=resampling)
    scores = cosine_scores(embeddings, pairs.first, pairs.second)
    return Verified(
        model=model,
        pairs=pairs,
        embeddings=embeddings,
        result=result,
        curve=roc(scores, pairs.same),
        n_embedded=n_embedded,
        seconds=seconds,
    )


def card_of(verified: Verified, pairs_name: str) -> ThresholdCard:
    """Thresholds of a model by the pairs that it was verified on."""
    pairs = verified.pairs
    labels = pairs.images.labels
    return threshold_card(
        verified.scores,
        pairs.same,
        model=verified.model.name,
        precision=verified.model.precision,
        pairs=pairs_name,
        identities=PairIdentities(first=labels[pairs.first], second=labels[pairs.second]),
    )


def groups_of(verified: Verified, table: AttributeTable, *, far: float) -> tuple[GroupReport, ...]:
    """Figures of groups of people by each attribute, at the threshold of one FAR over all pairs.

    Raises:
        DataError: no image has a value of an attribute.
        MetricError: the impostor pairs do not support `far`.
    """
    pairs = verified.pairs
    images = pairs.images
    identities = [images.identities[label] for label in images.labels]
    scores = verified.scores
    found = []
    for attribute in table.attributes:
        groups = table.groups(attribute, names=images.names, identities=identities)
        found.append(
            group_report(
                scores,
                pairs.same,
                groups.codes[pairs.first],
                groups.codes[pairs.second],
                groups.names,
                attribute=attribute,
                far=far,
            )
        )
    return tuple(found)


def check_card(
    card: ThresholdCard,
    model: OpenedModel,
    pairs: PairList,
    pairs_name: str,
    *,
    flip: bool = True,
    on_images: OnImages | None = None,
) -> ThresholdCheck:
    """A card on pairs that it was not made of.

    Raises:
        MetricError: embeddings are zero or not finite.
    """
    embeddings = embed_images(model.embedder, pairs.images, flip=flip, on_images=on_images)
    scores = cosine_scores(embeddings, pairs.first, pairs.second)
    return card.checked_on(scores, pairs.same, pairs=pairs_name)


def verify_gallery(
    model: OpenedModel,
    faces: Path,
    *,
    flip: bool = True,
    threads: int | None = None,
    keep: Path | None = None,
    on_images: OnImages | None = None,
    allow_overlap: bool = False,
) -> GalleryResult:
    """All faces of a set against all others.

    Args:
        model: which.
        faces: a set of any format.
        flip: add the embeddings of mirrored crops.
        threads: of the comparison.
        keep: `.npy` file to take embeddings from, or to write them to.
        on_images: told of progress.
        allow_overlap: whether people that the model was trained on may be among them.

    Raises:
        DataError: faces are missing, broken or too few, or known to the model.
        MetricError: embeddings are zero or not finite.
    """
    images = load_faces(faces, height=model.embedder.height, width=model.embedder.width)
    if not allow_overlap:
        require_strangers(images, where=str(faces), folder=model.folder)
    embeddings, _ = _embeddings(model, images, flip, keep, on_images)
    return gallery_scores(embeddings, images.labels, identification=True, n_threads=threads)


def verify_template_folder(
    model: OpenedModel, folder: Path, *, flip: bool = True, on_images: OnImages | None = None
) -> TemplateResult:
    """Pairs of templates of an IJB-style set.

    Raises:
        DataError: a list or an image is missing or broken.
        MetricError: embeddings are zero or not finite.
    """
    listing = list_template_folder(folder)
    embeddings = embed_templates(model.embedder, listing, flip=flip, on_images=on_images)
    return verify_templates(embeddings, listing)


def _embeddings(
    model: OpenedModel,
    images: FaceImages,
    flip: bool,
    keep: Path | None,
    on_images: OnImages | None,
) -> tuple[NDArray[np.float32], int]:
    """Embeddings, and how many of them were made for it."""
    if keep is None:
        return embed_images(model.embedder, images, flip=flip, on_images=on_images), len(images)
    file = EmbeddingFile(keep, f"{model.digest} {'with' if flip else 'without'} flip", images)
    found = file.read()
    if found is not None:
        return found, 0
    made = embed_images(model.embedder, images, flip=flip, on_images=on_images)
    file.write(made)
    return made, len(images)


def _digest(path: Path, trial: int | None, given: Convention | None) -> str:
    """Of the content of an ONNX file or a model folder; of a run, of its name and the trial."""
    found = hashlib.sha256(f"{trial} {given}".encode())
    if trial is not None:
        found.update(str(path.resolve()).encode())
        return found.hexdigest()
    files = [path / MODEL_FILE, path / WEIGHTS_FILE] if path.is_dir() else [path]
    for file in files:
        found.update(file.read_bytes())
    return found.hexdigest()
