"""Networks and faces for the proxies."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.parts import AbstractBlock
from nas_face.arch.cost import Shape
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.spec import ArchSpec
from nas_face.losses.margins.settings import ArcFace
from nas_face.proxies import Subject

LOSS = ArcFace(margin=0.3, scale=16.0)


@functools.cache
def faces(n: int, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Made-up images of people, smooth and alike within a person; two of each, side by side."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) // 2
    people = rng.integers(0, 256, (labels[-1] + 1, 6, 6, 3))
    coarse = people[labels] + rng.normal(0, 30, (n, 6, 6, 3))
    rows, columns = (np.arange(side) * 6 // side for side in (height, width))
    images = np.clip(coarse[:, rows][:, :, columns], 0, 255).astype(np.uint8)
    return images, labels


def subject(spec: ArchSpec, n: int = 6, seed: int = 0) -> Subject:
    images, labels = faces(n, *spec.input_shape[1:])
    return Subject.of(spec, images, labels, loss=LOSS, seed=seed)


def net(*blocks: AbstractBlock, side: int = 16, **head: int) -> ArchSpec:
    """A small network: a stem, these blocks, a pooled head."""
    return ArchSpec(
        input_shape=(3, side, side),
        stem=(ConvUnit(out_channels=8, stride=2),),
        stages=(tuple(blocks),) if blocks else (),
        head=PooledLinearHead(**{"embedding_size": 8, "tail_channels": 12, **head}),
    )


def net_of(block: AbstractBlock, x: Shape) -> ArchSpec:
    """A small network with a block that takes a map of that shape."""
    return ArchSpec(
        input_shape=(3, 2 * x.height, 2 * x.width),
        stem=(ConvUnit(out_channels=x.channels, stride=2),),
        stages=((block,),),
        head=PooledLinearHead(embedding_size=8, tail_channels=12),
    )


def at_size(spec: ArchSpec, side: int) -> ArchSpec:
    return replace(spec, input_shape=(spec.input_shape[0], side, side))


def naive_tau_b(x: Sequence[float], y: Sequence[float]) -> float:
    """By going through all pairs."""
    score = x_apart = y_apart = 0
    for (a, c), (b, d) in itertools.combinations(
        zip(map(float, x), map(float, y), strict=True), 2
    ):
        score += (a > b) * (c > d) + (a < b) * (c < d) - (a > b) * (c < d) - (a < b) * (c > d)
        x_apart += a != b
        y_apart += c != d
    return score / (x_apart * y_apart) ** 0.5
