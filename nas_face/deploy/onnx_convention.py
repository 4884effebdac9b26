"""How an ONNX file of anybody's takes an image: size, layout, order of channels, mean, scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Self, final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from nas_face.errors import ConfigError
from nas_face.nn.model import LUMA, ChannelOrder

Layout = Literal["NCHW", "NHWC"]
ColourOrder = Literal["RGB", "BGR"]

_TYPES: Mapping[str, DTypeLike] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
# Scales of pixels from 0 to 1 are 0.2 to 1, and factors of pixels from 0 to 255 are 1/128 or so.
_MOST_FACTOR = 0.05
_CHANNEL_AXIS: Mapping[Layout, int] = {"NCHW": 1, "NHWC": 3}
_SPATIAL_AXES: Mapping[Layout, tuple[int, int]] = {"NCHW": (2, 3), "NHWC": (1, 2)}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """What a user says about an ONNX file; None leaves it to the file, where the file tells.

    The network takes (x - mean) / scale of pixels x from 0 to 255.

    Attributes:
        input_size: height and width of the image, in pixels.
        mean: one number, or one for each channel in the order in which the network takes them.
        scale: likewise; above 0.
        order: of the channels.
        layout: of the input: `(N, C, H, W)` or `(N, H, W, C)`.
        output: name of the embedding, in a file with several results.

    Raises:
        ConfigError: a number is out of range, or looks like one of pixels from 0 to 1.
    """

    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    order: ColourOrder | None = None
    layout: Layout | None = None
    output: str | None = None

    def __post_init__(self) -> None:
        for name, numbers in (("--mean", self.mean), ("--scale", self.scale)):
            if numbers is None:
                continue
            if len(numbers) not in (1, 3) or not all(map(math.isfinite, numbers)):
                raise ConfigError(f"{name} takes one number, or three, got {_text(numbers)}")
            if name == "--scale" and all(0 < number <= _MOST_FACTOR for number in numbers):
                raise ConfigError(
                    f"--scale divides pixels from 0 to 255, got {_text(numbers)}; as a factor, "
                    f"that is --scale {_text([1 / number for number in numbers])}"
                )
            if all(0 < number < 1 for number in numbers):
                raise ConfigError(
                    f"{name} is of pixels from 0 to 255, got {_text(numbers)}; of pixels from 0 "
                    f"to 1, that is {name} {_text([255 * number for number in numbers])}"
                )
        if self.scale is not None and not all(number > 0 for number in self.scale):
            raise ConfigError(f"--scale must be above 0, got {_text(self.scale)}")

    @property
    def says_nothing(self) -> bool:
        """Whether all is left to the file."""
        return all(getattr(self, field.name) is None for field in fields(self))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """How a file takes an image, nothing left open.

    Attributes:
        height: in pixels.
        width: in pixels.
        mean: of one channel or of each, in the order in which the network takes them.
        scale: likewise.
        order: of the channels; `grey` is their brightness (ITU-R BT.601) in one channel.
        layout: `NCHW` or `NHWC`.
        dtype: of the numbers; pixels are given to uint8 as they are.
        batch_size: images that every call takes, or None for any number.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    order: ChannelOrder
    layout: Layout
    dtype: DTypeLike
    batch_size: int | None

    @classmethod
    def of(
        cls, given: Convention, name: str, kind: str, shape: Sequence[int | str | None], where: str
    ) -> Self:
        """What a file's input and its user say together; the user's word counts.

        Args:
            given: the user's.
            name: of the input.
            kind: its type in ONNX Runtime's words, such as `tensor(float)`.
            shape: a number for each fixed size.
            where: the file, for messages.

        Raises:
            ConfigError: something is not certain and was not given, or what was given does not fit
                the input.
        """
        described = f"{where}: the input '{name}' is {kind} {_shape(shape)}"
        if kind not in _TYPES or len(shape) != 4:
            raise ConfigError(
                f"{described}; a face model takes one image of four dimensions as float32, "
                "float16, float64 or uint8"
            )
        sizes = [size if isinstance(size, int) and size > 0 else None for size in shape]
        dtype = _TYPES[kind]
        missing = []
        layout = _layout(given, sizes, described)
        size, order = None, None
        if layout is None:
            missing.append("--layout nchw or --layout nhwc")
        else:
            size = _size(given, [sizes[axis] for axis in _SPATIAL_AXES[layout]], described)
            order = _order(given, sizes[_CHANNEL_AXIS[layout]], described)
        if size is None and (layout is not None or given.input_size is None):
            missing.append("--input-size, such as --input-size 112")
        mean, scale = given.mean, given.scale
        if dtype == np.uint8:
            if any(
                numbers not in (None, plain) for numbers, plain in ((mean, (0,)), (scale, (1,)))
            ):
                raise ConfigError(f"{described}: pixels as they are; leave --mean and --scale out")
            mean, scale = (0.0,), (1.0,)
        if mean is None or scale is None:
            missing.append(
                "--mean and --scale of pixels from 0 to 255, such as --mean 127.5 --scale 127.5"
            )
        if order is None and (layout is not None or given.order is None):
            missing.append("--rgb or --bgr")
        if size is None or order is None or mean is None or scale is None or layout is None:
            raise ConfigError(
                f"{described}, and the file does not say all that it takes; give "
                + "; and ".join(missing)
            )
        if order == "grey" and len(mean) + len(scale) > 2:
            raise ConfigError(f"{described}: one channel has one --mean and one --scale")
        return cls(
            height=size[0],
            width=size[1],
            mean=mean,
            scale=scale,
            order=order,
            layout=layout,
            dtype=dtype,
            batch_size=sizes[0],
        )

    def prepare(self, images: NDArray[np.uint8], *, mirror: bool = False) -> NDArray[np.generic]:
        """The file's input for RGB crops.

        Args:
            images: `(N, height, width, 3)` uint8.
            mirror: turn left and right round.

        Returns:
            `(N, C, height, width)` or `(N, height, width, C)` of type `dtype`, contiguous.
        """
        x: NDArray[np.generic] = images[:, :, ::-1] if mirror else images
        if self.order == "BGR":
            x = x[..., ::-1]
        if self.order == "grey":
            x = (x.astype(np.float32) @ np.array(LUMA, np.float32))[..., np.newaxis]
            x = np.rint(x) if self.dtype == np.uint8 else x
        if self.dtype != np.uint8:
            x = (x.astype(np.float32) - np.array(self.mean, np.float32)) / np.array(
                self.scale, np.float32
            )
        if self.layout == "NCHW":
            x = x.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(x, dtype=self.dtype)


