"""Weights in few bits: really few bytes, the right values, and nothing left to unpack once
loaded."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
from export_checks import of_layers
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from settled_weights import settle_

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.combinators import Gate, Sequence
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.layers import Activation, ChannelConv, Conv, Flatten, GlobalAveragePool
from nas_face.arch.spec import ArchSpec
from nas_face.compress.quantisation import rounded_layers
from nas_face.deploy import (
    OnnxSession,
    embedding_parity,
    export_onnx,
    low_bit,
    openvino_missing,
    quantise_onnx,
)
from nas_face.deploy.low_bit import quantise_weights
from nas_face.deploy.onnx_embedder import precision_of
from nas_face.deploy.onnx_graph import PREPROCESSING
from nas_face.errors import CompressionError, DeployError
from nas_face.nn import FaceModel

NARROW_LAYERS = {"stem.0.conv", "stem.1.conv"}
WIDE_LAYERS = {"stages.0.0.conv", "head.tail.conv", "head.embedding"}


@pytest.fixture(scope="module")
def tiny_file(faces, tmp_path_factory):
    """Four convolutions, one of them depthwise, and a linear layer; sizes that fill no byte."""
    spec = ArchSpec(
        input_shape=(3, 56, 56),
        stem=(ConvUnit(out_channels=15, stride=2), ConvUnit(out_channels=15, depthwise=True)),
        stages=((ConvUnit(out_channels=67, stride=2),),),
        head=PooledLinearHead(embedding_size=13, tail_channels=65),
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    export_onnx(settle_(FaceModel.fresh(spec, seed=0), faces[:8]), path)
    return path


@pytest.fixture(params=[4, 6, 8])
def few(request, tiny_file, tmp_path):
    """Bits, file and report."""
    path = tmp_path / "few.onnx"
    return request.param, path, quantise_weights(tiny_file, path, bits=request.param)


def arrays(path):
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}


def weights(path):
    """`(out, in)` of each convolution and linear layer, by path, as the nodes read them.

    Worked out by onnx's own reference implementation.
    """
    model = onnx.load(path)
    names = {
        node.name.rpartition(".")[0]: node.input[1]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm")
    }
    stored = arrays(path)
    computed = [name for name in names.values() if name not in stored]
    if computed:
        until = 1 + max(
            at for at, each in enumerate(model.graph.node) if each.output[0] in computed
        )
        unpacking = [each for each in model.graph.node[:until] if PREPROCESSING not in each.name]
        del model.graph.node[:]
        model.graph.node.extend(unpacking)
        del model.graph.input[:]
        del model.graph.output[:]
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in computed
        )
        stored |= dict(zip(computed, ReferenceEvaluator(model).run(None, {}), strict=True))
    return {path: stored[name].reshape(len(stored[name]), -1) for path, name in names.items()}


def symmetric(rows, bits):
    """The plainest rounding there is."""
    largest = 2 ** (bits - 1) - 1
    scale = np.abs(rows).max(axis=1, keepdims=True) / largest
    return np.rint(rows / scale) * scale


def operators(path, folder):
    """What ONNX Runtime runs after its own folding and fusion."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def test_bytes_are_those_of_the_bits(few, tiny_file):
    bits, path, report = few
    sizes = {name: value.size for name, value in weights(tiny_file).items()}
    packed = {n: v.nbytes for n, v in arrays(path).items() if v.dtype == np.uint8 and n[0] == "w"}
    n_narrow = sum(sizes[name] for name in NARROW_LAYERS)
    n_wide = sum(sizes[name] for name in WIDE_LAYERS)
    levels = {name: n for name, n in packed.items() if "." not in name}
    if bits == 8:
        assert levels == {"w8": n_narrow + n_wide}
    else:
        assert set(levels) == {f"w{bits}", "w8"}
        assert levels["w8"] == n_narrow
        assert n_wide * bits / 8 <= levels[f"w{bits}"] < n_wide * bits / 8 + 3
    assert report.size_bytes_before == tiny_file.stat().st_size
    assert report.size_bytes_after == path.stat().st_size


