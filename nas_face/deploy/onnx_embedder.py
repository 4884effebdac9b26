"""Embeddings by an ONNX file of anybody's, whatever it takes and however it was exported."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from nas_face.deploy.onnx_content import content_to_open
from nas_face.deploy.onnx_convention import Convention, ImageInput
from nas_face.deploy.onnx_graph import INPUT, OUTPUT, WEIGHT_BITS
from nas_face.deploy.runtime import FAILURES, listing, one_line, open_session
from nas_face.errors import ConfigError, DeployError

_OWN = "nas_face.preprocessing"
_INTEGER_OPERATORS = frozenset(
    ("DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
)
_OWN_INPUT = Convention(mean=(0.0,), scale=(1.0,), order="RGB")


def prepares_pixels(path: Path) -> bool:
    """Whether a file is an export of ours, which takes plain RGB pixels and says so.

    A file that cannot be read is none.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError):
        return False
    names = [[each.name for each in values] for values in (model.graph.input, model.graph.output)]
    return names == [[INPUT], [OUTPUT]] and any(each.key == _OWN for each in model.metadata_props)


@final
class OnnxEmbedder:
    """An ONNX file that turns face crops into embeddings, on the CPU, in any convention.

    Read from the file where it is certain: the size of the image, the layout, the type (float32,
    float16, float64, uint8), a fixed batch, and which result is the embedding. Order of channels,
    mean and scale are in no file but an export of ours, or a uint8 one that takes pixels as they
    are; the user says them.

    Args:
        path: the file. Weights that it lists among its inputs, as old exporters do, are no inputs.
        given: what the user says about it; nothing about an export of ours, which prepares pixels
            itself.
        threads: how many batches are worked on at once. Each of them takes one thread, so that
            embeddings do not depend on the number.

    Attributes:
        path: of the file.
        height: of the crops, in pixels.
        width: of the crops, in pixels.
        embedding_size: length of the embedding.
        input: how the file takes an image.
        output: name of the embedding.

    Raises:
        ConfigError: something about the input or the result is not certain and was not given, or
            what was given does not fit the file; the message says which options to give.
        DeployError: the file is missing, is not ONNX, or ONNX Runtime refuses it.
    """

    def __init__(self, path: Path, given: Convention | None = None, *, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        given = given or Convention()
        if prepares_pixels(path):
            if not given.says_nothing:
                raise ConfigError(
                    f"{path}: an export of nas-face, which prepares pixels itself; leave options "
                    "about its input and output out"
                )
            given = _OWN_INPUT
        self.path = path
        self.threads = threads
        self._session = open_session(path, 1, content_to_open(path))
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ConfigError(
                f"{path}: a face model takes one image, the file takes {listing(inputs) or 'none'}"
            )
        self._name: str = inputs[0].name
        self.input = ImageInput.of(given, self._name, inputs[0].type, inputs[0].shape, str(path))
        self.height, self.width = self.input.height, self.input.width
        self.output, self.embedding_size = self._embedding(given.output)
        self._most = self.input.batch_size or self._most_at_once()

    def embed(
        self, images: NDArray[np.uint8], *, flip: bool = True, batch_size: int = 16
    ) -> NDArray[np.float32]:
        """Embeddings of face crops, not of unit length; the same contract as `FaceModel.embed`.

        Args:
            images: `(N, height, width, 3)` uint8 RGB crops.
            flip: add the embedding of the mirrored crop, as verification protocols do.
            batch_size: images in one forward pass, where the file leaves it open.

        Returns:
            `(N, embedding_size)`.

        Raises:
            ValueError: the images have another type or size, or `batch_size` is below 1.
            DeployError: ONNX Runtime refuses.
        """
        size = (self.height, self.width, 3)
        if images.dtype != np.uint8 or images.shape[1:] != size:
            raise ValueError(
                f"images must be uint8 of shape (N, {self.height}, {self.width}, 3), "
                f"got {images.dtype} of shape {images.shape}"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        step = batch_size if self._most is None else self._most
        y = np.zeros((len(images), self.embedding_size), np.float32)

        def fill(start: int) -> None:
            batch = images[start : start + step]
            rows = y[start : start + step]
            rows += self._run(batch, mirror=False)
            if flip:
                rows += self._run(batch, mirror=True)

        starts = range(0, len(images), step)
        with ThreadPoolExecutor(self.threads, initializer=_flush_subnormals) as pool:
            for _ in pool.map(fill, starts):
                pass
        return y

    def _run(self, images: NDArray[np.uint8], *, mirror: bool) -> NDArray[np.float32]:
        """Embeddings of as many images as the file takes at once, or fewer."""
        n_missing = (self.input.batch_size or 0) - len(images)
        x = self.input.prepare(images, mirror=mirror)
        if n_missing > 0:
            x = np.concatenate([x, np.repeat(x[:1], n_missing, axis=0)])
        y = self._results(x, [self.output])[0]
        if y.size != len(x) * self.embedding_size:
            raise DeployError(
                f"{self.path}: '{self.output}' is {y.shape} for {len(x)} images, where each has "
                f"{self.embedding_size} values"
            )
        return y.reshape(len(x), -1)[: len(images)].astype(np.float32)

    def _results(
        self, x: NDArray[np.generic], names: list[str] | None
    ) -> list[NDArray[np.generic]]:
        try:
            return list(self._session.run(names, {self._name: x}))
        except FAILURES as failure:
            raise DeployError(f"{self.path}: {one_line(failure)}") from failure

    def _noise(self, n_images: int) -> NDArray[np.uint8]:
        shape = (n_images, self.height, self.width, 3)
        return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def _embedding(self, wanted: str | None) -> tuple[str, int]:
        """Name and length of the result that is an embedding, by what a trial run gives."""
        outputs = self._session.get_outputs()
        n_images = self.input.batch_size or 1
        results = self._results(self.input.prepare(self._noise(n_images)), None)
        lengths = {
            output.name: length
            for output, y in zip(outputs, results, strict=True)
            if (length := _length(y, n_images)) is not None
        }
        if wanted is not None:
            if wanted not in {each.name for each in outputs}:
                raise ConfigError(
                    f"{self.path}: no result is named '{wanted}'; there are {listing(outputs)}"
                )
            lengths = {name: length for name, length in lengths.items() if name == wanted}
        if len(lengths) == 1:
            return next(iter(lengths.items()))
        if not lengths:
            raise ConfigError(
                f"{self.path}: {'that result' if wanted else 'no result'} is an embedding "
                f"(N, D); there are {listing(outputs)}"
            )
        raise ConfigError(
            f"{self.path}: several results may be the embedding; give --output "
            + " or --output ".join(lengths)
        )

    def _most_at_once(self) -> int | None:
        """1 where a graph says that it takes any number of images but does not, else None.

        Exporters that trace one image may write its 1 into a Reshape in the middle. Such a graph
        fails on two images, or mixes them.
        """
        images = self._noise(2)
        alone = np.concatenate([self._run(images[row : row + 1], mirror=False) for row in (0, 1)])
        try:
            together = self._run(images, mirror=False)
        except DeployError:
            return 1
        near = np.allclose(together, alone, rtol=1e-2, atol=1e-2 * float(np.abs(alone).max()))
        return None if near else 1


def _length(y: object, n_images: int) -> int | None:
    """Values of an embedding for each image, or None of a result that is none.

    An embedding is `(N, D)`, `(N, D, 1, 1)` or `(N, 1, 1, D)`, or `(D,)` of one image, with D at
    least 2.
    """
    if not isinstance(y, np.ndarray) or not np.issubdtype(y.dtype, np.floating):
        return None
    shape = y.shape if y.ndim > 1 else (1, *y.shape)
    wide = [size for size in shape[1:] if size != 1]
    if shape[:1] != (n_images,) or len(wide) != 1:
        return None
    return int(wide[0])


def precision_of(path: Path) -> str:
    """Precision of an ONNX file's weights: `int8`, `fp16` or `fp32`, whichever is the coarsest, or
    `w4`, `w6` or `w8` of a file of `quantise_weights`.

    A file that cannot be read is fp32.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError, ValueError):
        return "fp32"
    for each in model.metadata_props:
        if each.key == WEIGHT_BITS:
            return f"w{each.value}"
    kinds = {each.data_type for each in model.graph.initializer}
    operators = {node.op_type for node in model.graph.node}
    if operators & _INTEGER_OPERATORS:
        return "int8"
    return "fp16" if onnx.TensorProto.FLOAT16 in kinds else "fp32"


def _flush_subnormals() -> None:
    """Take numbers below 1e-38 as zero in this thread.

    Trained weights are full of them, and processors are slow on them: a published
    MobileFaceNet-512 takes 64 ms an image with them and 10 without (`benchmarks/subnormals.py`).
    """
    torch.set_flush_denormal(True)
