"""Any model that a user names, ready to embed, with a digest of what it is."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import torch

from nas_face.deploy import Convention
from nas_face.deploy.model_files import weight_files
from nas_face.deploy.session import precision_of, prepares_pixels
from nas_face.errors import ConfigError
from nas_face.nn.model import WEIGHTS_FILE
from nas_face.study.evaluate import Embedder
from nas_face.study.layout import MODEL_FILE, STUDY_FILE
from nas_face.study.networks import embedder_of, folder_of


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """A model that is ready to embed.

    Attributes:
        name: for tables; unique among the models opened together.
        embedder: the model.
        precision: of its weights: `fp32`, `fp16` or `int8`.
        digest: of its files and of what the user says about them; equal models have equal ones.
        folder: in which it lies, with what is known of its training.
    """

    name: str
    embedder: Embedder
    precision: str
    digest: str
    folder: Path | None = None


def open_models(
    paths: Sequence[Path],
    trial: int | None = None,
    given: Convention | None = None,
    *,
    threads: int | None = None,
) -> tuple[OpenedModel, ...]:
    """Models to verify, in order.

    What is said about an input goes to ONNX files of others; model folders, runs and our own
    exports, those for OpenVINO among them, state theirs.

    Args:
        paths: model folders, ONNX and OpenVINO files, and run folders.
        trial: of the run folders.
        given: what the user says about the input of ONNX files.
        threads: that embedding may use; as many as torch takes by default.

    Raises:
        ConfigError: a path is none of these; or an option goes with none of the models.
        NasFaceError: files are broken.
    """
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"--threads must be at least 1, got {threads}")
        torch.set_num_threads(threads)
    n_threads = torch.get_num_threads() if threads is None else threads
    given = given or Convention()
    runs = [path for path in paths if (path / STUDY_FILE).is_file()]
    if trial is not None and not runs:
        raise ConfigError(f"--trial goes with a run folder; {paths[0]} is none")
    foreign = [path for path in paths if path.is_file() and not prepares_pixels(path)]
    if not given.says_nothing and not foreign and all(path.exists() for path in paths):
        raise ConfigError(
            f"options about the input go with ONNX files of others; {paths[0]} prepares pixels "
            "itself"
        )
    found: list[OpenedModel] = []
    for path in paths:
        model = open_model(
            path,
            trial if path in runs else None,
            given if path in foreign else None,
            threads=n_threads,
        )
        if any(each.name == model.name for each in found):
            model = replace(model, name=str(path))
        found.append(model)
    return tuple(found)


def open_model(
    path: Path, trial: int | None = None, given: Convention | None = None, *, threads: int
) -> OpenedModel:
    """One model.

    Args:
        path: model folder, ONNX or OpenVINO file, or run folder.
        trial: of the run folder.
        given: what the user says about an ONNX file of others.
        threads: of an ONNX file: batches at once; of an OpenVINO file: of one batch.

    Raises:
        ConfigError: the path is none of these, or something about an ONNX file's input is not
            certain.
        NasFaceError: files are broken.
    """
    embedder = embedder_of(path, trial, given, threads=threads)
    folder = folder_of(path, trial)
    name = path.name or str(path)
    return OpenedModel(
        name=name if trial is None else f"{name} trial {trial}",
        embedder=embedder,
        precision=precision_of(path) if path.is_file() else "fp32",
        digest=model_digest(path if path.is_file() else folder, trial, given),
        folder=folder,
    )


def model_digest(path: Path, trial: int | None = None, given: Convention | None = None) -> str:
    """Digest of the content of a file or a model folder, and of what is said about it."""
    found = hashlib.sha256(f"{trial} {given}".encode())
    files = (path, *weight_files(path))
    for file in (path / MODEL_FILE, path / WEIGHTS_FILE) if path.is_dir() else files:
        with open(file, "rb") as content:
            found.update(hashlib.file_digest(content, "sha256").digest())
    return found.hexdigest()
