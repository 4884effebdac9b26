"""The record of a compression: what it was applied to, what every step came to."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from nas_face.arch.codec import canonical_json, from_data, to_data
from nas_face.data import FaceImages, PairList
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.study.compression.recipe import Recipe
from nas_face.study.files import partial_of, write_text
from nas_face.study.verification.groups import PairGroups, worst_tar_of
from nas_face.train import TrainSettings
from nas_face.verify.groups import GroupReport

RESULT_FILE = "result.json"
GROUPS_FILE = "groups.json"
"""Beside the result of a step, where there are groups; apart, for the groups may change."""

RECIPE_FILE = "recipe.json"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a model is worth behind one step.

    Attributes:
        step: name of the row.
        madds: multiply-accumulates.
        params: parameters as torch counts them.
        size_bytes: of the ONNX file.
        accuracy: 10-fold, on the test pairs, of the ONNX file.
        accuracy_std: over the folds.
        auc: on the same pairs.
        eer: on the same pairs.
        latency_ms: one image, one thread.
        speedup: latency of the original over this one's, in turns.
        cosine: smallest between embeddings of the file and of the torch network on real crops.
        groups: of people on the same pairs, of the ONNX file, by each attribute.
    """

    step: str
    madds: int
    params: int
    size_bytes: int
    accuracy: float
    accuracy_std: float
    auc: float
    eer: float
    latency_ms: float
    speedup: float
    cosine: float | None
    groups: tuple[GroupReport, ...] = ()

    @property
    def worst_group_tar(self) -> float | None:
        """Lowest TAR of any group; None without groups that are large enough."""
        return worst_tar_of(self.groups)

    def as_dict(self) -> dict[str, object]:
        """The same for JSON; nothing about groups where there are none."""
        data = asdict(self)
        del data["groups"]
        if self.groups:
            data["worst_group_tar"] = self.worst_group_tar
            data["groups"] = [each.as_dict() for each in self.groups]
        return data


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepGroups:
    """Figures of groups as a step's folder keeps them.

    Attributes:
        digest: of the groups.
        reports: by each attribute.
    """

    digest: str
    reports: tuple[GroupReport, ...]


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompressionFaces:
    """Faces that a recipe needs.

    Attributes:
        train: to distil and calibrate on.
        pairs: to verify every step on; no identity of `train`.
        groups: of people on these pairs, if their figures are wanted.
    """

    train: FaceImages
    pairs: PairList
    groups: PairGroups | None = None


def claim(
    out: Path,
    model: FaceModel,
    recipe: Recipe,
    faces: CompressionFaces,
    training: TrainSettings,
    seed: int,
    *,
    require: Callable[[], None],
) -> None:
    """Make `out` this compression's folder, or check that it is.

    Args:
        out: the folder.
        model: what is compressed.
        recipe: how.
        faces: that serve it.
        training: recipe of distillations.
        seed: of everything.
        require: called when the folder may be made and is not yet; what it raises leaves nothing
            behind.

    Raises:
        ConfigError: it holds something else, or the results of another compression.
    """
    record = {
        "model": _digest_of_model(model),
        "recipe": to_data(recipe),
        "training": to_data(training),
        "faces": _digest_of_faces(faces),
        "seed": seed,
    }
    path = out / RECIPE_FILE
    if path.exists():
        before = _read(path)
        differing = [key for key, value in record.items() if before.get(key) != value]
        if differing:
            raise ConfigError(
                f"{out}: holds the results of another compression ({differing[0]} changed); "
                "choose another folder with --out, or delete this one"
            )
        return
    if out.exists() and any(each.name != partial_of(path).name for each in out.iterdir()):
        raise ConfigError(f"{out}: not empty and not of a compression; choose another with --out")
    require()
    out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(record, indent=1) + "\n")


def _digest_of_model(model: FaceModel) -> str:
    digest = hashlib.sha256(canonical_json(model.description).encode())
    for key, value in sorted(model.module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest_of_faces(faces: CompressionFaces) -> str:
    """By the names of images, which are what a user changes by choosing other faces or pairs."""
    pairs = faces.pairs
    digest = hashlib.sha256("\0".join(faces.train.names).encode("utf-8", "surrogatepass"))
    digest.update("\0".join(pairs.images.names).encode("utf-8", "surrogatepass"))
    for part in (pairs.first, pairs.second, pairs.same):
        digest.update(part.tobytes())
    return digest.hexdigest()


def known_result(folder: Path) -> StepResult | None:
    """Result of a step that was finished before, or none.

    Raises:
        ConfigError: its file is broken.
    """
    path = folder / RESULT_FILE
    if not path.exists():
        return None
    try:
        return StepResult(**_read(path))
    except TypeError as failure:
        raise ConfigError(f"{path}: broken; delete it to do the step again") from failure


def known_groups(folder: Path, groups: PairGroups) -> tuple[GroupReport, ...] | None:
    """Figures of these very groups that were found before, or none.

    Raises:
        ConfigError: the file is broken.
    """
    path = folder / GROUPS_FILE
    if not path.exists():
        return None
    kept = from_data(StepGroups, _read(path), where=str(path), error=ConfigError)
    return kept.reports if kept.digest == groups.digest else None


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as failure:
        raise ConfigError(f"{path}: not valid JSON; delete the folder to start over") from failure
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: not a record; delete the folder to start over")
    return data
