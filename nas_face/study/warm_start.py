"""Training that starts from weights that are there already."""

import hashlib
from dataclasses import replace
from pathlib import Path

from nas_face.errors import BuildError
from nas_face.nn import FaceModel
from nas_face.nn.model import WEIGHTS_FILE


def warm_start(fresh: FaceModel, folder: Path) -> FaceModel:
    """A model of the fresh one's architecture, with the weights and preprocessing of another.

    The input may be of another size as long as no weight depends on it.

    Args:
        fresh: says the architecture.
        folder: of the other model.

    Returns:
        The model; its lineage goes on from the other's.

    Raises:
        BuildError: the folder holds no model, or its weights do not fit.
    """
    other = FaceModel.load(folder)
    ours, theirs = fresh.module.state_dict(), other.module.state_dict()
    wrong = [
        name
        for name in dict.fromkeys((*ours, *theirs))
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape
    ]
    if wrong:
        there, here = (
            "x".join(map(str, each[wrong[0]].shape)) if wrong[0] in each else "missing"
            for each in (theirs, ours)
        )
        raise BuildError(
            f"{folder}: {len(wrong)} of its weights do not fit the network, first {wrong[0]}: "
            f"{there} there, {here} here; start from a model of the same architecture"
        )
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()[:12]
    description = replace(
        fresh.description,
        preprocessing=other.description.preprocessing,
        lineage=(*other.description.lineage, f"taken as a start, weights {digest}"),
    )
    return FaceModel.of(description, theirs)
