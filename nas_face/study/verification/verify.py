"""`nas-face verify`: models on pairs, with curves, threshold cards, groups and galleries."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.data import FaceImages, PairList
from nas_face.data.formats.attributes import AttributeTable
from nas_face.data.formats.opening import load_faces
from nas_face.data.formats.template_lists import list_template_folder
from nas_face.study.faces import pairs_of
from nas_face.study.opening import OpenedModel
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
