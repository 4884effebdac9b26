"""Training one network in full, with the faces and the recipe of a study."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch

from nas_face.arch.spec import ArchSpec
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.search import derive_seed
from nas_face.shipped import find_file
from nas_face.study.config import StudyConfig, load_study, study_of
from nas_face.study.evaluate import CPU, verify_on
from nas_face.study.faces import TrainingFaces, all_but_the_judged, load_faces
from nas_face.study.layout import (
    CHECKPOINTS_FOLDER,
    EPOCHS_FOLDER,
    MODEL_FILE,
    STUDY_FILE,
    TEACHERS_FOLDER,
)
from nas_face.study.networks import require_trial, spec_of
from nas_face.study.run import Run
from nas_face.study.teachers import teacher_targets
from nas_face.study.verification.trained_on import require_strangers, write_trained_on
from nas_face.study.verification.verify import PairSource
from nas_face.study.warm_start import warm_start
from nas_face.train import Checkpoints, EpochReport, StepReport, train
from nas_face.verify import VerificationResult

OnEpoch = Callable[[EpochReport], bool | None]
OnStep = Callable[[StepReport], bool | None]


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
        init: model folder to take the starting weights from.
        keep_epochs: whether the network after each epoch is kept, for students to follow it.
        teachers: folder of the embeddings of teachers.
        device: to train and verify on.
    """

    name: str
    spec: ArchSpec
    config: StudyConfig
    faces: TrainingFaces
    out: Path
    init: Path | None = None
    keep_epochs: bool = False
    teachers: Path = Path("runs") / TEACHERS_FOLDER
    device: torch.device = CPU

    @property
    def checkpoints(self) -> Checkpoints:
        """Where the training goes on from."""
        return Checkpoints(self.out / CHECKPOINTS_FOLDER)


def training_job(
    name: str,
    trial: int | None,
    study: str,
    overrides: Mapping[str, Any],
    out: Path | None,
    *,
    pairs: PairSource | None = None,
    allow_overlap: bool = False,
    init: Path | None = None,
) -> TrainingJob:
    """Work out what a user asks for.

    Args:
        name: run folder, zoo network or spec file.
        trial: of the run.
        study: study file for a network of no run.
        overrides: see `load_study`. A teacher among them teaches by `angular` distillation if
            nothing says how.
        out: model folder, or none for the default.
        pairs: to verify on; everybody else is trained on. None: the study's own split.
        allow_overlap: whether to train on people of the pairs, too, and to start from weights that
            have seen them.
        init: model folder to take the starting weights from.

    Raises:
        NasFaceError: something is missing or malformed.
    """
    if (Path(name) / STUDY_FILE).is_file():
        run = Run.open(Path(name))
        number = require_trial(run.folder, trial)
        spec = run.spec(run.trial(number))
        config = _with_recipe(
            lambda given: study_of(run.config.to_data(), where=STUDY_FILE, overrides=given),
            overrides,
        )
        label, default = f"trial {number}", run.folder / "trained" / f"trial-{number}"
    else:
        if trial is not None:
            raise ConfigError(f"--trial goes with a run folder; {name} is none")
        spec = spec_of(name)
        config = _with_recipe(lambda given: study_config(study, given), overrides)
        label, default = name, Path("runs") / "trained" / Path(name).stem
    if config.image_size is not None:
        spec = replace(spec, input_shape=(spec.input_shape[0], *config.image_size))
        spec.cost()
    height, width = spec.input_shape[1:]
    if pairs is None:
        found = load_faces(config.data, height=height, width=width, seed=config.seed)
        faces = TrainingFaces(
            train=found.split.train,
            pairs=found.test_pairs,
            where="test pairs of the study",
            skipped=found.skipped,
        )
    else:
        faces = all_but_the_judged(
            config.data,
            pairs.load(height, width),
            where=pairs.name,
            height=height,
            width=width,
            allow_overlap=allow_overlap,
        )
    if init is not None and not allow_overlap:
        require_strangers(faces.pairs.images, where=faces.where, folder=init)
    return TrainingJob(
        name=label, spec=spec, config=config, faces=faces, out=out or default, init=init
    )


