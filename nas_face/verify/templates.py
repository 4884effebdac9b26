"""Templates, which are several images and videos of a person each: the 1:1 protocol of IJB."""

from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
import numpy.typing as npt

from nas_face.errors import MetricError
from nas_face.verify.metrics import Roc, cosine_scores, n_accepts_allowed, roc

TEMPLATE_FARS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""False accept rates at which IJB-B and IJB-C are read."""

# Images averaged at once, 64 MB at 512 dimensions, unless a template has more.
_CHUNK = 16_384

_Index = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class TemplatePairs(Protocol):
    """Images by template and pairs of templates (`data.formats.template_lists` reads them)."""

    @property
    def template_ids(self) -> _Index:
        """Template of each image, `(N,)`."""

    @property
    def media_ids(self) -> _Index:
        """Photo or video that each image comes from, `(N,)`."""

    @property
    def first(self) -> _Index:
        """First template of each pair, `(P,)`."""

    @property
    def second(self) -> _Index:
        """Second template of each pair, `(P,)`."""

    @property
    def same(self) -> npt.NDArray[np.bool_]:
        """Whether both show the same identity, `(P,)`."""

    @property
    def detector_scores(self) -> npt.NDArray[np.floating] | None:
        """How sure the detector is of each image's face, `(N,)`, where that is known."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Templates:
    """One unit vector a template.

    Args:
        ids: int64 `(T,)`, rising.
        vectors: float64 `(T, D)`.
    """

    ids: _Index
    vectors: _Floats

    def rows(self, ids: _Index) -> _Index:
        """Rows of templates by their ids.

        Raises:
            MetricError: one has no image.
        """
        rows = np.searchsorted(self.ids, ids).clip(max=len(self.ids) - 1)
        missing = self.ids[rows] != ids
        if missing.any():
            n_missing = len(np.unique(ids[missing]))
            raise MetricError(
                f"template {ids[missing][0]} is in a pair but has no image ({n_missing} such "
                "templates); give the list of images that belongs to these pairs"
            )
        return rows


def average_templates(
    embeddings: npt.NDArray[np.floating],
    template_ids: _Index,
    media_ids: _Index,
    *,
    weights: npt.NDArray[np.floating] | None = None,
    normalise_images: bool = False,
) -> Templates:
    """Average the images of each photo or video, add those up in each template, and normalise.

    So a video of a hundred frames counts as much as one photo. A photo or video that occurs in
    several templates is averaged in each of them alone.

    Args:
        embeddings: `(N, D)`, perhaps in a mapped file; by the usual protocol each is the sum of
            the embeddings of an image and its mirror image (F2), which is up to the caller.
        template_ids: int64 `(N,)`.
        media_ids: int64 `(N,)`.
        weights: factor of each image, `(N,)`, such as the detector's score (D1); None for none
            (D0). As in the source, an average is not divided by the sum of the weights.
        normalise_images: bring each image to unit length first (N0); otherwise longer embeddings
            weigh more (N1).

    Returns:
        The templates.

    Raises:
        MetricError: there is no image, an embedding or a weight is not finite, an embedding is
            zero where it has to be normalised, or a template adds up to zero.
        ValueError: the shapes differ.

    Source:
        InsightFace, recognition/arcface_torch/eval_ijbc.py, `image2template_feature`.
    """
    n_images = len(embeddings)
    if embeddings.ndim != 2 or not template_ids.shape == media_ids.shape == (n_images,):
        raise ValueError(
            "embeddings must be of shape (N, D), template_ids and media_ids of shape (N,), got "
            f"{embeddings.shape}, {template_ids.shape} and {media_ids.shape}"
        )
    if weights is not None and weights.shape != (n_images,):
        raise ValueError(f"weights must be of shape ({n_images},), got {weights.shape}")
    if n_images == 0:
        raise MetricError("templates take at least one image, got none")
    order = np.lexsort((media_ids, template_ids))
    templates, media = template_ids[order], media_ids[order]
    new_template = np.append(True, templates[1:] != templates[:-1])
    new_medium = new_template | np.append(True, media[1:] != media[:-1])
    starts = np.flatnonzero(new_template)
    vectors = np.empty((len(starts), embeddings.shape[1]), dtype=np.float64)
    for chunk in _chunks(np.append(starts, n_images)):
        span = slice(starts[chunk.start], np.append(starts, n_images)[chunk.stop])
        rows = order[span]
        images = _prepared(
            embeddings[rows],
            None if weights is None else weights[rows],
            rows,
            normalise=normalise_images,
        )
        media_starts = np.flatnonzero(new_medium[span])
        sizes = np.diff(np.append(media_starts, len(rows)))
        averages = np.add.reduceat(images, media_starts) / sizes[:, None]
        first_media = np.flatnonzero(new_template[span][media_starts])
        vectors[chunk] = np.add.reduceat(averages, first_media)
    ids = templates[starts]
    return Templates(ids=ids, vectors=_unit(vectors, "template", ids))


def _chunks(bounds: _Index) -> list[slice]:
    """Runs of whole templates with about `_CHUNK` images each."""
    chunks = []
    start, n_templates = 0, len(bounds) - 1
    while start < n_templates:
        stop = int(np.searchsorted(bounds, bounds[start] + _CHUNK, side="right")) - 1
        stop = min(max(stop, start + 1), n_templates)
        chunks.append(slice(start, stop))
        start = stop
    return chunks


