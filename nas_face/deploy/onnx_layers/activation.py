"""Element-wise functions."""

import math
from dataclasses import replace
from typing import Literal, assert_never

from nas_face.arch.layers import Activation, MaxFeatureMap
from nas_face.deploy.onnx_layers.site import Site, Value

PReluStyle = Literal["native", "rewrite"]


def prelu(site: Site, x: Value, style: PReluStyle) -> Value:
    """One PRelu node, or a * x + (1 - a) * relu(x), which is the same function for every a."""
    slopes = x.per_channel(site.weight("weight"))
    slope = site.floats("slope", slopes)
    if style == "native":
        return replace(x, name=site.node("PRelu", "prelu", (x.name, slope)))
    rest = site.floats("rest", 1.0 - slopes)
    both = site.node("Mul", "both", (x.name, slope))
    positive = site.node("Relu", "relu", (x.name,))
    extra = site.node("Mul", "extra", (positive, rest))
    return replace(x, name=site.node("Add", "prelu", (both, extra)))


def activation(layer: Activation, site: Site, x: Value) -> Value:
    """One operator where ONNX has one at our opset, its definition otherwise."""
    name = layer.function
    hard = {"alpha": 1 / 6, "beta": 0.5}  # torch: min(max(x + 3, 0), 6) / 6
    match layer.function:
        case "relu":
            out = site.node("Relu", name, (x.name,))
        case "relu6":
            low, high = site.floats("low", 0.0), site.floats("high", 6.0)
            out = site.node("Clip", name, (x.name, low, high))
        case "sigmoid":
            out = site.node("Sigmoid", name, (x.name,))
        case "hard_sigmoid":
            out = site.node("HardSigmoid", name, (x.name,), hard)
        case "silu":
            factor = site.node("Sigmoid", "factor", (x.name,))
            out = site.node("Mul", name, (x.name, factor))
        case "hard_swish":
            factor = site.node("HardSigmoid", "factor", (x.name,), hard)
            out = site.node("Mul", name, (x.name, factor))
        case "gelu":
            out = _gelu(site, x)
        case _:
            assert_never(layer.function)
    return replace(x, name=out)


def _gelu(site: Site, x: Value) -> str:
    """0.5 x (1 + erf(x / sqrt 2)), in the order that ONNX Runtime knows as one Gelu."""
    root = site.floats("root", math.sqrt(2))
    one, half = site.floats("one", 1.0), site.floats("half", 0.5)
    error = site.node("Erf", "erf", (site.node("Div", "scaled", (x.name, root)),))
    factor = site.node("Add", "factor", (error, one))
    return site.node("Mul", "gelu", (site.node("Mul", "doubled", (x.name, factor)), half))


def max_feature_map(layer: MaxFeatureMap, site: Site, x: Value) -> Value:
    """Maximum of two halves."""
    half = x.shape.channels // 2
    first, second = site.split((half, half), x)
    out = site.node("Max", "max", (first.name, second.name))
    return replace(x, name=out, shape=layer.output_shape(x.shape))
