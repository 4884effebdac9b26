"""FaceModel to OpenVINO's files."""

from pathlib import Path
from typing import Literal

from nas_face.deploy.onnx_export import to_onnx
from nas_face.deploy.openvino.files import read_onnx, write_ir
from nas_face.deploy.openvino.library import openvino
from nas_face.errors import DeployError
from nas_face.nn.model import FaceModel


def export_openvino(
    model: FaceModel, path: Path, *, weights: Literal["fp32", "fp16"] = "fp32"
) -> None:
    """Write a model as the pair `.xml` and `.bin` that takes pixels and gives embeddings.

    The same graph as that of `export_onnx` with native PReLU, which OpenVINO joins with the
    convolution before it: input `image` `(N, 3, H, W)` float32, RGB, values 0 to 255; output
    `embedding` `(N, D)`, not of unit length; the batch size N is free. Equal models give equal
    bytes, with the same version of OpenVINO.

    Args:
        model: the model; its weights may be on any device.
        path: `.xml` file to write, the weights beside it as `.bin`; an old pair is replaced.
        weights: `fp16` keeps them at half the size; numbers beyond 65,504 are lost. The network
            computes in float32 all the same. Hold the file against the model after either.

    Raises:
        ConfigError: OpenVINO is not installed.
        DeployError: the network has a form that cannot be exported, or the files cannot be
            written.
    """
    openvino()  # say so first if it is missing
    try:
        exported = to_onnx(model, prelu="native")
    except DeployError as failure:
        raise DeployError(f"{path}: {failure}") from failure
    write_ir(read_onnx(exported.SerializeToString(), path), path, half=weights == "fp16")
