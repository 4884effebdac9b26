"""Attention that is not a gate of ordinary layers."""

from dataclasses import replace

from nas_face.arch.layers import CrossCovarianceAttention, GatedChannelTransform
from nas_face.deploy.onnx_layers.site import Site, Value

_UNIT_EPS = 1e-12  # torch.nn.functional.normalize: no vector counts as shorter


def cross_covariance_attention(layer: CrossCovarianceAttention, site: Site, x: Value) -> Value:
    """Softmax over key channels of (q k^T) * temperature, times the value, in each head."""
    y = layer.output_shape(x.shape)
    shape = (0, 3 * layer.heads, y.channels // layer.heads, y.height * y.width)
    rows = site.node("Reshape", "rows", (x.name, site.integers("by_head", shape)))
    thirds = site.split((layer.heads,) * 3, replace(x, name=rows))  # each (N, heads, d, HW)
    shortest = site.floats("shortest", _UNIT_EPS)
    unit = []
    for word, third in zip(("query", "key"), thirds[:2], strict=True):
        length = site.node("ReduceL2", f"{word}_length", (third.name,), {"axes": (3,)})
        safe = site.node("Max", f"{word}_safe", (length, shortest))
        unit.append(site.node("Div", f"{word}_unit", (third.name, safe)))
    keys = site.node("Transpose", "keys", (unit[1],), {"perm": (0, 1, 3, 2)})
    products = site.node("MatMul", "products", (unit[0], keys))  # (N, heads, d, d)
    temperature = site.floats("temperature", site.weight("temperature").reshape(-1, 1, 1))
    logits = site.node("Mul", "logits", (products, temperature))
    shares = site.node("Softmax", "shares", (logits,), {"axis": 3})
    mixed = site.node("MatMul", "mixed", (shares, thirds[2].name))
    joined = site.node("Reshape", "joined", (mixed, site.integers("as_map", (0, *y))))
    return Value(joined, y)


def gated_channel_transform(layer: GatedChannelTransform, site: Site, x: Value) -> Value:
    """x * (1 + tanh(gamma * e / rms(e) + beta)), e being alpha times the length over positions."""

    def weight(name: str) -> str:
        return site.floats(name, x.per_channel(site.weight(name)))

    eps, one = site.floats("eps", layer.eps), site.floats("one", 1.0)
    over_map, over_channels = {"axes": (2, 3)}, {"axes": (1,)}
    energy = site.node("ReduceSumSquare", "energy", (x.name,), over_map)
    length = site.node("Sqrt", "length", (site.node("Add", "safe_energy", (energy, eps)),))
    e = site.node("Mul", "embedding", (length, weight("alpha")))  # (N, C, 1, 1)
    squares = site.node("Mul", "squares", (e, e))
    mean = site.node("ReduceMean", "mean_square", (squares,), over_channels)
    rms = site.node("Sqrt", "rms", (site.node("Add", "safe_mean", (mean, eps)),))
    scaled = site.node("Mul", "scaled", (site.node("Div", "levelled", (e, rms)), weight("gamma")))
    shifted = site.node("Add", "shifted", (scaled, weight("beta")))
    factor = site.node("Add", "factor", (site.node("Tanh", "tanh", (shifted,)), one))
    return replace(x, name=site.node("Mul", "gated", (x.name, factor)))
