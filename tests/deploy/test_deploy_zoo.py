"""Every published network in both kinds of files, against torch."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from export_checks import agree
from settled_weights import settle_

from nas_face.arch.zoo import NETWORKS, network
from nas_face.data import load_orl
from nas_face.nn import FaceModel

DEAR = 1_000_000_000
"""MAdds from which a network gets the smaller images, so that it takes moments."""


@functools.lru_cache(maxsize=1)  # the two files of a network follow on each other
def settled(name):
    """A network with settled weights, and faces that it did not see."""
    spec = network(name).spec
    side = 32 if spec.cost().madds > DEAR else 56
    faces = load_orl(side, side).batch(np.arange(0, 400, 50))
    small = replace(spec, input_shape=(spec.input_shape[0], side, side))
    return settle_(FaceModel.fresh(small, seed=3), faces[2:]), faces[:2]


@pytest.mark.parametrize("file", ["model.onnx", "model.xml"])
@pytest.mark.parametrize("name", NETWORKS)
def test_zoo_network_gives_the_embeddings_of_torch(name, file, tmp_path):
    model, faces = settled(name)
    agree(model, tmp_path / file, faces, **{"prelu": "rewrite"} if file == "model.onnx" else {})
