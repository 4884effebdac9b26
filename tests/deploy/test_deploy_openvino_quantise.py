"""Int8 files of OpenVINO: real kernels, smaller, close to their source."""

import logging

import numpy as np
import pytest
from export_checks import POSITIONS, of_layers, with_positions
from settled_weights import settle_

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.layers import Flatten, PReLU
from nas_face.arch.spec import ArchSpec
from nas_face.deploy import (
    OpenVinoSession,
    embedding_parity,
    export_onnx,
    export_openvino,
    quantise_openvino,
    session,
    size_bytes_of,
)
from nas_face.deploy.layer_paths import layer_path
from nas_face.deploy.openvino import quantise
from nas_face.deploy.openvino.files import read_ir
from nas_face.errors import CompressionError, DeployError
from nas_face.nn import FaceModel


@pytest.fixture(scope="module")
def model(faces):
    """A small network with a depthwise convolution and a sum."""
    spec = ArchSpec(
        input_shape=(3, 56, 56),
        stem=(ConvUnit(out_channels=16, stride=2), ConvUnit(out_channels=16, depthwise=True)),
        stages=((InvertedResidual(out_channels=16, hidden_channels=32),),),
        head=PooledLinearHead(embedding_size=64, tail_channels=64),
    )
    return settle_(FaceModel.fresh(spec, seed=0), faces[:8])


