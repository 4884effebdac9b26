"""Whom a model was trained on stays with it, and they are refused as judges."""

import json

import numpy as np
import pytest

from nas_face.data import FaceImages
from nas_face.errors import ConfigError, DataError
from nas_face.study.verification.trained_on import (
    TRAINED_ON_FILE,
    read_trained_on,
    require_strangers,
    write_trained_on,
)


def images_of(*people):
    return FaceImages.from_array(
        np.zeros((2 * len(people), 4, 4, 3), np.uint8),
        np.repeat(np.arange(len(people)), 2),
        people,
    )


def test_a_model_knows_its_people_again_by_any_spelling(tmp_path):
    write_trained_on(tmp_path, ["Ann_Lee", "Bo"])
    require_strangers(images_of("Cy", "Di"), where="list", folder=tmp_path)
    with pytest.raises(DataError, match=r"list: 1 of its 2 identities .*'ann lee'.*--allow-over"):
        require_strangers(images_of("Cy", "ann lee"), where="list", folder=tmp_path)


def test_the_file_names_nobody(tmp_path):
    write_trained_on(tmp_path, ["Ann_Lee"])
    text = (tmp_path / TRAINED_ON_FILE).read_text()
    assert "ann" not in text.lower().replace("identity_fingerprints", "")


def test_a_model_made_of_another_inherits_its_people(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    write_trained_on(source, ["Ann"])
    write_trained_on(out, ["Bo"], source)
    for name in ("Ann", "Bo"):
        with pytest.raises(DataError):
            require_strangers(images_of(name, "Cy"), where="list", folder=out)


def test_people_of_a_training_set_at_hand_are_refused(tmp_path):
    with pytest.raises(DataError, match="'Ann'"):
        require_strangers(images_of("Ann", "Cy"), where="list", trained=["Ann"])


def test_images_that_tell_nobody_pass(tmp_path):
    write_trained_on(tmp_path, ["000000"])
    images = FaceImages(
        pixels=images_of("a", "b").pixels,
        rows=np.arange(4),
        labels=np.arange(4),
        identities=("000000", "000001", "000002", "000003"),
        names=("000000", "000001", "000002", "000003"),
    )
    require_strangers(images, where="x.bin", folder=tmp_path)


@pytest.mark.parametrize(
    "text", ["{", "[]", json.dumps({"other": []}), '{"identity_fingerprints": 3}']
)
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / TRAINED_ON_FILE).write_text(text)
    with pytest.raises(ConfigError, match=r"trained_on\.json: not a list of fingerprints"):
        read_trained_on(tmp_path)


def test_nothing_is_known_of_a_folder_without_the_file(tmp_path):
    assert read_trained_on(tmp_path) == ()
