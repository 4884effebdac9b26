"""How surely copies of a photo are found, and how often two photos are taken for one.

Copies are made of crops of one data set and compared with their originals, which gives the share
found; the crops of two data sets without a common photo are compared with each other, which gives
the false alarms. Both data sets are folders of aligned crops, a folder an identity.

    python benchmarks/near_duplicates.py FOLDER_A FOLDER_B
"""

import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance, ImageOps

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.formats.folders import list_folder
from nas_face.data.near_duplicates import hash_images, near_duplicates

DISTANCES = (16, 24, 32, 40, 48, 56, 64)
N_COPIED = 1000
Edit = Callable[[Image.Image], Image.Image]


def main(folder_a: Path, folder_b: Path) -> None:
    """Measure and print two tables and the times."""
    a, b = list_folder(folder_a), list_folder(folder_b)
    start = time.perf_counter()
    hashed_a, hashed_b = hash_images(a.blobs), hash_images(b.blobs)
    hashing_s = time.perf_counter() - start
    start = time.perf_counter()
    false = near_duplicates(hashed_a, hashed_b, distance=max(DISTANCES))
    search_s = time.perf_counter() - start
    n_pairs = len(hashed_a.rows) * len(hashed_b.rows)
    print(f"{len(a.names)} and {len(b.names)} images hashed in {hashing_s:.1f} s")
    print(f"{n_pairs:,} pairs compared, as they are and mirrored, in {search_s:.1f} s")
    print("\npairs of different sets within a distance:")
    straight = [sum(p.distance <= d and not p.mirrored for p in false) for d in DISTANCES]
    mirrored = [sum(p.distance <= d and p.mirrored for p in false) for d in DISTANCES]
    print(pd.DataFrame([straight, mirrored], ["as they are", "mirrored"], DISTANCES))

    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(b.names))[:N_COPIED]).tolist()
    originals = [b.blobs.read(row) for row in rows]
    print(f"\nshare of {len(rows)} copies found within a distance:")
    shares = {name: found_shares(originals, edit) for name, edit in EDITS.items()}
    table = pd.DataFrame.from_dict(shares, orient="index", columns=DISTANCES)
    print(table.to_string(float_format=lambda value: f"{value:.3f}"))


def found_shares(originals: list[bytes], edit: Edit) -> list[float]:
    """Of edited copies saved as JPEG of quality 90, for each distance."""
    copies = [_jpeg(edit(Image.open(io.BytesIO(data)).convert("RGB")), 90) for data in originals]
    distances = np.full(len(originals), 999)
    for row, (original, copy) in enumerate(zip(originals, copies, strict=True)):
        pair = hash_images(MemoryBlobs([original])), hash_images(MemoryBlobs([copy]))
        for near in near_duplicates(*pair, distance=255):
            distances[row] = near.distance
    return [float(np.mean(distances <= distance)) for distance in DISTANCES]


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def _recompressed(quality: int) -> Edit:
    return lambda image: Image.open(io.BytesIO(_jpeg(image, quality)))


def _resized(side: int) -> Edit:
    return lambda image: image.resize((side, side), Image.Resampling.BICUBIC)


def _cropped(margin: int) -> Edit:
    """Of each edge, in pixels of 112, and brought back to the old size."""
    return lambda image: image.resize(
        image.size,
        Image.Resampling.BICUBIC,
        box=(margin, margin, image.width - margin, image.height - margin),
    )


def _shifted(right: int, down: int) -> Edit:
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, right, 0, 1, down)
    )


EDITS: dict[str, Edit] = {
    "JPEG quality 30": _recompressed(30),
    "JPEG quality 70": _recompressed(70),
    "half the size": _resized(56),
    "twice the size": _resized(224),
    "1 pixel cropped": _cropped(1),
    "2 pixels cropped": _cropped(2),
    "4 pixels cropped": _cropped(4),
    "shifted by (2, 1)": _shifted(2, 1),
    "turned by 3 degrees": lambda image: image.rotate(3, Image.Resampling.BICUBIC),
    "brightness x 0.7": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "brightness x 1.4": lambda image: ImageEnhance.Brightness(image).enhance(1.4),
    "contrast x 0.6": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "grey": lambda image: image.convert("L"),
    "mirrored": ImageOps.mirror,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
