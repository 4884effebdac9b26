"""Training one network in full, with the faces and the recipe of a study."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from nas_face.arch.spec import ArchSpec
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.search import derive_seed
from nas_face.shipped import find_file
from nas_face.study.config import StudyConfig, load_study, study_of
from nas_face.study.evaluate import verify_on
from nas_face.study.faces import StudyFaces, load_faces
from nas_face.study.layout import CHECKPOINT_FILE, MODEL_FILE, STUDY_FILE
from nas_face.study.networks import require_trial, spec_of
from nas_face.study.run import Run
from nas_face.study.verification.trained_on import write_trained_on
from nas_face.train import EpochReport, train
from nas_face.verify import VerificationResult


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingJob:
    """What `nas-face train` does.

    Attributes:
        name: for people.
        spec: the architecture, at the study's input size.
        config: recipe and seed.
        faces: to train on and to verify on.
        out: model folder to write.
    """

    name: str
    spec: ArchSpec
    config: StudyConfig
    faces: StudyFaces
    out: Path


def training_job(
    name: str, trial: int | None, study: str, overrides: Mapping[str, Any], out: Path | None
) -> TrainingJob:
    """Work out what a user asks for.

    Args:
        name: run folder, zoo network or spec file.
        trial: of the run.
        study: study file for a network of no run.
        overrides: see `load_study`.
        out: model folder, or none for the default.

    Raises:
        NasFaceError: something is missing or malformed.
    """
    if (Path(name) / STUDY_FILE).is_file():
        run = Run.open(Path(name))
        number = require_trial(run.folder, trial)
        spec = run.spec(run.trial(number))
        config = study_of(run.config.to_data(), where=STUDY_FILE, overrides=overrides)
        label, default = f"trial {number}", run.folder / "trained" / f"trial-{number}"
    else:
        if trial is not None:
            raise ConfigError(f"--trial goes with a run folder; {name} is none")
        spec = spec_of(name)
        config = study_config(study, overrides)
        label, default = name, Path("runs") / "trained" / Path(name).stem
    if config.image_size is not None:
        spec = replace(spec, input_shape=(spec.input_shape[0], *config.image_size))
        spec.cost()
    faces = load_faces(
        config.data,
        height=spec.input_shape[1],
        width=spec.input_shape[2],
        seed=config.seed,
    )
    return TrainingJob(name=label, spec=spec, config=config, faces=faces, out=out or default)


def study_config(study: str, overrides: Mapping[str, Any]) -> StudyConfig:
    """Config of a study file, shipped ones included, or of a run folder.

    Raises:
        ConfigError: there is none of that name, or it is malformed.
    """
    if (Path(study) / STUDY_FILE).is_file():
        config = Run.open(Path(study)).config
        return study_of(config.to_data(), where=study, overrides=overrides)
    path = find_file(study)
    if path is None:
        raise ConfigError(f"{study}: no such study file or run folder")
    return load_study(path, overrides)


def train_network(job: TrainingJob, on_epoch: Callable[[EpochReport], None]) -> VerificationResult:
    """Train, save and verify; interrupted, it goes on from its last epoch when called again.

    Args:
        job: what to do.
        on_epoch: told of every epoch.

    Returns:
        Verification on the test pairs.

    Raises:
        TrainingDiverged: the loss stopped being finite.
    """
    if (job.out / MODEL_FILE).exists():
        raise ConfigError(
            f"{job.out}: holds a trained model; choose another folder with --out, or delete it"
        )
    torch.set_num_threads(job.config.threads)
    seed = derive_seed(job.config.seed, "full", job.spec.arch_id)
    settings = job.config.full_training
    fresh = FaceModel.fresh(job.spec, seed=seed)
    checkpoint = job.out / CHECKPOINT_FILE
    job.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made shows at once
    model = train(
        fresh,
        job.faces.split.train,
        settings,
        seed=seed,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
    )
    model = model.noting(
        f"trained {settings.epochs} epochs on {len(job.faces.split.train)} images "
        f"with seed {job.config.seed} in study {job.config.name}"
    )
    write_trained_on(job.out, job.faces.split.train.identities)
    model.save(job.out)
    checkpoint.unlink(missing_ok=True)
    return verify_on(model, job.faces.test_pairs)
