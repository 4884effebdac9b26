"""Imports go down only: two towers on one ground floor, one roof.

                   cli
                    |
                  study
   _________________|____________________
  |                                      |
search      train  verify  proxies  compress  deploy  foreign  align
  |           |                          |
  |         losses                       |
space                              nn          data
  |________________________     _________|
                           arch
                            |
                     errors  shipped
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nas_face

PACKAGE = Path(nas_face.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    "errors": set(),
    "shipped": set(),
    "arch": {"errors"},
    "space": {"arch", "errors"},
    "search": {"space", "arch", "errors"},
    "nn": {"arch", "errors"},
    "losses": {"nn", "arch", "errors"},
    "data": {"errors"},
    "train": {"losses", "nn", "data", "arch", "errors"},
    "verify": {"data", "errors"},
    "proxies": {"losses", "nn", "data", "arch", "errors"},
    "compress": {"nn", "data", "arch", "errors"},
    "deploy": {"nn", "data", "arch", "errors"},
    "foreign": {"nn", "data", "arch", "errors"},
    "align": {"data", "errors"},
}
MAY_IMPORT["study"] = set(MAY_IMPORT)
MAY_IMPORT["cli"] = set(MAY_IMPORT)
MAY_IMPORT["__main__"] = {"cli"}

FENCED = {
    "torch": {"nn", "losses", "train", "proxies", "compress", "deploy", "foreign", "study"},
    "optuna": {"search", "study"},
    "nni": {"search"},
    "onnx": {"deploy", "foreign"},
    "onnxruntime": {"deploy", "foreign"},
    "openvino": {"deploy"},
    "nncf": {"deploy"},
    "yaml": {"space", "study"},
    "typer": {"cli"},
    "rich": {"cli", "study"},
    "PIL": {"data"},
    "simplejpeg": {"data"},
    "imagehash": {"data"},
    "cv2": {"align"},
    "threadpoolctl": {"verify"},
    "pandas": {"study"},
    "matplotlib": {"study"},
    "plotly": {"study"},
    "safetensors": {"nn", "foreign", "train"},
}


def floor_of(path: Path) -> str:
    """The part of the package in which a file lies."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def imports_of(path: Path, *, whole: bool = True) -> tuple[tuple[int, str], ...]:
    """Line and full name of every import, those inside functions only if `whole`."""
    return tuple(_imports_of(path, whole))


def _imports_of(path: Path, whole: bool) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree) if whole else tree.body:
        match node:
            case ast.Import():
                for alias in node.names:
                    yield node.lineno, alias.name
            case ast.ImportFrom(level=0, module=str(module)):
                for alias in node.names:
                    yield node.lineno, f"{module}.{alias.name}"
            case ast.ImportFrom():
                yield node.lineno, "a relative import"


def test_every_part_of_the_package_has_its_floor():
    assert {floor_of(path) for path in FILES} - {"__init__"} == set(MAY_IMPORT)


def test_imports_go_down():
    offenders = []
    for path in FILES:
        here = floor_of(path)
        for line, name in imports_of(path):
            first, *rest = name.split(".")
            target = rest[0] if first == "nas_face" and rest else None
            allowed = MAY_IMPORT.get(here, set()) | {here, None, "__version__"}
            if target not in allowed:
                offenders.append(f"{path.relative_to(PACKAGE)}:{line} imports {name}")
    assert offenders == []


def test_imports_are_absolute():
    offenders = [
        f"{path.relative_to(PACKAGE)}:{line}"
        for path in FILES
        for line, name in imports_of(path)
        if name == "a relative import"
    ]
    assert offenders == []


@pytest.mark.parametrize("library", FENCED)
def test_libraries_stay_where_they_belong(library):
    users = {
        f"{path.relative_to(PACKAGE)}:{line}": floor_of(path)
        for path in FILES
        for line, name in imports_of(path)
        if name.split(".")[0] == library
    }
    assert users
    assert [where for where, floor in users.items() if floor not in FENCED[library]] == []


def test_metrics_are_numpy_only():
    imported = {name.split(".")[0] for _, name in imports_of(PACKAGE / "verify" / "metrics.py")}
    assert imported - set(sys.stdlib_module_names) <= {"numpy", "nas_face"}
    inner = {
        name for _, name in imports_of(PACKAGE / "verify" / "metrics.py") if "nas_face" in name
    }
    assert all(name.startswith("nas_face.errors.") for name in inner)


def test_no_circles_at_import():
    """No module needs itself, through others, in order to be imported."""
    names = {
        _module_name(path): {name for _, name in imports_of(path, whole=False)} for path in FILES
    }
    edges = {
        module: {name if name in names else name.rpartition(".")[0] for name in imported}
        for module, imported in names.items()
    }
    assert _circle(edges) == []


def _module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _circle(edges: dict[str, set[str]]) -> list[str]:
    """Some modules that import each other in a circle, or none."""
    left = dict(edges)
    while True:
        free = [module for module, targets in left.items() if not targets & set(left)]
        if not free:
            return sorted(left)
        for module in free:
            del left[module]


@pytest.mark.parametrize("module", ["nas_face.arch.zoo", "nas_face.space", "nas_face.search"])
def test_the_search_tower_needs_no_torch(module):
    code = f"import sys, {module}; print({{'torch', 'pandas', 'onnx'}} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_importing_the_package_sets_up_nothing():
    code = (
        "import logging, warnings\n"
        "import nas_face.arch.zoo, nas_face.space, nas_face.search, nas_face.nn, nas_face.train\n"
        "print(logging.getLogger().handlers, logging.getLogger('nas_face').handlers)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[] []"
    assert result.stderr == ""