def _with_recipe(
    load: Callable[[Mapping[str, Any]], StudyConfig], overrides: Mapping[str, Any]
) -> StudyConfig:
    """A study with what the user says about it, and a way to learn from a teacher."""
    given = dict(overrides)
    about_teachers = [key for key in given if key.startswith("full_training.teacher")]
    if about_teachers and "full_training.distil" not in given:
        plain = load({})
        if not plain.full_training.distil:
            given["full_training.distil"] = ["angular"]
    return load(given)


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


def train_network(
    job: TrainingJob,
    on_epoch: OnEpoch,
    *,
    on_step: OnStep = lambda report: None,
    note: Callable[[str], None] = lambda line: None,
    ranks: Ranks = ALONE,
) -> VerificationResult:
    """Train, save and verify; interrupted, it goes on from its last checkpoint when called again.

    Args:
        job: what to do.
        on_epoch: told of every epoch; see `train`.
        on_step: told of every step; see `train`. If it returns False in one process, all stop.
        note: told what people should read.
        ranks: processes that train together, of which this is the first.

    Returns:
        Verification on the job's pairs.

    Raises:
        ConfigError: the folder holds a model already.
        TrainingDiverged: the loss stopped being finite.
        NasFaceError: the weights to start from, or the teacher, are missing or do not fit.
    """
    model = train_model(job, on_epoch, on_step=on_step, note=note, ranks=ranks)
    _note_people(job, job.out)
    model.save(job.out)
    job.checkpoints.clear()
    return verify_on(model, job.faces.pairs)


def train_model(
    job: TrainingJob,
    on_epoch: OnEpoch,
    *,
    on_step: OnStep = lambda report: None,
    note: Callable[[str], None] = lambda line: None,
    ranks: Ranks = ALONE,
) -> FaceModel:
    """Train, and neither save nor verify: what every process but the first does.

    Args and Raises are those of `train_network`.
    """
    if (job.out / MODEL_FILE).exists():
        raise ConfigError(
            f"{job.out}: holds a trained model; choose another folder with --out, or delete it"
        )
    config, images = job.config, job.faces.train
    settings = config.full_training
    torch.set_num_threads(config.threads)
    seed = derive_seed(config.seed, "full", job.spec.arch_id)
    model = FaceModel.fresh(job.spec, seed=seed)
    if job.init is not None:
        model = warm_start(model, job.init)
    first = ranks.rank == 0
    if first:
        job.out.mkdir(parents=True, exist_ok=True)  # a folder that cannot be made shows at once
    teacher = None
    if settings.teacher is not None:
        teacher = teacher_targets(
            settings.teacher,
            images,
            config.data,
            cache=job.teachers,
            note=note,
            threads=config.threads,
            device=job.device,
        )
    model.module.to(job.device)

    def after_epoch(report: EpochReport) -> bool | None:
        if job.keep_epochs and first:
            folder = job.out / EPOCHS_FOLDER / f"{report.epoch:03d}"
            _note_people(job, folder)
            model.save(folder)
        return on_epoch(report)

    train(
        model,
        images,
        settings,
        seed=seed,
        on_epoch=after_epoch,
        on_step=lambda report: _all_go_on(ranks, on_step(report)),
        checkpoints=job.checkpoints,
        teacher=teacher,
        ranks=ranks,
    )
    return model.noting(_record(job))


def _all_go_on(ranks: Ranks, answer: bool | None) -> bool:
    """Whether no process wants to stop; they all do so behind the same step."""
    if ranks.n == 1:
        return answer is not False
    return not bool(ranks.max(torch.tensor([int(answer is False)])))


def _record(job: TrainingJob) -> str:
    """The line of the lineage."""
    config, settings = job.config, job.config.full_training
    taught = "" if settings.teacher is None else f", taught by {Path(settings.teacher.model).name}"
    turns = "" if settings.generations == 1 else f" in each of {settings.generations} generations"
    return (
        f"trained {settings.epochs} epochs{turns} on {len(job.faces.train)} images{taught} "
        f"with seed {config.seed} in study {config.name}"
    )


def _note_people(job: TrainingJob, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_trained_on(folder, job.faces.train.identities, job.init)
