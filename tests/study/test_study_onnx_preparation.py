"""Whether a graph prepares pixels itself: only where there is no doubt."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nas_face.deploy import Convention
from nas_face.errors import ConfigError
from nas_face.study.networks import embedder_of
from nas_face.study.verification.preparation import completed

PLAIN = Convention(mean=(0.0,), scale=(1.0,))


@pytest.fixture
def beginning(tmp_path):
    """A function that writes a file whose graph begins with some operators and constants."""

    def write(*steps):
        nodes, arrays, value = [], [], "data"
        for at, (operator, number) in enumerate(steps):
            arrays.append(numpy_helper.from_array(np.array([number], np.float32), f"number{at}"))
            nodes.append(helper.make_node(operator, [value, f"number{at}"], [f"value{at}"]))
            value = f"value{at}"
        nodes.append(helper.make_node("GlobalAveragePool", [value], ["pooled"]))
        nodes.append(helper.make_node("Flatten", ["pooled"], ["fc1"]))
        graph = helper.make_graph(
            nodes,
            "face",
            [helper.make_tensor_value_info("data", TensorProto.FLOAT, (1, 3, 8, 8))],
            [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, (1, 3))],
            arrays,
        )
        path = tmp_path / "face.onnx"
        opset = [helper.make_opsetid("", 13)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
        return path

    return write


@pytest.mark.parametrize(
    "steps",
    [
        (("Sub", 127.5), ("Mul", 0.0078125)),
        (("Sub", 127.5), ("Div", 127.5)),
        (("Mul", 1 / 127.5), ("Sub", 1.0)),
        (("Add", -127.0), ("Div", 128.0)),
    ],
)
def test_a_graph_that_takes_pixels_from_0_to_255(steps, beginning):
    assert completed(beginning(*steps), Convention()) == PLAIN


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (("Sub", 0.5), ("Div", 0.5)),  # pixels from 0 to 1
        (("Div", 255.0),),  # perhaps, but what of the rest
        (("Sub", 127.5),),
    ],
)
def test_a_graph_that_leaves_doubt(steps, beginning):
    assert completed(beginning(*steps), Convention()) == Convention()


def test_the_word_of_the_user_counts(beginning):
    path = beginning(("Sub", 127.5), ("Div", 127.5))
    said = Convention(mean=(127.5,), scale=(128.0,), order="BGR")
    assert completed(path, said) == said
    with pytest.raises(ConfigError, match="give --rgb or --bgr$"):
        embedder_of(path, None)
    assert embedder_of(path, None, Convention(order="BGR")).input.mean == (0.0,)
