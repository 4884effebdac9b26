"""Int8 files: real kernels, smaller, close to their source."""

import logging
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_checks import POSITIONS, with_positions
from settled_weights import settle_

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.combinators import Concat, Gate, Graph, Product, Sequence, Step
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelConv,
    ChannelScale,
    ChannelShuffle,
    Conv,
    Crop,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    GatedChannelTransform,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    Pool,
    PReLU,
    Resize,
    TranslationVariantConv,
)
from nas_face.arch.spec import ArchSpec
from nas_face.deploy import (
    OnnxSession,
    embedding_parity,
    export_onnx,
    has_vnni,
    quantise,
    quantise_onnx,
)
from nas_face.errors import CompressionError, DeployError
from nas_face.nn import FaceModel, Preprocessing
from nas_face.nn.build import build
from nas_face.nn.model import Description


@pytest.fixture(scope="module")
def tiny_file(faces, tmp_path_factory):
    """A small network that quantises in a moment: four convolutions, one of them depthwise."""
    spec = ArchSpec(
        input_shape=(3, 56, 56),
        stem=(ConvUnit(out_channels=16, stride=2), ConvUnit(out_channels=16, depthwise=True)),
        stages=((ConvUnit(out_channels=32, stride=2),),),
        head=PooledLinearHead(embedding_size=64, tail_channels=64),
    )
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    export_onnx(settle_(FaceModel.fresh(spec, seed=0), faces[:8]), path)
    return path


