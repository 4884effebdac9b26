"""Scores of proxies, each network measured once: a file remembers them."""

import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

import filelock
import numpy as np
from numpy.typing import NDArray

from nas_face.arch.codec import canonical_json
from nas_face.arch.spec import ArchSpec
from nas_face.data import FaceImages
from nas_face.errors import ConfigError
from nas_face.losses.margins.settings import CosFace
from nas_face.proxies import ProxyScores, measure_proxies, proxy
from nas_face.train import TrainSettings

PROXIES_FILE = "proxies.json"
"""Of a run folder: figures of proxies, by settings and `arch_id`."""

VERSION = 1
"""Of the definitions; figures of other versions are measured anew."""

IMAGES_A_PERSON = 4


@final
class ProxyScorer:
    """Measures proxies of architectures on faces of a study.

    Args:
        faces_of: faces to train on, by height and width.
        training: recipe whose loss the proxies use.
        n_images: faces that they look at, 4 or more.
        seed: of weights, of random vectors and of the choice of faces.
        path: JSON file that remembers figures, or none. A network is added as soon as it is
            measured, and several processes may add to one file.

    Raises:
        ConfigError: the file is broken.
    """

    def __init__(
        self,
        faces_of: Callable[[tuple[int, int]], FaceImages],
        training: TrainSettings,
        *,
        n_images: int,
        seed: int,
        path: Path | None = None,
    ) -> None:
        self._faces_of = faces_of
        self._loss = training.loss or CosFace()
        self._n_images = n_images
        self._seed = seed
        self._path = path
        self._settings = (
            f"version {VERSION}, seed {seed}, {n_images} images, {canonical_json(self._loss)}"
        )
        self._images: dict[tuple[int, int], tuple[NDArray[np.uint8], NDArray[np.int64]]] = {}
        self._known: dict[str, ProxyScores] = {} if path is None else self._read(path)

    def __call__(self, spec: ArchSpec, names: Sequence[str]) -> ProxyScores:
        """Figures of the proxies, from the file where they are known.

        Raises:
            ConfigError: a name is unknown.
            DataError: there are too few faces.
        """
        known = self._known.get(spec.arch_id, ProxyScores(figures={}, seconds={}))
        missing = [name for name in names if proxy(name).name not in known.seconds]
        if missing:
            images, labels = self._faces((spec.input_shape[1], spec.input_shape[2]))
            new = measure_proxies(
                spec, images, labels, loss=self._loss, seed=self._seed, names=missing
            )
            seconds = {name: round(value, 4) for name, value in new.seconds.items()}
            known = ProxyScores(
                figures={**known.figures, **new.figures},
                seconds={**known.seconds, **seconds},
            )
            self._known[spec.arch_id] = known
            if self._path is not None:
                self._add(self._path, spec.arch_id, known)
        return known

    def _faces(self, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        if size not in self._images:
            self._images[size] = some_faces(self._faces_of(size), self._n_images, seed=self._seed)
        return self._images[size]

    def _read(self, path: Path) -> dict[str, ProxyScores]:
        return {
            arch_id: ProxyScores(
                figures={
                    name: math.nan if value is None else value
                    for name, value in record["figures"].items()
                },
                seconds=record["seconds"],
            )
            for arch_id, record in _records(path).get(self._settings, {}).items()
        }

    def _add(self, path: Path, arch_id: str, scores: ProxyScores) -> None:
        with filelock.FileLock(path.with_name(path.name + ".lock")):
            whole = _records(path)
            whole.setdefault(self._settings, {})[arch_id] = {
                "figures": {
                    name: value if math.isfinite(value) else None
                    for name, value in scores.figures.items()
                },
                "seconds": scores.seconds,
            }
            partial = path.with_name(path.name + ".partial")
            partial.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
            os.replace(partial, path)


def some_faces(
    faces: FaceImages, n: int, *, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Up to `n` images of people drawn at random, four of each where there are four.

    Returns:
        Images `(n, H, W, 3)` and labels `(n,)`. Those of a person are neighbours, so that every
        other image shows the same people as the rest.
    """
    rng = np.random.default_rng(seed)
    chosen: list[int] = []
    for identity in rng.permutation(faces.n_identities):
        own = np.flatnonzero(faces.labels == identity)
        chosen += rng.permutation(own)[:IMAGES_A_PERSON].tolist()
        if len(chosen) >= n:
            break
    rows = np.asarray(chosen[:n], dtype=np.int64)
    return faces.batch(rows), faces.labels[rows]


def _records(path: Path) -> dict[str, Any]:
    """Content of the file: networks by settings."""
    if not path.exists():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as failure:
        data = failure
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: not the figures of proxies; delete it to measure them anew")
    return data
