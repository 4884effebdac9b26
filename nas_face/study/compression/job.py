"""Working out what `nas-face compress` is asked to do: which model, which faces, which pairs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from nas_face.arch.zoo import NETWORKS
from nas_face.data import PairList
from nas_face.data.formats.attributes import read_attributes
from nas_face.errors import ConfigError, DataError
from nas_face.nn import FaceModel
from nas_face.study.compression.record import CompressionFaces
from nas_face.study.config import StudyConfig, study_of
from nas_face.study.faces import load_faces, pairs_of, split_but_the_judged
from nas_face.study.layout import STUDY_FILE
from nas_face.study.networks import require_trial
from nas_face.study.run import Run
from nas_face.study.training import study_config
from nas_face.study.verification.groups import PairGroups, find_groups, say_once
from nas_face.study.verification.trained_on import require_strangers

_TRAINED = ("trained ", "imported from ", "distilled ")
"""Beginnings of the lines that a training or an import leaves."""


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
        source: folder of the model.
        trial: of the run that it is from.
        remarks: what people should know, a line each.
    """

    name: str
    model: FaceModel
    config: StudyConfig
    faces: CompressionFaces
    folder: Path
    source: Path
    trial: int | None = None
    remarks: tuple[str, ...] = ()


def compress_job(
    path: Path,
    trial: int | None,
    study: str,
    overrides: Mapping[str, Any],
    pairs: str | None,
    images: Path | None,
    *,
    protocol: str | None = None,
    allow_overlap: bool = False,
    allow_untrained: bool = False,
) -> CompressJob:
    """Find model, faces and pairs.

    A trial that `nas-face train` has trained in full is taken from there, and as the search left
    it otherwise.

    Args:
        path: model folder or run folder.
        trial: of the run.
        study: study file or run folder with the faces, for a model folder.
        overrides: see `load_study`. Attributes among them must fit the pairs; those of the study
            are left out where they do not.
        pairs: pair list, or none for the study's test pairs.
        images: root of the images of the pair list.
        protocol: of CFP: FF or FP.
        allow_overlap: whether people that the model was or will be trained on may judge it.
        allow_untrained: whether weights that were never trained will do.

    Raises:
        NasFaceError: something is missing or malformed.
    """
    if str(path) in NETWORKS and not path.exists():
        raise ConfigError(
            f"{path} is a network without weights: train it with nas-face train {path}, or load "
            f"weights into it with nas-face import-weights FILE --as {path}, and give the model "
            "folder"
        )
    number = None
    if (path / STUDY_FILE).is_file():
        run = Run.open(path)
        number = require_trial(path, trial)
        frozen = run.trial(number)
        trained = path / "trained" / f"trial-{number}"
        full = (trained / "model.json").is_file()
        model = FaceModel.load(trained) if full else run.model(frozen)
        source = trained if full else run.candidate_folder(frozen)
        config = study_of(run.config.to_data(), where=STUDY_FILE, overrides=overrides)
        name = f"trial {number}, " + ("trained in full" if full else "as the search trained it")
        folder = path / "compressed" / f"trial-{number}{'-full' if full else ''}"
    else:
        if trial is not None:
            raise ConfigError(f"--trial goes with a run folder; {path} is none")
        model = FaceModel.load(path)
        config = study_config(study, overrides)
        name, folder, source = str(path), path / "compressed", path
    if not allow_untrained:
        _require_trained(model, path)
    if "data.group_far" in overrides and config.data.attributes is None:
        raise ConfigError("--group-far goes with --groups; the study has no data.attributes")
    torch.set_num_threads(config.threads)
    height, width, where = model.height, model.width, pairs or "test pairs of the study"
    if pairs is None:
        found = load_faces(config.data, height=height, width=width, seed=config.seed)
        train, judge, verification = found.split.train, found.search_pairs, found.test_pairs
    else:
        verification = pairs_of(pairs, images, height=height, width=width, protocol=protocol)
        train, judge = split_but_the_judged(
            config.data,
            verification,
            where=where,
            height=height,
            width=width,
            seed=config.seed,
            allow_overlap=allow_overlap,
        )
    remarks = []
    if not allow_overlap:
        require_strangers(
            verification.images, where=where, folder=source, trained=train.identities
        )
        try:
            require_strangers(judge.images, where="pairs that decide", folder=source)
        except DataError:
            remarks.append(
                "the model was trained on some people of the pairs that decide about floors: they "
                "flatter it; give faces that it has not seen with --data"
            )
    return CompressJob(
        name=name,
        model=model,
        config=config,
        faces=CompressionFaces(
            train=train,
            judge=judge,
            pairs=verification,
            groups=_groups(
                config,
                verification,
                where,
                asked=not {"data.attributes", "data.group_far"}.isdisjoint(overrides),
            ),
        ),
        folder=folder,
        source=source,
        trial=number,
        remarks=tuple(remarks),
    )


def _require_trained(model: FaceModel, path: Path) -> None:
    """Raise if the lineage of a model tells of no training."""
    told = model.description.lineage
    if not any(line.startswith(_TRAINED) for line in told):
        raise ConfigError(
            f"{path}: its weights were never trained, as far as its lineage tells "
            f"({'; '.join(told) or 'it is empty'}); train it with nas-face train, or say "
            "--allow-untrained"
        )


def _groups(config: StudyConfig, pairs: PairList, where: str, *, asked: bool) -> PairGroups | None:
    """Groups of people on pairs by the attributes of a study; none where it has none, or where
    nobody asked and they do not fit."""
    if config.data.attributes is None:
        return None
    try:
        table = read_attributes(Path(config.data.attributes))
        groups = find_groups(table, pairs, far=config.data.group_far, of=where)
    except DataError as failure:
        if asked:
            raise
        say_once(f"without figures of groups; {failure}")
        return None
    for remark in groups.remarks:
        say_once(remark)
    return groups
