"""Faces and models that the deploy tests share."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from settled_weights import settle_

from nas_face.arch.zoo import network
from nas_face.data import load_orl
from nas_face.deploy import export_onnx
from nas_face.nn import FaceModel

SIZE = 56


@pytest.fixture(scope="session")
def faces() -> NDArray[np.uint8]:
    """Real faces of 40 people, `(40, 56, 56, 3)`."""
    return load_orl(SIZE, SIZE).batch(np.arange(0, 400, 10))


@pytest.fixture(scope="session")
def settled(faces: NDArray[np.uint8]) -> Callable[[str], FaceModel]:
    """A zoo network at 56x56 with settled weights, by name."""

    @functools.cache
    def make(name: str) -> FaceModel:
        spec = replace(network(name).spec, input_shape=(3, SIZE, SIZE))
        return settle_(FaceModel.fresh(spec, seed=3), faces[::5])

    return make


@pytest.fixture(scope="session")
def mobile(settled: Callable[[str], FaceModel]) -> FaceModel:
    return settled("mobilefacenet_128")


@pytest.fixture(scope="session")
def mobile_file(mobile: FaceModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("mobile") / "model.onnx"
    export_onnx(mobile, path)
    return path


@pytest.fixture(scope="session")
def small() -> NDArray[np.uint8]:
    """Noise, `(12, 10, 8, 3)`."""
    return np.random.default_rng(0).integers(0, 256, (12, 10, 8, 3), dtype=np.uint8)
