"""One encoded image -> RGB pixels of the size that a network takes."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from nas_face.data.blobs import FileBlobs
from nas_face.data.jpeg import UnusualJpegError, decode_plain_jpeg, plain_jpeg_size
from nas_face.errors import DataError

# What `IMAGE_SUFFIXES` name, and GIF. Pillow's other formats are not tried: for one of them it
# starts a program (EPS).
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP")

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # little and big endian, and BigTIFF

# Images above this many pixels are decoded one at a time, so that memory stays bounded by one of
# them, however many threads there are.
_LARGE = 16 * 1024**2
_one_large_image = threading.Lock()

_EXIF_ORIENTATION = 0x0112
# The EXIF standard's eight orientations (JEITA CP-3451, tag 274); 1 and anything else mean "as
# stored".
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(path: Path, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Read an image file as upright RGB pixels of one size; see `decode_bytes`.

    Raises:
        DataError: the file is missing, cannot be read, or is refused by `decode_bytes`.
        ValueError: `height` or `width` is below 1.
    """
    data = FileBlobs((path,)).read(0)
    try:
        return decode_bytes(data, height, width)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def decode_bytes(data: bytes, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Decode an image as upright RGB pixels of one size.

    The EXIF orientation is applied. Grey, palette and CMYK images become RGB, 16-bit grey is
    scaled to 8 bits, and transparent pixels are laid onto black. The largest centred box of the
    asked aspect ratio is then resized (bicubic, antialiased); an image that already has the asked
    size is returned pixel for pixel. Of an animation the first frame is taken.

    Args:
        data: BMP, GIF, JPEG, PNG, PGM, PPM, TIFF or WebP.
        height: rows of the result, at least 1.
        width: columns of the result, at least 1.

    Returns:
        uint8 pixels, `(height, width, 3)`, in the order red, green, blue.

    Raises:
        DataError: why not, without saying which image: it is empty, truncated, no image, larger
            than Pillow's limit against decompression bombs (89 million pixels), or holds
            floating-point pixels, whose range nothing declares.
        ValueError: `height` or `width` is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image needs height and width of at least 1, got {height}x{width}")
    pixels = np.empty((height, width, 3), dtype=np.uint8)
    decode_into(data, pixels)
    return pixels


def decode_into(data: bytes, pixels: npt.NDArray[np.uint8]) -> None:
    """Do as `decode_bytes`, into a contiguous array `(height, width, 3)` that is there already.

    Raises:
        DataError: see `decode_bytes`; what the array then holds is undefined.
    """
    height, width = pixels.shape[:2]
    # Lets the JPEG decoder skip detail far beyond the asked size; twice the size is kept for the
    # resize.
    keep = 2 * max(height, width)
    stored = plain_jpeg_size(data)
    try:
        if stored == (height, width):
            decode_plain_jpeg(data, into=pixels)
            return
        # Below twice `keep` Pillow would not skip anything either.
        if stored is not None and min(stored) < 2 * keep and stored[0] * stored[1] <= _LARGE:
            pixels[:] = _fit(Image.fromarray(decode_plain_jpeg(data)), height, width)
            return
    except UnusualJpegError:
        pass  # Pillow says what is wrong with it, or knows better
    with opened_image(data) as image:
        image.draft(None, (keep, keep))
        with _one_large_image if image.width * image.height > _LARGE else nullcontext():
            pixels[:] = _fit(_to_rgb(_upright(image)), height, width)


def decode_upright(data: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image as upright RGB pixels of its own size.

    Args:
        data: see `decode_bytes`, as for what becomes of it.

    Returns:
        uint8 pixels, `(height, width, 3)`, in the order red, green, blue.

    Raises:
        DataError: see `decode_bytes`.
    """
    stored = plain_jpeg_size(data)
    if stored is not None and stored[0] * stored[1] <= _LARGE:
        try:
            return decode_plain_jpeg(data)
        except UnusualJpegError:
            pass
    with opened_image(data) as image:
        with _one_large_image if image.width * image.height > _LARGE else nullcontext():
            return np.array(_to_rgb(_upright(image)), dtype=np.uint8)


@contextmanager
def opened_image(data: bytes) -> Iterator[Image.Image]:
    """The image by Pillow; whatever goes wrong in the block is a DataError that says why."""
    if not data:
        raise DataError("the file is empty (0 bytes)")
    try:
        with _quiet_pillow(), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            yield image
    except UnidentifiedImageError as error:
        if data.startswith(_TIFF_HEADS):
            raise DataError(
                "a TIFF that is broken or of a kind that is not read here, such as of "
                "floating-point "
                "pixels; save the image with 8 bits a channel"
            ) from error
        what = "HTML or XML text, " if data[:64].lstrip().startswith(b"<") else ""
        raise DataError(
            f"{what}not an image in a format that is read here (BMP, GIF, JPEG, PNG, PGM, PPM, "
            "TIFF, WebP)"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"too many pixels to be decoded safely: {error}") from error
    except Exception as error:
        # On broken files Pillow's parsers raise whatever they stumble on: OSError, SyntaxError,
        # struct.error, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"cannot be decoded: {reason}") from error


def _upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError(
            "floating-point pixels have no declared range; save the image with 8 bits"
        )
    if image.mode.startswith("I"):  # 16-bit grey; Pillow holds some formats of it in 32 bits
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, rgba).convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, height: int, width: int) -> npt.NDArray[np.uint8]:
    if image.size != (width, height):
        scale = min(image.width / width, image.height / height)
        box_width, box_height = scale * width, scale * height
        left = max(0.0, (image.width - box_width) / 2)
        top = max(0.0, (image.height - box_height) / 2)
        # min(): rounding must not push the box a hair over the edge, which Pillow refuses.
        right = min(float(image.width), left + box_width)
        bottom = min(float(image.height), top + box_height)
        image = image.resize(
            (width, height), Image.Resampling.BICUBIC, box=(left, top, right, bottom)
        )
    return np.array(image, dtype=np.uint8)


_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filters = ExitStack()


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings, and make its warning about decompression bombs an error.

    Warning filters belong to the whole process, and `catch_warnings` blocks that overlap in
    several threads restore each other's filters. So the first thread in sets them, and the last
    one out puts them back.
    """
    global _quiet_users
    with _quiet_lock:
        if _quiet_users == 0:
            _quiet_filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
        _quiet_users += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet_filters.close()
