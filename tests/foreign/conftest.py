"""The trained network of the data folder, where there is one."""

import os
from pathlib import Path

import pytest


@pytest.fixture
def teacher() -> Path:
    folder = os.environ.get("NAS_FACE_DATA")
    if not folder:
        pytest.skip("NAS_FACE_DATA names no folder of faces")
    path = Path(folder) / "teachers" / "mobilefacenet_512.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path
