"""Blocks and layers in a few words, for listings."""

from typing import Any

from nas_face.arch.catalog import Block, Head
from nas_face.arch.codec import to_data
from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Activation, BatchNorm, Conv, Pool, TranslationVariantConv


def describe_block(block: Block | Head) -> str:
    """Kind of a block or head with its settings, such as `seesaw: hidden 128, stride 2`.

    Settings at their default are left out, and so is the width, which the output shape shows.
    `hidden_channels` and its like lose their second word.
    """
    data = to_data(block)
    data.pop("out_channels", None)
    return _settings(data)


def describe_layer(layer: Layer, x: Shape) -> str:
    """What a layer tree does, such as `(conv 1x1, prelu, depthwise 3x3, conv 1x1) + input`.

    Batch normalisation is named only where it stands alone: it folds away.

    Args:
        layer: root of the tree.
        x: shape of its input.
    """
    match layer:
        case Conv():
            return _convolution(layer, x)
        case TranslationVariantConv() | Pool():
            name = f"{layer.function} pool" if isinstance(layer, Pool) else _words(layer.kind)
            return name + _window(layer.kernel, layer.stride)
        case Activation():
            return _words(layer.function)
        case Sequence():
            return _one_after_another(layer, x)
        case Sum() | Product() | Concat():
            joint = {"sum": " + ", "product": " * ", "concat": " | "}[layer.kind]
            inner = joint.join(_operand(branch, x) for branch in layer.branches)
            return f"[{inner}]" if isinstance(layer, Concat) else inner
        case Split():
            parts = zip(layer.branches, layer.sizes, strict=True)
            inner = " | ".join(_operand(each, x._replace(channels=size)) for each, size in parts)
            return f"split {':'.join(map(str, layer.sizes))} [{inner}]"
        case Gate():
            return f"gate ({describe_layer(layer.body, x)})"
        case Graph():
            return f"graph of {len(layer.steps)} steps"
        case _:
            return _words(layer.kind)


def _convolution(layer: Conv, x: Shape) -> str:
    name = "conv"
    if layer.groups > 1:
        depthwise = layer.groups == x.channels == layer.out_channels
        name = "depthwise" if depthwise else f"{layer.groups}-group conv"
    return name + _window(layer.kernel, layer.stride)


def _window(kernel: tuple[int, int], stride: int) -> str:
    return f" {kernel[0]}x{kernel[1]}" + (f"/{stride}" if stride > 1 else "")


def _one_after_another(layer: Sequence, x: Shape) -> str:
    said = []
    for child in layer.layers:
        if not isinstance(child, BatchNorm) and child != Sequence():
            said.append("gate" if isinstance(child, Gate) else describe_layer(child, x))
        x = child.output_shape(x)
    return ", ".join(said) or ("batch norm" if layer.layers else "input")


def _operand(branch: Layer, x: Shape) -> str:
    said = describe_layer(branch, x)
    return f"({said})" if ", " in said or " + " in said else said


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _settings(data: dict[str, Any]) -> str:
    rest = [_setting(name, value) for name, value in data.items() if name != "kind"]
    kind = data.get("kind")
    if kind is None:
        return ", ".join(rest)
    return f"{kind}: {', '.join(rest)}" if rest else str(kind)


def _setting(name: str, value: Any) -> str:
    name = name.removesuffix("_channels")
    if isinstance(value, dict):
        inner = _settings(value)
        return f"({inner})" if "kind" in value else f"{name} ({inner})"
    if isinstance(value, bool):
        return name if value else f"no {name}"
    return f"no {name}" if value is None else f"{name} {_value(value)}"


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_settings(value)})"
    if isinstance(value, list):
        return ":".join(_value(each) for each in value)
    return str(value)
