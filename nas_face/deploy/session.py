"""An exported file ready to run, whatever its runtime: `.xml` runs in OpenVINO, everything else in
ONNX Runtime."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas_face.deploy import onnx_embedder
from nas_face.deploy.model_files import is_openvino
from nas_face.deploy.openvino import OpenVinoSession
from nas_face.deploy.openvino.files import precision_of_ir
from nas_face.deploy.runtime import OnnxSession


class Session(Protocol):
    """An exported file that turns face crops into embeddings: `OnnxSession`,
    `OpenVinoSession`."""

    @property
    def path(self) -> Path:
        """Of the file."""

    @property
    def threads(self) -> int:
        """That one call may use; a session of one thread computes in that of its caller."""

    @property
    def height(self) -> int:
        """Of the image that the file takes, in pixels."""

    @property
    def width(self) -> int:
        """Of the image that the file takes, in pixels."""

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""

    @property
    def properties(self) -> Mapping[str, str]:
        """What the exporter noted in the file, such as `nas_face.arch_id`."""

    def run(self, x: NDArray[np.float32], /) -> NDArray[np.float32]:
        """One forward pass: `(N, 3, H, W)` float32 RGB, values 0 to 255, N at least 1, to
        `(N, embedding_size)`.

        Raises:
            DeployError: the runtime refuses.
        """

    def embed(
        self, images: NDArray[np.uint8], /, *, flip: bool = True, batch_size: int = 16
    ) -> NDArray[np.float32]:
        """Embeddings of face crops, not of unit length; the same contract as `FaceModel.embed`.

        Args:
            images: `(N, H, W, 3)` uint8 RGB crops of the file's input size.
            flip: add the embedding of the mirrored crop, as verification protocols do.
            batch_size: images in one forward pass.

        Returns:
            `(N, embedding_size)`.

        Raises:
            ValueError: the images have another type or size, or `batch_size` is below 1.
            DeployError: the runtime refuses.
        """


def open_model_file(path: Path, *, threads: int = 1) -> Session:
    """A file of ours, ready to run.

    Args:
        path: of `export_onnx`, `quantise_onnx`, `export_openvino` or `quantise_openvino`.
        threads: that one call may use.

    Raises:
        ConfigError: it is one of OpenVINO, which is not installed.
        DeployError: the file is missing, broken or of something else.
    """
    return (OpenVinoSession if is_openvino(path) else OnnxSession)(path, threads=threads)


def prepares_pixels(path: Path) -> bool:
    """Whether a file takes plain RGB pixels: an ONNX export of ours, or any file of OpenVINO,
    since others than ours are refused."""
    return is_openvino(path) or onnx_embedder.prepares_pixels(path)


def precision_of(path: Path) -> str:
    """Precision of a file's weights: `int8`, `fp16` or `fp32`, whichever is the coarsest.

    A file that cannot be read is fp32.
    """
    return precision_of_ir(path) if is_openvino(path) else onnx_embedder.precision_of(path)
