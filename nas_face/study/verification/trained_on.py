"""Whom a model was trained on: kept beside it, so that they do not judge it unnoticed."""

import json
from collections.abc import Collection
from pathlib import Path

from nas_face.data import FaceImages
from nas_face.data.leakage import fingerprints, shared_fingerprints
from nas_face.data.statistics import tells_people
from nas_face.errors import ConfigError, DataError
from nas_face.study.files import write_text

TRAINED_ON_FILE = "trained_on.json"
"""Of a model folder: fingerprints of the identities that its weights have seen."""

_FINGERPRINTS = "identity_fingerprints"


def write_trained_on(
    folder: Path, identities: Collection[str], source: Path | None = None
) -> None:
    """Note down whom a model was trained on, as fingerprints, which name nobody.

    Args:
        folder: of the model.
        identities: names.
        source: model folder that the model came from; whoever it had seen is noted as well.

    Raises:
        ConfigError: the source's file is broken.
    """
    known = {*fingerprints(identities), *(read_trained_on(source) if source is not None else ())}
    write_text(folder / TRAINED_ON_FILE, json.dumps({_FINGERPRINTS: sorted(known)}) + "\n")


def read_trained_on(folder: Path) -> tuple[str, ...]:
    """Fingerprints of a model folder; none where nothing is known.

    Raises:
        ConfigError: the file is broken.
    """
    path = folder / TRAINED_ON_FILE
    if not path.is_file():
        return ()
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[_FINGERPRINTS]
        return tuple(str(each) for each in found)
    except (OSError, ValueError, KeyError, TypeError) as failure:
        raise ConfigError(
            f"{path}: not a list of fingerprints; delete it, and whom the model was trained on is "
            "not known"
        ) from failure


def require_strangers(
    images: FaceImages,
    *,
    where: str,
    folder: Path | None = None,
    trained: Collection[str] = (),
) -> None:
    """Refuse to judge a model by people whom it was trained on, as far as names tell.

    Images that do not tell who is on them pass.

    Args:
        images: what it is to be judged by.
        where: their name, for the message.
        folder: of the model.
        trained: names of the training set, where it is at hand.

    Raises:
        DataError: a name is in both, exactly or but for case, accents and separators.
        ConfigError: the model's file is broken.
    """
    if not tells_people(images.names, [images.identities[label] for label in images.labels]):
        return
    seen = {*fingerprints(trained), *(read_trained_on(folder) if folder is not None else ())}
    shared = shared_fingerprints(seen, images.identities)
    if shared:
        raise DataError(
            f"{where}: {len(shared)} of its {images.n_identities} identities were trained on, "
            f"such as {shared[0]!r}, and figures would flatter; judge by others, or, if these are "
            "other people of the same names, say --allow-overlap"
        )