def _layout(given: Convention, sizes: Sequence[int | None], described: str) -> Layout | None:
    colours = (1, 3)
    if given.layout is not None:
        if sizes[_CHANNEL_AXIS[given.layout]] not in (None, *colours):
            raise ConfigError(f"{described}, which --layout {given.layout.lower()} does not fit")
        return given.layout
    certain = [each for each, axis in _CHANNEL_AXIS.items() if sizes[axis] in colours]
    if not certain and all(sizes[axis] is not None for axis in _CHANNEL_AXIS.values()):
        raise ConfigError(f"{described}; an image has 3 channels, or 1")
    return certain[0] if len(certain) == 1 else None


def _size(
    given: Convention, found: Sequence[int | None], described: str
) -> tuple[int, int] | None:
    wanted = given.input_size or (None, None)
    if any(a not in (None, b) for a, b in zip(found, wanted, strict=True) if b is not None):
        raise ConfigError(
            f"{described}, which --input-size {wanted[0]}x{wanted[1]} does not fit; leave it out"
        )
    height, width = (a or b for a, b in zip(found, wanted, strict=True))
    return None if height is None or width is None else (height, width)


def _order(given: Convention, channels: int | None, described: str) -> ChannelOrder | None:
    if channels != 1:
        return given.order
    if given.order is not None:
        raise ConfigError(f"{described}, of one channel, grey; leave --rgb and --bgr out")
    return "grey"


def _shape(shape: Sequence[int | str | None]) -> str:
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"


def _text(numbers: Sequence[float]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
