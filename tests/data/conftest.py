"""Made-up faces on disk, each of one grey value by which it can be told from all others."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

MakeFaces = Callable[[Mapping[str, int]], Path]


@pytest.fixture
def make_faces(tmp_path: Path) -> MakeFaces:
    """A function that writes `{identity: number of images}` and returns the folder."""

    def make(counts: Mapping[str, int]) -> Path:
        root = tmp_path / "faces"
        value = 0
        for identity, n_images in counts.items():
            (root / identity).mkdir(parents=True)
            for number in range(1, n_images + 1):
                image = Image.new("L", (8, 8), value)
                image.save(root / identity / f"{identity}_{number:04d}.png")
                value = (value + 1) % 256
        return root

    return make


@pytest.fixture
def faces_data() -> Path:
    """The folder of real faces, where there is one."""
    folder = os.environ.get("NAS_FACE_DATA")
    if not folder:
        pytest.skip("NAS_FACE_DATA names no folder of faces")
    return Path(folder)
