import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nas_face.data import decode_image
from nas_face.errors import DataError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 16, 3), dtype=np.uint8)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def test_an_image_of_the_asked_size_is_returned_pixel_for_pixel(tmp_path: Path) -> None:
    image = decode_image(save(tmp_path / "a.png", PIXELS), 12, 16)
    assert image.dtype == np.uint8
    assert np.array_equal(image, PIXELS)
    image[:] = 0  # the caller owns it


@pytest.mark.parametrize(("height", "width"), [(12, 12), (6, 6), (24, 24)])
def test_a_wide_image_is_cropped_at_its_centre(tmp_path: Path, height: int, width: int) -> None:
    pixels = np.zeros((12, 20, 3), dtype=np.uint8)
    pixels[:, 4:16] = 200  # exactly the central square
    image = decode_image(save(tmp_path / "a.png", pixels), height, width)
    assert image.shape == (height, width, 3)
    inside = image[:, width // 6 : -width // 6].astype(int)  # the filter reaches over the edge
    assert abs(inside - 200).max() <= 3


def test_a_tall_image_is_cropped_at_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((20, 12, 3), dtype=np.uint8)
    pixels[4:16] = 200
    image = decode_image(save(tmp_path / "a.png", pixels), 12, 12)
    assert np.array_equal(image, np.full_like(image, 200))


def test_shrinking_is_antialiased(tmp_path: Path) -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    image = decode_image(save(tmp_path / "a.png", board), 8, 8)
    assert abs(image.astype(float) - 127.5).max() < 20


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (3, 7), (113, 111)])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (112, 112), (112, 96)])
def test_odd_shapes_fit_every_size(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    path = save(tmp_path / "a.png", np.full((*shape, 3), 90, dtype=np.uint8))
    assert np.array_equal(decode_image(path, *size), np.full((*size, 3), 90, dtype=np.uint8))


def test_a_large_jpeg_keeps_its_content(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 2000)[None, :, None], (2000, 2000, 3))
    path = save(tmp_path / "a.jpg", ramp.astype(np.uint8), quality=95)
    image = decode_image(path, 112, 112).astype(float)
    expected = np.linspace(0, 255, 112)
    assert abs(image - expected[None, :, None]).max() < 4


def test_grey_becomes_rgb(tmp_path: Path) -> None:
    image = decode_image(save(tmp_path / "a.png", PIXELS[..., 0]), 12, 16)
    assert np.array_equal(image, np.repeat(PIXELS[..., :1], 3, axis=2))


def test_black_and_white_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS[..., 0] > 127).save(path)
    image = decode_image(path, 12, 16)
    assert np.array_equal(image[..., 0], np.where(PIXELS[..., 0] > 127, 255, 0))


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=100)
    red = decode_image(path, 16, 16)[8, 8].astype(int)
    assert red[0] > 245
    assert red[1:].max() < 10


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    wide = np.array([[0, 257, 128 * 257], [255 * 257, 65535, 12345]], dtype=np.uint16)
    image = decode_image(save(tmp_path / f"a{suffix}", wide), 2, 3)
    assert np.array_equal(image[..., 1], [[0, 1, 128], [255, 255, 48]])


def test_16_bit_colour_is_scaled(tmp_path: Path) -> None:
    # Pillow cannot write 16-bit colour, but the PPM format is two lines of text and the values.
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6 1 1 65535\n" + np.array([65535, 0, 128 * 257], ">u2").tobytes())
    assert decode_image(path, 1, 1).tolist() == [[[255, 0, 128]]]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_is_laid_onto_black(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (200, 200, 200, 0))
    image.paste((200, 200, 200, 255), (0, 0, 2, 4))
    path = tmp_path / "a.png"
    image.convert(mode).save(path)
    pixels = decode_image(path, 4, 4)
    assert (pixels[:, :2] == 200).all()
    assert (pixels[:, 2:] == 0).all()


def test_half_transparent_is_half_as_bright(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (4, 4), (200, 100, 50, 128)).save(path)
    assert decode_image(path, 4, 4)[0, 0].tolist() == [100, 50, 25]


@pytest.mark.parametrize("transparency", [1, bytes([255, 0])])
def test_palette_with_transparency_is_laid_onto_black(
    tmp_path: Path, transparency: int | bytes
) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 210, 220])
    image.putpixel((1, 0), 1)
    path = tmp_path / "a.png"
    image.save(path, transparency=transparency)
    assert decode_image(path, 1, 2).tolist() == [[[10, 20, 30], [0, 0, 0]]]


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in (250, 10)]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    assert decode_image(path, 8, 8)[0, 0].tolist() == [250, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = PIXELS
    # How a camera held that way stores the upright image (EXIF 2.3, tag 274).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", np.ascontiguousarray(stored), exif=exif)
    assert np.array_equal(decode_image(path, 12, 16), upright)


def test_a_jpeg_is_turned_too(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 255  # the left half becomes the top when turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(save(tmp_path / "a.jpg", pixels, exif=exif), 32, 16)
    assert image[:12].min() > 240
    assert image[20:].max() < 15


def test_corrupt_exif_is_no_reason_to_refuse(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", PIXELS, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
    assert decode_image(path, 12, 16).shape == (12, 16, 3)


def truncated_jpeg(path: Path) -> None:
    save(path, np.kron(PIXELS, np.ones((8, 8, 1), dtype=np.uint8)), format="JPEG")
    path.write_bytes(path.read_bytes()[:-400])


def truncated_png(path: Path) -> None:
    save(path, PIXELS, format="PNG")
    path.write_bytes(path.read_bytes()[:200])


def bomb(path: Path) -> None:
    # The header alone: no decoder may get as far as allocating the pixels.
    path.write_bytes(b"P5 60000 60000 255\n" + bytes(100))


def small_bomb(path: Path) -> None:
    path.write_bytes(b"P5 10000 10000 255\n" + bytes(100))


BROKEN = {
    "truncated": (truncated_jpeg, "truncated"),
    "truncated_png": (truncated_png, "cannot be decoded"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("not an image"), "not an image"),
    "bomb": (bomb, "too many pixels"),
    "small_bomb": (small_bomb, "too many pixels"),
    "folder": (lambda path: path.mkdir(), "cannot be read"),
    "missing": (lambda path: None, "no such file"),
    "float": (lambda path: Image.new("F", (4, 4)).save(path, format="TIFF"), "floating-point"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named_with_the_reason(tmp_path: Path, case: str) -> None:
    path = tmp_path / "broken.jpg"
    make, reason = BROKEN[case]
    make(path)
    with pytest.raises(DataError, match=reason) as caught:
        decode_image(path, 16, 16)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(0, 4), (4, 0), (-1, 4)])
def test_sizes_are_checked(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        decode_image(save(tmp_path / "a.png", PIXELS), *size)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damaged_files_decode_or_raise_a_data_error(
    tmp_path: Path, kind: str, data: st.DataObject
) -> None:
    path = tmp_path / "damaged"
    save(path, PIXELS, format=kind)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)))]))
    try:
        image = decode_image(path, 8, 8)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert image.shape == (8, 8, 3)


def test_warning_filters_are_restored_after_decoding_in_many_threads(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", PIXELS, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12")
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode_image(path, 8, 8) for _ in range(20)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
