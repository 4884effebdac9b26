"""Embeddings of an IJB-style set: each image is cut out by the points that its list states."""

import numpy as np
from numpy.typing import NDArray

from nas_face.align.warp import scaled_template, similarity_transform, warp
from nas_face.data.formats.template_lists import TemplateListing
from nas_face.data.images import decode_bytes, decode_upright
from nas_face.errors import DataError
from nas_face.study.evaluate import Embedder
from nas_face.study.verification.embedding import OnImages

_CHUNK = 256


def embed_templates(
    model: Embedder,
    listing: TemplateListing,
    *,
    flip: bool = True,
    on_images: OnImages | None = None,
) -> NDArray[np.float32]:
    """Embeddings `(N, D)` of the images of a listing, in its order.

    Args:
        model: what embeds.
        listing: with landmarks, images are warped to the template of the model's size; without,
            they are crops already.
        flip: add the embeddings of mirrored crops.
        on_images: told how many images are done.

    Raises:
        DataError: an image is broken, or its points are no face; without it the protocol would be
            another.
    """
    parts = []
    for start in range(0, len(listing.names), _CHUNK):
        stop = min(start + _CHUNK, len(listing.names))
        crops = [_crop(listing, row, model.height, model.width) for row in range(start, stop)]
        parts.append(model.embed(np.stack(crops), flip=flip))
        if on_images is not None:
            on_images(stop, len(listing.names))
    return np.concatenate(parts)


def _crop(listing: TemplateListing, row: int, height: int, width: int) -> NDArray[np.uint8]:
    data = listing.blobs.read(row)
    try:
        if listing.landmarks is None:
            return decode_bytes(data, height, width)
        size = max(height, width)
        points = listing.landmarks[row]
        crop = warp(
            decode_upright(data), similarity_transform(points, scaled_template(size)), size
        )
    except (DataError, ValueError) as failure:
        raise DataError(f"{listing.blobs.where(row)}: {failure}") from failure
    # The template of an oblong crop is that of the square one, less a margin on both sides.
    top, left = (size - height) // 2, (size - width) // 2
    return crop[top : top + height, left : left + width]
