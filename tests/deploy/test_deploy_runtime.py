"""Files that run, and files that do not."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nas_face.deploy import OnnxSession
from nas_face.errors import DeployError

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE


def foreign(path, inputs, outputs):
    """A valid ONNX file with one Flatten node between values of our choosing."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", [inputs[0][0]], [outputs[0][0]])],
        "foreign",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def test_sizes_are_read_from_the_graph(mobile_file):
    session = OnnxSession(mobile_file)
    assert (session.height, session.width, session.embedding_size) == (56, 56, 128)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_embed_is_that_of_the_model(flip, batch_size, mobile, mobile_file, faces):
    got = OnnxSession(mobile_file).embed(faces[:6], flip=flip, batch_size=batch_size)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, mobile.embed(faces[:6], flip=flip), atol=2e-3)


def test_no_images_give_no_embeddings(mobile_file, faces):
    assert OnnxSession(mobile_file).embed(faces[:0]).shape == (0, 128)


def test_more_threads_give_the_same_embeddings(mobile_file, faces):
    one, two = (OnnxSession(mobile_file, threads=n).embed(faces[:4]) for n in (1, 2))
    np.testing.assert_allclose(one, two, atol=1e-4)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 56, 56, 3), np.float32),
        np.zeros((2, 112, 112, 3), np.uint8),
        np.zeros((2, 3, 56, 56), np.uint8),
        np.zeros((56, 56, 3), np.uint8),
    ],
)
def test_other_images_are_refused(images, mobile_file):
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(N, 56, 56, 3\)"):
        OnnxSession(mobile_file).embed(images)


def test_impossible_settings_are_refused(mobile_file, faces):
    with pytest.raises(ValueError, match="threads"):
        OnnxSession(mobile_file, threads=0)
    with pytest.raises(ValueError, match="batch_size"):
        OnnxSession(mobile_file).embed(faces, batch_size=0)


def test_missing_file_is_one_line(tmp_path):
    with pytest.raises(DeployError, match=r"none\.onnx: there is no such file") as raised:
        OnnxSession(tmp_path / "none.onnx")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"no protobuf\n" * 20])
def test_broken_file_is_one_line(content, tmp_path, capfd):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(DeployError, match=r"broken\.onnx: not an ONNX file") as raised:
        OnnxSession(path)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_truncated_file_is_one_line(mobile_file, tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(mobile_file.read_bytes()[:50_000])
    with pytest.raises(DeployError, match=r"cut\.onnx"):
        OnnxSession(path)


IMAGE, EMBEDDING = ("image", FLOAT, ("N", 3, 4, 4)), ("embedding", FLOAT, ("N", 48))
SIGNATURES = {
    "input name": ([("data", *IMAGE[1:])], [EMBEDDING]),
    "output name": ([IMAGE], [("features", *EMBEDDING[1:])]),
    "two inputs": ([IMAGE, ("mask", FLOAT, ("N",))], [EMBEDDING]),
    "grey": ([("image", FLOAT, ("N", 1, 4, 4))], [("embedding", FLOAT, ("N", 16))]),
    "free size": ([("image", FLOAT, ("N", 3, "H", "W"))], [("embedding", FLOAT, ("N", "D"))]),
    "type": ([("image", DOUBLE, ("N", 3, 4, 4))], [("embedding", DOUBLE, ("N", 48))]),
    "rank": ([("image", FLOAT, ("N", 3, 16))], [EMBEDDING]),
}  # fmt: skip


@pytest.mark.parametrize("signature", SIGNATURES)
def test_other_kinds_of_model_are_refused(signature, tmp_path):
    path = tmp_path / "other.onnx"
    foreign(path, *SIGNATURES[signature])
    with pytest.raises(DeployError, match=r"other\.onnx: not a face model; .*, got '"):
        OnnxSession(path)
