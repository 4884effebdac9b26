"""A network that computes in float32 what it would on grids of few bits: for analysis and for
training. Files that are deployed come from the quantisers of the runtimes."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nas_face.compress.quantisation.grid import (
    ActivationRange,
    RangeObserver,
    largest_level,
    weight_scale,
)
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRanges:
    """What one convolution or linear layer reads and writes.

    Attributes:
        input: range of what it reads.
        output: range of what it writes, before any activation.
    """

    input: ActivationRange
    output: ActivationRange


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGrid:
    """Grids of one convolution or linear layer.

    Attributes:
        weight_bits: 2 to 8, of weights with a scale for each output channel.
        activation_bits: 2 to 8, of input and output.
        input: range of the input; None leaves it in float.
        output: range of the output; None leaves it in float.
    """

    weight_bits: int
    activation_bits: int = 8
    input: ActivationRange | None = None
    output: ActivationRange | None = None

    def __post_init__(self) -> None:
        largest_level(self.weight_bits)
        if not 2 <= self.activation_bits <= 8:
            raise CompressionError(f"activation_bits must be 2 to 8, got {self.activation_bits}")

    def rounded_weight(self, weight: Tensor) -> Tensor:
        """The weight on its grid, whose scale follows the weight.

        The gradient passes as though nothing were rounded (Bengio et al., arXiv 1308.3432).

        Args:
            weight: `(out, ...)`.
        """
        scale = weight_scale(weight, self.weight_bits).flatten().to(torch.float32)
        largest = largest_level(self.weight_bits)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        rounded: Tensor = torch.fake_quantize_per_channel_affine(
            weight, scale, zeros, 0, -largest, largest
        )
        return rounded

    def rounded_input(self, x: Tensor) -> Tensor:
        """An input on its grid; the gradient passes where the range holds the value, and is zero
        elsewhere."""
        return self._rounded(x, self.input)

    def rounded_output(self, y: Tensor) -> Tensor:
        """The same of an output."""
        return self._rounded(y, self.output)

    def _rounded(self, x: Tensor, range_: ActivationRange | None) -> Tensor:
        if range_ is None:
            return x
        bits = self.activation_bits
        rounded: Tensor = torch.fake_quantize_per_tensor_affine(
            x.float(), range_.scale(bits), range_.zero_point(bits), 0, 2**bits - 1
        )
        return rounded


@final
class FakeQuantisedConv2d(nn.Conv2d):
    """A convolution that reads values on a grid and has weights on one."""

    grid: LayerGrid

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)`."""
        weight = self.grid.rounded_weight(self.weight)
        y = self._conv_forward(self.grid.rounded_input(x), weight, self.bias)
        return self.grid.rounded_output(y)


