"""What several export tests share: models of bare layers, and the promise that a file keeps."""

import numpy as np
import torch
from settled_weights import settle_

from nas_face.arch.combinators import Sequence
from nas_face.deploy import OnnxSession, embedding_parity, export_onnx
from nas_face.nn import FaceModel, Preprocessing
from nas_face.nn.build import build
from nas_face.nn.model import Description


def agree(model, path, images, **options):
    export_onnx(model, path, **options)
    expected = model.embed(images)
    got = OnnxSession(path).embed(images)
    parity = embedding_parity(expected, got)
    assert parity.min_cosine > 0.99999
    assert parity.max_abs_difference < 1e-4 * max(1.0, np.abs(expected).max())


def of_layers(*layers, preprocessing=None, input_shape=(3, 10, 8), images=None):
    """A model of bare layers; the tree ends in a flat vector."""
    network = Sequence(layers=layers)
    description = Description(
        network=network,
        input_shape=input_shape,
        preprocessing=preprocessing or Preprocessing(),
        arch_id="test",
    )
    torch.manual_seed(1)
    module = build(network, description.input)
    return settle_(FaceModel(description=description, module=module), images)
