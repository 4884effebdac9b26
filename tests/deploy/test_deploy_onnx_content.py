"""ONNX files as they are opened: the same results, with weights unpacked once."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas_face.deploy.onnx_content import content_to_open, weight_files

N_IN, N_OUT = 12, 5


def packed(path: Path, *, rounds_activations: bool = False, axis: int | None = None) -> Path:
    """A linear layer whose weights are int8, as an ONNX file."""
    rng = np.random.default_rng(0)
    scales = np.float32(0.01) if axis is None else rng.uniform(0.01, 0.02, N_OUT)
    zeros = np.int8(3) if axis is None else np.full(N_OUT, 3, np.int8)
    arrays = {
        "q": rng.integers(-127, 128, (N_IN, N_OUT), dtype=np.int8),
        "s": np.asarray(scales, np.float32),
        "z": np.asarray(zeros, np.int8),
    }
    attributes = {} if axis is None else {"axis": axis}
    nodes = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes)]
    value = "x"
    if rounds_activations:
        arrays |= {"xs": np.float32(0.05), "xz": np.uint8(128)}
        nodes += [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xr"]),
        ]
        value = "xr"
    nodes.append(helper.make_node("MatMul", [value, "w"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "packed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", N_IN])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", N_OUT])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("axis", [None, 1])
@pytest.mark.parametrize("external", [False, True])
def test_packed_weights_are_unpacked_once(axis, external, tmp_path):
    path = packed(tmp_path / "m.onnx", axis=axis)
    if external:
        onnx.save(
            onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0
        )
    assert weight_files(path) == ((tmp_path / "w.bin",) if external else ())
    content = content_to_open(path)
    assert content is not None
    model = onnx.load_from_string(content)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert [each.name for each in model.graph.initializer] == ["w"]
    stored = {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    weights = (stored["q"].astype(np.float32) - stored["z"]) * stored["s"]
    x = np.random.default_rng(1).normal(0, 1, (4, N_IN)).astype(np.float32)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ weights, atol=1e-5)


def test_weights_are_left_as_they_are_where_activations_are_rounded_too(tmp_path):
    assert content_to_open(packed(tmp_path / "m.onnx", rounds_activations=True)) is None


@pytest.mark.parametrize("content", [None, b"no protobuf\n" * 20])
def test_what_cannot_be_read_is_left_to_the_runtime(content, tmp_path):
    path = tmp_path / "m.onnx"
    if content is not None:
        path.write_bytes(content)
    assert content_to_open(path) is None
    assert weight_files(path) == ()
