"""What a proxy looks at: a fresh network, a few labelled faces, the margin loss."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_face.arch.spec import ArchSpec
from nas_face.errors import DataError
from nas_face.losses.classifier import MarginClassifier
from nas_face.losses.margins.settings import MarginSettings
from nas_face.nn import FaceModel
from nas_face.nn.modules import ChannelConvModule, TranslationVariantConvModule

MIN_IMAGES = 4
"""Two batches of two: batch normalisation needs two images, ZiCo two batches."""

_WEIGHTED = (nn.Conv2d, nn.Linear, TranslationVariantConvModule, ChannelConvModule)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """An untrained network and what it is tried on; the network is built when it is first needed.

    Proxies leave the network as they found it: weights, running statistics, gradients and mode.

    Attributes:
        spec: its architecture.
        images: `(N, H, W, 3)` uint8 RGB, of the spec's height and width.
        identities: `(N,)` int64, who each image shows, from 0, none left out.
        loss: margin loss that the networks will be trained with.
        seed: of the weights, of the class centres and of random vectors.
    """

    spec: ArchSpec
    images: NDArray[np.uint8]
    identities: NDArray[np.int64]
    loss: MarginSettings
    seed: int

    @staticmethod
    def of(
        spec: ArchSpec,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        *,
        loss: MarginSettings,
        seed: int,
    ) -> "Subject":
        """A subject of images with any labels.

        Raises:
            DataError: images have another size than the network reads, are fewer than 4, come
                with another number of labels, or show a single identity.
        """
        _, height, width = spec.input_shape
        if images.ndim != 4 or images.shape[1:] != (height, width, 3):
            raise DataError(
                f"proxies: the network reads images (N, {height}, {width}, 3), got {images.shape}"
            )
        if len(images) < MIN_IMAGES or len(labels) != len(images):
            raise DataError(
                f"proxies: at least {MIN_IMAGES} images with a label each are needed, got "
                f"{len(images)} images and {len(labels)} labels"
            )
        names, identities = np.unique(labels, return_inverse=True)
        if len(names) < 2:
            raise DataError("proxies: images of at least 2 identities are needed, got 1")
        return Subject(spec=spec, images=images, identities=identities, loss=loss, seed=seed)

    @functools.cached_property
    def model(self) -> FaceModel:
        """The network with fresh weights."""
        return FaceModel.fresh(self.spec, seed=self.seed)

    @functools.cached_property
    def classifier(self) -> MarginClassifier:
        """Class centres of the identities among the images, with fresh weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return MarginClassifier(
                self.spec.embedding_size,
                int(self.identities.max()) + 1,
                self.loss,
            )

    @functools.cached_property
    def x(self) -> Tensor:
        """Network input, `(N, C, H, W)` float32."""
        return self.model.description.preprocessing.apply(self.images)

    @functools.cached_property
    def labels(self) -> Tensor:
        """`(N,)` int64."""
        return torch.from_numpy(self.identities)


def weighted_layers(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of all convolutions and linear layers, by the path of the layer."""
    return {
        name: each.get_parameter("weight")
        for name, each in module.named_modules()
        if isinstance(each, _WEIGHTED)
    }


@contextlib.contextmanager
def batch_statistics(module: nn.Module) -> Iterator[None]:
    """Let norms use the statistics of the batch, as in training, and keep none of them."""
    modes = [(each, each.training) for each in module.modules()]
    tracking = [
        (each, each.track_running_stats)
        for each in module.modules()
        if isinstance(each, nn.modules.batchnorm._BatchNorm)
    ]
    module.train()
    for norm, _ in tracking:
        norm.track_running_stats = False  # in training mode torch then leaves the averages alone
    try:
        yield
    finally:
        for norm, tracked in tracking:
            norm.track_running_stats = tracked
        for each, mode in modes:
            each.training = mode