def _prepared(
    images: npt.NDArray[np.floating],
    weights: npt.NDArray[np.floating] | None,
    rows: _Index,
    *,
    normalise: bool,
) -> _Floats:
    """Images of the given rows, normalised if asked for and then weighed."""
    vectors: _Floats = images.astype(np.float64)
    finite = np.isfinite(vectors).all(axis=1)
    if weights is not None:
        finite &= np.isfinite(weights)
    if not finite.all():
        raise MetricError(
            "embeddings and weights must be finite, got NaN or infinity in image "
            f"{rows[~finite].min()}; the network, its precision or the list is broken"
        )
    if normalise:
        vectors = _unit(vectors, "image", rows)
    if weights is not None:
        vectors *= weights.astype(np.float64)[:, None]
    return vectors


def _unit(vectors: _Floats, kind: str, ids: _Index) -> _Floats:
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    zero = largest[:, 0] == 0
    if zero.any():
        raise MetricError(
            f"{kind} {ids[zero][0]} has no direction, since its embedding is zero "
            f"({np.count_nonzero(zero)} of {len(ids)}); the network is dead, or its weight is 0"
        )
    scaled = vectors / largest
    unit: _Floats = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def template_scores(templates: Templates, first: _Index, second: _Index) -> _Floats:
    """Cosine of each pair of templates.

    Args:
        templates: at least one.
        first: template id, int64 `(P,)`.
        second: template id, int64 `(P,)`.

    Returns:
        Scores `(P,)` in [-1, 1].

    Raises:
        MetricError: a pair names a template without images.
    """
    return cosine_scores(templates.vectors, templates.rows(first), templates.rows(second))


def insightface_tar(curve: Roc, far: float) -> float:
    """TAR as InsightFace reads it off a ROC for IJB: at the point nearest to a FAR.

    The point may lie above the FAR, and with few impostor pairs far from it: nothing is refused.
    `Roc.tar_at_far` is the honest reading.

    Args:
        curve: the curve with all its points.
        far: the rate, in (0, 1].

    Returns:
        Between 0 and 1; the highest TAR of the points with the same FAR, and of two equally near
        FARs that of the higher one.

    Source:
        InsightFace, recognition/arcface_torch/eval_ijbc.py, whose ROC is that of scikit-learn:
        points on a straight line between their neighbours are left out.
    """
    false_accepts, true_accepts = curve.false_accepts[1:], curve.true_accepts[1:]
    bent = np.ones(len(false_accepts), dtype=np.bool_)
    bent[1:-1] = (np.diff(false_accepts, 2) != 0) | (np.diff(true_accepts, 2) != 0)
    rates = np.append(0, false_accepts[bent]) / np.float64(curve.n_different)
    accepts = np.append(0, true_accepts[bent])
    nearest = len(rates) - 1 - int(np.argmin(np.abs(rates - far)[::-1]))
    return int(accepts[nearest]) / curve.n_same


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateResult:
    """What a report says about one network on a list of template pairs.

    Args:
        n_templates: number of templates.
        n_images: number of their images.
        n_same: number of genuine pairs.
        n_different: number of impostor pairs.
        tar_at_far: (FAR, TAR) at the lowest threshold that keeps the FAR to the limit, for the
            rates that the impostor pairs support.
        insightface_tar_at_far: (FAR, TAR) as InsightFace reads it, for all rates.
    """

    n_templates: int
    n_images: int
    n_same: int
    n_different: int
    tar_at_far: tuple[tuple[float, float], ...]
    insightface_tar_at_far: tuple[tuple[float, float], ...]

    def as_dict(self) -> dict[str, object]:
        """The same for JSON, rates as in `{"0.001": 0.95}`."""
        return {
            "n_templates": self.n_templates,
            "n_images": self.n_images,
            "n_same": self.n_same,
            "n_different": self.n_different,
            "tar_at_far": {f"{far:g}": tar for far, tar in self.tar_at_far},
            "insightface_tar_at_far": {
                f"{far:g}": tar for far, tar in self.insightface_tar_at_far
            },
        }


def verify_templates(
    embeddings: npt.NDArray[np.floating],
    listing: TemplatePairs,
    *,
    use_detector_scores: bool = True,
    normalise_images: bool = False,
) -> TemplateResult:
    """Score a list of template pairs as IJB-B and IJB-C are scored.

    Args:
        embeddings: one for each image of the list, `(N, D)`: see `average_templates`.
        listing: the images and the pairs.
        use_detector_scores: weigh images by them where the list has them (D1).
        normalise_images: see `average_templates` (N0); published figures are without (N1).

    Returns:
        The result.

    Raises:
        MetricError: see `average_templates` and `template_scores`; or all pairs are of one kind.
        ValueError: the shapes differ.
    """
    templates = average_templates(
        embeddings,
        listing.template_ids,
        listing.media_ids,
        weights=listing.detector_scores if use_detector_scores else None,
        normalise_images=normalise_images,
    )
    curve = roc(template_scores(templates, listing.first, listing.second), listing.same)
    supported = [far for far in TEMPLATE_FARS if n_accepts_allowed(far, curve.n_different) >= 1]
    return TemplateResult(
        n_templates=len(templates.ids),
        n_images=len(embeddings),
        n_same=curve.n_same,
        n_different=curve.n_different,
        tar_at_far=tuple((far, curve.tar_at_far(far)) for far in supported),
        insightface_tar_at_far=tuple((far, insightface_tar(curve, far)) for far in TEMPLATE_FARS),
    )
