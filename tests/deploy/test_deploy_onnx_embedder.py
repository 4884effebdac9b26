"""ONNX files in any convention, against the same sums in numpy."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from nas_face.deploy import OnnxSession
from nas_face.deploy.onnx_convention import Convention
from nas_face.deploy.onnx_embedder import OnnxEmbedder, precision_of, prepares_pixels
from nas_face.errors import ConfigError, DeployError

HEIGHT, WIDTH, DIMENSIONS = 6, 5, 7
FLOAT = TensorProto.FLOAT
NUMPY = {FLOAT: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
PLAIN = {"mean": (127.5,), "scale": (128.0,), "order": "RGB"}


def weights(channels: int = 3) -> NDArray[np.float32]:
    """Of the linear layer over `(C, H, W)` that all graphs here are."""
    shape = (channels * HEIGHT * WIDTH, DIMENSIONS)
    return np.random.default_rng(1).normal(0, 0.05, shape).astype(np.float32)


@pytest.fixture(scope="session")
def crops() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (7, HEIGHT, WIDTH, 3), dtype=np.uint8)


def write(
    path: Path,
    shape: tuple[int | str | None, ...],
    *,
    kind: int = FLOAT,
    name: str = "data",
    channels: int = 3,
    nhwc: bool = False,
    listed: bool = False,
    reshape: tuple[int, ...] | None = None,
    extra: tuple[tuple[str, int], ...] = (),
) -> Path:
    """A linear layer over the image as an ONNX file.

    Args:
        path: of the file.
        shape: of the input.
        kind: of the input.
        name: of the input.
        channels: of the image.
        nhwc: whether they come last.
        listed: whether the weights are listed among the inputs, as old exporters do.
        reshape: what becomes of the embedding at the end.
        extra: further results, linear in the first, of so many values.
    """
    arrays = {"weights": weights(channels)}
    nodes = []
    value = name
    if kind != FLOAT:
        nodes.append(helper.make_node("Cast", [value], ["floats"], to=FLOAT))
        value = "floats"
    if nhwc:
        nodes.append(helper.make_node("Transpose", [value], ["turned"], perm=[0, 3, 1, 2]))
        value = "turned"
    nodes.append(helper.make_node("Flatten", [value], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "weights"], ["linear"]))
    value = "linear"
    if kind in (TensorProto.FLOAT16, TensorProto.DOUBLE):
        nodes.append(helper.make_node("Cast", [value], ["cast"], to=kind))
        value = "cast"
    if reshape is None:
        nodes.append(helper.make_node("Identity", [value], ["out"]))
    else:
        arrays["sizes"] = np.array(reshape, np.int64)
        nodes.append(helper.make_node("Reshape", [value, "sizes"], ["out"]))
    for label, size in extra:
        arrays[f"{label}_weights"] = np.ones((DIMENSIONS, size), np.float32)
        nodes.append(helper.make_node("MatMul", ["linear", f"{label}_weights"], [label]))
    of_result = kind if kind in NUMPY else FLOAT
    inputs = [helper.make_tensor_value_info(name, kind, shape)]
    if listed:
        inputs += [
            helper.make_tensor_value_info(
                key, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape
            )
            for key, each in arrays.items()
        ]
    graph = helper.make_graph(
        nodes,
        "linear",
        inputs,
        [helper.make_tensor_value_info("out", of_result, None)]
        + [helper.make_tensor_value_info(label, FLOAT, None) for label, _ in extra],
        [numpy_helper.from_array(each, key) for key, each in arrays.items()],
    )
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=3 if listed else 8), path)
    return path


def by_hand(
    images: NDArray[np.uint8],
    *,
    mean: tuple[float, ...] = (127.5,),
    scale: tuple[float, ...] = (128.0,),
    order: tuple[int, ...] = (0, 1, 2),
    flip: bool = True,
) -> NDArray[np.float64]:
    """What the graphs should give, pixel by pixel."""
    total = np.zeros((len(images), DIMENSIONS))
    for mirrored in (False, True) if flip else (False,):
        for row, image in enumerate(images):
            planes = [
                (image[:, :, plane].astype(float) - mean[at % len(mean)]) / scale[at % len(scale)]
                for at, plane in enumerate(order)
            ]
            turned = [np.fliplr(plane) if mirrored else plane for plane in planes]
            total[row] += np.concatenate([plane.ravel() for plane in turned]) @ weights()
    return total


def check(path: Path, crops: NDArray[np.uint8], given: dict, atol: float = 1e-4, **oracle) -> None:
    embedder = OnnxEmbedder(path, Convention(**given))
    assert (embedder.height, embedder.width) == (HEIGHT, WIDTH)
    got = embedder.embed(crops)
    assert got.dtype == np.float32
    assert got.shape == (len(crops), DIMENSIONS) == (len(crops), embedder.embedding_size)
    np.testing.assert_allclose(got, by_hand(crops, **oracle), atol=atol)


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("mean", [(0.0,), (127.5,), (91.0, 104.0, 131.0)])
@pytest.mark.parametrize("scale", [(1.0,), (128.0,), (57.0, 58.0, 59.0)])
def test_order_mean_and_scale(order, mean, scale, crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH))
    given = {"order": order, "mean": mean, "scale": scale}
    planes = (0, 1, 2) if order == "RGB" else (2, 1, 0)
    check(path, crops, given, atol=2e-3, mean=mean, scale=scale, order=planes)


def test_three_means_are_of_the_channels_as_the_network_takes_them(crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH))
    bgr = {"order": "BGR", "mean": (100.0, 1.0, 1.0), "scale": (128.0,)}
    only_blue = crops.copy()
    only_blue[..., :2], only_blue[..., 2] = 1, 100
    got = OnnxEmbedder(path, Convention(**bgr)).embed(only_blue)
    np.testing.assert_allclose(got, 0, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 3, "N", None])
@pytest.mark.parametrize("nhwc", [False, True])
def test_layout_size_and_batch_are_read_from_fixed_sizes(nhwc, batch, crops, tmp_path):
    shape = (batch, HEIGHT, WIDTH, 3) if nhwc else (batch, 3, HEIGHT, WIDTH)
    path = write(tmp_path / "m.onnx", shape, nhwc=nhwc)
    check(path, crops, PLAIN)
    embedder = OnnxEmbedder(path, Convention(**PLAIN))
    assert embedder.input.layout == ("NHWC" if nhwc else "NCHW")
    assert embedder.input.batch_size == (batch if isinstance(batch, int) else None)


@pytest.mark.parametrize("kind", [*NUMPY, TensorProto.UINT8])
def test_number_types(kind, crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH), kind=kind)
    if kind == TensorProto.UINT8:
        check(path, crops, {"order": "RGB"}, atol=2e-3, mean=(0.0,), scale=(1.0,))
    else:
        check(path, crops, PLAIN, atol=5e-2 if kind == TensorProto.FLOAT16 else 1e-4)


def test_free_sizes_are_given(crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, "H", "W"))
    check(path, crops, {**PLAIN, "input_size": (HEIGHT, WIDTH)})
    all_free = write(tmp_path / "free.onnx", (None, None, None, None))
    check(all_free, crops, {**PLAIN, "input_size": (HEIGHT, WIDTH), "layout": "NCHW"})


def test_grey_networks_take_the_brightness(crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 1, HEIGHT, WIDTH), channels=1)
    got = OnnxEmbedder(path, Convention(mean=(0.0,), scale=(255.0,))).embed(crops, flip=False)
    grey = crops @ np.array([0.299, 0.587, 0.114]) / 255
    np.testing.assert_allclose(got, grey.reshape(len(crops), -1) @ weights(1), atol=1e-4)


@pytest.mark.parametrize("listed", [False, True])
def test_weights_that_are_listed_as_inputs(listed, crops, tmp_path):
    path = write(tmp_path / "m.onnx", (1, 3, HEIGHT, WIDTH), listed=listed)
    n_inputs = len(onnx.load(path).graph.input)
    assert n_inputs == (2 if listed else 1)
    check(path, crops, PLAIN)


def test_weights_in_a_file_beside(crops, tmp_path):
    model = onnx.load(write(tmp_path / "whole.onnx", ("N", 3, HEIGHT, WIDTH)))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    assert (tmp_path / "m.bin").stat().st_size >= weights().nbytes
    check(path, crops, PLAIN)


@pytest.mark.parametrize(
    "reshape", [(-1, DIMENSIONS, 1, 1), (-1, 1, 1, DIMENSIONS), (-1, DIMENSIONS), (DIMENSIONS,)]
)
def test_embeddings_of_more_dimensions_are_flattened(reshape, crops, tmp_path):
    path = write(tmp_path / "m.onnx", (1, 3, HEIGHT, WIDTH), reshape=reshape)
    check(path, crops, PLAIN)


def test_a_graph_that_only_says_that_it_takes_any_number(crops, tmp_path):
    """Its Reshape holds the 1 of the image that it was traced with, so two images break it."""
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH), reshape=(1, DIMENSIONS))
    check(path, crops, PLAIN)


def test_a_result_is_named_where_several_may_be_meant(crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH), extra=(("logits", 9),))
    with pytest.raises(ConfigError, match="give --output out or --output logits$"):
        OnnxEmbedder(path, Convention(**PLAIN))
    check(path, crops, {**PLAIN, "output": "out"})
    logits = OnnxEmbedder(path, Convention(**PLAIN, output="logits"))
    assert logits.embedding_size == 9
    with pytest.raises(ConfigError, match="no result is named 'nope'; there are 'out'"):
        OnnxEmbedder(path, Convention(**PLAIN, output="nope"))


def test_a_quality_beside_the_embedding_is_no_embedding(crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH), extra=(("quality", 1),))
    check(path, crops, PLAIN)


def test_feature_maps_are_no_embedding(tmp_path):
    shape = (1, 3, HEIGHT, WIDTH)
    arrays = [helper.make_node("Relu", ["data"], ["map"])]
    values = [helper.make_tensor_value_info(name, FLOAT, shape) for name in ("data", "map")]
    graph = helper.make_graph(arrays, "map", values[:1], values[1:])
    opset = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match=r"no result is an embedding \(N, D\); there are 'map'"):
        OnnxEmbedder(tmp_path / "m.onnx", Convention(**PLAIN))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_batches_and_threads_change_nothing(threads, batch_size, flip, crops, tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH))
    embedder = OnnxEmbedder(path, Convention(**PLAIN), threads=threads)
    got = embedder.embed(crops, flip=flip, batch_size=batch_size)
    np.testing.assert_allclose(got, by_hand(crops, flip=flip), atol=1e-4)
    assert embedder.embed(crops[:0]).shape == (0, DIMENSIONS)


UNCERTAIN = {
    "nothing given": ((1, 3, HEIGHT, WIDTH), {}, "give --mean and --scale .*; and --rgb or --"),
    "no order": ((1, 3, HEIGHT, WIDTH), {"mean": (0.0,), "scale": (1.0,)}, "give --rgb or --bgr$"),
    "no scale": ((1, 3, HEIGHT, WIDTH), {"mean": (0.0,), "order": "RGB"}, "give --mean and --sc"),
    "free size": (("N", 3, "H", "W"), PLAIN, "give --input-size, such as --input-size 112$"),
    "half a free size": (("N", 3, HEIGHT, "W"), PLAIN, "give --input-size, such as"),
    "free layout": ((None, None, None, None), PLAIN, "give --layout nchw or .*; and --input-size"),
    "two layouts": ((1, 3, "H", 3), PLAIN, "give --layout nchw or --layout nhwc"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNCERTAIN)
def test_what_is_not_certain_is_asked_for_in_one_line(case, tmp_path):
    shape, given, message = UNCERTAIN[case]
    path = write(tmp_path / "m.onnx", shape)
    with pytest.raises(ConfigError, match=message) as raised:
        OnnxEmbedder(path, Convention(**given))
    assert str(raised.value).startswith(f"{path}: the input 'data' is tensor(float) (")
    assert "\n" not in str(raised.value)


UNFIT = {
    "size": (
        FLOAT,
        (1, 3, 6, 5),
        {**PLAIN, "input_size": (6, 6)},
        "--input-size 6x6 does not fit",
    ),
    "layout": (FLOAT, (1, 3, 6, 5), {**PLAIN, "layout": "NHWC"}, "--layout nhwc does not fit"),
    "channels": (FLOAT, (1, 4, "H", 5), PLAIN, "an image has 3 channels, or 1"),
    "rank": (FLOAT, (1, 90), PLAIN, "takes one image of four dimensions"),
    "kind": (TensorProto.INT32, (1, 3, 6, 5), PLAIN, "as float32, float16, float64 or uint8"),
    "pixels": (TensorProto.UINT8, (1, 3, 6, 5), PLAIN, "leave --mean and --scale out"),
    "grey": (FLOAT, (1, 1, "H", 5), PLAIN, "leave --rgb and --bgr out"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_what_does_not_fit_the_file_is_refused(case, tmp_path):
    kind, shape, given, message = UNFIT[case]
    path = write(tmp_path / "m.onnx", shape, kind=kind)
    with pytest.raises(ConfigError, match=message):
        OnnxEmbedder(path, Convention(**given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mean": (0.5,)}, r"0 to 1, that is --mean 127\.5"),
        ({"scale": (0.229, 0.224, 0.225)}, r"that is --scale 58\.395,57\.12,57\.375"),
        ({"scale": (0.0078125,)}, r"as a factor, that is --scale 128"),
        ({"scale": (0.0,)}, "--scale must be above 0"),
        ({"scale": (-1.0,)}, "--scale must be above 0"),
        ({"mean": (1.0, 2.0)}, "one number, or three, got 1,2"),
        ({"mean": (float("nan"),)}, "one number, or three, got nan"),
    ],
)
def test_numbers_out_of_range(given, message):
    with pytest.raises(ConfigError, match=message):
        Convention(**given)


def test_an_export_of_ours_needs_nothing_said(mobile_file, faces):
    assert prepares_pixels(mobile_file)
    expected = OnnxSession(mobile_file).embed(faces[:4])
    np.testing.assert_allclose(OnnxEmbedder(mobile_file).embed(faces[:4]), expected, atol=1e-5)
    with pytest.raises(ConfigError, match="an export of nas-face, which prepares pixels itself"):
        OnnxEmbedder(mobile_file, Convention(order="RGB"))


def test_the_names_of_ours_alone_are_not_certain(tmp_path):
    path = write(tmp_path / "m.onnx", ("N", 3, HEIGHT, WIDTH), name="image")
    assert not prepares_pixels(path)
    with pytest.raises(ConfigError, match="give --mean and --scale"):
        OnnxEmbedder(path)


@pytest.mark.parametrize("content", [b"", b"no protobuf\n" * 20])
def test_broken_files_are_one_line(content, tmp_path):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(DeployError, match=r"broken\.onnx: not an ONNX file") as raised:
        OnnxEmbedder(path)
    assert "\n" not in str(raised.value)
    with pytest.raises(DeployError, match="there is no such file"):
        OnnxEmbedder(tmp_path / "none.onnx")


def test_precision_is_that_of_the_weights(mobile_file, tmp_path):
    assert precision_of(mobile_file) == "fp32"
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["q", "scale"], ["weights"])],
        "int8",
        [],
        [helper.make_tensor_value_info("weights", FLOAT, (2,))],
        [
            numpy_helper.from_array(np.ones(2, np.int8), "q"),
            numpy_helper.from_array(np.float32(0.5), "scale"),
        ],
    )
    onnx.save(helper.make_model(graph), tmp_path / "int8.onnx")
    assert precision_of(tmp_path / "int8.onnx") == "int8"
    half = numpy_helper.from_array(np.ones(2, np.float16), "weights")
    values = [helper.make_tensor_value_info("y", TensorProto.FLOAT16, (2,))]
    nodes = [helper.make_node("Identity", ["weights"], ["y"])]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, "half", [], values, [half])),
        tmp_path / "half.onnx",
    )
    assert precision_of(tmp_path / "half.onnx") == "fp16"
    assert precision_of(tmp_path / "none.onnx") == "fp32"