@pytest.fixture(scope="module")
def source(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "m.xml"
    export_openvino(model, path)
    return path


@pytest.fixture(scope="module")
def int8(source, faces, tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "m.int8.xml"
    return path, quantise_openvino(source, path, faces[:12])


ALL = (
    "stem.0.conv",
    "stem.1.conv",
    "stages.0.0.branches.0.expand.conv",
    "stages.0.0.branches.0.depthwise.conv",
    "stages.0.0.branches.0.project.conv",
    "head.tail.conv",
    "head.embedding",
)


def kernels(path):
    """Type of the numbers that each convolution and linear layer really multiplies, by path.

    What the processor runs is named after what it was made of, the linear layer in float32 after
    its result.
    """
    found = {}
    for node in OpenVinoSession(path).compiled(1).get_runtime_model().get_ordered_ops():
        told = {key: str(value.value) for key, value in node.get_rt_info().items()}
        if told["layerType"] in ("Convolution", "FullyConnected"):
            name = told["originalLayersNames"].split(",")[0]
            found[layer_path(name) or "head.embedding"] = told["runtimePrecision"]
    return found


def test_every_layer_runs_on_int8_kernels(int8, source):
    path, report = int8
    assert report.quantised_layers == ALL
    assert report.float_layers == ()
    found = kernels(path)
    assert set(found) == set(ALL)
    assert set(found.values()) <= {"i8", "u8"}
    assert set(kernels(source).values()) == {"f32"}


def test_chosen_layers_stay_in_float(source, faces, tmp_path):
    chosen = frozenset({"stem.0.conv", "stages.0.0.branches.0.depthwise.conv", "head.embedding"})
    report = quantise_openvino(source, tmp_path / "q.xml", faces[:8], keep_float=chosen)
    assert set(report.float_layers) == chosen
    assert set(report.quantised_layers) == set(ALL) - chosen
    found = kernels(tmp_path / "q.xml")
    assert {layer for layer, kind in found.items() if kind == "f32"} == chosen


def test_file_is_smaller_and_says_what_it_is(int8, source, model):
    path, report = int8
    assert report.size_bytes_before == size_bytes_of(source)
    assert report.size_bytes_after == size_bytes_of(path)
    weights = [each.with_suffix(".bin").stat().st_size for each in (path, source)]
    assert weights[0] < 0.5 * weights[1]
    opened = OpenVinoSession(path)
    assert opened.properties["nas_face.arch_id"] == model.description.arch_id
    assert opened.properties["nas_face.precision"] == report.summary
    bits = 7 if report.reduce_range else 8
    assert report.summary.startswith(f"int8: 7 layers, 0 in float32; {bits}-bit weights; mixed")
    assert session.precision_of(path) == "int8"


def test_embeddings_stay_close(int8, model, faces):
    images = faces[12:20]  # random weights: trained networks stay closer
    parity = embedding_parity(model.embed(images), OpenVinoSession(int8[0]).embed(images))
    assert parity.mean_cosine > 0.95


@pytest.mark.parametrize(
    ("vnni", "asked", "tried", "reduced"),
    [
        (True, None, [False], False),
        (False, None, [False, True], True),
        (True, True, [True], True),
        (False, False, [False], False),
    ],
)
def test_processors_without_vnni_take_what_is_closer(
    vnni, asked, tried, reduced, source, faces, tmp_path, monkeypatch
):
    monkeypatch.setattr(quantise, "has_vnni", lambda: vnni)
    fixes = []
    quantised = quantise._quantised

    def noting(*args):
        fixes.append(args[4])
        return quantised(*args)

    monkeypatch.setattr(quantise, "_quantised", noting)
    # What comes second is closer.
    monkeypatch.setattr(quantise, "_closest", lambda model, candidates, images: 1)
    report = quantise_openvino(source, tmp_path / "q.xml", faces[:8], overflow_fix=asked)
    assert fixes == tried
    assert report.reduce_range is reduced
    weights = [
        node.get_data().astype(int)
        for node in read_ir(tmp_path / "q.xml").get_ops()
        if node.get_type_name() == "Constant"
        and node.get_output_element_type(0).get_type_name() == "i8"
    ]
    assert len(weights) == len(ALL)
    # NNCF leaves some layers their 8 bits.
    assert any(np.abs(each).max() <= 64 for each in weights) is reduced


def test_the_closest_is_found_by_embeddings(source, int8, faces):
    exact, rounded = read_ir(source), read_ir(int8[0])
    assert quantise._closest(exact, [rounded, exact], faces[:2]) == 1
    assert quantise._closest(exact, [exact, rounded], faces[:2]) == 0


@pytest.mark.parametrize(
    "options",
    [{"preset": "performance"}, {"method": "minmax"}, {"bias_correction": "accurate"}],
)
def test_every_setting_gives_another_file_that_runs(options, source, int8, faces, tmp_path):
    quantise_openvino(source, tmp_path / "q.xml", faces[:12], **options)
    opened = [OpenVinoSession(each) for each in (source, int8[0], tmp_path / "q.xml")]
    exact, before, got = (each.embed(faces[20:24]) for each in opened)
    assert embedding_parity(exact, got).mean_cosine > 0.95
    assert np.abs(got - before).max() > 0


def test_an_onnx_file_gives_the_same(model, source, int8, faces, tmp_path):
    export_onnx(model, tmp_path / "m.onnx", prelu="native")
    report = quantise_openvino(tmp_path / "m.onnx", tmp_path / "q.xml", faces[:12])
    assert report.quantised_layers == ALL
    files = (int8[0], tmp_path / "q.xml")
    expected, got = (OpenVinoSession(each).embed(faces[:4]) for each in files)
    np.testing.assert_allclose(got, expected, atol=1e-3 * np.abs(expected).max())


def test_equal_input_gives_equal_bytes(source, int8, faces, tmp_path):
    again = tmp_path / int8[0].name
    quantise_openvino(source, again, faces[:12])
    for suffix in (".bin", ".xml"):
        first, second = (each.with_suffix(suffix).read_bytes() for each in (int8[0], again))
        assert first == second


def test_nothing_is_printed_logged_or_left_behind(source, faces, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO)
    logger_class = logging.getLoggerClass()
    handlers, disabled = list(logging.getLogger().handlers), logging.root.manager.disable
    quantise_openvino(source, tmp_path / "q.xml", faces[:8])
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert logging.getLogger().handlers == handlers
    assert logging.root.manager.disable == disabled
    assert logging.getLoggerClass() is logger_class
    assert sorted(each.name for each in tmp_path.iterdir()) == ["q.bin", "q.xml"]


def test_too_few_images_are_refused(source, faces, tmp_path):
    with pytest.raises(CompressionError, match=r"m\.xml: .* at least 8 images, got 7"):
        quantise_openvino(source, tmp_path / "q.xml", faces[:7])
    assert not list(tmp_path.iterdir())


def test_images_of_another_size_are_refused(source, faces, tmp_path):
    with pytest.raises(CompressionError, match=r"\(N, 56, 56, 3\), got uint8 of shape"):
        quantise_openvino(source, tmp_path / "q.xml", faces[:, :40])


def test_int8_source_is_refused(int8, faces, tmp_path):
    with pytest.raises(CompressionError, match="is int8 already"):
        quantise_openvino(int8[0], tmp_path / "q.xml", faces)


def test_layers_that_are_not_there_are_refused(source, faces, tmp_path):
    with pytest.raises(CompressionError, match=r"keep_float: .*'stem.0.con'; did you mean 'stem"):
        quantise_openvino(source, tmp_path / "q.xml", faces, keep_float=frozenset({"stem.0.con"}))


def test_a_convolution_of_a_constant_may_be_chosen(small, tmp_path):
    export_openvino(with_positions(small), tmp_path / "m.xml")
    kept = frozenset({POSITIONS, "0"})
    report = quantise_openvino(tmp_path / "m.xml", tmp_path / "q.xml", small, keep_float=kept)
    assert (report.quantised_layers, report.float_layers) == (("2",), ("0",))


def test_nothing_to_quantise_is_refused(source, faces, tmp_path):
    with pytest.raises(CompressionError, match=r"m\.xml: no layer could be quantised"):
        quantise_openvino(source, tmp_path / "q.xml", faces[:8], keep_float=frozenset(ALL))
    assert not list(tmp_path.iterdir())


def test_network_without_weights_is_refused(small, tmp_path):
    export_openvino(of_layers(PReLU(), Flatten(), images=small), tmp_path / "m.xml")
    with pytest.raises(CompressionError, match="no layer could be quantised"):
        quantise_openvino(tmp_path / "m.xml", tmp_path / "q.xml", small)


@pytest.mark.parametrize("name", ["none.xml", "none.onnx"])
def test_missing_source_is_refused(name, faces, tmp_path):
    with pytest.raises(DeployError, match="no such file"):
        quantise_openvino(tmp_path / name, tmp_path / "q.xml", faces)
