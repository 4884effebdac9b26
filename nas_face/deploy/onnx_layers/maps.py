"""Moving positions about."""

import numpy as np

from nas_face.arch.layers import Crop, Flatten, FourierFeatures, Resize
from nas_face.deploy.onnx_layers.site import Array, Site, Value


def flatten(layer: Flatten, site: Site, x: Value) -> Value:
    """Feature map to flat vector."""
    flat = site.node("Flatten", "flat", (x.name,), {"axis": 1})
    return Value(flat, layer.output_shape(x.shape), flat=True)


def crop(layer: Crop, site: Site, x: Value) -> Value:
    """The map without its first rows and columns."""
    start = site.integers("start", (layer.top, layer.left))
    stop = site.integers("stop", x.shape[1:])
    axes = site.integers("axes", (2, 3))
    out = site.node("Slice", "crop", (x.name, start, stop, axes))
    return Value(out, layer.output_shape(x.shape))


def resize(layer: Resize, site: Site, x: Value) -> Value:
    """Bilinear interpolation by scales: sizes would have to name the batch as well."""
    y = layer.output_shape(x.shape)
    scales = (
        1.0,
        1.0,
        _scale(x.shape.height, y.height),
        _scale(x.shape.width, y.width),
    )
    name = site.floats("scales", np.array(scales))
    words = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return Value(site.node("Resize", "resize", (x.name, "", name), words), y)


def _scale(size: int, wanted: int) -> float:
    """The float32 scale nearest to wanted / size of which a runtime, which rounds size * scale
    down, makes the wanted size."""
    scale = np.float32(wanted / size)
    while np.float64(scale) * size < wanted:
        scale = np.nextafter(scale, np.float32(np.inf))
    return float(scale)


def fourier_features(layer: FourierFeatures, site: Site, x: Value) -> Value:
    """Sines and cosines of each position, a constant."""
    height, width = x.shape.height, x.shape.width
    rows = _waves(height, layer.width)[:, :, np.newaxis].repeat(width, axis=2)
    columns = _waves(width, layer.width)[:, np.newaxis, :].repeat(height, axis=1)
    return site.constant(np.concatenate([rows, columns]))


def _waves(size: int, n_channels: int) -> Array:
    """`(n_channels, size)`, sines and cosines in turn."""
    angles = 2 * np.pi * np.arange(1, size + 1) / (size + 1e-6)
    periods = 10000.0 ** (2 * np.arange(n_channels // 2) / n_channels)
    phases = angles / periods[:, np.newaxis]
    return np.stack([np.sin(phases), np.cos(phases)], axis=1).reshape(n_channels, size)
