"""Embeddings of a set of faces, kept in a file where that is wanted."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.data import FaceImages
from nas_face.errors import ConfigError
from nas_face.study.evaluate import Embedder
from nas_face.study.files import write_text

_CHUNK = 256  # images that are decoded at once
_N_SAMPLED = 16

OnImages = Callable[[int, int], None]
"""Told how many images are done, of how many."""


def embed_images(
    model: Embedder, images: FaceImages, *, flip: bool = True, on_images: OnImages | None = None
) -> NDArray[np.float32]:
    """Embeddings `(N, D)` of all images in their order; with `flip` mirrored ones added."""
    parts = []
    for start in range(0, len(images), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(images)))
        parts.append(model.embed(images.batch(rows), flip=flip))
        if on_images is not None:
            on_images(int(rows[-1]) + 1, len(images))
    return np.concatenate(parts)


@final
class EmbeddingFile:
    """Embeddings in a `.npy` file, with a note beside it of what they are of.

    Args:
        path: `.npy`; the note is `.npy.json`.
        source: what made them, in any words that are equal for equal embeddings.
        images: what they are of.

    Raises:
        ConfigError: the name ends in something else.
    """

    def __init__(self, path: Path, source: str, images: FaceImages) -> None:
        if path.suffix != ".npy":
            raise ConfigError(f"{path}: embeddings are kept in a file whose name ends in .npy")
        self.path = path
        self._note = path.with_name(f"{path.name}.json")
        self._images = images
        self._expected = {
            "source": source,
            "n_images": len(images),
            "images": _digest(images),
        }

    def read(self) -> NDArray[np.float32] | None:
        """What is kept, or None where nothing is yet.

        Raises:
            ConfigError: the file is of other images or of another model, or is broken.
        """
        if not self.path.exists():
            return None
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            embeddings = np.load(self.path, allow_pickle=False)
        except (OSError, ValueError) as failure:
            raise ConfigError(
                f"{self.path}: no embeddings with the note {self._note.name} beside them; choose "
                "another file, or delete it"
            ) from failure
        differs = [key for key in self._expected if note.get(key) != self._expected[key]]
        if differs or embeddings.shape[:1] != (len(self._images),) or embeddings.ndim != 2:
            what = "of another model" if differs == ["source"] else "of other images"
            raise ConfigError(
                f"{self.path}: holds embeddings {what}; choose another file, or delete it"
            )
        return np.asarray(embeddings, np.float32)

    def write(self, embeddings: NDArray[np.float32]) -> None:
        """Keep them; the note is written last."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        np.save(self.path, embeddings)
        write_text(self._note, json.dumps(self._expected, indent=1) + "\n")


def _digest(images: FaceImages) -> str:
    """Of the names, and of the pixels of some images."""
    found = hashlib.sha256("\n".join(images.names).encode())
    found.update(f"\n{images.height}x{images.width}\n".encode())
    some = np.unique(np.linspace(0, len(images) - 1, min(_N_SAMPLED, len(images))).astype(int))
    found.update(images.batch(some).tobytes())
    return found.hexdigest()
