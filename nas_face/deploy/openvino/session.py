"""Running an exported file with OpenVINO."""

from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from nas_face.deploy.batches import embed_in_batches
from nas_face.deploy.openvino.files import (
    FAILURES,
    one_line,
    properties_of,
    read_ir,
    signature_of,
)
from nas_face.deploy.openvino.library import core
from nas_face.errors import DeployError


@final
class OpenVinoSession:
    """A pair of files `.xml` and `.bin` that turns face crops into embeddings, on the CPU.

    Fixed to a batch of one at the first call with one image: OpenVINO is 15 % faster in int8, and
    4 % in float32, where it knows the batch (MobileFaceNet-512, one thread).

    Args:
        path: an `.xml` file of `export_openvino` or `quantise_openvino`.
        threads: that one call may use.

    Attributes:
        path: of the `.xml` file.
        threads: that one call may use. With one, it is the caller's.
        height: of the image that the file takes, in pixels.
        width: of the image that the file takes, in pixels.
        embedding_size: length of the embedding.
        properties: what the exporter noted in the file, such as `nas_face.arch_id`.

    Raises:
        ConfigError: OpenVINO is not installed.
        DeployError: a file is missing or broken, or it does not take an `image` `(N, 3, H, W)` to
            an `embedding` `(N, D)`.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.path = path
        self.threads = threads
        self._model = read_ir(path)
        self.height, self.width, self.embedding_size = signature_of(self._model, path)
        self.properties = properties_of(self._model)
        self._compiled: dict[int, Any] = {}

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """One forward pass; see `Session.run`."""
        try:
            y: NDArray[np.float32] = self.compiled(len(x))(x)[0]
        except FAILURES as failure:
            raise DeployError(f"{self.path}: {one_line(failure)}") from failure
        return y

    def embed(
        self, images: NDArray[np.uint8], *, flip: bool = True, batch_size: int = 16
    ) -> NDArray[np.float32]:
        """Embeddings of face crops, not of unit length; see `Session.embed`."""
        return embed_in_batches(
            self.run,
            images,
            size=(self.height, self.width),
            embedding_size=self.embedding_size,
            flip=flip,
            batch_size=batch_size,
        )

    def compiled(self, n_images: int) -> Any:
        """The `openvino.CompiledModel` that takes a batch of that size."""
        n_known = 1 if n_images == 1 else -1
        if n_known not in self._compiled:
            model = self._model.clone()
            model.reshape([n_known, 3, self.height, self.width])
            self._compiled[n_known] = compiled(model, self.threads)
        return self._compiled[n_known]


def compiled(model: Any, threads: int) -> Any:
    """An `openvino.Model` as an `openvino.CompiledModel` for the CPU."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": "1",
        "PERFORMANCE_HINT": "LATENCY",
        # Else float16 or bfloat16 where the processor has them: another function.
        "INFERENCE_PRECISION_HINT": "f32",
    }
    return core().compile_model(model, "CPU", settings)
