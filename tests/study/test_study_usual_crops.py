"""Crops on which a network runs wild, and files that give nothing."""

import numpy as np
import pytest

from nas_face.arch.zoo import network
from nas_face.data import load_orl
from nas_face.nn import FaceModel
from nas_face.study.compression.bench import directed
from nas_face.study.compression.usual_crops import MOST, usual_crops


@pytest.fixture(scope="module")
def model():
    return FaceModel.fresh(network("mobilefacenet_128").variant(input_size=(48, 48)), seed=0)


@pytest.fixture(scope="module")
def crops():
    return load_orl(48, 48).batch(np.arange(0, 400, 40))


class Wild:
    """A network whose embeddings are as long as it is told."""

    def __init__(self, lengths):
        self._lengths = np.asarray(lengths, np.float32)

    def embed(self, crops, *, flip):
        assert not flip
        return self._lengths[: len(crops), None] * np.full((1, 4), 0.5, np.float32)


def test_faces_are_usual(model, crops):
    told = []
    assert usual_crops(crops, model, told.append) is crops
    assert told == []


@pytest.mark.parametrize("wild", [380.0, 1 / 380, np.inf, np.nan, 0.0])
def test_a_crop_that_is_far_off_is_left_out_and_counted(crops, wild):
    lengths = np.full(len(crops), 3.0)
    lengths[4] *= wild
    told = []
    found = usual_crops(crops, Wild(lengths), told.append)
    np.testing.assert_array_equal(found, np.delete(crops, 4, axis=0))
    assert len(told) == 1
    assert told[0].startswith(f"1 of {len(crops)} crops are left out")


def test_what_is_nearly_usual_stays(crops):
    lengths = np.full(len(crops), 3.0)
    lengths[:2] = 2.9 * MOST, 3.1 / MOST
    assert len(usual_crops(crops, Wild(lengths), print)) == len(crops)


def test_dead_embeddings_of_coarse_files_all_look_alike():
    embeddings = np.array([[0, 0], [3, -4], [np.nan, 1], [0, 2]], np.float32)
    expected = np.array([[1, 1], [3, -4], [1, 1], [0, 2]], np.float32)
    np.testing.assert_array_equal(directed(embeddings, "int8"), expected)
    np.testing.assert_array_equal(directed(embeddings, "fp32"), embeddings)
