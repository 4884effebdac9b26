"""Running an artefact: which crops show the same person.

An artefact is the folder that `nas-face compress` leaves. Its manifest says which file runs where,
and from which score on two faces count as one.
"""

from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from nas_face.deploy.manifest import MANIFEST_FILE, Manifest, ModelFile, Runtime
from nas_face.deploy.openvino import openvino_missing
from nas_face.deploy.session import Session, open_model_file
from nas_face.errors import DeployError

_ORDER: Final[tuple[Runtime, ...]] = ("openvino", "onnxruntime")


class Verdict(NamedTuple):
    """What a model makes of two crops.

    Attributes:
        same: whether they count as one person at the rate that was asked for.
        score: their cosine, in [-1, 1].
    """

    same: bool
    score: float


@final
class Artefact:
    """A model that is ready to compare faces; `open_artefact` makes one.

    Attributes:
        folder: of the artefact.
        manifest: what it says of itself.
        file: the file that runs.
        session: that runs it.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, file: ModelFile, session: Session
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.file = file
        self.session = session

    @property
    def height(self) -> int:
        """Of the crops, in pixels."""
        return self.session.height

    @property
    def width(self) -> int:
        """Of the crops, in pixels."""
        return self.session.width

    def embed(self, images: NDArray[np.uint8], *, flip: bool = True) -> NDArray[np.float32]:
        """Embeddings of face crops, not of unit length.

        Args:
            images: `(N, height, width, 3)` uint8 RGB crops, aligned as the manifest says.
            flip: add the embedding of the mirrored crop. The thresholds are of such sums.

        Returns:
            `(N, embedding_size)`.

        Raises:
            ValueError: the images have another type or size.
            DeployError: the runtime refuses.
        """
        return self.session.embed(images, flip=flip)

    def score(self, a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
        """Cosine of the embeddings of two crops.

        Args:
            a: `(height, width, 3)` uint8 RGB crop.
            b: another.

        Returns:
            In [-1, 1], higher means more alike.

        Raises:
            ValueError: a crop has another type or size.
            DeployError: an embedding is zero or not finite, so that there is no cosine.
        """
        first, second = (self._direction(each) for each in (a, b))
        return float(np.clip(first @ second, -1.0, 1.0))

    def same(self, a: NDArray[np.uint8], b: NDArray[np.uint8], *, fmr: float = 1e-3) -> Verdict:
        """Whether two crops show the same person.

        Args:
            a: `(height, width, 3)` uint8 RGB crop.
            b: another.
            fmr: how often two different people may pass for one, of those rates that the threshold
                card supports.

        Returns:
            The verdict and the score.

        Raises:
            ValueError: a crop has another type or size.
            DeployError: the card has no threshold for that rate, or there is no score.
        """
        threshold = self.file.threshold(fmr, where=str(self.folder))
        score = self.score(a, b)
        return Verdict(same=score >= threshold.cosine, score=score)

    def _direction(self, crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        embedding = self.embed(crop[None])[0].astype(np.float64)
        length = float(np.linalg.norm(embedding))
        if not 0 < length < np.inf:
            raise DeployError(
                f"{self.session.path}: the embedding of a crop is zero or not finite"
            )
        direction: NDArray[np.float64] = embedding / length
        return direction


def open_artefact(
    folder: Path | str,
    *,
    precision: str | None = None,
    runtime: Runtime | None = None,
    threads: int = 1,
) -> Artefact:
    """Open the folder that `nas-face compress` leaves, once its files are found to be whole.

    Args:
        folder: the artefact.
        precision: such as `int8`; by default the one that the manifest recommends.
        runtime: by default OpenVINO where it is installed and the artefact has a file for it, else
            ONNX Runtime.
        threads: that one call may use.

    Raises:
        DeployError: there is no manifest, or one that does not fit; a file or its threshold card
        is
            missing or was changed; there is no such precision; or the runtime is not installed.

    Example:
        >>> model = open_artefact("out", precision="int8")
        >>> same, score = model.same(crop_a, crop_b, fmr=1e-3)
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    where = str(folder / MANIFEST_FILE)
    ways = manifest.ways(precision or manifest.recommended, where=where)
    file = _chosen(ways, runtime, where)
    session = open_model_file(file.require(folder), threads=threads)
    got = (session.height, session.width, session.embedding_size)
    said = (manifest.input.height, manifest.input.width, manifest.embedding.size)
    if got != said:
        raise DeployError(
            f"{session.path}: takes {got[0]}x{got[1]} to {got[2]} values where {MANIFEST_FILE} "
            f"says {said[0]}x{said[1]} to {said[2]}; compress again"
        )
    return Artefact(folder, manifest, file, session)


def _chosen(ways: tuple[ModelFile, ...], runtime: Runtime | None, where: str) -> ModelFile:
    """The file of the runtime that is asked for, or of the first that is installed."""
    by_runtime = {each.runtime: each for each in ways}
    if runtime is not None and runtime not in by_runtime:
        raise DeployError(
            f"{where}: no {ways[0].precision} file for {runtime}; there is one for "
            + " and ".join(by_runtime)
        )
    wanted = [runtime] if runtime is not None else [each for each in _ORDER if each in by_runtime]
    missing = openvino_missing()
    for each in wanted:
        if each != "openvino" or missing is None:
            return by_runtime[each]
    raise DeployError(f"{where}: {missing}")
