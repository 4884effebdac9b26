"""Convolutions whose filters differ by position, written as a sum of moved and weighted maps."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nas_face.foreign.onnx_values import Graph, Node

Taps = dict[str, tuple[str, NDArray[np.float64]]]


class _Sum(NamedTuple):
    """A sum of moved maps so far: the map, and the weights of each tap by its offset."""

    source: str
    weights: dict[tuple[int, ...], NDArray[np.float64]]
    parts: tuple[str, ...]


def find_taps(graph: Graph) -> tuple[Taps, frozenset[str]]:
    """Every sum over taps of a part of one map times weights `(C, H, W)`.

    Returns:
        Map and weights `(C, taps, H, W)`, row by row, by the name of the sum; and the names of the
        nodes inside.
    """
    made = {name: node for node in graph.nodes for name in node.outputs}
    sums: dict[str, _Sum] = {}
    for node in graph.nodes:
        if len(node.inputs) != 2:
            continue
        first, second = (sums.get(name) for name in node.inputs)
        if node.operator == "Mul":
            term = _term(node, made, graph)
            if term is not None:
                sums[node.outputs[0]] = term
        elif node.operator == "Add" and first is not None and second is not None:
            if first.source == second.source and not first.weights.keys() & second.weights:
                for name in node.inputs:
                    del sums[name]
                weights = {**first.weights, **second.weights}
                parts = (*first.parts, *second.parts, node.name)
                sums[node.outputs[0]] = _Sum(first.source, weights, parts)
    whole = {name: each for name, each in sums.items() if len(each.weights) > 1}
    taps = {
        name: (each.source, np.stack([each.weights[at] for at in sorted(each.weights)], axis=1))
        for name, each in whole.items()
    }
    return taps, frozenset(part for each in whole.values() for part in each.parts)


def _term(node: Node, made: dict[str, Node], graph: Graph) -> _Sum | None:
    """A part of a map times weights."""
    for name, other in (node.inputs, node.inputs[::-1]):
        moved, weights = made.get(name), graph.constants.get(other)
        if moved is None or moved.operator != "Slice" or weights is None or weights.ndim != 3:
            continue
        start = graph.constants.get(moved.inputs[1])
        if start is not None and weights.dtype.kind == "f":
            at = tuple(int(each) for each in start)
            return _Sum(moved.inputs[0], {at: weights.astype(np.float64)}, (moved.name, node.name))
    return None
