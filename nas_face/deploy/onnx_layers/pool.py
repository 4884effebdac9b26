"""Many values to one."""

from nas_face.arch.layers import (
    ChannelPool,
    GlobalAverageMaxPool,
    GlobalAveragePool,
    NormAwarePool,
    Pool,
)
from nas_face.deploy.onnx_graph import Attribute
from nas_face.deploy.onnx_layers.site import Site, Value


def pool(layer: Pool, site: Site, x: Value) -> Value:
    """Maximum or mean of a window.

    A window that hangs over the edge is written as padding on that side and not as ceil_mode,
    whose rule for the number of windows and for the divisor differs between runtimes.
    """
    y = layer.output_shape(x.shape)
    ends = (
        max(0, (n_windows - 1) * layer.stride + kernel - size - before)
        for n_windows, kernel, size, before in zip(
            y[1:], layer.kernel, x.shape[1:], layer.padding, strict=True
        )
    )
    attributes: dict[str, Attribute] = {
        "kernel_shape": layer.kernel,
        "strides": (layer.stride, layer.stride),
        "pads": (*layer.padding, *ends),
    }
    if layer.function == "max":
        return Value(site.node("MaxPool", "max", (x.name,), attributes), y)
    attributes["count_include_pad"] = 0
    return Value(site.node("AveragePool", "mean", (x.name,), attributes), y)


def global_average_pool(layer: GlobalAveragePool, site: Site, x: Value) -> Value:
    """Mean over all positions."""
    pooled = site.node("GlobalAveragePool", "mean", (x.name,))
    return Value(pooled, layer.output_shape(x.shape))


def global_average_max_pool(layer: GlobalAverageMaxPool, site: Site, x: Value) -> Value:
    """Mean and maximum over all positions, side by side."""
    mean = site.node("GlobalAveragePool", "mean", (x.name,))
    largest = site.node("GlobalMaxPool", "max", (x.name,))
    both = site.node("Concat", "both", (mean, largest), {"axis": 3})
    return Value(both, layer.output_shape(x.shape))


def channel_pool(layer: ChannelPool, site: Site, x: Value) -> Value:
    """Mean and maximum over the channels at each position."""
    mean = site.node("ReduceMean", "mean", (x.name,), {"axes": (1,)})
    largest = site.node("ReduceMax", "max", (x.name,), {"axes": (1,)})
    both = site.node("Concat", "both", (mean, largest), {"axis": 1})
    return Value(both, layer.output_shape(x.shape))


def norm_aware_pool(layer: NormAwarePool, site: Site, x: Value) -> Value:
    """Mean over positions brought to one vector length."""
    channels, eps = site.integers("axis", (1,)), site.floats("eps", layer.eps)
    squares = site.node("Mul", "squares", (x.name, x.name))
    total = site.node("ReduceSum", "total", (squares, channels), {"keepdims": 1})
    norms = site.node("Sqrt", "norms", (site.node("Add", "safe", (total, eps)),))
    mean = site.node("GlobalAveragePool", "mean_norm", (norms,))  # (N, 1, 1, 1)
    factors = site.node("Div", "factors", (mean, norms))  # (N, 1, H, W)
    levelled = site.node("Mul", "levelled", (x.name, factors))
    pooled = site.node("GlobalAveragePool", "mean", (levelled,))
    return Value(pooled, layer.output_shape(x.shape))
