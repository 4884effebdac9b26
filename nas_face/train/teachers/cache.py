"""A teacher's embeddings on disk: each image embedded once, then read from a memory map.

CACHE/KEY/about.json     what they are of
CACHE/KEY/plain.npy      float16 `(N, D)`, of unit length
CACHE/KEY/mirrored.npy   likewise, of the images mirrored left to right
CACHE/KEY/*.partial      of a view that is being made; whole rows in it are kept
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import filelock
import numpy as np
from numpy.typing import NDArray

from nas_face.data import FaceImages
from nas_face.errors import ConfigError, TrainingDiverged
from nas_face.train.teachers.unit_rows import (
    DTYPE,
    MAX_LENGTH_ERROR,
    UnitRows,
    appending,
    opened,
)

ABOUT_FILE = "about.json"
_VERSION = 1
_BLOCK = 256  # images between two writes: what a kill may lose
_N_SAMPLED = 256  # images whose pixels tell data sets apart
_NOTE_S = 30.0


class Teacher(Protocol):
    """Something that turns crops of its size into embeddings."""

    def embed(self, images: NDArray[np.uint8], /, *, flip: bool = True) -> NDArray[np.float32]:
        """Embeddings `(N, D)` of RGB crops `(N, height, width, 3)`; with `flip` those of the
        mirrored crops are added."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherModel:
    """A teacher that is not loaded before it is needed.

    Attributes:
        name: for messages.
        digest: of its weights and of how it takes images; equal teachers have equal ones.
        height: of the crops that it takes, in pixels.
        width: of the crops that it takes, in pixels.
        load: makes it ready.
    """

    name: str
    digest: str
    height: int
    width: int
    load: Callable[[], Teacher]


def images_digest(images: FaceImages) -> str:
    """Digest of the names and the size of images, and of the pixels of up to 256 of them, spread
    over the set."""
    found = hashlib.sha256("\n".join(images.names).encode())
    found.update(f"\n{images.height}x{images.width}\n".encode())
    found.update(images.batch(_spread(len(images), _N_SAMPLED)).tobytes())
    return found.hexdigest()


