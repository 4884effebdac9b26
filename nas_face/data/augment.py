"""How training images are altered: mirrored by default, anything else only if asked for."""

import math
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from nas_face.errors import ConfigError

_Pixels = npt.NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601

# smallest side after low_resolution, as a share of the whole (AdaFace)
_LEAST_SIDE = 0.2

# widest blur, as a share of the shorter side
_BLUR = 0.02

# areas that are erased, as a share of the image, and their aspect or its inverse
_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = 0.3

# what is from 0 to a limit
_LIMITS = {
    "rotate": 180.0,
    "zoom": 0.5,
    "brightness": 1.0,
    "contrast": 1.0,
    "saturation": 1.0,
    "grey": 1.0,
    "low_resolution": 1.0,
    "blur": 1.0,
    "erase": 1.0,
}


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """What happens to each image, each time that a training takes it.

    Only the mirroring is on. Published ablations find that anything beyond it hurts networks as
    small as these: MobileFaceNet on aligned faces of MS1M has a TAR of 92.80 % at a FAR of 1e-4
    on IJB-C with mirroring alone, 92.06 % with random erasing, 91.18 % with mixup and 80.86 % with
    RandAugment (cavaface). Little data or crops without landmarks can be another matter.

    Attributes:
        flip: mirror left to right with probability one half.
        shift: move by up to this many pixels in both directions, the edge repeated; for crops that
            are not aligned to landmarks, such as the built-in faces.
        rotate: turn about the centre by up to this many degrees either way, from 0 to 180, the
            edge repeated.
        zoom: enlarge about the centre by a factor from 1 - zoom to 1 + zoom, from 0 to 0.5, the
            edge repeated.
        brightness: multiply all values by a factor from 1 - brightness to 1 + brightness, from 0
            to 1.
        contrast: multiply the distance to the image's mean grey by such a factor.
        saturation: multiply the distance to each pixel's grey by such a factor.
        grey: probability that all colour goes.
        low_resolution: probability that the image is reduced to 0.2 to 1 times its sides and
            enlarged again, as in AdaFace.
        blur: probability of a Gaussian blur, with a standard deviation of up to 2 % of the shorter
            side.
        erase: probability that a rectangle of 2 % to 40 % of the area becomes noise (random
            erasing).
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    flip: bool = True
    shift: int = 0
    rotate: float = 0.0
    zoom: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    grey: float = 0.0
    low_resolution: float = 0.0
    blur: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ConfigError(f"augment.shift must be at least 0, got {self.shift}")
        for name, limit in _LIMITS.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ConfigError(
                    f"augment.{name} must be from 0 to {limit:g}, got {getattr(self, name)}"
                )

    @property
    def only_moves(self) -> bool:
        """Whether images are mirrored and shifted at most."""
        return not any(getattr(self, name) for name in _LIMITS)


def mirror(image: _Pixels) -> None:
    """Turn left to right `(height, width, 3)`, in place."""
    still = image.copy()
    for channel in range(3):  # a third of the time of all channels at once (measured)
        image[..., channel] = still[:, ::-1, channel]


def shifted(images: _Pixels, moves: npt.NDArray[np.int64], reach: int) -> _Pixels:
    """Images moved down and right, with their edges repeated.

    Args:
        images: `(B, height, width, 3)`.
        moves: pixels down and right, `(B, 2)`, each from -reach to reach.
        reach: farthest move.
    """
    height, width = images.shape[1:3]
    wide = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    corners = reach - moves
    return np.stack(
        [
            image[top : top + height, left : left + width]
            for image, (top, left) in zip(wide, corners, strict=True)
        ]
    )


def altered(image: _Pixels, settings: AugmentSettings, rng: np.random.Generator) -> _Pixels:
    """An image with everything done to it that is no mirroring or shift.

    What one augmentation draws does not depend on which others are on.

    Args:
        image: `(height, width, 3)`.
        settings: how much of each.
        rng: of this image alone.
    """
    # each from 0 to 1, in this order
    turn, size, light, depth, colour, grey, low, side, blur, width, erase = rng.random(11).tolist()
    if settings.rotate or settings.zoom:
        degrees, factor = settings.rotate * (2 * turn - 1), _factor(settings.zoom, size)
        image = turned(image, degrees=degrees, zoom=factor)
    if low < settings.low_resolution:
        image = coarsened(image, side=_LEAST_SIDE + (1 - _LEAST_SIDE) * side)
    if blur < settings.blur:
        image = blurred(image, pixels=_BLUR * width * min(image.shape[:2]))
    if settings.brightness or settings.contrast or settings.saturation or grey < settings.grey:
        image = relit(
            image,
            brightness=_factor(settings.brightness, light),
            contrast=_factor(settings.contrast, depth),
            saturation=_factor(settings.saturation, colour) if grey >= settings.grey else 0.0,
        )
    if erase < settings.erase:
        image = _erased(image, rng)
    return image


def turned(image: _Pixels, *, degrees: float, zoom: float) -> _Pixels:
    """An image turned and enlarged about its centre, bilinearly, with its edges repeated.

    Args:
        image: `(height, width, 3)`.
        degrees: anticlockwise.
        zoom: factor, above 0; below 1 it becomes smaller.
    """
    height, width = image.shape[:2]
    along = math.cos(math.radians(degrees)) / zoom
    across = math.sin(math.radians(degrees)) / zoom
    # from the centre to the farthest pixel that is read, and one more to interpolate with
    wide = abs(along) * width / 2 + abs(across) * height / 2
    high = abs(along) * height / 2 + abs(across) * width / 2
    right, down = (max(0, math.ceil(far)) + 1 for far in (wide - width / 2, high - height / 2))
    padded = Image.fromarray(np.pad(image, ((down, down), (right, right), (0, 0)), mode="edge"))
    x, y = width / 2, height / 2
    return np.asarray(
        padded.transform(
            (width, height),
            Image.Transform.AFFINE,
            (
                *(along, -across, x + right - along * x + across * y),
                *(across, along, y + down - across * x - along * y),
            ),
            resample=Image.Resampling.BILINEAR,
        )
    )


def coarsened(image: _Pixels, *, side: float) -> _Pixels:
    """An image reduced and enlarged again.

    Args:
        image: `(height, width, 3)`.
        side: of the reduced image, as a share of the whole, above 0 to 1.

    Source: Kim et al., AdaFace, arXiv 2204.00964, its code.
    Differs: it draws the interpolation too; here, means of areas and then bicubic.
    """
    height, width = image.shape[:2]
    small = (max(1, round(width * side)), max(1, round(height * side)))
    reduced = Image.fromarray(image).resize(small, Image.Resampling.BOX)
    return np.asarray(reduced.resize((width, height), Image.Resampling.BICUBIC))


def blurred(image: _Pixels, *, pixels: float) -> _Pixels:
    """An image `(height, width, 3)` under a Gaussian of this standard deviation."""
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(pixels)))


def relit(image: _Pixels, *, brightness: float, contrast: float, saturation: float) -> _Pixels:
    """An image in another light, rounded and cut to what pixels hold.

    Args:
        image: RGB, `(height, width, 3)`.
        brightness: factor of all values, first.
        contrast: factor of the distance to the image's mean grey, second.
        saturation: factor of the distance to each pixel's grey, last; 0 takes all colour.
    """
    values = image.astype(np.float32) * np.float32(brightness)
    mean = (values @ _LUMA).mean()
    values = mean + (values - mean) * np.float32(contrast)
    grey = (values @ _LUMA)[..., None]
    values = grey + (values - grey) * np.float32(saturation)
    pixels: _Pixels = np.rint(values).clip(0, 255).astype(np.uint8)
    return pixels


def _factor(reach: float, drawn: float) -> float:
    """From 1 - reach to 1 + reach, for a draw from 0 to 1."""
    return 1 + reach * (2 * drawn - 1)


def _erased(image: _Pixels, rng: np.random.Generator) -> _Pixels:
    """An image with a rectangle of noise.

    Source: Zhong et al., Random erasing data augmentation, arXiv 1708.04896, algorithm 1.
    Differs: tall and wide are equally likely, and what would not fit is cut, not drawn again.
    """
    height, width = image.shape[:2]
    area = rng.uniform(*_ERASED_AREA) * height * width
    aspect = math.exp(rng.uniform(-1, 1) * math.log(_ERASED_ASPECT))
    n_rows = min(height, max(1, round(math.sqrt(area * aspect))))
    n_columns = min(width, max(1, round(math.sqrt(area / aspect))))
    top, left = rng.integers(height - n_rows + 1), rng.integers(width - n_columns + 1)
    image = image.copy()
    image[top : top + n_rows, left : left + n_columns] = rng.integers(
        0, 256, (n_rows, n_columns, 3), dtype=np.uint8
    )
    return image
