"""Which layer of the tree a node of an exported file computes."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from nas_face.errors import CompressionError, near_names

CONSTANT: Final = ".constant"


def layer_path(node: str) -> str:
    """Path of the convolution or linear layer that a node was written for.

    Args:
        node: its name in an ONNX file, or in what OpenVINO makes of one.

    Example:
        >>> layer_path("stages.0.1.expand.conv.conv/WithoutBiases")
        'stages.0.1.expand.conv'
    """
    return node.removesuffix("/WithoutBiases").rpartition(".")[0]


def computed_layers(arrays: Iterable[str]) -> set[str]:
    """Paths of the convolutions of constants, which export computes.

    Args:
        arrays: names of the arrays of an exported file; results of such convolutions among them.
    """
    return {name.removesuffix(CONSTANT) for name in arrays if name.endswith(CONSTANT)}


def require_layers(paths: Collection[str], known: Collection[str], source: Path) -> None:
    """Refuse paths that are not of convolutions or linear layers.

    Raises:
        CompressionError: there is one, of those that are to stay in float.
    """
    for path in sorted(paths):
        if path not in known:
            raise CompressionError(
                f"{source}: keep_float: no convolution or linear layer is called {path!r}; "
                f"{near_names(path, known)}"
            )
