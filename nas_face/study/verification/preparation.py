"""Whether an ONNX file of others prepares pixels itself, as far as its graph leaves no doubt."""

from dataclasses import replace
from pathlib import Path

from nas_face.deploy.onnx_convention import Convention
from nas_face.errors import BuildError
from nas_face.foreign.onnx_image import preprocessing_of
from nas_face.foreign.onnx_values import load_graph

# (x - mean) / scale with such figures can only be meant for pixels from 0 to 255.
_MEANS, _SCALES = (64, 192), (32, 256)


def completed(path: Path, given: Convention) -> Convention:
    """What a user says about a file, with mean 0 and scale 1 where its graph normalises.

    A graph that begins by subtracting about half of 255 and dividing by it takes pixels as they
    are. What the user says about mean or scale counts; the order of channels is in no graph.
    """
    if given.mean is not None or given.scale is not None:
        return given
    try:
        found, _ = preprocessing_of(load_graph(path), str(path))
    except BuildError:  # it tells nothing; whether it runs is up to ONNX Runtime
        return given
    takes_pixels = _MEANS[0] <= found.mean <= _MEANS[1] and _SCALES[0] <= found.scale <= _SCALES[1]
    return replace(given, mean=(0.0,), scale=(1.0,)) if takes_pixels else given
