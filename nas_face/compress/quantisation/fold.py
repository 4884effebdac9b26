"""Batch normalisations folded into the layers in front of them, as every runtime does before it
quantises."""

from collections.abc import Mapping
from dataclasses import replace
from typing import final

import torch
from torch import Tensor

from nas_face.arch.combinators import Concat, Gate, Graph, Layer, Product, Sequence, Split, Sum
from nas_face.arch.layers import BatchNorm, Conv, Linear
from nas_face.nn.model import FaceModel

Writers = tuple[tuple[str, int], ...]
"""Path and width of each convolution or linear layer that writes a part of a map, in the order of
its channels."""


def fold_norms(model: FaceModel) -> FaceModel:
    """A model of its own that computes the same without the batch normalisations that can go.

    A batch normalisation goes into the convolution or linear layer whose output alone it reads,
    also where that output was put together by a split or a concatenation of nothing but such
    layers. Weights are folded in float64 and kept in the type that they have; the layer has a bias
    from then on. Other normalisations stay: those behind sums, pools, activations and
    position-dependent convolutions, and those in front of the layer that reads them. The remaining
    layers keep their paths.

    Args:
        model: in evaluation, normalised by its running statistics; it is not changed.
    """
    network = model.description.network
    found = _Found()
    found.visit(network, "", ())
    biased = frozenset(path for writers in found.folds.values() for path, _ in writers)
    folded = FaceModel.of(
        replace(model.description, network=_without(network, found.folds, biased)),
        _folded(model.module.state_dict(), found),
    )
    folded.module.to(next(model.module.parameters()).device)
    folded.module.train(model.module.training)
    return folded.noting(f"folded {len(found.folds)} batch normalisations") if biased else folded


def has_norms_to_fold(model: FaceModel) -> bool:
    """Whether `fold_norms` would find any batch normalisation that can go."""
    found = _Found()
    found.visit(model.description.network, "", ())
    return bool(found.folds)


@final
class _Found:
    """What a walk through a tree finds.

    Attributes:
        folds: path of each batch normalisation that can go, and the layers that take it up, in
            running order.
        eps: of those normalisations, by their path.
    """

    def __init__(self) -> None:
        self.folds: dict[str, Writers] = {}
        self.eps: dict[str, float] = {}

    def visit(self, layer: Layer, path: str, writers: Writers) -> Writers:
        """Walk through a node.

        Args:
            layer: the node.
            path: where it is.
            writers: of the map that it reads and that nothing else does; none where some channel
                is written by another kind of layer.

        Returns:
            Those of what it gives.
        """
        match layer:
            case Sequence():
                for name, child in layer.named_layers():
                    writers = self.visit(child, _below(path, name), writers)
                return writers
            case BatchNorm() if writers:
                self.folds[path] = writers
                self.eps[path] = layer.eps
                return writers
            case Conv(out_channels=width) | Linear(out_features=width):
                return ((path, width),)
            case Sum() | Product() | Concat() | Split():
                parts = [
                    self.visit(branch, _below(path, f"branches.{position}"), ())
                    for position, branch in enumerate(layer.branches)
                ]
                joins = isinstance(layer, Concat | Split) and all(parts)
                return tuple(each for part in parts for each in part) if joins else ()
            case Gate():
                self.visit(layer.body, _below(path, "body"), ())
            case Graph():
                for name, step in layer.named_steps():
                    self.visit(step.layer, _below(path, f"steps.{name}"), ())
        return ()


def _without(
    layer: Sequence, gone: Mapping[str, Writers], biased: frozenset[str], path: str = ""
) -> Sequence:
    """The sequence without the normalisations that go; the rest keep their names."""
    named = [
        (name, _edited(child, gone, biased, _below(path, name)))
        for name, child in layer.named_layers()
        if _below(path, name) not in gone
    ]
    names = tuple(name for name, _ in named)
    positions = tuple(str(position) for position in range(len(named)))
    return Sequence(
        layers=tuple(child for _, child in named), names=() if names == positions else names
    )


def _edited(layer: Layer, gone: Mapping[str, Writers], biased: frozenset[str], path: str) -> Layer:
    match layer:
        case Sequence():
            return _without(layer, gone, biased, path)
        case Conv() | Linear():
            return replace(layer, bias=True) if path in biased else layer
        case Sum() | Product() | Concat() | Split():
            branches = tuple(
                _edited(branch, gone, biased, _below(path, f"branches.{position}"))
                for position, branch in enumerate(layer.branches)
            )
            return replace(layer, branches=branches)
        case Gate():
            return Gate(body=_edited(layer.body, gone, biased, _below(path, "body")))
        case Graph():
            steps = tuple(
                replace(
                    step, layer=_edited(step.layer, gone, biased, _below(path, f"steps.{name}"))
                )
                for name, step in layer.named_steps()
            )
            return replace(layer, steps=steps)
        case _:
            return layer


def _folded(weights: Mapping[str, Tensor], found: _Found) -> dict[str, Tensor]:
    """Weights of the tree without the normalisations."""
    kept = {
        key: value.detach()
        for key, value in weights.items()
        if key.rpartition(".")[0] not in found.folds
    }
    exact: dict[str, Tensor] = {}  # in float64, of layers that take several normalisations up
    for norm, writers in found.folds.items():
        parameters = {
            name: weights[f"{norm}.{name}"].detach().double()
            for name in ("weight", "bias", "running_mean", "running_var")
        }
        scales = parameters["weight"] / (parameters["running_var"] + found.eps[norm]).sqrt()
        shifts = parameters["bias"] - scales * parameters["running_mean"]
        widths = [width for _, width in writers]
        for (path, _), scale, shift in zip(
            writers, scales.split(widths), shifts.split(widths), strict=True
        ):
            weight_key, bias_key = f"{path}.weight", f"{path}.bias"
            weight = exact.get(weight_key, kept[weight_key].double())
            bias = exact.get(bias_key, kept.get(bias_key, torch.zeros_like(shift)).double())
            exact[weight_key] = weight * scale.view(-1, *[1] * (weight.ndim - 1))
            exact[bias_key] = bias * scale + shift
    for key, value in exact.items():
        kept[key] = value.to(kept[key.rpartition(".")[0] + ".weight"].dtype)
    return kept


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
