"""Moving channels about."""

from dataclasses import replace

from nas_face.arch.layers import ChannelShuffle, ChannelSlice
from nas_face.deploy.onnx_layers.site import Site, Value


def channel_shuffle(layer: ChannelShuffle, site: Site, x: Value) -> Value:
    """(g, n) read as (n, g); the inverse, (n, g) read as (g, n)."""
    shape = x.shape
    pair = layer.groups, shape.channels // layer.groups
    if layer.inverse:
        pair = pair[::-1]
    # A zero keeps the dimension that is there: the batch stays free.
    split = site.integers("split", (0, *pair, shape.height, shape.width))
    joined = site.integers("joined", (0, *shape))
    grouped = site.node("Reshape", "grouped", (x.name, split))
    dealt = site.node("Transpose", "dealt", (grouped,), {"perm": (0, 2, 1, 3, 4)})
    return replace(x, name=site.node("Reshape", "shuffled", (dealt, joined)))


def channel_slice(layer: ChannelSlice, site: Site, x: Value) -> Value:
    """Neighbouring channels."""
    bounds = site.integers("start", (layer.start,)), site.integers("stop", (layer.stop,))
    out = site.node("Slice", "slice", (x.name, *bounds, site.integers("axis", (1,))))
    return replace(x, name=out, shape=layer.output_shape(x.shape))
