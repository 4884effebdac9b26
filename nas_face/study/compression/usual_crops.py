"""Crops that a network takes for faces: those on which it does not run wild."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from nas_face.nn import FaceModel
from nas_face.study.compression.state import Note

MOST: Final = 5.0
"""Times the median length of the embeddings, or a part of it, beyond which a crop is left out:
assumed, well beyond what good and bad photos do. Measured on a Seesaw-shuffle after a short
training: one crop of 256 at 380 times the median, with which calibration leaves an int8 network
that gives noise (mean cosine 0.07 instead of 0.96)."""


def usual_crops(crops: NDArray[np.uint8], model: FaceModel, note: Note) -> NDArray[np.uint8]:
    """Crops whose embeddings are of usual length; the others would set ranges, fits and scores for
    all.

    Args:
        crops: `(N, H, W, 3)` RGB of the model's size.
        model: that is compressed.
        note: told of those that are left out.
    """
    lengths = np.linalg.norm(model.embed(crops, flip=False).astype(np.float64), axis=1)
    usual = float(np.nanmedian(lengths))
    good = (lengths <= MOST * usual) & (lengths >= usual / MOST)
    if good.all() or not good.any():
        return crops
    note(
        f"{(~good).sum()} of {len(crops)} crops are left out: the network runs wild on them "
        f"(embeddings more than {MOST:.0f} times as long as usual, or as short)"
    )
    return np.asarray(crops[good])
