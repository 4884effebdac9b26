"""OpenVINO and its quantiser NNCF, which are an extra, and which may not send statistics."""

import functools
import logging
import sys
from importlib.util import find_spec
from typing import Any, Final

from nas_face.deploy.quiet import quiet
from nas_face.errors import ConfigError

MISSING: Final = (
    "files of OpenVINO (.xml) are an extra (the packages openvino and nncf): pip install "
    "'nas-face[openvino]'"
)
_TELEMETRY = "openvino_telemetry"


def openvino_missing() -> str | None:
    """Why files of OpenVINO can be neither made nor run here, in one line; None where they can."""
    absent = [name for name in ("openvino", "nncf") if find_spec(name) is None]
    return f"{MISSING} (there is no {' and no '.join(absent)})" if absent else None


def openvino() -> Any:
    """The module openvino.

    Raises:
        ConfigError: it is not installed.
    """
    _forbid_telemetry()
    try:
        import openvino
        import openvino.passes  # does not come with it
    except ImportError as failure:
        raise ConfigError(f"{MISSING} ({failure})") from failure
    return openvino


def nncf() -> Any:
    """The module nncf.

    Raises:
        ConfigError: it is not installed.
    """
    _forbid_telemetry()
    logger_class = logging.getLoggerClass()
    try:
        with quiet():
            import nncf
    except ImportError as failure:
        raise ConfigError(f"{MISSING} ({failure})") from failure
    finally:
        logging.setLoggerClass(logger_class)  # it sets one of its own, for everybody
    return nncf


@functools.cache
def core() -> Any:
    """What reads and compiles files, an `openvino.Core`; one for the process.

    Raises:
        ConfigError: OpenVINO is not installed.
    """
    return openvino().Core()


def _forbid_telemetry() -> None:
    """Let the package that sends statistics count as not installed.

    OpenVINO tells a server of Intel's of its every import, and keeps a number of its own for the
    user in the home folder; NNCF tells of what it quantises. Both do without where the package is
    missing. Nothing is changed where it has been imported before, by somebody else.
    """
    sys.modules.setdefault(_TELEMETRY, None)  # type: ignore[arg-type]
