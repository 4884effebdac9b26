"""On which runtimes a compression's files run, and how float files for them are written."""

import platform
from pathlib import Path

from nas_face.deploy import export_onnx
from nas_face.deploy.openvino import export_openvino, openvino_missing
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.study.compression.recipe import RUNTIMES, Recipe
from nas_face.study.compression.results import Runtime

_X86 = ("x86_64", "amd64", "i386", "i686")
_SUFFIXES: dict[Runtime, str] = {"onnxruntime": ".onnx", "openvino": ".xml"}


def deciding_runtime(recipe: Recipe) -> Runtime:
    """The runtime that files are judged and timed on.

    Raises:
        ConfigError: the recipe asks for one that is not installed.
    """
    if recipe.runtime == "auto":
        fits = platform.machine().lower() in _X86 and openvino_missing() is None
        return "openvino" if fits else "onnxruntime"
    if recipe.runtime == "openvino" and (missing := openvino_missing()) is not None:
        raise ConfigError(f"runtime: openvino: {missing}")
    return recipe.runtime


def runtimes_of(recipe: Recipe, precision: str) -> tuple[Runtime, ...]:
    """Runtimes for which files of a precision are delivered, that which decides first.

    Weights in few bits are for ONNX Runtime alone.

    Raises:
        ConfigError: the recipe asks for one that is not installed.
    """
    first = deciding_runtime(recipe)
    named: dict[str, bool] = dict.fromkeys((first, *RUNTIMES), not recipe.deliver)
    for each in recipe.deliver:
        runtime, _, only = each.partition("/")
        named[runtime] = named[runtime] or only in ("", precision)
    missing = openvino_missing()
    if missing is not None:
        if any(each.startswith("openvino") for each in recipe.deliver):
            raise ConfigError(f"deliver: openvino: {missing}")
        named["openvino"] = False
    if precision.startswith("w"):
        return ("onnxruntime",)
    order: tuple[Runtime, ...] = ("openvino", "onnxruntime")
    wanted = tuple(each for each in order if named[each])
    return tuple(sorted(wanted, key=lambda each: each != first))


def file_name(precision: str, runtime: Runtime) -> str:
    """Of a file in a step's folder: `model.onnx`, `model.int8.xml`."""
    middle = "" if precision == "fp32" else f".{precision}"
    return f"model{middle}{_SUFFIXES[runtime]}"


def write_float(model: FaceModel, folder: Path, runtime: Runtime) -> Path:
    """Write the float32 file of a model for a runtime.

    Raises:
        DeployError: it cannot be exported or written.
    """
    path = folder / file_name("fp32", runtime)
    if runtime == "openvino":
        export_openvino(model, path)
    else:
        export_onnx(model, path)
    return path
