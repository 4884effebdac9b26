"""One finished run that the study tests share, and copies of it to change."""

import itertools
import shutil
from pathlib import Path

import pytest
from tiny_study import write_study

from nas_face.arch.spec import ArchSpec
from nas_face.space import SearchSpace
from nas_face.study.config import StudyConfig, load_study
from nas_face.study.run import Run


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> StudyConfig:
    return load_study(write_study(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def finished(tiny: StudyConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run; not to be changed."""
    run = Run.start(tmp_path_factory.mktemp("finished") / "run", tiny)
    run.search(run.faces())
    return run


@pytest.fixture
def copied(finished: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, somewhere else."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    return Run.open(tmp_path / "copy")


@pytest.fixture(scope="session")
def every_design(finished: Run) -> list[ArchSpec]:
    """All designs of the tiny space."""
    choices = finished.space.choices()
    return [
        decode(finished.space, choices, labels)
        for labels in itertools.product(*(choice.labels for choice in choices.values()))
    ]


def decode(space: SearchSpace, choices, labels) -> ArchSpec:
    return space.decode(dict(zip(choices, labels, strict=True)))
