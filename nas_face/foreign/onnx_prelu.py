"""PReLU written with other operators."""

import numpy as np
from numpy.typing import NDArray

from nas_face.foreign.onnx_values import Graph, Node

Slopes = dict[str, tuple[str, NDArray[np.float64]]]


def find_slopes(graph: Graph) -> tuple[Slopes, frozenset[str]]:
    """Every PReLU that is not one node.

    Known forms: a * x + (1 - a) * relu(x), and relu(x) - a * relu(-x).

    Returns:
        Input and slope by the name of the result; and the names of the nodes inside.
    """
    made = {name: node for node in graph.nodes for name in node.outputs}
    slopes: Slopes = {}
    inner: set[str] = set()
    for node in graph.nodes:
        if node.operator in ("Add", "Sub"):
            found = _weighted_sum(node, made, graph) or _two_halves(node, made, graph)
            if found is not None:
                x, slope, parts = found
                slopes[node.outputs[0]] = (x, slope)
                inner.update(part.name for part in parts)
    return slopes, frozenset(inner)


_Found = tuple[str, NDArray[np.float64], list[Node]]


def _weighted_sum(node: Node, made: dict[str, Node], graph: Graph) -> _Found | None:
    """a * x + (1 - a) * relu(x)"""
    terms = [made.get(name) for name in node.inputs]
    for whole, part in (terms, terms[::-1]):
        if node.operator != "Add" or whole is None or part is None:
            return None
        first, second = _times_constant(whole, graph), _times_constant(part, graph)
        if first is None or second is None:
            continue
        relu = made.get(second[0])
        if relu is None or relu.operator != "Relu" or relu.inputs[0] != first[0]:
            continue
        if first[1].size == second[1].size and np.allclose(
            first[1].reshape(-1) + second[1].reshape(-1), 1.0, atol=1e-5
        ):
            return first[0], first[1], [whole, part, relu]
    return None


def _two_halves(node: Node, made: dict[str, Node], graph: Graph) -> _Found | None:
    """relu(x) - a * relu(-x)"""
    positive, scaled = (made.get(name) for name in node.inputs)
    if positive is not None and positive.operator != "Relu":
        positive, scaled = scaled, positive
        if node.operator == "Sub":
            return None
    if positive is None or positive.operator != "Relu" or scaled is None:
        return None
    product = _times_constant(scaled, graph)
    negative = made.get(product[0]) if product is not None else None
    if product is None or negative is None:
        return None
    sign = 1.0 if node.operator == "Sub" else -1.0
    parts = [positive, scaled, negative]
    if negative.operator == "Neg":  # a * -relu(-x)
        sign = -sign
        inside = made.get(negative.inputs[0])
        if inside is None:
            return None
        negative = inside
        parts.append(negative)
    turned = made.get(negative.inputs[0]) if negative.operator == "Relu" else None
    if turned is None or turned.operator != "Neg" or turned.inputs[0] != positive.inputs[0]:
        return None
    return positive.inputs[0], sign * product[1], [*parts, turned]


def _times_constant(node: Node, graph: Graph) -> tuple[str, NDArray[np.float64]] | None:
    """What a product with a constant multiplies, and the constant."""
    if node.operator != "Mul" or len(node.inputs) != 2:
        return None
    for x, constant in (node.inputs, node.inputs[::-1]):
        if constant in graph.constants and x not in graph.constants:
            value = graph.constants[constant]
            return (x, value.astype(np.float64)) if value.dtype.kind == "f" else None
    return None
