"""The record of a compression: what it was applied to, and what every step came to."""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import filelock

from nas_face.arch.codec import from_data, to_data
from nas_face.data import FaceImages, PairList
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.results import Runtime, StepResult
from nas_face.study.files import partial_of, write_text
from nas_face.study.layout import LOCK_FILE
from nas_face.study.verification.groups import PairGroups
from nas_face.train import TrainSettings
from nas_face.verify.groups import GroupReport

RESULT_FILE = "result.json"
GROUPS_FILE = "groups.json"
"""Beside the result of a step, where there are groups; apart, for the groups may change."""

RECIPE_FILE = "recipe.json"


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
        judge: pairs that decide whether a step keeps its floor; no identity of `train`.
        pairs: to report every step on; nothing is decided by them, and no identity is one of
            `train`.
        groups: of people on `pairs`, if their figures are wanted.
    """

    train: FaceImages
    judge: PairList
    pairs: PairList
    groups: PairGroups | None = None


class Claimant(Protocol):
    """What is to have a folder for itself."""

    def to_data(self) -> dict[str, Any]:
        """What tells it from another, for JSON."""


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Claim:
    """What tells one compression from another.

    Attributes:
        model: what is compressed.
        recipe: how.
        runtime: that decides.
        faces: that serve it.
        training: recipe of distillations.
        seed: of everything.
    """

    model: FaceModel
    recipe: Recipe
    runtime: Runtime
    faces: CompressionFaces
    training: TrainSettings
    seed: int

    def to_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "model": self.model.digest,
            "recipe": to_data(self.recipe),
            "runtime": self.runtime,
            "training": to_data(self.training),
            "faces": digest_of_faces(self.faces),
            "seed": self.seed,
        }


@contextlib.contextmanager
def claimed(out: Path, claim: Claimant, *, require: Callable[[], None]) -> Iterator[None]:
    """Hold `out` as this compression's folder; no other process may work in it meanwhile.

    Args:
        out: the folder; made if it is not there.
        claim: what is compressed, and how.
        require: called when the folder may be made and is not yet; what it raises leaves nothing
            behind.

    Raises:
        ConfigError: it holds something else, or the results of another compression, or another
            process works in it.
    """
    path = out / RECIPE_FILE
    record = claim.to_data()
    if path.exists():
        _require_same(path, record)
    else:
        own = {partial_of(path).name, LOCK_FILE}
        if out.exists() and any(each.name not in own for each in out.iterdir()):
            raise ConfigError(
                f"{out}: not empty and not of a compression; choose another with --out"
            )
        require()
        out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as failure:
        raise ConfigError(
            f"{out}: another process compresses into it; wait for its end, or choose another "
            "folder with --out"
        ) from failure
    try:
        if path.exists():
            _require_same(path, record)
        else:
            write_text(path, json.dumps(record, indent=1) + "\n")
        yield
    finally:
        lock.release()


def _require_same(path: Path, record: Mapping[str, Any]) -> None:
    before = _read(path)
    differing = [key for key, value in record.items() if before.get(key) != value]
    if differing:
        raise ConfigError(
            f"{path.parent}: holds the results of another compression ({differing[0]} changed); "
            "choose another folder with --out, or delete this one"
        )


def digest_of_faces(faces: CompressionFaces) -> str:
    """By the names of images, which are what a user changes by choosing other faces or pairs.

    Args:
        faces: that serve a compression.
    """
    digest = hashlib.sha256("\0".join(faces.train.names).encode("utf-8", "surrogatepass"))
    for pairs in (faces.judge, faces.pairs):
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
    return from_data(StepResult, _read(path), where=str(path), error=ConfigError)


def save_result(result: StepResult, folder: Path) -> None:
    """Write a result into the folder of its step: the last thing that a step does."""
    write_text(folder / RESULT_FILE, json.dumps(result.as_dict(), indent=1) + "\n")


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