def test_report_says_which_layers(few):
    bits, path, report = few
    assert report.bits == bits
    wide = WIDE_LAYERS | (NARROW_LAYERS if bits == 8 else set())
    assert set(report.layers) == wide
    assert set(report.narrow_layers) == (set() if bits == 8 else NARROW_LAYERS)
    assert report.float_layers == ()
    session = OnnxSession(path)
    assert session.properties["nas_face.precision"] == report.summary
    assert precision_of(path) == f"w{bits}"
    assert report.summary.startswith(f"weights in {bits} bits: {len(wide)} layers")
    assert "nas_face.arch_id" in session.properties
    onnx.checker.check_model(onnx.load(path), full_check=True)


def test_weights_have_few_values_and_are_no_worse_than_rounded_plainly(few, tiny_file):
    bits, path, _ = few
    got, before = weights(path), weights(tiny_file)
    assert set(got) == NARROW_LAYERS | WIDE_LAYERS
    for name, rows in before.items():
        own = bits if name in WIDE_LAYERS else 8
        error = ((got[name] - rows) ** 2).sum(axis=1)
        plain = ((symmetric(rows, own) - rows) ** 2).sum(axis=1)
        assert (error <= plain * (1 + 1e-4) + 1e-12).all()
        assert max(len(np.unique(row)) for row in got[name]) <= 2**own


def test_weights_on_a_symmetric_grid_stay(tiny_file, tmp_path):
    model = onnx.load(tiny_file)
    before = weights(tiny_file)
    for array in model.graph.initializer:
        path = array.name.removesuffix(".weight")
        if path in WIDE_LAYERS:
            on_grid = symmetric(before[path], 4).astype(np.float32).reshape(array.dims)
            array.CopyFrom(numpy_helper.from_array(on_grid, array.name))
    source = tmp_path / "on_grid.onnx"
    onnx.save(model, source)
    quantise_weights(source, tmp_path / "few.onnx", bits=4)
    expected, got = weights(source), weights(tmp_path / "few.onnx")
    for path in WIDE_LAYERS:
        np.testing.assert_allclose(got[path], expected[path], rtol=1e-6, atol=1e-9)


def test_runtime_unpacks_while_it_loads(few, tiny_file, tmp_path):
    _, path, _ = few
    assert operators(path, tmp_path) == operators(tiny_file, tmp_path)


def test_runtime_computes_with_those_weights(few, tiny_file, faces, tmp_path):
    bits, path, _ = few
    model = onnx.load(tiny_file)
    got = weights(path)
    for array in model.graph.initializer:
        if (layer := array.name.removesuffix(".weight")) in got:
            rows = got[layer].reshape(array.dims)
            array.CopyFrom(numpy_helper.from_array(rows, array.name))
    onnx.save(model, tmp_path / "floats.onnx")
    expected, found = (
        OnnxSession(each).embed(faces[:6]) for each in (tmp_path / "floats.onnx", path)
    )
    assert embedding_parity(expected, found).min_cosine > 0.999999
    float_embeddings = OnnxSession(tiny_file).embed(faces[:6])
    least = {4: 0.7, 6: 0.98, 8: 0.995}[bits]  # of drawn weights, which are the hardest case
    assert embedding_parity(float_embeddings, found).mean_cosine > least


