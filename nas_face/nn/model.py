"""FaceModel: a layer tree with weights, and the folder that holds it (`model.json`,
safetensors)."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from nas_face.arch.codec import canonical_json, from_data, to_data
from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Cost, Shape
from nas_face.arch.spec import ArchSpec
from nas_face.errors import ArchError, BuildError
from nas_face.nn.build import build, initialise_
from nas_face.nn.fast.memory import freed_memory_kept
from nas_face.nn.fast.subnormals import subnormals_flushed

MODEL_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"

# Of red, green and blue in the brightness of a pixel: ITU-R BT.601-7, section 2.5.1.
LUMA = (0.299, 0.587, 0.114)

ChannelOrder = Literal["RGB", "BGR", "grey"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What happens to an image before the first layer: (x - mean) / scale, channels first.

    Attributes:
        mean: subtracted from pixel values 0 to 255.
        scale: divided by.
        channel_order: order in which the network expects the three channels; `grey` for one
            channel, the brightness 0.299 R + 0.587 G + 0.114 B, not rounded.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    mean: float = 127.5
    scale: float = 127.5
    channel_order: ChannelOrder = "RGB"

    @property
    def channels(self) -> int:
        """What the network reads: 3 for a colour image, 1 for a grey one."""
        return 1 if self.channel_order == "grey" else 3

    def apply(self, images: NDArray[np.uint8]) -> Tensor:
        """Images to network input.

        Args:
            images: `(N, H, W, 3)` RGB.

        Returns:
            `(N, channels, H, W)` float32, contiguous.
        """
        if self.channel_order == "grey":
            x = torch.from_numpy(_luma(images)[:, None])
        else:  # bytes are moved in a fraction of the time that it takes to move floats
            ordered = images[..., ::-1] if self.channel_order == "BGR" else images
            planes = np.ascontiguousarray(ordered.transpose(0, 3, 1, 2))
            x = torch.from_numpy(planes.astype(np.float32))
        return x.sub_(self.mean).div_(self.scale)

    def write(self, images: NDArray[np.uint8], values: NDArray[np.float32]) -> None:
        """Network input in the order of images, which takes half the time of `apply`.

        It leaves torch alone, whose threads would spin while they wait for one another: so it may
        run in many threads, on cores that decode images.

        Args:
            images: `(N, H, W, 3)` RGB.
            values: written to, `(N, H, W, channels)`; as `apply` gives but for the order of axes.
        """
        source: NDArray[np.float32] | NDArray[np.uint8] = images
        if self.channel_order == "grey":
            source = _luma(images)[..., None]
        elif self.channel_order == "BGR":
            source = images[..., ::-1]
        np.subtract(source, np.float32(self.mean), out=values)
        np.divide(values, np.float32(self.scale), out=values)


def _luma(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    red, green, blue = (images[..., at] * np.float32(weight) for at, weight in enumerate(LUMA))
    luma: NDArray[np.float32] = red + green + blue
    return luma


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Everything about a model but its weights: the content of `model.json`.

    Attributes:
        network: the layer tree.
        input_shape: channels, height, width of its input.
        preprocessing: what happens to an image before it; gives as many channels as
            `input_shape` has.
        arch_id: of the ArchSpec that the tree was lowered from; of a pruned tree, of the one that
            `ArchSpec.of_tree` gives.
        lineage: what was done to the weights, oldest first, one plain record a step.
        version: of this format.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    network: Sequence
    input_shape: tuple[int, int, int]
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    arch_id: str
    lineage: tuple[str, ...] = ()
    version: Literal[1] = 1

    def __post_init__(self) -> None:
        channels = self.input_shape[0]
        if channels not in (1, 3):
            raise BuildError(
                f"input_shape: a network reads 3 channels of colour or 1 of grey, got {channels}"
            )
        if channels != self.preprocessing.channels:
            fitting = "'grey'" if channels == 1 else "'RGB' or 'BGR'"
            raise BuildError(
                f"preprocessing.channel_order: a network of input channels {channels} needs "
                f"{fitting}, got {self.preprocessing.channel_order!r}"
            )

    @property
    def input(self) -> Shape:
        """Shape of one image."""
        return Shape(*self.input_shape)

    @property
    def cost(self) -> Cost:
        """Cost of the network, image to embedding."""
        return self.network.cost(self.input)

    @property
    def embedding_size(self) -> int:
        """Length of the embedding."""
        return self.network.output_shape(self.input).channels


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FaceModel:
    """A network that turns face crops into embeddings.

    Attributes:
        description: tree, input, preprocessing and lineage.
        module: the torch module that `description.network` builds, with its weights.

    Example:
        >>> from nas_face.arch.zoo import network
        >>> model = FaceModel.fresh(network("mobilefacenet_128").spec, seed=0)
        >>> model.embed(np.zeros((2, 112, 112, 3), np.uint8)).shape
        (2, 128)
    """

    description: Description
    module: nn.Module

    @property
    def height(self) -> int:
        """Of the crops, in pixels."""
        return self.description.input.height

    @property
    def width(self) -> int:
        """Of the crops, in pixels."""
        return self.description.input.width

    @property
    def digest(self) -> str:
        """SHA-256 of the description and the weights; equal models have equal ones."""
        found = hashlib.sha256(canonical_json(self.description).encode())
        for name, value in self.module.state_dict().items():
            found.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()

    @staticmethod
    def fresh(spec: ArchSpec, *, seed: int) -> "FaceModel":
        """Untrained model of an ArchSpec; the same seed gives the same weights.

        Args:
            spec: the architecture; with one input channel, its preprocessing makes images grey.
            seed: of the weights.

        Raises:
            BuildError: the input has neither three channels nor one.
        """
        tree = spec.lower()
        description = Description(
            network=tree,
            input_shape=spec.input_shape,
            preprocessing=Preprocessing(channel_order="grey" if spec.input[0] == 1 else "RGB"),
            arch_id=spec.arch_id,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build(tree, spec.input)
            initialise_(module)
        return FaceModel(description=description, module=module)

    @staticmethod
    def of(description: Description, weights: Mapping[str, Tensor]) -> "FaceModel":
        """Model of a description and weights that fit it exactly.

        Raises:
            BuildError: a weight is missing, left over or of another shape, or no network can be
                built of the description.
        """
        try:
            module = build(description.network, description.input)
        except ArchError as failure:
            raise BuildError(f"no network can be built of the layers: {failure}") from failure
        try:
            module.load_state_dict(dict(weights), strict=True)
        except RuntimeError as failure:
            reason = " ".join(str(failure).split())
            raise BuildError(f"weights do not fit the network: {reason[:300]}") from failure
        return FaceModel(description=description, module=module)

    def noting(self, step: str) -> "FaceModel":
        """The same model with one more line in its lineage."""
        longer = (*self.description.lineage, step)
        return replace(self, description=replace(self.description, lineage=longer))

    def embed(
        self, images: NDArray[np.uint8], *, flip: bool = True, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """Embeddings of face crops, not of unit length.

        Args:
            images: `(N, H, W, 3)` RGB crops of the model's input size.
            flip: add the embedding of the mirrored crop, as verification protocols do.
            batch_size: images in one forward pass; by default 8 on a CPU, whose caches then hold
                what is between two layers (measured at 112x112: 1.2 to 1.5 times as fast as with
                64), and 256 elsewhere.

        Returns:
            `(N, embedding_size)`.
        """
        was_training = self.module.training
        device = next(self.module.parameters()).device
        batch_size = batch_size or (8 if device.type == "cpu" else 256)
        self.module.eval()
        parts = []
        with torch.inference_mode(), freed_memory_kept(), subnormals_flushed():
            for start in range(0, len(images), batch_size):
                x = self.description.preprocessing.apply(images[start : start + batch_size])
                x = x.to(device)
                y = self.module(x)
                if flip:
                    y = y + self.module(x.flip(3))
                parts.append(y.float().cpu())
        self.module.train(was_training)
        if not parts:
            return np.zeros((0, self.description.embedding_size), np.float32)
        return torch.cat(parts).numpy()

    def save(self, folder: Path) -> None:
        """Write `model.json` and `weights.safetensors`; a crash leaves the old pair or the new
        one.

        The description is written last and names nothing of the weights file, so a folder without
        `model.json` is one that was never finished.
        """
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            key: value.detach().cpu().contiguous()
            for key, value in self.module.state_dict().items()
        }
        _replace(folder / WEIGHTS_FILE, lambda path: path.write_bytes(to_bytes(weights)))
        text = json.dumps(to_data(self.description), indent=1) + "\n"
        _replace(folder / MODEL_FILE, lambda path: path.write_text(text, encoding="utf-8"))

    @staticmethod
    def load(folder: Path) -> "FaceModel":
        """Read a model folder.

        Raises:
            BuildError: a file is missing, unreadable, or does not fit the other.
        """
        description = load_description(folder)
        try:
            weights = load_file(folder / WEIGHTS_FILE)
        except (OSError, SafetensorError) as failure:
            raise BuildError(
                f"{folder / WEIGHTS_FILE}: not a readable safetensors file ({failure})"
            ) from failure
        try:
            return FaceModel.of(description, weights)
        except BuildError as failure:
            raise BuildError(f"{folder}: {failure}") from failure


def load_description(folder: Path) -> Description:
    """Read `model.json` of a model folder.

    Raises:
        BuildError: the file is missing or malformed.
    """
    path = folder / MODEL_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise BuildError(
            f"{folder}: not a model folder, {MODEL_FILE} cannot be read ({failure.strerror})"
        ) from failure
    except (UnicodeDecodeError, json.JSONDecodeError) as failure:
        raise BuildError(f"{path}: not valid JSON ({failure})") from failure
    return from_data(Description, data, where=str(path), error=BuildError)


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file beside `path`, then move it into place in one step."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    os.replace(partial, path)
