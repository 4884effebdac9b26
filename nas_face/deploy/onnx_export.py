"""FaceModel to an ONNX file.

A layer tree is data, so export is one more lowering of it: no tracing, batch normalisation folded
in double precision, PReLU in the form that the runtime is fast with.
"""

from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnx
from onnx import ModelProto, helper

import nas_face
from nas_face.deploy.files import write_atomically
from nas_face.deploy.onnx_graph import INPUT, GraphWriter
from nas_face.deploy.onnx_layers.site import Value
from nas_face.deploy.onnx_lowering import Lowering
from nas_face.errors import DeployError
from nas_face.nn.model import LUMA, FaceModel, Preprocessing

# Opset 17 and IR 8 are old enough for every converter and runtime met so far; nothing here needs
# more.
OPSET: Final = 17
IR_VERSION: Final = 8
# Name of the value between preprocessing and network.
PREPROCESSED: Final = "preprocessing.scaled"


def export_onnx(
    model: FaceModel, path: Path, *, prelu: Literal["native", "rewrite"] = "rewrite"
) -> None:
    """Write a model as one ONNX file that takes pixels and gives embeddings.

    Input `image`: `(N, 3, H, W)` float32, RGB, values 0 to 255; output `embedding`: `(N, D)`, not
    of unit length. The batch size N is free. Preprocessing is part of the graph, so a caller
    cannot get it wrong. Equal models give equal bytes.

    Args:
        model: the model; its weights may be on any device.
        path: file to write; an old one is replaced in one step.
        prelu: `rewrite` turns PReLU into a * x + (1 - a) * relu(x), the same function for every
            slope a; measured 2.5 times faster in ONNX Runtime on x86. `native` keeps one PRelu
            node, which other runtimes recognise and fuse.

    Raises:
        DeployError: the network has a form that cannot be exported, or the file cannot be written.
    """
    try:
        exported = to_onnx(model, prelu=prelu)
    except DeployError as failure:
        raise DeployError(f"{path}: {failure}") from failure
    write_atomically(path, exported.SerializeToString(deterministic=True))


def to_onnx(model: FaceModel, *, prelu: Literal["native", "rewrite"] = "rewrite") -> ModelProto:
    """The ONNX model that `export_onnx` writes.

    Raises:
        DeployError: the network has a form that cannot be exported.
    """
    description = model.description
    weights = {
        key: value.detach().cpu().double().numpy()
        for key, value in model.module.state_dict().items()
    }
    graph = GraphWriter()
    x = Value(_preprocess(graph, description.preprocessing), description.input)
    y = Lowering(graph, weights, prelu).lower(description.network, x)
    if not y.flat:
        raise DeployError("the network ends in a feature map; it must end in a flat embedding")
    height, width = description.input.height, description.input.width
    exported = helper.make_model(
        graph.finish(description.arch_id, y.name, height, width, description.embedding_size),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="nas-face",
        producer_version=nas_face.__version__,
    )
    helper.set_model_props(exported, _properties(model))
    # Shapes of all values are kept in the file: quantisers and converters need them.
    exported = onnx.shape_inference.infer_shapes(exported, check_type=True, strict_mode=True)
    onnx.checker.check_model(exported, full_check=True)
    return exported


def _preprocess(graph: GraphWriter, preprocessing: Preprocessing) -> str:
    """(x - mean) / scale as two nodes, the order of channels or the brightness before it.

    Folding them into the first convolution would be wrong at the border: its padding is zero
    after normalisation, not before.

    The package insightface goes by names to tell whether a file normalises: that of one of the
    first eight nodes must begin with `Sub`, of one with `Mul`, or it normalises by itself as well.
    The second is a division all the same, for the reciprocal of most scales is not exact.
    """
    x = INPUT
    if preprocessing.channel_order == "BGR":
        order = graph.integers("preprocessing.order", (2, 1, 0))
        x = graph.node("Gather", "preprocessing.bgr", (x, order), {"axis": 1})
    if preprocessing.channel_order == "grey":
        shares = graph.floats("preprocessing.luma", np.array(LUMA).reshape(3, 1, 1))
        axis = graph.integers("preprocessing.channels", (1,))
        x = graph.node("Mul", "preprocessing.shares", (x, shares))
        x = graph.node("ReduceSum", "preprocessing.grey", (x, axis))
    mean = graph.floats("preprocessing.mean", np.array(preprocessing.mean))
    scale = graph.floats("preprocessing.scale", np.array(preprocessing.scale))
    centred = "preprocessing.centred"
    graph.node_with_outputs("Sub", f"Sub_{centred}", (x, mean), (centred,))
    graph.node_with_outputs("Div", f"Mul_{PREPROCESSED}", (centred, scale), (PREPROCESSED,))
    return PREPROCESSED


def _properties(model: FaceModel) -> dict[str, str]:
    """What a reader of the file alone should know."""
    description = model.description
    how = description.preprocessing
    red, green, blue = LUMA
    pixels = {
        "RGB": "in RGB order",
        "BGR": "in BGR order",
        "grey": f"to the brightness {red:g} R + {green:g} G + {blue:g} B",
    }
    return {
        "nas_face.version": nas_face.__version__,
        "nas_face.arch_id": description.arch_id,
        "nas_face.lineage": "\n".join(description.lineage),
        "nas_face.input_size": f"{description.input.height}x{description.input.width}",
        "nas_face.embedding_size": str(description.embedding_size),
        "nas_face.preprocessing": (
            "feed RGB pixels 0..255 as float32 (N, 3, H, W); the graph itself applies "
            f"(x - {how.mean:g}) / {how.scale:g} {pixels[how.channel_order]}"
        ),
    }
