"""Working out what `nas-face compress` is asked to do: which model, which faces, which pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.study.compress_record import CompressionFaces
from nas_face.study.config import StudyConfig, study_of
from nas_face.study.faces import load_faces, pairs_of
from nas_face.study.layout import STUDY_FILE
from nas_face.study.networks import require_trial
from nas_face.study.run import Run
from nas_face.study.training import study_config


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompressJob:
    """What `nas-face compress` does.

    Attributes:
        name: for people.
        model: what to compress.
        config: margin loss and seed of distillation.
        faces: to distil, calibrate and verify on.
        folder: default place of results, without the recipe's name.
    """

    name: str
    model: FaceModel
    config: StudyConfig
    faces: CompressionFaces
    folder: Path


def compress_job(
    path: Path,
    trial: int | None,
    study: str,
    overrides: Mapping[str, Any],
    pairs: str | None,
    images: Path | None,
) -> CompressJob:
    """Find model, faces and pairs.

    A trial that `nas-face train` has trained in full is taken from there, and as the search left
    it otherwise.

    Args:
        path: model folder or run folder.
        trial: of the run.
        study: study file or run folder with the faces, for a model folder.
        overrides: see `load_study`.
        pairs: pair list, or none for the study's test pairs.
        images: root of the images of the pair list.

    Raises:
        NasFaceError: something is missing or malformed.
    """
    if (path / STUDY_FILE).is_file():
        run = Run.open(path)
        number = require_trial(path, trial)
        frozen = run.trial(number)
        trained = path / "trained" / f"trial-{number}"
        full = (trained / "model.json").is_file()
        model = FaceModel.load(trained) if full else run.model(frozen)
        config = study_of(run.config.to_data(), where=STUDY_FILE, overrides=overrides)
        name = f"trial {number}, " + ("trained in full" if full else "as the search trained it")
        folder = path / "compressed" / f"trial-{number}{'-full' if full else ''}"
    else:
        if trial is not None:
            raise ConfigError(f"--trial goes with a run folder; {path} is none")
        model = FaceModel.load(path)
        config = study_config(study, overrides)
        name, folder = str(path), path / "compressed"
    torch.set_num_threads(config.threads)
    found = load_faces(config.data, height=model.height, width=model.width, seed=config.seed)
    verification = (
        found.test_pairs
        if pairs is None
        else pairs_of(pairs, images, height=model.height, width=model.width)
    )
    return CompressJob(
        name=name,
        model=model,
        config=config,
        faces=CompressionFaces(train=found.split.train, pairs=verification),
        folder=folder,
    )
