"""Running a foreign ONNX file, to hold an imported network against it."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nas_face.errors import BuildError

_FATAL = 4  # ONNX Runtime's log severity: only what ends the process


def run_onnx(path: Path, x: NDArray[np.float32], embedding_size: int) -> NDArray[np.float32]:
    """Embeddings by ONNX Runtime, one image at a time, since many files fix the batch at one.

    Args:
        path: a file with one input.
        x: `(N, ...)`, each row as the file takes it.
        embedding_size: of the result that is wanted, where the file has several.

    Returns:
        `(N, embedding_size)`.

    Raises:
        BuildError: ONNX Runtime refuses the file or the images, or no result is of that size.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        rows = [session.run(None, {name: image[np.newaxis]}) for image in x]
    except Exception as failure:  # its exceptions share no other root
        reason = " ".join(str(failure).split())[:200]
        raise BuildError(f"{path}: ONNX Runtime cannot run it ({reason})") from failure
    for at, result in enumerate(rows[0]):
        if isinstance(result, np.ndarray) and result.size == embedding_size:
            return np.stack([row[at].reshape(-1) for row in rows]).astype(np.float32)
    sizes = ", ".join(str(np.shape(result)) for result in rows[0])
    raise BuildError(
        f"{path}: its results are {sizes}; the network's embedding has {embedding_size} values"
    )
