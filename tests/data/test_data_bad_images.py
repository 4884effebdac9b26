"""What a downloaded folder of faces holds besides faces, through `decode_faces`."""

import logging
import os
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_face.data import FaceImages
from nas_face.data.blobs import MAX_IMAGE_BYTES
from nas_face.data.decoding import decode_faces
from nas_face.data.formats.folders import list_folder
from nas_face.errors import DataError

SIZE = 16
BLOCKS = np.kron(
    np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8),
    np.ones((4, 4, 1), dtype=np.uint8),
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two identities with two good images each."""
    folder = tmp_path / "faces"
    for who in "ab":
        (folder / who).mkdir(parents=True)
        for number in (1, 2):
            Image.fromarray(BLOCKS).save(folder / who / f"{number}.png")
    return folder


def load(root: Path, **options: float) -> FaceImages:
    return decode_faces(list_folder(root), height=SIZE, width=SIZE, **options)


def jpeg(path: Path, **options: object) -> bytes:
    Image.fromarray(BLOCKS).save(path, "JPEG", quality=95, **options)
    return path.read_bytes()


def truncated(path: Path) -> None:
    path.write_bytes(jpeg(path)[:-200])


def only_a_header(path: Path) -> None:
    content = jpeg(path)
    path.write_bytes(content[: content.index(b"\xff\xda")])


def png_of(width: int, height: int) -> bytes:
    """A PNG that promises pixels and has none."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def lying_jpeg(height: int, width: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        content = bytearray(jpeg(path))
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = struct.pack(">HH", height, width)
        path.write_bytes(bytes(content))

    return make


def large_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_IMAGE_BYTES + 1)  # takes no space on disk


SKIPPED: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (truncated, "truncated"),
    "only_a_header": (only_a_header, "truncated|cannot be decoded"),
    "no_bytes": (lambda path: path.write_bytes(b""), "empty"),
    "two_bytes": (lambda path: path.write_bytes(b"\xff\xd8"), "cannot be decoded|not an image"),
    "text": (lambda path: path.write_text("404"), "not an image"),
    "html": (lambda path: path.write_text("<!DOCTYPE html><p>No"), "HTML or XML text, not an"),
    "postscript": (lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"), "not an image"),
    "bomb": (lambda path: path.write_bytes(png_of(60000, 60000)), "too many pixels"),
    "small_bomb": (lambda path: path.write_bytes(png_of(10000, 10000)), "too many pixels"),
    "jpeg_of_a_hundred_megapixels": (lying_jpeg(10000, 10000), "too many pixels"),
    "jpeg_of_a_billion_pixels": (lying_jpeg(60000, 20000), "too many pixels"),
    "large_file": (large_file, "268435457 bytes"),
    "floats": (lambda path: Image.new("F", (4, 4)).save(path, "TIFF"), "floating-point"),
}


@pytest.mark.parametrize("case", SKIPPED)
def test_it_is_skipped_named_and_counted(
    root: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, reason = SKIPPED[case]
    make(root / "b" / "0.jpg")
    tracemalloc.start()
    with caplog.at_level(logging.WARNING):
        images = load(root)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images.names == ("a/1.png", "a/2.png", "b/1.png", "b/2.png")
    assert np.array_equal(images.batch(np.arange(4)), np.stack([BLOCKS] * 4))
    (skipped,) = images.skipped
    assert skipped.name == "b/0.jpg"
    assert re.search(reason, skipped.reason)
    assert str(root) not in skipped.reason
    (record,) = caplog.records
    assert "left out 1 of its images and folders, first b/0.jpg" in record.getMessage()
    assert peak < 16 * 1024**2


def test_a_file_that_may_not_be_read_is_skipped(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by chmod: the superuser reads all the same.
    opened = os.open

    def refuse(path: Path, *arguments: int) -> int:
        if Path(path) == root / "b" / "1.png":
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", refuse)
    images = load(root)
    assert images.names == ("a/1.png", "a/2.png", "b/2.png")
    assert images.skipped[0].reason == "cannot be read: Permission denied"


def test_a_file_that_vanishes_after_listing_is_skipped(root: Path) -> None:
    listing = list_folder(root)
    (root / "b" / "1.png").unlink()
    images = decode_faces(listing, height=SIZE, width=SIZE)
    assert images.skipped[0].reason == "there is no such file"


def test_a_folder_with_an_images_name_is_not_looked_at(root: Path) -> None:
    (root / "b" / "0.jpg").mkdir()
    images = load(root)
    assert len(images) == 4
    assert images.skipped == ()


def grey(path: Path) -> np.ndarray:
    Image.fromarray(BLOCKS[..., 1]).save(path)
    return np.repeat(BLOCKS[..., 1:2], 3, axis=2)


def deep(path: Path) -> np.ndarray:
    Image.fromarray(BLOCKS[..., 1].astype(np.uint16) * 257).save(path)
    return np.repeat(BLOCKS[..., 1:2], 3, axis=2)


def transparent(path: Path) -> np.ndarray:
    Image.fromarray(np.dstack([BLOCKS, np.zeros((SIZE, SIZE), np.uint8)])).save(path)
    return np.zeros_like(BLOCKS)


def animated(path: Path) -> np.ndarray:
    other = Image.fromarray(255 - BLOCKS)
    Image.fromarray(BLOCKS).save(path, save_all=True, append_images=[other])
    return BLOCKS


def turned(path: Path) -> np.ndarray:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(BLOCKS))).save(path, exif=exif)
    return BLOCKS