@pytest.fixture(scope="module")
def mobile_int8(mobile_file, faces, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    return path, quantise_onnx(mobile_file, path, faces[:12])


def optimised_operators(path, folder):
    """Operators that ONNX Runtime really runs, after its own fusion."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folder / "optimised.onnx").graph
    return Counter(node.op_type for node in graph.node)


def test_convolutions_run_on_int8_kernels(mobile_int8, tmp_path):
    path, report = mobile_int8
    operators = optimised_operators(path, tmp_path)
    n_linear = 1
    assert operators["QLinearConv"] == report.n_quantised_nodes - n_linear > 0
    n_depthwise, n_first = 17, 1
    assert report.n_float_nodes == n_depthwise + n_first


def test_file_is_about_a_third(mobile_int8, mobile_file):
    path, report = mobile_int8
    assert report.size_bytes_before == mobile_file.stat().st_size
    assert report.size_bytes_after == path.stat().st_size
    assert report.size_bytes_after < 0.45 * report.size_bytes_before


def test_embeddings_stay_close(mobile_int8, mobile, faces):
    # Random weights are the hardest case: trained networks of this kind keep 0.999.
    path, _ = mobile_int8
    images = faces[12:20]
    parity = embedding_parity(mobile.embed(images), OnnxSession(path).embed(images))
    assert parity.mean_cosine > 0.9


def test_file_keeps_what_its_source_said(mobile_int8, mobile):
    properties = OnnxSession(mobile_int8[0]).properties
    assert properties["nas_face.arch_id"] == mobile.description.arch_id
    assert properties["nas_face.precision"].startswith("int8: 32 layers, 18 in float32")
    onnx.checker.check_model(onnx.load(mobile_int8[0]), full_check=True)


def test_seven_bits_where_the_processor_needs_them(mobile_int8):
    assert mobile_int8[1].reduce_range is not has_vnni()


@pytest.mark.parametrize(("vnni", "bound"), [(True, 127), (False, 64)])
def test_weights_use_the_bits_that_the_processor_can_add(
    vnni, bound, tiny_file, faces, tmp_path, monkeypatch
):
    monkeypatch.setattr(quantise, "has_vnni", lambda: vnni)
    report = quantise_onnx(tiny_file, tmp_path / "q.onnx", faces[:8])
    weights = [
        onnx.numpy_helper.to_array(each)
        for each in onnx.load(tmp_path / "q.onnx").graph.initializer
        if each.data_type == onnx.TensorProto.INT8 and each.dims
    ]
    largest = max(int(np.abs(each.astype(int)).max()) for each in weights if each.ndim > 1)
    assert report.reduce_range is not vnni
    assert bound - 1 <= largest <= bound


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize("reduce_range", [False, True])
def test_every_setting_gives_a_file_that_runs(method, reduce_range, tiny_file, faces, tmp_path):
    target = tmp_path / "q.onnx"
    report = quantise_onnx(tiny_file, target, faces[:9], method=method, reduce_range=reduce_range)
    assert (report.method, report.reduce_range, report.n_images) == (method, reduce_range, 9)
    assert (report.n_quantised_nodes, report.n_float_nodes) == (3, 2)
    # Random weights: trained networks stay much closer.
    expected, got = (OnnxSession(each).embed(faces[20:26]) for each in (tiny_file, target))
    assert embedding_parity(expected, got).mean_cosine > 0.9


# What ONNX Runtime has no 8-bit kernel for, or none worth the way there and back.
IN_FLOAT = (
    TranslationVariantConv(stride=2),
    BatchNorm(),
    PReLU(),
    Concat(branches=(Sequence(), FourierFeatures(width=4))),  # 24 channels
    Pool(function="max", kernel=(3, 3), stride=2, padding=(1, 1), ceil=True),
    LayerNorm(),
    Gate(
        body=Sequence(
            layers=(GlobalAveragePool(), ChannelConv(kernel=3), Activation(function="sigmoid"))
        )
    ),
    GatedChannelTransform(),
    Product(branches=(Sequence(), ChannelShuffle(groups=3, inverse=True))),
    ChannelScale(),
    CrossCovarianceAttention(heads=2),  # 8 channels
    Resize(height=9, width=9),
    Crop(top=1, left=1),
    Graph(
        steps=(
            Step(layer=Activation(function="gelu"), sources=(0,)),
            Step(layer=Sequence(), sources=(1, 0), join="concat"),
        )
    ),
)


@pytest.mark.parametrize("channels", [1, 3])
def test_layers_without_int8_kernels_stay_in_float(channels, faces, tmp_path):
    network = Sequence(
        layers=(
            Conv(out_channels=32, kernel=(3, 3), padding=(1, 1), stride=2),
            BatchNorm(),
            MaxFeatureMap(),
            *IN_FLOAT,
            Conv(out_channels=32),
            BatchNorm(),
            PReLU(),
            GlobalAverageMaxPool(),
            Flatten(),
            Linear(out_features=32),
            BatchNorm(fixed_scale=True),
        )
    )
    description = Description(
        network=network,
        input_shape=(channels, 56, 56),
        preprocessing=Preprocessing(channel_order="grey" if channels == 1 else "RGB"),
        arch_id="test",
    )
    torch.manual_seed(0)
    model = FaceModel(description=description, module=build(network, description.input))
    source, target = tmp_path / "f.onnx", tmp_path / "q.onnx"
    export_onnx(settle_(model, faces[:12]), source)
    report = quantise_onnx(source, target, faces[:12])
    assert (report.n_quantised_nodes, report.n_float_nodes) == (2, 2)  # ChannelConv, and the first
    operators = optimised_operators(target, tmp_path)
    assert operators["QLinearConv"] == 1
    expected, got = (OnnxSession(each).embed(faces[12:20]) for each in (source, target))
    assert embedding_parity(model.embed(faces[12:20]), expected).min_cosine > 0.99999
    assert embedding_parity(expected, got).mean_cosine > 0.9


def test_chosen_layers_stay_in_float_too(tiny_file, faces, tmp_path):
    before = quantise_onnx(tiny_file, tmp_path / "a.onnx", faces[:8])
    assert before.quantised_layers == ("stages.0.0.conv", "head.tail.conv", "head.embedding")
    assert before.float_layers == ("stem.0.conv", "stem.1.conv")
    kept = frozenset({"head.embedding", "stem.1.conv"})
    after = quantise_onnx(tiny_file, tmp_path / "b.onnx", faces[:8], keep_float=kept)
    assert after.quantised_layers == ("stages.0.0.conv", "head.tail.conv")
    assert set(after.float_layers) == {"stem.0.conv", *kept}
    (gemm,) = [n for n in onnx.load(tmp_path / "b.onnx").graph.node if n.op_type == "Gemm"]
    weights = {each.name for each in onnx.load(tiny_file).graph.initializer}
    assert gemm.input[1] in weights


def test_layers_that_are_not_there_are_refused(tiny_file, faces, tmp_path):
    with pytest.raises(CompressionError, match=r"keep_float: .*'head.embeding'; did you mean"):
        quantise_onnx(
            tiny_file, tmp_path / "q.onnx", faces[:8], keep_float=frozenset({"head.embeding"})
        )
    assert not (tmp_path / "q.onnx").exists()


def test_a_convolution_of_a_constant_may_be_chosen(small, tmp_path):
    export_onnx(with_positions(small), tmp_path / "m.onnx")
    kept = frozenset({POSITIONS})
    report = quantise_onnx(tmp_path / "m.onnx", tmp_path / "q.onnx", small, keep_float=kept)
    assert (report.quantised_layers, report.float_layers) == (("2",), ("0",))


def test_equal_input_gives_equal_bytes(tiny_file, faces, tmp_path):
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    quantise_onnx(tiny_file, first, faces[:8])
    quantise_onnx(tiny_file, second, faces[:8])
    assert first.read_bytes() == second.read_bytes()


def test_all_images_are_read_in_small_batches():
    images = np.arange(11, dtype=np.uint8).reshape(11, 1, 1, 1).repeat(3, axis=3)
    reader = quantise._Reader(images)
    seen = []
    for at in range(len(reader)):
        reader.set_range(at, at + 1)
        batch = reader.get_next()["image"]
        assert len(batch) <= quantise._BATCH_SIZE
        seen += list(batch[:, 0, 0, 0].astype(int))
        assert reader.get_next() is None
    assert sorted(seen) == list(range(11))


def test_nothing_is_printed_logged_or_left_behind(tiny_file, faces, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO)
    handlers, disabled = list(logging.getLogger().handlers), logging.root.manager.disable
    quantise_onnx(tiny_file, tmp_path / "q.onnx", faces[:8])
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert logging.getLogger().handlers == handlers
    assert logging.root.manager.disable == disabled
    assert [each.name for each in tmp_path.iterdir()] == ["q.onnx"]


def test_too_few_images_are_refused(tiny_file, faces, tmp_path):
    with pytest.raises(CompressionError, match=r"tiny\.onnx: .* at least 8 images, got 7"):
        quantise_onnx(tiny_file, tmp_path / "q.onnx", faces[:7])
    assert not (tmp_path / "q.onnx").exists()


def test_images_of_another_size_are_refused(tiny_file, faces, tmp_path):
    with pytest.raises(CompressionError, match=r"\(N, 56, 56, 3\), got uint8 of shape"):
        quantise_onnx(tiny_file, tmp_path / "q.onnx", faces[:, :40])


def test_int8_source_is_refused(mobile_int8, faces, tmp_path):
    with pytest.raises(CompressionError, match="is int8 already"):
        quantise_onnx(mobile_int8[0], tmp_path / "q.onnx", faces)


def test_missing_source_is_refused(faces, tmp_path):
    with pytest.raises(DeployError, match="no such file"):
        quantise_onnx(tmp_path / "none.onnx", tmp_path / "q.onnx", faces)
