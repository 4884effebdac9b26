"""The faces of a study: loaded, split by identity, paired."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.data import (
    FaceImages,
    IdentitySplit,
    PairList,
    SkippedImage,
    all_pairs,
    load_orl,
    load_pairs,
    split_identities,
)
from nas_face.data import load_faces as load_face_set
from nas_face.data.formats.attributes import AttributeTable, read_attributes
from nas_face.errors import ConfigError, DataError
from nas_face.search import derive_seed
from nas_face.study.config import BUILT_IN_DATA, DataSettings, load_run_study
from nas_face.study.layout import STUDY_FILE
from nas_face.study.verification.groups import PairGroups, find_groups, say_once


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFaces:
    """Faces of a study; the three parts have no identity in common.

    Attributes:
        split: images to train on, to search by and to report on.
        search_pairs: what the search judges candidates by; many impostors for each genuine pair,
            so that low false-accept rates are supported.
        test_pairs: what reports quote; nothing is chosen by them. As many impostor as genuine
            pairs, so that guessing has an accuracy of one half, as in published protocols.
        skipped: images that could not be read, and why.
        search_groups: groups of people among the search pairs; none where they were not asked for,
            or the study has no attributes.
        test_groups: likewise among the test pairs; none, too, where these are too few for them.
    """

    split: IdentitySplit
    search_pairs: PairList
    test_pairs: PairList
    skipped: tuple[SkippedImage, ...]
    search_groups: PairGroups | None = None
    test_groups: PairGroups | None = None


def load_faces(
    settings: DataSettings, *, height: int, width: int, seed: int, with_groups: bool = False
) -> StudyFaces:
    """Load, split and pair the faces of a study.

    What its file of attributes says is read on demand only, since a trained network can be
    verified and trained on where that file is not.

    Args:
        settings: where they come from.
        height: of the crops.
        width: of the crops.
        seed: of the split and of the drawing of impostor pairs.
        with_groups: whether to sort people into groups by the attributes that the study names.

    Raises:
        DataError: faces are missing, broken or too few; or the attributes do not fit the search
            pairs, see `find_groups`.
    """
    images = load_source(settings, height=height, width=width)
    split = split_identities(
        images,
        search_fraction=settings.search_fraction,
        test_fraction=settings.test_fraction,
        seed=derive_seed(seed, "split"),
    )
    search_pairs = all_pairs(
        split.search,
        max_impostors_per_genuine=settings.max_impostors_per_genuine,
        seed=derive_seed(seed, "pairs", "search"),
    )
    test_pairs = all_pairs(
        split.test, max_impostors_per_genuine=1, seed=derive_seed(seed, "pairs", "test")
    )
    search_groups, test_groups = (
        _groups(
            read_attributes(Path(settings.attributes)),
            settings.group_far,
            search_pairs,
            test_pairs,
        )
        if with_groups and settings.attributes is not None
        else (None, None)
    )
    return StudyFaces(
        split=split,
        search_pairs=search_pairs,
        test_pairs=test_pairs,
        skipped=images.skipped,
        search_groups=search_groups,
        test_groups=test_groups,
    )


def _groups(
    table: AttributeTable, far: float, search_pairs: PairList, test_pairs: PairList
) -> tuple[PairGroups, PairGroups | None]:
    """Groups among the search pairs, which must do, and among the test pairs, where these do."""
    search = find_groups(table, search_pairs, far=far, of="search pairs")
    try:
        test = find_groups(table, test_pairs, far=far, of="test pairs")
    except DataError as failure:
        test = None
        say_once(f"without test_worst_group_tar; {failure}")
    for remark in (*search.remarks, *(test.remarks if test is not None else ())):
        say_once(remark)
    return search, test


def load_source(settings: DataSettings, *, height: int, width: int) -> FaceImages:
    """All faces of a source, before any split.

    Raises:
        DataError: faces are missing, broken or too few.
    """
    exclude = read_exclusions(Path(settings.exclude)) if settings.exclude is not None else ()
    if settings.source == BUILT_IN_DATA:
        images = load_orl(height, width)
        return images.subset(set(images.identities).difference(exclude))
    return load_face_set(
        Path(settings.source),
        height=height,
        width=width,
        exclude=exclude,
        max_broken_share=settings.max_broken_share,
    )


def read_exclusions(path: Path) -> tuple[str, ...]:
    """Identities to leave out: the first word of each line.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as failure:
        raise ConfigError(f"{path}: the list of identities to exclude cannot be read") from failure
    words = (line.split("#")[0].split() for line in lines)
    return tuple(each[0] for each in words if each)


def pairs_of(
    name: str, images: Path | None, *, height: int, width: int, protocol: str | None = None
) -> PairList:
    """The pairs that a user names: ``orl`` for all built-in faces, a run folder for its test
    pairs, or pairs in any format.

    Args:
        name: one of these.
        images: root of the images that a pair list names.
        height: of the crops.
        width: of the crops.
        protocol: of CFP: FF or FP.

    Raises:
        DataError: faces are missing, broken or too few, or of no known format.
        ConfigError: a run folder is broken.
    """
    path = Path(name)
    if protocol is None and name == BUILT_IN_DATA:
        faces = load_orl(height, width)
        return all_pairs(faces, max_impostors_per_genuine=1, seed=0)
    if protocol is None and (path / STUDY_FILE).is_file():
        config = load_run_study(path)
        found = load_faces(config.data, height=height, width=width, seed=config.seed)
        return found.test_pairs
    return load_pairs(path, images, height=height, width=width, protocol=protocol)


def sample_images(images: FaceImages, n: int, *, seed: int) -> NDArray[np.uint8]:
    """Up to `n` images drawn without repetition, `(n, H, W, 3)`.

    Raises:
        DataError: there is no image.
    """
    if len(images) == 0:
        raise DataError("no image to draw from")
    rng = np.random.default_rng(seed)
    return images.batch(rng.permutation(len(images))[:n])
