"""Images that two data sets share: equal files, and the same photo saved in another way."""

from dataclasses import dataclass
from typing import final

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image

from nas_face.data.blobs import Blobs
from nas_face.data.images import decode_bytes
from nas_face.data.inspection import Progress, digest_of, for_each_image, reason_of
from nas_face.errors import DataError

HASH_BITS = 256
"""Bits of a perceptual hash: the lowest 16x16 frequencies. Differs: the usual 64 bits mostly say
that an aligned crop shows a face; there, no threshold finds copies without false alarms."""

DEFAULT_DISTANCE = 48
"""Hashes that differ in at most so many of their 256 bits are called near-duplicates.

Measured by benchmarks/near_duplicates.py on aligned 112x112 crops: of 82 million pairs of
different photos (CelebA and CFP with LFW) none is as near, mirrored or not; among CelebA and CFP,
whose black borders are alike, 4 of 70 million pairs of different identities are. Of copies, all
that are recompressed (JPEG quality 30), of half or twice the size, mirrored, grey, darker or
brighter are found, 98 % of those cropped by 2 of 112 pixels at each edge, 65 % of those shifted by
(2, 1) pixels or turned by 3 degrees, and 3 % of those cropped by 4 pixels: another alignment of
the same photo is mostly not found.
"""

_SIDE = 112  # the usual crop is decoded as it is, which is fastest
_FREQUENCIES = 16  # each way
_WORDS = HASH_BITS // 64
_FLAT = 2.0
_BLOCK_PAIRS = 1 << 21  # of hashes compared at once: 16 MiB
_Hashes = npt.NDArray[np.uint64]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HashedImages:
    """By what images of a data set are compared.

    Args:
        rows: of the images in the data set, int64 `(N,)`.
        digests: of the encoded bytes, `(N,)`, 16 bytes each.
        hashes: perceptual, uint64 `(N, 4)`.
        skipped: why an image is not among them, by row: it is broken, or all of one colour.
    """

    rows: npt.NDArray[np.int64]
    digests: npt.NDArray[np.bytes_]
    hashes: _Hashes
    skipped: dict[int, str]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NearPair:
    """Two images that may be one photo.

    Args:
        row_a: of the image in the first data set.
        row_b: of the image in the second.
        distance: differing bits, 0 to 256; -1 where the files are equal.
        mirrored: whether one is the other's mirror image.
    """

    row_a: int
    row_b: int
    distance: int
    mirrored: bool = False

    @property
    def kind(self) -> str:
        """In words, such as `12 bits, mirrored`."""
        if self.distance < 0:
            return "equal files"
        return f"{self.distance} bits{', mirrored' if self.mirrored else ''}"


def hash_images(
    blobs: Blobs,
    rows: npt.NDArray[np.int64] | None = None,
    *,
    on_progress: Progress | None = None,
) -> HashedImages:
    """Digest and perceptual hash of each image, on all cores.

    The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash
    Functions", 2010) as the library imagehash computes it, with 16x16 frequencies, of the centred
    square brought to 112x112.

    Args:
        blobs: the images.
        rows: which of them, int64 `(N,)`; all by default.
        on_progress: called from this thread as images are done.
    """
    if rows is None:
        rows = np.arange(len(blobs), dtype=np.int64)
    kept: list[int] = []
    digests: list[bytes] = []
    hashes: list[_Hashes] = []
    skipped: dict[int, str] = {}
    found = for_each_image(lambda row: _hash(blobs, row), rows, on_progress=on_progress)
    for row, hashed in zip(rows.tolist(), found, strict=True):
        if isinstance(hashed, str):
            skipped[row] = hashed
        else:
            kept.append(row)
            digests.append(hashed[0])
            hashes.append(hashed[1])
    return HashedImages(
        rows=np.array(kept, dtype=np.int64),
        digests=np.array(digests, dtype="S16"),
        hashes=np.array(hashes, dtype=np.uint64).reshape(-1, _WORDS),
        skipped=skipped,
    )


