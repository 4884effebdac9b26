"""Which layers a recipe leaves in float32: words for layers to paths of layers."""

from collections.abc import Iterable, Sequence

from nas_face.compress.quantisation.layers import WeightedLayer
from nas_face.errors import CompressionError, near_names
from nas_face.study.compression.step_settings import LAYER_RULES


def chosen_layers(layers: Sequence[WeightedLayer], rules: Iterable[str]) -> frozenset[str]:
    """Paths of the layers that some rules name.

    Args:
        layers: convolutions and linear layers of a network, in running order.
        rules: `first` and `last` layer; `gates`, those that compute the factors of
            squeeze-and-excitation and attention; `depthwise` convolutions; or a path, of a layer
            or of a part with layers in it, such as `stages.1`.

    Raises:
        CompressionError: a rule is neither a word nor a path.
    """
    paths = [each.path for each in layers]
    found: set[str] = set()
    for rule in rules:
        match rule:
            case "first":
                found.update(paths[:1])
            case "last":
                found.update(paths[-1:])
            case "gates":
                found.update(each.path for each in layers if each.gates)
            case "depthwise":
                found.update(each.path for each in layers if each.kind == "depthwise")
            case part if inside := [
                path for path in paths if path == part or path.startswith(f"{part}.")
            ]:
                found.update(inside)
            case _:
                raise CompressionError(
                    f"keep_float: {rule!r} is no layer and none of {', '.join(LAYER_RULES)}; "
                    f"{near_names(rule, (*LAYER_RULES, *paths))}"
                )
    return frozenset(found)
