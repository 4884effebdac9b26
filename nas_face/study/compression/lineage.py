"""`lineage.json` of an artefact: what it came from, by which recipe, on which faces and
machine."""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from nas_face import __version__
from nas_face.data import FaceImages, PairList
from nas_face.deploy import cpu_name, has_vnni
from nas_face.deploy.files import write_atomically
from nas_face.deploy.manifest import Part
from nas_face.nn import FaceModel
from nas_face.study.compression.results import StepResult
from nas_face.train.teachers import images_digest

LINEAGE_FILE = "lineage.json"
LINEAGE_VERSION: Final = 1

_PACKAGES: Final = ("torch", "numpy", "onnx", "onnxruntime", "openvino", "nncf")


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """What a compression began with.

    Attributes:
        path: model folder or run folder, as the user gave it.
        trial: of the run, where it is one.
        model: that was compressed, with its weights.
        recipe: whole, as JSON data.
        training: recipe of distillations, as JSON data.
        seed: of everything.
        train: faces to distil and calibrate on.
    """

    path: str
    trial: int | None
    model: FaceModel
    recipe: Any
    training: Any
    seed: int
    train: FaceImages


def write_lineage(
    folder: Path,
    origin: Origin,
    model: FaceModel,
    results: Sequence[StepResult],
    pairs: dict[str, PairList],
    parts: Sequence[Part],
) -> Path:
    """Write `lineage.json`. Equal compressions on one machine differ in their measured times only.

    Args:
        folder: of the artefact.
        origin: what it began with.
        model: float model that the files were made of.
        results: of every step.
        pairs: that judged, by what they were for.
        parts: files of the artefact.

    Returns:
        Its path.

    Raises:
        DeployError: it cannot be written.
    """
    train = origin.train
    data = {
        "version": LINEAGE_VERSION,
        "source": {
            "path": origin.path,
            "trial": origin.trial,
            "digest": origin.model.digest,
            "arch_id": origin.model.description.arch_id,
            "lineage": list(origin.model.description.lineage),
        },
        "recipe": origin.recipe,
        "training": origin.training,
        "seed": origin.seed,
        "model": {
            "digest": model.digest,
            "arch_id": model.description.arch_id,
            "lineage": list(model.description.lineage),
        },
        "faces": {
            "train": {
                "n_images": len(train),
                "n_identities": train.n_identities,
                "digest": images_digest(train),
            },
            **{name: _pairs(each) for name, each in pairs.items()},
        },
        "steps": [each.as_dict() for each in results],
        "files": [asdict(each) for each in sorted(parts, key=lambda part: part.name)],
        "versions": {
            "nas_face": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in _PACKAGES},
        },
        "processor": {"name": cpu_name(), "int8_dot_product": has_vnni()},
    }
    path = folder / LINEAGE_FILE
    write_atomically(path, (json.dumps(data, indent=1) + "\n").encode())
    return path


def _pairs(pairs: PairList) -> dict[str, Any]:
    listed = hashlib.sha256()
    for part in (pairs.first, pairs.second, pairs.same):
        listed.update(part.tobytes())
    return {
        "n_same": pairs.n_same,
        "n_different": pairs.n_different,
        "digest": listed.hexdigest(),
        "images": images_digest(pairs.images),
    }


def _version(package: str) -> str | None:
    """None of a package that is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
