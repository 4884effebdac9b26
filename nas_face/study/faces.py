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
    list_faces,
    load_orl,
    load_pairs,
    split_identities,
)
from nas_face.data.bundled import list_orl
from nas_face.data.decoding import decode_faces
from nas_face.data.formats.attributes import AttributeTable, read_attributes
from nas_face.data.joining import join_listings, name_in_its_set
from nas_face.data.leakage import shared_identities
from nas_face.data.listing import FaceListing
from nas_face.data.statistics import tells_people
from nas_face.errors import ConfigError, DataError
from nas_face.search import derive_seed
from nas_face.study.config import BUILT_IN_DATA, DataSettings, load_run_study
from nas_face.study.layout import STUDY_FILE
from nas_face.study.verification.groups import PairGroups, find_groups, say_once

_N_NAMED = 3  # in messages
_MIN_PEOPLE = 2  # below, nobody is told from anybody


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
    split = _split(images, settings, seed)
    search_pairs = _search_pairs(split.search, settings, seed)
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


def _split(images: FaceImages, settings: DataSettings, seed: int) -> IdentitySplit:
    return split_identities(
        images,
        search_fraction=settings.search_fraction,
        test_fraction=settings.test_fraction,
        seed=derive_seed(seed, "split"),
    )


def _search_pairs(images: FaceImages, settings: DataSettings, seed: int) -> PairList:
    return all_pairs(
        images,
        max_impostors_per_genuine=settings.max_impostors_per_genuine,
        seed=derive_seed(seed, "pairs", "search"),
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


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrainingFaces:
    """What one network is trained on, and what it is judged by afterwards.

    Attributes:
        train: images to train on.
        pairs: to verify on; nobody on them is trained on, but where that was asked for.
        where: what the pairs are, for messages.
        left_out: people who are on the pairs, and so not trained on, sorted.
        by_name: whether people of the pairs were to be left out.
        tells: whether the pairs tell who is on them.
        skipped: images that could not be read, and why.
    """

    train: FaceImages
    pairs: PairList
    where: str
    left_out: tuple[str, ...] = ()
    by_name: bool = False
    tells: bool = True
    skipped: tuple[SkippedImage, ...] = ()

    def remarks(self) -> list[str]:
        """What people should know about who is trained on."""
        if not self.by_name:
            return []
        if not self.tells:
            return [
                f"{self.where}: does not tell who is on its images, so nobody was left out of the "
                "training; compare the images with nas-face data check"
            ]
        if not self.left_out:
            return [f"nobody in the training has the name of anybody on {self.where}"]
        named = ", ".join(map(repr, self.left_out[:_N_NAMED]))
        more = ", ..." if len(self.left_out) > _N_NAMED else ""
        people = f"{len(self.left_out)} {'person' if len(self.left_out) == 1 else 'people'}"
        return [f"left out of the training, as {self.where} has them: {people}: {named}{more}"]


def all_but_the_judged(
    settings: DataSettings,
    pairs: PairList,
    *,
    where: str,
    height: int,
    width: int,
    allow_overlap: bool = False,
) -> TrainingFaces:
    """Everybody of the sources to train on, but those whom the pairs show, as far as names tell.

    Args:
        settings: where the faces come from; its shares of a split do not matter.
        pairs: to verify on.
        where: what they are, for messages.
        height: of the crops.
        width: of the crops.
        allow_overlap: whether to train on those, too.

    Raises:
        DataError: faces are missing, broken or too few, or nobody is left.
    """
    images = load_source(settings, height=height, width=width)
    tells = _tells_people(pairs)
    left_out = _judged(images, pairs) if tells and not allow_overlap else set()
    kept = set(images.identities) - left_out
    if not kept:
        raise DataError(
            f"{settings.where}: nobody is left to train on, since {where} has all "
            f"{len(left_out)} of its people; give other faces with --data, or other pairs"
        )
    return TrainingFaces(
        train=images.subset(kept),
        pairs=pairs,
        where=where,
        left_out=tuple(sorted(left_out)),
        by_name=not allow_overlap,
        tells=tells,
        skipped=images.skipped,
    )


def split_but_the_judged(
    settings: DataSettings,
    pairs: PairList,
    *,
    where: str,
    height: int,
    width: int,
    seed: int,
    allow_overlap: bool = False,
) -> tuple[FaceImages, PairList]:
    """Faces to train on and pairs to choose by, beside pairs of other faces that are reported on.

    The split is that of `load_faces`. Its test part is trained on, too, since something else is
    reported on; people whom the pairs show are left out of both, as far as names tell.

    Args:
        settings: where the faces come from.
        pairs: that are reported on.
        where: what they are, for messages.
        height: of the crops.
        width: of the crops.
        seed: of the split and of the drawing of impostor pairs.
        allow_overlap: whether to keep people whom the pairs show.

    Returns:
        Images to train on, and pairs to choose by; without a common identity.

    Raises:
        DataError: faces are missing, broken or too few, or too few are left.
    """
    images = load_source(settings, height=height, width=width)
    left_out = _judged(images, pairs) if _tells_people(pairs) and not allow_overlap else set()
    split = _split(images, settings, seed)
    train = {*split.train.identities, *split.test.identities} - left_out
    search = set(split.search.identities) - left_out
    if min(len(train), len(search)) < _MIN_PEOPLE:
        raise DataError(
            f"{settings.where}: {len(train)} identities are left to train on and {len(search)} to "
            f"choose by, {_MIN_PEOPLE} at least are needed for each; {where} has {len(left_out)} "
            "of its people; give other faces with --data, or other pairs"
        )
    return images.subset(train), _search_pairs(images.subset(search), settings, seed)


def _tells_people(pairs: PairList) -> bool:
    """Whether the names of the images of pairs tell who is who."""
    judges = pairs.images
    return tells_people(judges.names, [judges.identities[label] for label in judges.labels])


def _judged(images: FaceImages, pairs: PairList) -> set[str]:
    """Identities of images that pairs show."""
    called = {name: name_in_its_set(name) for name in images.identities}
    shared = set(shared_identities(set(called.values()), pairs.images.identities).trained)
    return {name for name, own in called.items() if own in shared}


def load_source(settings: DataSettings, *, height: int, width: int) -> FaceImages:
    """All faces of the sources, before any split.

    Raises:
        DataError: faces are missing, broken or too few, or somebody is in two sources and the
            settings do not say what that means.
    """
    exclude = _excluded(settings)
    if settings.sources == (BUILT_IN_DATA,):
        images = load_orl(height, width)
        return images.subset(set(images.identities).difference(exclude))
    return decode_faces(
        list_source(settings),
        height=height,
        width=width,
        exclude=exclude,
        max_broken_share=settings.max_broken_share,
    )


def list_source(settings: DataSettings) -> FaceListing:
    """All images of the sources, those of excluded identities too, none of them decoded.

    Raises:
        DataError: see `load_source`.
    """
    listings = [
        list_orl() if each == BUILT_IN_DATA else list_faces(Path(each))
        for each in settings.sources
    ]
    if len(listings) == 1:
        return listings[0]
    return join_listings(listings, same_names=settings.same_names, exclude=_excluded(settings))


def _excluded(settings: DataSettings) -> tuple[str, ...]:
    return read_exclusions(Path(settings.exclude)) if settings.exclude is not None else ()


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
