"""What several export tests share: models of bare layers, and the promise that a file keeps."""

import numpy as np
import torch
from settled_weights import settle_

from nas_face.arch.combinators import Sequence, Sum
from nas_face.arch.layers import Conv, Flatten, FourierFeatures, GlobalAveragePool
from nas_face.deploy import embedding_parity, export_onnx, export_openvino, open_model_file
from nas_face.nn import FaceModel, Preprocessing
from nas_face.nn.build import build
from nas_face.nn.model import Description


def agree(model, path, images, **options):
    """Export a model by the name of the file, and hold it against torch."""
    export = export_openvino if path.suffix == ".xml" else export_onnx
    export(model, path, **options)
    expected = model.embed(images)
    got = open_model_file(path).embed(images)
    parity = embedding_parity(expected, got)
    assert parity.min_cosine > 0.99999
    assert parity.max_abs_difference < 1e-4 * max(1.0, np.abs(expected).max())


def with_positions(images):
    """A model with a convolution of a constant, which export computes: `POSITIONS`."""
    positions = Sequence(layers=(FourierFeatures(width=4), Conv(out_channels=16)))
    return of_layers(
        Conv(out_channels=16, kernel=(3, 3), padding=(1, 1)),
        Sum(branches=(Sequence(layers=()), positions)),
        Conv(out_channels=32, bias=True),
        GlobalAveragePool(),
        Flatten(),
        images=images,
    )


POSITIONS = "1.branches.1.1"


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
