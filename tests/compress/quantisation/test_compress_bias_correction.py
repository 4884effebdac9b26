"""Corrected biases: layers give on average what they give in float."""

import numpy as np
import pytest
import torch
from quantisation_checks import SPEC, gated_model, mean_loss, orl_crops, small_model
from torch import nn

from nas_face.compress.quantisation.bias_correction import correct_biases
from nas_face.compress.quantisation.grid import rounded, weight_scale
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel


def mean_output(model, path, x):
    """`(out,)` of one layer, by a pass of its own."""
    seen = []
    handle = model.module.get_submodule(path).register_forward_hook(
        lambda layer, inputs, y: seen.append(y)
    )
    with torch.no_grad():
        model.module(x)
    handle.remove()
    (y,) = seen
    return y.transpose(0, 1).flatten(1).mean(1)


def naively_corrected(model, x, bits):
    """Biases one layer at a time, two passes through the whole network for each."""
    copied = FaceModel.of(model.description, model.module.state_dict())
    copied.module.eval()
    layers = {
        path: layer
        for path, layer in copied.module.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }
    with torch.no_grad():
        for layer in layers.values():
            layer.weight.copy_(rounded(layer.weight, weight_scale(layer.weight, bits), bits))
        for path, layer in layers.items():
            if layer.bias is not None:
                layer.bias += mean_output(model, path, x) - mean_output(copied, path, x)
    return copied


@pytest.mark.parametrize("make", [small_model, gated_model])
def test_biases_are_those_of_one_layer_after_another(make):
    model = make()
    crops = orl_crops(20, side=model.height)
    x = model.description.preprocessing.apply(crops)
    corrected = correct_biases(model, crops, weight_bits=4, narrow_bits=4)
    expected = naively_corrected(model, x, 4).module.state_dict()
    for key, value in corrected.module.state_dict().items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)


def test_mean_embedding_is_that_of_the_float_network():
    model, crops = small_model(), orl_crops(40)
    corrected = correct_biases(model, crops, weight_bits=3)
    got, expected = (each.embed(crops, flip=False).mean(0) for each in (corrected, model))
    np.testing.assert_allclose(got, expected, atol=1e-4)


def test_rounded_networks_come_closer_to_the_float_one():
    model = small_model()
    fit, judge = orl_crops(40), orl_crops(40, first=3)
    state = dict(model.module.state_dict())
    for path, layer in model.module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            state[f"{path}.weight"] = rounded(layer.weight, weight_scale(layer.weight, 4), 4)
    plain = FaceModel.of(model.description, state)
    corrected = correct_biases(model, fit, weight_bits=4, narrow_bits=4)
    expected = model.embed(judge, flip=False)
    assert mean_loss(expected, corrected.embed(judge, flip=False)) < mean_loss(
        expected, plain.embed(judge, flip=False)
    )


def test_a_network_rounded_before_is_held_against_its_reference():
    model, crops = small_model(), orl_crops(20)
    weights = {
        key: rounded(value, weight_scale(value, 4), 4)
        if key.endswith("weight") and value.ndim > 1
        else value
        for key, value in model.module.state_dict().items()
    }
    before = FaceModel.of(model.description, weights)
    got = correct_biases(before, crops, weight_bits=4, narrow_bits=4, reference=model)
    expected = correct_biases(model, crops, weight_bits=4, narrow_bits=4)
    for key, value in got.module.state_dict().items():
        torch.testing.assert_close(value, expected.module.state_dict()[key], rtol=1e-5, atol=1e-6)


def test_layers_kept_in_float_keep_their_weights():
    model = small_model()
    path = "head.embedding"
    corrected = correct_biases(
        model, orl_crops(10), weight_bits=4, keep_float=frozenset({"stages.0.0.expand.conv"})
    )
    key = "stages.0.0.expand.conv.weight"
    assert torch.equal(corrected.module.state_dict()[key], model.module.state_dict()[key])
    other = f"{path}.weight"
    assert not torch.equal(corrected.module.state_dict()[other], model.module.state_dict()[other])
    assert corrected.description.lineage[-1].startswith("corrected the biases of ")


def test_what_cannot_be_is_refused():
    model, crops = small_model(), orl_crops(4)
    with pytest.raises(
        CompressionError, match=r"'head\.embeding'; did you mean 'head\.embedding'"
    ):
        correct_biases(model, crops, weight_bits=4, keep_float=frozenset({"head.embeding"}))
    with pytest.raises(CompressionError, match="weight_bits must be 2 to 8, got 9"):
        correct_biases(model, crops, weight_bits=9)
    with pytest.raises(CompressionError, match="at least one"):
        correct_biases(model, crops[:0], weight_bits=4)
    with pytest.raises(CompressionError, match="reference: must have the layers of the model"):
        correct_biases(model, crops, weight_bits=4, reference=FaceModel.fresh(SPEC, seed=0))
