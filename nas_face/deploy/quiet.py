"""Keeping what other libraries print and log from the user."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep prints, warnings and log lines of quantisers from the user; of the whole process.

    ONNX Runtime's calls `logging.warning`, which would set up the root logger if that has no
    handler yet.
    """
    root = logging.getLogger()
    handler, disabled = logging.NullHandler(), logging.root.manager.disable
    root.addHandler(handler)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        root.removeHandler(handler)
