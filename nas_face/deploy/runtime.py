"""Running an exported file with ONNX Runtime."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from nas_face.deploy.batches import embed_in_batches
from nas_face.deploy.onnx_graph import INPUT, OUTPUT
from nas_face.errors import DeployError

_FATAL = 4  # ONNX Runtime's log severity: only what ends the process


@final
class OnnxSession:
    """An ONNX file that turns face crops into embeddings, on the CPU; float32 and int8 alike.

    Args:
        path: a file of `export_onnx` or `quantise_onnx`.
        threads: that one call may use.

    Attributes:
        path: of the file.
        threads: that one call may use. With one, it is the caller's.
        height: of the image that the file takes, in pixels.
        width: of the image that the file takes, in pixels.
        embedding_size: length of the embedding.
        properties: what the exporter noted in the file, such as `nas_face.arch_id`.

    Raises:
        DeployError: the file is missing, is not ONNX, or does not take an `image` `(N, 3, H, W)`
            to an `embedding` `(N, D)`.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.path = path
        self.threads = threads
        self._session = open_session(path, threads)
        self.height, self.width, self.embedding_size = _signature(self._session, path)
        self.properties: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """One forward pass; see `Session.run`."""
        try:
            y: NDArray[np.float32] = self._session.run([OUTPUT], {INPUT: x})[0]
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


FAILURES = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def open_session(
    path: Path, threads: int, content: bytes | None = None
) -> onnxruntime.InferenceSession:
    """An ONNX file ready to run on the CPU.

    Args:
        path: the file.
        threads: that one call may use.
        content: what to open in place of what the file holds.

    Raises:
        DeployError: the file is missing, is not ONNX, or ONNX Runtime refuses it.
    """
    if not path.is_file():
        raise DeployError(f"{path}: there is no such file; export a model to it first")
    try:
        return onnxruntime.InferenceSession(
            content or path.read_bytes(),
            quiet_options(threads),
            providers=["CPUExecutionProvider"],
        )
    except (OSError, *FAILURES) as failure:
        raise DeployError(
            f"{path}: not an ONNX file that can run here ({one_line(failure)})"
        ) from failure


def quiet_options(threads: int) -> onnxruntime.SessionOptions:
    """Of a session whose calls may use so many threads, and that writes nothing to the terminal.

    Args:
        threads: at least 1.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    return options


def _signature(session: onnxruntime.InferenceSession, path: Path) -> tuple[int, int, int]:
    """Height, width and embedding size, read from the graph."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [each.name for each in inputs], [each.name for each in outputs]
    if names == ([INPUT], [OUTPUT]):
        image, embedding = inputs[0].shape, outputs[0].shape
        fixed = [*image[1:], *embedding[1:]]
        types = {inputs[0].type, outputs[0].type}
        if types == {"tensor(float)"} and len(image) == 4 and len(embedding) == 2:
            if image[1] == 3 and all(isinstance(size, int) for size in fixed):
                return image[2], image[3], embedding[1]
    raise DeployError(
        f"{path}: not a face model; the file must take '{INPUT}' float32 (N, 3, H, W) to "
        f"'{OUTPUT}' float32 (N, D), got {listing(inputs)} to {listing(outputs)}"
    )


def listing(values: Sequence[onnxruntime.NodeArg]) -> str:
    """Inputs or outputs with types and shapes, for messages."""
    return ", ".join(f"'{each.name}' {each.type} {tuple(each.shape)}" for each in values)


def one_line(failure: Exception) -> str:
    """What ONNX Runtime complains of, for messages."""
    return " ".join(str(failure).split())[:300]