@pytest.mark.skipif(openvino_missing() is not None, reason="the extra openvino is not installed")
def test_openvino_computes_the_same(few, faces):
    import openvino

    _, path, _ = few
    compiled = openvino.Core().compile_model(
        str(path), "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    )
    x = np.ascontiguousarray(faces[:4].transpose(0, 3, 1, 2)).astype(np.float32)
    parity = embedding_parity(OnnxSession(path).run(x), compiled(x)[0])
    assert parity.min_cosine > 0.999999


def test_layers_named_stay_in_float(tiny_file, tmp_path):
    target = tmp_path / "few.onnx"
    report = quantise_weights(
        tiny_file, target, bits=4, keep_float=frozenset({"stages.0.0.conv", "stem.0.conv"})
    )
    assert report.float_layers == ("stem.0.conv", "stages.0.0.conv")
    got, before = weights(target), weights(tiny_file)
    for path in report.float_layers:
        assert np.array_equal(got[path], before[path])
    assert set(report.layers) == WIDE_LAYERS - {"stages.0.0.conv"}


def test_convolutions_along_channels_stay_in_float(small, tmp_path):
    along = Sequence(
        layers=(GlobalAveragePool(), ChannelConv(kernel=3), Activation(function="sigmoid"))
    )
    model = of_layers(
        Conv(out_channels=8, kernel=(3, 3)),
        Gate(body=along),
        Conv(out_channels=4, kernel=(8, 6)),
        Flatten(),
        images=small,
    )
    source, target = tmp_path / "f.onnx", tmp_path / "few.onnx"
    export_onnx(model, source)
    report = quantise_weights(source, target, bits=6)
    assert (report.layers, report.narrow_layers, report.float_layers) == (("2",), ("0",), ())
    expected, got = (OnnxSession(each).embed(small) for each in (source, target))
    assert embedding_parity(expected, got).min_cosine > 0.99


def test_channels_of_zeros_stay_zeros(tiny_file, tmp_path):
    model = onnx.load(tiny_file)
    for array in model.graph.initializer:
        if array.name == "stages.0.0.conv.weight":
            values = numpy_helper.to_array(array).copy()
            values[3] = 0
            array.CopyFrom(numpy_helper.from_array(values, array.name))
    onnx.save(model, tmp_path / "zeros.onnx")
    quantise_weights(tmp_path / "zeros.onnx", tmp_path / "few.onnx", bits=4)
    got = weights(tmp_path / "few.onnx")["stages.0.0.conv"]
    assert not got[3].any()
    assert got[2].any()


def test_equal_input_gives_equal_bytes(tiny_file, tmp_path):
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    quantise_weights(tiny_file, first, bits=6)
    quantise_weights(tiny_file, second, bits=6)
    assert first.read_bytes() == second.read_bytes()


def test_adaptive_rounding_agrees_about_narrow_layers():
    assert low_bit.NARROW == rounded_layers.NARROW


def test_other_bits_are_refused(tiny_file, tmp_path):
    with pytest.raises(CompressionError, match="weights can have 4, 6 or 8, got 5"):
        quantise_weights(tiny_file, tmp_path / "few.onnx", bits=5)


def test_what_is_in_few_bits_already_is_refused(tiny_file, faces, tmp_path):
    few, int8 = tmp_path / "few.onnx", tmp_path / "int8.onnx"
    quantise_weights(tiny_file, few, bits=4)
    quantise_onnx(tiny_file, int8, faces[:8])
    for source in (few, int8):
        with pytest.raises(CompressionError, match="in few bits already; start from the float32"):
            quantise_weights(source, tmp_path / "again.onnx", bits=4)
    assert not (tmp_path / "again.onnx").exists()


def test_unknown_layers_are_refused(tiny_file, tmp_path):
    with pytest.raises(CompressionError, match=r"did you mean 'stem\.0\.conv'"):
        quantise_weights(
            tiny_file, tmp_path / "few.onnx", bits=4, keep_float=frozenset({"stem.0.cnv"})
        )


def test_keeping_everything_in_float_is_refused(tiny_file, tmp_path):
    everything = frozenset(NARROW_LAYERS | WIDE_LAYERS)
    with pytest.raises(CompressionError, match="leaves no layer to keep in 4 bits"):
        quantise_weights(tiny_file, tmp_path / "few.onnx", bits=4, keep_float=everything)


def test_missing_source_is_refused(tmp_path):
    with pytest.raises(DeployError, match="no such file"):
        quantise_weights(tmp_path / "none.onnx", tmp_path / "few.onnx", bits=4)