@pytest.mark.parametrize("make", [grey, deep, transparent, animated, turned])
def test_it_is_converted(root: Path, make: Callable[[Path], np.ndarray]) -> None:
    expected = make(root / "b" / "0.png")
    images = load(root)
    assert images.skipped == ()
    assert images.names[2] == "b/0.png"
    assert np.array_equal(images.batch(np.array([2]))[0], expected)


def test_a_turned_jpeg_is_converted(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = root / "b" / "0.jpg"
    pixels = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
    pixels[:, : SIZE // 2] = 255  # the left half becomes the top when turned clockwise
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    image = load(root).batch(np.array([2]))[0]
    assert image[: SIZE // 2].min() > 250
    assert image[SIZE // 2 :].max() < 5


def adobe_cmyk(path: Path, transform: int) -> None:
    """Red paper as Adobe writes it, inverted: 0 is full ink, 255 is none."""
    ink = Image.new("CMYK", (SIZE, SIZE), (0, 255, 255, 0))
    ink.save(path, "JPEG", quality=100)
    content = bytearray(path.read_bytes())
    at = content.index(b"Adobe") + 11
    content[at] = transform
    path.write_bytes(bytes(content))


def test_cmyk_has_the_right_colours(root: Path) -> None:
    adobe_cmyk(root / "b" / "0.jpg", transform=0)
    image = load(root).batch(np.array([2]))[0].astype(int)
    assert abs(image - [255, 0, 0]).max() < 8


def test_adobes_ycck_has_the_right_colours(root: Path) -> None:
    path = root / "b" / "0.jpg"
    adobe_cmyk(path, transform=2)
    # The stored components, full and none, are now Y, Cb, Cr and K. They give the inverse of the
    # inverted ink, which is the ink itself, and paper reflects what is left (ITU-T T.871 for YCC).
    y, cb, cr = 255.0, 0.0 - 128, 0.0 - 128
    ink = np.array([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    image = load(root).batch(np.array([2]))[0].astype(int)
    assert abs(image - (255 - np.clip(ink, 0, 255))).max() < 8


@pytest.mark.parametrize(("n_broken", "share"), [(1, 0.25), (2, 0.5), (2, 1), (0, 0)])
def test_up_to_the_share_the_rest_is_loaded(root: Path, n_broken: int, share: float) -> None:
    for path in [root / "a" / "1.png", root / "b" / "1.png"][:n_broken]:
        path.write_bytes(b"")
    assert len(load(root, max_broken_share=share)) == 4 - n_broken


@pytest.mark.parametrize(("n_broken", "share"), [(1, 0), (2, 0.25), (3, 0.74), (4, 1)])
def test_above_the_share_it_is_an_error_with_counts_and_the_first_reason(
    root: Path, n_broken: int, share: float
) -> None:
    for path in sorted(root.glob("*/*.png"))[:n_broken]:
        path.write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load(root, max_broken_share=share)
    message = str(caught.value)
    assert message.startswith(f"{root}: {n_broken} of 4 images are broken")
    assert f"a share of {share:g} is allowed" in message
    assert "first a/1.png (the file is empty (0 bytes))" in message
    assert "\n" not in message


def test_excluded_images_do_not_count(root: Path) -> None:
    (root / "c").mkdir()
    for number in range(20):
        (root / "c" / f"{number}.png").write_bytes(b"")
    images = decode_faces(list_folder(root), height=SIZE, width=SIZE, exclude=["c"])
    assert images.identities == ("a", "b")
    assert images.skipped == ()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_the_share_is_checked(root: Path, share: float) -> None:
    with pytest.raises(ValueError, match="max_broken_share must lie in 0 to 1"):
        load(root, max_broken_share=share)


def test_excluding_everyone_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match="each of its identities is excluded"):
        decode_faces(list_folder(root), height=SIZE, width=SIZE, exclude=["a", "b"])


def float_tiff(bits: int, channels: int) -> bytes:
    """An uncompressed little-endian TIFF (TIFF 6.0, sections 2 and 19) with a NaN among ones."""
    values = np.ones((SIZE, SIZE, channels), dtype=f"<f{bits // 8}")
    values[3, 4] = np.nan
    n_entries = 10
    bits_at = 8 + 2 + 12 * n_entries + 4  # of the channels' bits, where three do not fit in a tag
    pixels_at = bits_at + 6
    tags = (
        (256, SIZE),  # columns
        (257, SIZE),  # rows
        (258, bits if channels == 1 else bits_at),
        (259, 1),  # not compressed
        (262, 1 if channels == 1 else 2),  # grey or RGB
        (273, pixels_at),
        (277, channels),
        (278, SIZE),  # rows in the only strip
        (279, values.nbytes),
        (339, 3),  # floating point
    )
    entries = b"".join(
        struct.pack("<HHIHH", tag, 3, channels if tag == 258 else 1, value, 0)
        for tag, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, n_entries) + entries + bytes(4)
    return head + struct.pack("<3H", bits, bits, bits) + values.tobytes()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [16, 32, 64])
def test_images_that_may_hold_nan_are_named_and_left_out(
    root: Path, bits: int, channels: int
) -> None:
    (root / "a" / "3.tif").write_bytes(float_tiff(bits, channels))
    images = load(root)
    assert [each.name for each in images.skipped] == ["a/3.tif"]
    assert "floating-point pixels" in images.skipped[0].reason
    assert "8 bits" in images.skipped[0].reason
    assert len(images) == 4
