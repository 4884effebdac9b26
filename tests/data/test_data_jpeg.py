"""The fast way to decode a JPEG gives what Pillow gives, or leaves it to Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas_face.data import images
from nas_face.data.images import decode_bytes, decode_upright
from nas_face.data.jpeg import UnusualJpegError, decode_plain_jpeg, plain_jpeg_size
from nas_face.errors import DataError

RNG = np.random.default_rng(0)


def picture(height: int, width: int) -> np.ndarray:
    """Smooth shapes and some noise, as in a photograph."""
    y, x = np.mgrid[:height, :width] / 7.0
    waves = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], axis=2) * 90 + 128
    return (waves + RNG.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)


def jpeg(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


OPTIONS: list[dict[str, object]] = [
    {},
    {"quality": 5},
    {"quality": 100},
    {"subsampling": "4:4:4"},
    {"subsampling": "4:2:2"},
    {"subsampling": "4:2:0"},
    {"progressive": True},
    {"optimize": True},
    {"keep_rgb": True},
    {"restart_marker_blocks": 2},
    {"comment": b"hello", "dpi": (300, 300), "icc_profile": bytes(3000)},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("size", [(112, 112), (112, 96), (33, 17), (1, 1), (8, 250)])
def test_a_plain_jpeg_is_decoded_fast_and_pixel_for_pixel(
    options: dict[str, object], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg(picture(*size), **options)
    expected = by_pillow(data)
    monkeypatch.setattr(images.Image, "open", None)  # Pillow is not asked
    assert plain_jpeg_size(data) == size
    assert np.array_equal(decode_bytes(data, *size), expected)
    assert np.array_equal(decode_upright(data), expected)


def test_a_grey_jpeg_is_decoded_fast_and_pixel_for_pixel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = jpeg(picture(50, 40)[..., 0])
    expected = by_pillow(data)
    monkeypatch.setattr(images.Image, "open", None)
    assert np.array_equal(decode_bytes(data, 50, 40), expected)


@pytest.mark.parametrize("size", [(250, 250), (113, 111), (600, 400), (449, 3000), (20, 30)])
def test_a_resized_jpeg_is_as_by_pillow_alone(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg(picture(*size))
    fast = decode_bytes(data, 112, 96)
    monkeypatch.setattr(images, "plain_jpeg_size", lambda data: None)
    assert np.array_equal(fast, decode_bytes(data, 112, 96))


def test_pixels_are_written_where_they_belong() -> None:
    data = jpeg(picture(16, 24))
    batch = np.full((3, 16, 24, 3), 7, dtype=np.uint8)
    decode_plain_jpeg(data, into=batch[1])
    assert np.array_equal(batch[1], by_pillow(data))
    assert (batch[[0, 2]] == 7).all()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 1
    return jpeg(picture(16, 16), exif=exif)


def cmyk() -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (16, 16)).save(file, "JPEG")
    return file.getvalue()


def patched(at: int, value: int) -> bytes:
    """A byte of the frame header changed, counted from its marker."""
    content = bytearray(jpeg(picture(16, 16)))
    content[content.index(b"\xff\xc0") + at] = value
    return bytes(content)


def without_a_frame() -> bytes:
    content = jpeg(picture(16, 16))
    start, end = content.index(b"\xff\xc0"), content.index(b"\xff\xc4")
    return content[:start] + content[end:]


SURPRISES = {
    "exif": turned(),
    "xmp": jpeg(picture(16, 16), xmp=b'<x tiff:Orientation="6"/>'),
    "cmyk": cmyk(),
    "arithmetic": patched(1, 0xC9),
    "lossless": patched(1, 0xC3),
    "twelve_bits": patched(4, 12),
    "two_components": patched(9, 2),
    "no_height": patched(6, 0),
    "no_frame": without_a_frame(),
    "filled": jpeg(picture(16, 16)).replace(b"\xff\xdb", b"\xff\xff\xdb", 1),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "nothing": b"",
    "start": b"\xff\xd8",
    "cut_in_the_header": jpeg(picture(16, 16))[:100],
}


@pytest.mark.parametrize("case", SURPRISES)
def test_surprises_are_left_to_pillow(case: str) -> None:
    assert plain_jpeg_size(SURPRISES[case]) is None


def test_xmp_turns_an_image_as_exif_does() -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255
    xmp = b'<rdf:Description tiff:Orientation="6"/>'
    image = decode_upright(jpeg(pixels, xmp=xmp))
    assert image.shape == (32, 16, 3)
    assert image[:12].min() > 240


def test_damage_is_left_to_pillow_which_names_it() -> None:
    data = jpeg(picture(64, 64))[:-500]
    with pytest.raises(UnusualJpegError):
        decode_plain_jpeg(data)
    with pytest.raises(DataError, match="truncated"):
        decode_bytes(data, 64, 64)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_jpeg_is_as_by_pillow_alone(data: st.DataObject) -> None:
    content = bytearray(jpeg(np.full((24, 24, 3), 90, dtype=np.uint8), quality=50))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.integers(len(content) - 40, len(content)))])
    results: list[np.ndarray | str] = []
    for header in (plain_jpeg_size, lambda data: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(images, "plain_jpeg_size", header)
            try:
                results.append(decode_bytes(damaged, 24, 24))
            except DataError as error:
                results.append(str(error))
    fast, slow = results
    assert type(fast) is type(slow)
    assert np.array_equal(fast, slow)


@pytest.mark.faces
def test_real_faces_are_decoded_pixel_for_pixel(faces_data: Path) -> None:
    paths = sorted((faces_data / "train").glob("*/*.jpg"))[::100]
    for path in paths:
        data = path.read_bytes()
        assert plain_jpeg_size(data) == (112, 112)
        assert np.array_equal(decode_bytes(data, 112, 112), by_pillow(data))
