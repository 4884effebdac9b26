"""Reading torch checkpoints and safetensors: arrays only, never code."""

import pickle
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_safetensors
from torch import Tensor

from nas_face.errors import BuildError
from nas_face.foreign.operators import Array, Source
from nas_face.foreign.state_dict import operators_of

# Of what a training keeps beside the weights, these hold tensors too.
_NOT_WEIGHTS = ("optim", "sched", "scaler", "amp", "rng", "sampler", "args", "config", "hparams")
_DEEPEST = 4
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def read_torch(path: Path) -> list[Source]:
    """Every dict of tensors in a torch checkpoint.

    Raises:
        BuildError: the file cannot be read, or holds more than plain tensors and containers.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles, which are refused or read well
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as failure:
        raise BuildError(
            f"{path}: only plain weights are loaded, and this file holds other objects or is "
            f"damaged ({_reason(failure)}); save model.state_dict() instead"
        ) from failure
    except OSError as failure:
        raise BuildError(f"{path}: cannot be read ({failure.strerror or failure})") from failure
    except (
        RuntimeError,
        EOFError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        AssertionError,
        MemoryError,
        BadZipFile,
        struct.error,
    ) as failure:
        raise BuildError(f"{path}: not a torch checkpoint ({_reason(failure)})") from failure
    found = [
        _source(path, part, tensors, sorted_file=False)
        for part, tensors in _state_dicts(content, "", 0)
    ]
    if not found:
        raise BuildError(f"{path}: there is no dict of named tensors in it")
    return found


def read_safetensors(path: Path) -> list[Source]:
    """The tensors of a safetensors file.

    Raises:
        BuildError: the file cannot be read.
    """
    try:
        tensors = from_safetensors(path.read_bytes())
    except OSError as failure:
        raise BuildError(f"{path}: cannot be read ({failure.strerror})") from failure
    except (SafetensorError, ValueError, KeyError) as failure:
        raise BuildError(f"{path}: not a safetensors file ({_reason(failure)})") from failure
    if not tensors:
        raise BuildError(f"{path}: there are no tensors in it")
    return [_source(path, "", {name: tensors[name] for name in sorted(tensors)}, sorted_file=True)]


def _state_dicts(
    content: object, part: str, depth: int
) -> Iterator[tuple[str, Mapping[str, Tensor]]]:
    """Outermost dicts that hold named tensors with dimensions."""
    if not isinstance(content, Mapping) or depth > _DEEPEST:
        return
    tensors = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and isinstance(value, Tensor) and value.ndim
    }
    if tensors:
        counters = {
            key: value
            for key, value in content.items()
            if isinstance(key, str) and isinstance(value, Tensor) and not value.ndim
        }
        order = [key for key in content if key in tensors or key in counters]
        yield part, {key: content[key] for key in order}
    for key, value in content.items():
        if isinstance(key, str) and not any(word in key.lower() for word in _NOT_WEIGHTS):
            yield from _state_dicts(value, f"{part}.{key}" if part else key, depth + 1)


def _source(path: Path, part: str, tensors: Mapping[str, Tensor], *, sorted_file: bool) -> Source:
    arrays: dict[str, Array] = {}
    ignored = []
    for name, value in tensors.items():
        if value.dtype in _FLOATS and value.layout == torch.strided and not value.is_quantized:
            array: Array = value.detach().to(torch.float32).contiguous().numpy()
            if not torch.isfinite(value).all():
                raise BuildError(f"{path}: {name} holds values that are not finite")
            arrays[name] = array
        elif value.ndim == 0:
            ignored.append(name)
        else:
            raise BuildError(
                f"{path}: {name} is {str(value.dtype).removeprefix('torch.')}; only "
                "floating-point "
                "weights can be imported"
            )
    return operators_of(part, arrays, tuple(ignored), sorted_file=sorted_file)


def _reason(failure: Exception) -> str:
    """First sentence of what the library says."""
    text = " ".join(str(failure).split()) or type(failure).__name__
    return text.split(". ")[0][:160]