@final
class CachedTargets:
    """What a student is taught, by one teacher; made at first use, or taken from disk.

    Several processes may share a cache: one embeds, the others wait for it. One that is killed
    loses at most the last 256 images of its work.

    Args:
        teacher: by whom.
        images: the training images at the teacher's size, in the student's order.
        digest: of `images_digest`.
        cache: folder of all teachers' embeddings.
        note: told in one line of long work, and of files that had to be made again.

    Raises:
        ValueError: the images have another size, or there is none.
    """

    def __init__(
        self,
        teacher: TeacherModel,
        images: FaceImages,
        digest: str,
        cache: Path,
        *,
        note: Callable[[str], None],
    ) -> None:
        if (images.height, images.width) != (teacher.height, teacher.width) or not len(images):
            raise ValueError(
                f"a teacher of {teacher.height}x{teacher.width} needs such images, got "
                f"{len(images)} of {images.height}x{images.width}"
            )
        self._teacher = teacher
        self._images = images
        self._note = note
        self.identity = hashlib.sha256(
            f"{_VERSION} {teacher.digest} {digest}".encode()
        ).hexdigest()
        self.folder = cache / self.identity[:24]
        self._size: int | None = None
        self._views: dict[bool, UnitRows] = {}

    @property
    def embedding_size(self) -> int:
        """Length D of an embedding; the teacher is asked for one where nothing is on disk."""
        if self._size is None:
            self._size = self._known_size()
        if self._size is None:
            with self._alone():
                self._size = self._known_size() or self._begun()
        return self._size

    def rows(
        self, indices: NDArray[np.int64], mirrored: NDArray[np.bool_], *, epoch: int = 0
    ) -> NDArray[np.float32]:
        """Embeddings `(B, D)` of unit length, whatever the epoch.

        Args:
            indices: `(B,)`, into the images.
            mirrored: `(B,)`, which of them are mirrored left to right.
            epoch: not used.

        Raises:
            TrainingDiverged: the teacher's embedding of an image is not finite, or zero.
            ConfigError: a file on disk has been damaged.
        """
        y = np.empty((len(indices), self.embedding_size), np.float32)
        for view in (False, True):
            chosen = mirrored == view
            if chosen.any():
                y[chosen] = self._view(view)[indices[chosen]]
        lengths = np.linalg.norm(y, axis=1, keepdims=True)
        if not (np.abs(lengths - 1) < MAX_LENGTH_ERROR).all():
            row = int(np.argmin(np.abs(lengths[:, 0] - 1) < MAX_LENGTH_ERROR))
            raise ConfigError(
                f"{self.folder}: damaged, the embedding of {self._images.names[indices[row]]} is "
                f"{lengths[row, 0]:.3g} long and not 1; delete the folder, and it is made again"
            )
        unit: NDArray[np.float32] = y / lengths
        return unit

    def prepare(self, *, epoch: int = 0, mirrored: bool) -> None:
        """Have the embeddings on disk, those of mirrored images only if asked for."""
        for view in (False, True) if mirrored else (False,):
            self._view(view)

    def sample(self, n: int) -> NDArray[np.float32]:
        """Embeddings `(m, D)` of up to `n` images as they are, spread evenly over the set."""
        indices = _spread(len(self._images), n)
        return self.rows(indices, np.zeros(len(indices), np.bool_))

    def _view(self, mirrored: bool) -> UnitRows:
        if mirrored not in self._views:
            shape = (len(self._images), self.embedding_size)
            path = self.folder / ("mirrored.npy" if mirrored else "plain.npy")
            found = opened(path, shape)
            if found is None:
                with self._alone():  # another process may have made it while this one waited
                    found = opened(path, shape)
                    if found is None:
                        self._fill(path, shape, mirrored)
                found = opened(path, shape) if found is None else found
            if found is None:
                raise ConfigError(f"{path}: changed while it was read; delete {self.folder}")
            self._views[mirrored] = found
        return self._views[mirrored]

    def _fill(self, path: Path, shape: tuple[int, int], mirrored: bool) -> None:
        """Embed what is missing, and put the file in its place once it is whole."""
        name = self._teacher.name
        if path.exists():
            self._note(f"{path}: broken or of something else; it is made again")
        partial = path.with_name(f"{path.name}.partial")
        n_images = len(self._images)
        teacher = self._teacher.load()
        with appending(partial, shape) as (file, n_done):
            taken_up = f", {n_done} of them found" if n_done else ""
            view = "mirrored images" if mirrored else "images"
            self._note(f"teacher {name}: embedding {n_images} {view} once{taken_up}")
            began = told = time.monotonic()
            for start in range(n_done, n_images, _BLOCK):
                rows = np.arange(start, min(start + _BLOCK, n_images))
                file.write(self._embedded(teacher, rows, shape[1], mirrored).tobytes())
                file.flush()
                now, n = time.monotonic(), int(rows[-1]) + 1
                if now - told >= _NOTE_S and n < n_images:
                    told = now
                    pace = (n - n_done) / (now - began)
                    self._note(
                        f"teacher {name}: {n} of {n_images} {view}, {pace:.0f} images/s, "
                        f"{(n_images - n) / pace / 60:.0f} min left"
                    )
            os.fsync(file.fileno())
        os.replace(partial, path)

    def _embedded(
        self, teacher: Teacher, rows: NDArray[np.int64], size: int, mirrored: bool
    ) -> UnitRows:
        pixels = self._images.batch(rows)
        if mirrored:
            pixels = np.ascontiguousarray(pixels[:, :, ::-1])
        y = np.asarray(teacher.embed(pixels, flip=False), np.float32)
        if y.shape != (len(rows), size):
            raise ConfigError(
                f"teacher {self._teacher.name}: embeddings of shape {y.shape} for {len(rows)} "
                f"images, where {self.folder / ABOUT_FILE} says {size} values each; delete the "
                "folder"
            )
        lengths = np.linalg.norm(y.astype(np.float64), axis=1, keepdims=True)
        usable = np.isfinite(lengths[:, 0]) & (lengths[:, 0] > 0)
        if not usable.all():
            image = self._images.names[rows[int(np.argmin(usable))]]
            raise TrainingDiverged(
                f"teacher {self._teacher.name}: its embedding of {image} "
                f"({np.count_nonzero(~usable)} in {len(rows)} images) is not finite, or zero; "
                "check its mean and scale, or leave the image out"
            )
        unit: UnitRows = (y / lengths).astype(DTYPE)
        return unit

    def _known_size(self) -> int | None:
        """Length of an embedding as the note on disk tells it; None without a note of these
        very embeddings."""
        try:
            about = json.loads((self.folder / ABOUT_FILE).read_text(encoding="utf-8"))
            size = about.pop("embedding_size")
        except (OSError, ValueError, KeyError, AttributeError):
            return None
        known = about == self._about() and isinstance(size, int) and size > 0
        return size if known else None

    def _begun(self) -> int:
        """Begin the folder: whatever is in it, is of something else."""
        there = [path for path in self.folder.iterdir() if path.suffix != ".lock"]
        if there:
            self._note(f"{self.folder}: broken or of something else; it is made again")
        for path in there:
            path.unlink()
        teacher = self._teacher.load()
        size = int(teacher.embed(self._images.batch(np.zeros(1, np.int64)), flip=False).shape[1])
        path = self.folder / ABOUT_FILE
        partial = path.with_name(f"{path.name}.partial")
        text = json.dumps({**self._about(), "embedding_size": size}, indent=1) + "\n"
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
        return size

    def _about(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "identity": self.identity,
            "teacher": self._teacher.name,
            "n_images": len(self._images),
            "image_size": [self._images.height, self._images.width],
        }

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time; a lock goes with its process, however that ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder / "cache.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            self._note(f"teacher {self._teacher.name}: waiting for the process that embeds by it")
            lock.acquire(poll_interval=0.2)
        try:
            yield
        finally:
            lock.release()


def _spread(n_images: int, n: int) -> NDArray[np.int64]:
    """Up to `n` places among images, evenly apart."""
    return np.unique(np.linspace(0, n_images - 1, min(n, n_images)).astype(np.int64))
