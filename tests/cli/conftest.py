"""The program in this process, and one run that it made."""

import contextlib
import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from nas_face.cli import main

SPACE = """
name: tiny
input_shape: [3, 112, 112]
stem: [{kind: conv_unit, out_channels: {choice: [8, 16]}, stride: 2}]
stages:
  - out_channels: {choice: [8, 16, 24]}
    stride: 2
    repeats: {choice: [1, 2]}
    block: {kind: inverted_residual, expansion: {choice: [1, 2]}}
head: {kind: pooled_linear, embedding_size: 32, tail_channels: 32}
"""

STUDY = """
name: tiny
space: space.yaml
input_size: 32
objectives: [log_tar, madds]
budget: {max_madds: 300k}
trials: 3
training: {epochs: 1, batch_size: 25, loss: {kind: cosface, margin: 0.2, scale: 16.0}}
full_training: {epochs: 1, batch_size: 25, loss: {kind: cosface, margin: 0.2, scale: 16.0}}
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the program ended, and what it wrote."""

    code: int
    out: str
    err: str


Program = Callable[..., Outcome]


def run_program(*arguments: object) -> Outcome:
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["nas-face", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code=code, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="session")
def nas_face() -> Program:
    return run_program


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    (folder / "space.yaml").write_text(SPACE, encoding="utf-8")
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    return folder / "study.yaml"


@pytest.fixture(scope="session")
def searched(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run folder and what the search wrote; not to be changed."""
    folder = tmp_path_factory.mktemp("searched") / "my run"
    return folder, run_program("search", study, "--out", folder)


@pytest.fixture
def run(searched: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(searched[0], tmp_path / "run"))


@pytest.fixture(scope="session")
def model(searched: tuple[Path, Outcome]) -> Path:
    """A model folder; not to be changed."""
    return next((searched[0] / "candidates").iterdir())


@pytest.fixture
def made_up_faces(tmp_path: Path) -> Path:
    """Twelve made-up people with three images each."""
    rng = np.random.default_rng(0)
    root = tmp_path / "faces"
    for who in range(12):
        face = rng.integers(0, 256, (8, 8, 3))
        for number in range(1, 4):
            noisy = np.clip(face + rng.normal(0, 10, face.shape), 0, 255).astype(np.uint8)
            path = root / f"p{who}" / f"p{who}_{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noisy).resize((40, 40)).save(path)
    return root
