"""JPEG in a fraction of Pillow's time, where the result is certain to be Pillow's."""

from typing import Any, final

import numpy as np
import numpy.typing as npt
import simplejpeg

_START = b"\xff\xd8"
_SCAN = 0xDA
# Baseline, extended sequential and progressive Huffman coding (ITU-T T.81, table B.1).
_PLAIN_FRAMES = (0xC0, 0xC1, 0xC2)
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_APP1 = 0xE1


@final
class UnusualJpegError(Exception):
    """Not a JPEG that this can decode as surely as Pillow does."""


def plain_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width by the header, if it is a JPEG without surprises.

    That is one of 8 bits, grey or of three components, Huffman coded, with well-formed segments
    and without an APP1 segment: EXIF and XMP, both of which may turn the image, lie there.
    """
    if data[:2] != _START:
        return None
    size = None
    at = 2
    while True:
        if len(data) < at + 10 or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == _SCAN:
            return size
        # Segments of tables, comments and applications; no restart, end or fill byte comes here.
        if not 0xC0 <= marker <= 0xFE or 0xD0 <= marker <= 0xD9 or marker == _APP1:
            return None
        if marker in _OTHER_FRAMES:
            return None
        if marker in _PLAIN_FRAMES:
            height = data[at + 5] << 8 | data[at + 6]
            width = data[at + 7] << 8 | data[at + 8]
            if size is not None or data[at + 4] != 8 or data[at + 9] not in (1, 3):
                return None
            if height == 0 or width == 0:
                return None
            size = (height, width)
        at += 2 + (data[at + 2] << 8 | data[at + 3])


def decode_plain_jpeg(
    data: bytes, into: npt.NDArray[np.uint8] | None = None
) -> npt.NDArray[np.uint8]:
    """Decode a JPEG for which `plain_jpeg_size` gives a size.

    Args:
        data: the file.
        into: contiguous array of that size, `(height, width, 3)`, that the pixels are written to.

    Returns:
        uint8 RGB `(height, width, 3)`; `into`, where it is given.

    Raises:
        UnusualJpegError: the data is damaged, be it ever so little.
    """
    buffer: Any = into
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", buffer=buffer)
    except ValueError as error:
        raise UnusualJpegError(str(error)) from error
    return pixels
