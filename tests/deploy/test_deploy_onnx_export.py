"""Exported files against torch."""

import stat
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from export_checks import agree, of_layers
from settled_weights import settle_

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.heads import NormAwareHead, PooledLinearHead
from nas_face.arch.layers import (
    BatchNorm,
    Conv,
    Flatten,
    PReLU,
)
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import network
from nas_face.data import load_orl
from nas_face.deploy import OnnxSession, embedding_parity, export_onnx
from nas_face.deploy.onnx_export import IR_VERSION, OPSET, to_onnx
from nas_face.errors import DeployError
from nas_face.nn import FaceModel, Preprocessing


@pytest.mark.parametrize("name", ["mobilefacenet_128", "shufflefacenet_0_5x", "pocketnet_s_128"])
def test_native_style_gives_the_embeddings_of_torch(name, settled, faces, tmp_path):
    agree(settled(name), tmp_path / "model.onnx", faces[:3], prelu="native")


def test_weights_next_to_nothing_are_stored_as_zero(mobile, faces, tmp_path):
    """As weight decay leaves them: a third of the weights at 1e-15 to 1e-44."""
    weights = {key: value.clone() for key, value in mobile.module.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for key, value in weights.items():
        if key.endswith("conv.weight"):
            tiny = torch.rand(value.shape, generator=generator) < 1 / 3
            value[tiny] *= 10 ** (-15 - 29 * torch.rand(int(tiny.sum()), generator=generator))
    model = FaceModel.of(mobile.description, weights)
    agree(model, tmp_path / "model.onnx", faces[:3], prelu="rewrite")
    stored = [onnx.numpy_helper.to_array(each) for each in to_onnx(model).graph.initializer]
    floats = [each for each in stored if each.dtype == np.float32]
    assert not any(((each != 0) & (np.abs(each) < 1e-20)).any() for each in floats)
    assert sum(int((each == 0).sum()) for each in floats) > 100_000


@pytest.mark.parametrize("head", [NormAwareHead, PooledLinearHead])
def test_other_heads_give_the_embeddings_of_torch(head, faces, tmp_path):
    spec = ArchSpec(
        input_shape=(3, 56, 56),
        stem=(ConvUnit(out_channels=16, stride=2), ConvUnit(out_channels=16, depthwise=True)),
        stages=((ConvUnit(out_channels=24, stride=2),),),
        head=head(embedding_size=32, tail_channels=40),
    )
    agree(settle_(FaceModel.fresh(spec, seed=0), faces[:8]), tmp_path / "m.onnx", faces[:3])


@pytest.mark.parametrize("order", ["RGB", "BGR", "grey"])
def test_preprocessing_is_inside_and_exact_at_a_padded_border(order, small, tmp_path):
    model = of_layers(
        Conv(out_channels=4, kernel=(3, 3), padding=(1, 1)),
        BatchNorm(),
        Flatten(),
        preprocessing=Preprocessing(mean=100.0, scale=50.0, channel_order=order),
        input_shape=(1 if order == "grey" else 3, 10, 8),
        images=small,
    )
    agree(model, tmp_path / "m.onnx", small)


def test_grey_network_takes_colour_images(faces, tmp_path):
    spec = ArchSpec(
        input_shape=(1, 56, 48),
        stem=(ConvUnit(out_channels=8, stride=2),),
        stages=((ConvUnit(out_channels=16, stride=2),),),
        head=NormAwareHead(embedding_size=32, tail_channels=40),
    )
    images = faces[:8, :, :48]
    model = settle_(FaceModel.fresh(spec, seed=0), images)
    agree(model, tmp_path / "m.onnx", images)
    session = OnnxSession(tmp_path / "m.onnx")
    assert (
        "to the brightness 0.299 R + 0.587 G + 0.114 B"
        in session.properties["nas_face.preprocessing"]
    )
    # Red, green and blue pixels that are about equally bright.
    colours = [np.full((1, 56, 48, 3), each, np.uint8) for each in ([251, 0, 0], [0, 128, 0])]
    red, green = (session.embed(each) for each in colours)
    assert embedding_parity(red, green).min_cosine > 0.9999


@pytest.mark.parametrize("size", [(112, 96), (113, 113), (128, 128), (57, 40)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["mobilefacenet_128", "seesaw_shuffle"])
def test_any_size_of_image_goes_through_the_whole_chain(name, channels, size, tmp_path):
    spec = replace(network(name).spec, input_shape=(channels, *size))
    images = load_orl(*size).batch(np.arange(0, 40, 10))
    agree(settle_(FaceModel.fresh(spec, seed=0), images), tmp_path / "m.onnx", images)


def test_batch_norm_behind_a_convolution_or_linear_layer_leaves_no_trace(mobile):
    operators = {node.op_type for node in to_onnx(mobile).graph.node}
    norms = [node.name for node in to_onnx(mobile).graph.node if node.name.endswith(".scaled")]
    assert norms == ["Mul_preprocessing.scaled"]
    assert operators == {"Sub", "Div", "Conv", "Mul", "Relu", "Add", "Flatten", "Gemm"}


def test_native_style_keeps_one_node_for_each_prelu(mobile):
    n_layers = sum(isinstance(each, torch.nn.PReLU) for each in mobile.module.modules())
    native = [node.op_type for node in to_onnx(mobile, prelu="native").graph.node]
    assert native.count("PRelu") == n_layers
    assert "Relu" not in native


@pytest.mark.parametrize("n_images", [1, 3])
def test_batch_size_is_free(n_images, mobile, mobile_file, faces):
    images = faces[:n_images]
    embeddings = OnnxSession(mobile_file).embed(images, batch_size=8)
    assert embeddings.shape == (n_images, 128)
    assert embedding_parity(embeddings, mobile.embed(images)).min_cosine > 0.99999


def test_file_says_what_it_is(mobile, mobile_file):
    exported = onnx.load(mobile_file)
    onnx.checker.check_model(exported, full_check=True)
    assert exported.ir_version == IR_VERSION
    assert [(each.domain, each.version) for each in exported.opset_import] == [("", OPSET)]
    assert not any(
        onnx.external_data_helper.uses_external_data(each) for each in exported.graph.initializer
    )
    properties = OnnxSession(mobile_file).properties
    assert properties["nas_face.arch_id"] == mobile.description.arch_id
    assert properties["nas_face.input_size"] == "56x56"
    assert properties["nas_face.embedding_size"] == "128"
    assert "RGB pixels 0..255" in properties["nas_face.preprocessing"]


def test_equal_models_give_equal_bytes(mobile, mobile_file, tmp_path):
    export_onnx(mobile, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == mobile_file.read_bytes()


def test_exporting_leaves_the_model_as_it_was(mobile, tmp_path):
    before = {key: value.clone() for key, value in mobile.module.state_dict().items()}
    export_onnx(mobile, tmp_path / "m.onnx")
    after = mobile.module.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_file_is_replaced_in_one_step_in_new_folders(mobile, tmp_path):
    path = tmp_path / "deep" / "er" / "m.onnx"
    export_onnx(mobile, path)
    export_onnx(mobile, path)
    assert [each.name for each in path.parent.iterdir()] == ["m.onnx"]
    assert path.stat().st_mode & stat.S_IRUSR


def test_failed_write_keeps_the_old_file_and_leaves_nothing(mobile, tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(DeployError, match=r"m\.onnx: cannot be written \(No space left"):
        export_onnx(mobile, path)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["m.onnx"]


def test_folder_in_the_way_of_the_file_is_one_line(mobile, tmp_path):
    with pytest.raises(DeployError, match="cannot be written"):
        export_onnx(mobile, tmp_path)


def test_network_without_flat_end_is_refused(small, tmp_path):
    model = of_layers(Conv(out_channels=4), images=small)
    with pytest.raises(DeployError, match=r"m\.onnx: the network ends in a feature map"):
        export_onnx(model, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_lineage_is_in_the_file(mobile, tmp_path):
    export_onnx(mobile.noting("first").noting("second"), tmp_path / "m.onnx")
    assert OnnxSession(tmp_path / "m.onnx").properties["nas_face.lineage"] == "first\nsecond"


def test_weights_in_half_precision_are_exported_as_float32(small, tmp_path):
    model = of_layers(Conv(out_channels=4), BatchNorm(), PReLU(), Flatten(), images=small)
    expected = model.embed(small)
    export_onnx(replace(model, module=model.module.half()), tmp_path / "m.onnx")
    assert (
        embedding_parity(expected, OnnxSession(tmp_path / "m.onnx").embed(small)).min_cosine
        > 0.999
    )