@final
class FakeQuantisedLinear(nn.Linear):
    """A linear layer that reads values on a grid and has weights on one."""

    grid: LayerGrid

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C)`."""
        weight = self.grid.rounded_weight(self.weight)
        y = functional.linear(self.grid.rounded_input(x), weight, self.bias)
        return self.grid.rounded_output(y)


_FAKES: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: FakeQuantisedConv2d,
    nn.Linear: FakeQuantisedLinear,
}


@contextlib.contextmanager
def fake_quantised(module: nn.Module, grids: Mapping[str, LayerGrid]) -> Iterator[None]:
    """In this block, some layers of a module work on grids, forwards and backwards.

    The layers change their class and nothing else: parameters and the names in the state dict stay
    what they are. Layers of another class than torch's own are not computed together with their
    neighbours by `nas_face.nn.fast`, so that a training has the grids, too.

    Args:
        module: of a FaceModel.
        grids: of each layer, by its path.

    Raises:
        CompressionError: at a path there is no convolution or linear layer, or one that is on a
            grid already.
    """
    layers = [(_layer_at(module, path), grid) for path, grid in grids.items()]
    try:
        for layer, grid in layers:
            layer.__class__ = _FAKES[type(layer)]
            cast(FakeQuantisedConv2d, layer).grid = grid
        yield
    finally:
        for layer, _ in layers:
            for plain, faked in _FAKES.items():
                if type(layer) is faked:
                    del layer.grid
                    layer.__class__ = plain


def grids_of(
    ranges: Mapping[str, LayerRanges],
    weight_bits: Mapping[str, int],
    *,
    activation_bits: int | None = 8,
    outputs: bool = False,
) -> dict[str, LayerGrid]:
    """One grid for each layer that is quantised.

    Args:
        ranges: of all layers, as `observed_ranges` gives them.
        weight_bits: 2 to 8, of each layer that is quantised, by its path.
        activation_bits: 2 to 8; None leaves activations in float, as in files whose weights alone
            have few bits.
        outputs: whether what a layer writes is put on a grid as well, before its activation, as
            ONNX Runtime does; OpenVINO rounds only what the next layer reads.

    Raises:
        CompressionError: bits are out of range.
    """
    if activation_bits is None:
        return {path: LayerGrid(weight_bits=bits) for path, bits in weight_bits.items()}
    return {
        path: LayerGrid(
            weight_bits=bits,
            activation_bits=activation_bits,
            input=ranges[path].input,
            output=ranges[path].output if outputs else None,
        )
        for path, bits in weight_bits.items()
    }


def observed_ranges(
    model: FaceModel,
    crops: NDArray[np.uint8],
    *,
    percentile: float = 100.0,
    batch_size: int = 32,
) -> dict[str, LayerRanges]:
    """What every convolution and linear layer reads and writes, in running order.

    Args:
        model: in float; it is run in evaluation, and left as it was.
        crops: `(N, H, W, 3)` RGB of the model's size.
        percentile: per cent of the values of each tensor that its range holds.
        batch_size: crops in one pass.

    Raises:
        CompressionError: there are no crops, or of another size, or values are not finite.
    """
    observing = {
        each.path: _Observing(
            RangeObserver(len(crops), percentile=percentile),
            RangeObserver(len(crops), percentile=percentile),
        )
        for each in weighted_layers(model.description)
    }
    with contextlib.ExitStack() as hooks:
        for path, see in observing.items():
            handle = _layer_at(model.module, path).register_forward_hook(see)
            hooks.callback(handle.remove)
        for x in crop_batches(model, crops, batch_size=batch_size):
            with evaluated(model.module):
                model.module(x)
    found = {}
    for path, each in observing.items():
        try:
            found[path] = LayerRanges(input=each.input.range(), output=each.output.range())
        except CompressionError as failure:
            raise CompressionError(f"{path}: on {len(crops)} crops, {failure}") from failure
    return found


@final
@dataclass(frozen=True, slots=True)
class _Observing:
    """A hook that shows observers what a layer reads and writes."""

    input: RangeObserver
    output: RangeObserver

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.input.see(inputs[0])
        self.output.see(output)


def crop_batches(
    model: FaceModel, crops: NDArray[np.uint8], *, batch_size: int
) -> Iterator[Tensor]:
    """Crops as a model's module reads them, on its device.

    Raises:
        CompressionError: there are no crops, or of another size.
    """
    if crops.dtype != np.uint8 or crops.shape[1:] != (model.height, model.width, 3):
        raise CompressionError(
            f"crops must be uint8 of shape (N, {model.height}, {model.width}, 3), got "
            f"{crops.dtype} of shape {crops.shape}"
        )
    if not len(crops):
        raise CompressionError("crops: at least one is needed to see what layers read, got none")
    device = next(model.module.parameters()).device
    for start in range(0, len(crops), batch_size):
        x = model.description.preprocessing.apply(crops[start : start + batch_size])
        yield x.to(device)


@contextlib.contextmanager
def evaluated(module: nn.Module) -> Iterator[None]:
    """In this block, a module is in evaluation and keeps nothing for gradients."""
    was_training = module.training
    module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        module.train(was_training)


def _layer_at(module: nn.Module, path: str) -> nn.Module:
    try:
        layer = module.get_submodule(path)
    except AttributeError:
        layer = None
    if type(layer) not in _FAKES:
        found = "nothing" if layer is None else type(layer).__name__
        raise CompressionError(
            f"{path}: a convolution or linear layer in float is needed here, got {found}"
        )
    return cast(nn.Module, layer)
