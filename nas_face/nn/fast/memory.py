"""Memory that a training step gives back, kept for the next step."""

import contextlib
import ctypes
import platform
from collections.abc import Iterator

# Of mallopt(3).
_TRIM_THRESHOLD = -1
_MMAP_THRESHOLD = -3
_MMAP_MAX = -4

_depth = 0  # of blocks in one another


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """In this block, the process keeps freed memory instead of giving it back to the system.

    By default glibc hands every freed block above 32 MB back, and the next step gets it anew, page
    by page: measured 17 % of a step of MobileFaceNet with 128 images at 112x112, 4 % with 32.
    A block within another changes nothing. Under another C library nothing happens.
    """
    global _depth
    if _depth or platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        # What the thresholds rise to by themselves once a block of 32 MB has been freed.
        library.mallopt(_MMAP_MAX, 65536)
        library.mallopt(_MMAP_THRESHOLD, 2**25)
        library.mallopt(_TRIM_THRESHOLD, 2**26)
        library.malloc_trim(0)
