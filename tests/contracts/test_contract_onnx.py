"""Every layer, block and head of the cases, exported: ONNX Runtime and OpenVINO give what torch
gives."""

import numpy as np
import pytest
import torch
from contract_cases import BLOCK_CASES, HEAD_CASES, LAYER_CASES, case_id
from torch import nn

from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.combinators import Layer, Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.heads import AbstractHead
from nas_face.arch.layers import Activation, Conv, Flatten
from nas_face.deploy import OnnxSession, OpenVinoSession, export_onnx, export_openvino
from nas_face.nn import FaceModel
from nas_face.nn.build import build
from nas_face.nn.model import Description


def tree_of(part: Layer | AbstractBlock | AbstractHead, x: Shape) -> Layer:
    return part.lower(x) if isinstance(part, AbstractBlock | AbstractHead) else part


def behind_an_image(layer: Layer, x: Shape) -> FaceModel:
    """A model that makes `x` of a colour image, goes through the layer, and ends flat."""
    n_axes = build(layer, x).eval()(torch.zeros(2, *x)).ndim
    end = (Flatten(),) if n_axes == 4 else ()
    # The activation keeps a norm from being folded into the convolution before it.
    start = (Conv(out_channels=x.channels), Activation(function="silu"))
    network = Sequence(layers=(*start, layer, *end))
    description = Description(network=network, input_shape=(3, x.height, x.width), arch_id="case")
    module = build(network, description.input)
    randomise_(module)
    return FaceModel(description=description, module=module.eval())


def randomise_(module: nn.Module) -> None:
    """No number at its start, so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(4)

    def uniform_(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                uniform_(each.running_mean, -0.5, 0.5)
                uniform_(each.running_var, 0.5, 1.5)
            for parameter in each.parameters(recurse=False):
                uniform_(parameter, -0.6, 0.8)


CASES = [*LAYER_CASES, *BLOCK_CASES, *HEAD_CASES]


def require_the_values_of_torch(session, model):
    size = (3, model.height, model.width, 3)
    images = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    expected, got = (each.embed(images, flip=False) for each in (model, session))
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("part", "x"), CASES, ids=case_id)
def test_onnx_runtime_gives_the_values_of_torch(part, x, tmp_path):
    model = behind_an_image(tree_of(part, x), x)
    export_onnx(model, tmp_path / "m.onnx")
    require_the_values_of_torch(OnnxSession(tmp_path / "m.onnx"), model)


@pytest.mark.parametrize(("part", "x"), CASES, ids=case_id)
def test_openvino_gives_the_values_of_torch(part, x, tmp_path):
    model = behind_an_image(tree_of(part, x), x)
    export_openvino(model, tmp_path / "m.xml")
    require_the_values_of_torch(OpenVinoSession(tmp_path / "m.xml"), model)
