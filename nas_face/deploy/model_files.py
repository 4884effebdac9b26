"""The files that an exported model consists of: one of ONNX, or two of OpenVINO."""

from pathlib import Path
from typing import Final

from nas_face.deploy import onnx_content

OPENVINO_SUFFIX: Final = ".xml"


def is_openvino(path: Path) -> bool:
    """Whether a file is one of OpenVINO, by its name."""
    return path.suffix == OPENVINO_SUFFIX


def openvino_weights(path: Path) -> Path:
    """Where the weights of an OpenVINO graph lie: beside it."""
    return path.with_suffix(".bin")


def weight_files(path: Path) -> tuple[Path, ...]:
    """Files beside a model file that hold weights of it, sorted; none of one that cannot be
    read."""
    if not is_openvino(path):
        return onnx_content.weight_files(path)
    weights = openvino_weights(path)
    return (weights,) if weights.is_file() else ()


def size_bytes_of(path: Path) -> int:
    """Bytes of a model file and of its weights beside it.

    Raises:
        OSError: there is no such file.
    """
    return sum(each.stat().st_size for each in (path, *weight_files(path)))