def equal_images(a: HashedImages, b: HashedImages) -> list[NearPair]:
    """Pairs of images whose files are equal to the last byte, by rows."""
    rows_of: dict[bytes, list[int]] = {}
    for row, digest in zip(a.rows.tolist(), a.digests.tolist(), strict=True):
        rows_of.setdefault(digest, []).append(row)
    return sorted(
        (
            NearPair(row_a=row_a, row_b=row_b, distance=-1)
            for row_b, digest in zip(b.rows.tolist(), b.digests.tolist(), strict=True)
            for row_a in rows_of.get(digest, ())
        ),
        key=lambda pair: (pair.row_a, pair.row_b),
    )


def near_duplicates(
    a: HashedImages, b: HashedImages, *, distance: int = DEFAULT_DISTANCE
) -> list[NearPair]:
    """Pairs of images whose hashes are near, mirrored or not, without those of equal files.

    Every image of one set is compared with every one of the other, 60 million pairs a second and
    core or so, in bounded memory.

    Args:
        a: images of one set.
        b: images of the other.
        distance: differing bits that are still near, 0 to 255.

    Returns:
        The pairs, nearest first; a pair that is near both ways is given once, as the nearer.

    Raises:
        ValueError: `distance` is out of range.
    """
    if not 0 <= distance < HASH_BITS:
        raise ValueError(f"distance must lie in 0 to {HASH_BITS - 1}, got {distance}")
    pairs: dict[tuple[int, int], NearPair] = {}
    for mirrored in (False, True):
        turned = b.hashes ^ _MIRRORED if mirrored else b.hashes
        for index_a, index_b, bits in _near(a.hashes, turned, distance):
            if a.digests[index_a] == b.digests[index_b]:
                continue
            pair = NearPair(
                row_a=int(a.rows[index_a]),
                row_b=int(b.rows[index_b]),
                distance=bits,
                mirrored=mirrored,
            )
            known = pairs.get((pair.row_a, pair.row_b))
            if known is None or known.distance > bits:
                pairs[pair.row_a, pair.row_b] = pair
    return sorted(pairs.values(), key=lambda pair: (pair.distance, pair.row_a, pair.row_b))


def _near(a: _Hashes, b: _Hashes, distance: int) -> list[tuple[int, int, int]]:
    """Indices into both and the distance, of each pair that is near."""
    found: list[tuple[int, int, int]] = []
    n_rows = max(1, _BLOCK_PAIRS // max(1, len(b)))
    columns = [np.ascontiguousarray(b[:, word]) for word in range(_WORDS)]
    for start in range(0, len(a), n_rows):
        block = a[start : start + n_rows]
        bits = np.zeros((len(block), len(b)), dtype=np.uint16)
        for word, column in enumerate(columns):
            bits += np.bitwise_count(block[:, word, None] ^ column)
        near_a, near_b = np.nonzero(bits <= distance)
        found += zip(
            (near_a + start).tolist(), near_b.tolist(), bits[near_a, near_b].tolist(), strict=True
        )
    return found


def _hash(blobs: Blobs, row: int) -> tuple[bytes, _Hashes] | str:
    try:
        data = blobs.read(row)
        pixels = decode_bytes(data, _SIDE, _SIDE)
    except DataError as error:
        return reason_of(error, blobs, row)
    image = Image.fromarray(pixels).convert("L")
    if np.asarray(image).std() < _FLAT:
        return "all of one colour"
    bits = imagehash.phash(image, hash_size=_FREQUENCIES).hash
    return digest_of(data), np.packbits(bits.ravel()).view(np.uint64)


def _mirroring() -> _Hashes:
    """The bits that mirroring turns: the odd frequencies across, whose waves are odd about the
    middle, change their sign."""
    bits = np.zeros((_FREQUENCIES, _FREQUENCIES), dtype=np.bool_)
    bits[:, 1::2] = True
    return np.packbits(bits.ravel()).view(np.uint64)


_MIRRORED = _mirroring()
