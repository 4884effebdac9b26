"""What several quantisation tests share: a small network that was given real faces to settle on,
and distances of embeddings."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.arch.combinators import Gate, Sequence
from nas_face.arch.heads import GlobalDepthwiseHead
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    Conv,
    Flatten,
    GlobalAveragePool,
    Linear,
    PReLU,
)
from nas_face.arch.spec import ArchSpec
from nas_face.compress.quantisation.fold import fold_norms
from nas_face.data import load_orl
from nas_face.nn.build import build
from nas_face.nn.model import Description, FaceModel

SIDE = 32

SPEC = ArchSpec(
    input_shape=(3, SIDE, SIDE),
    stem=(ConvUnit(out_channels=16, stride=2),),
    stages=(
        (
            InvertedResidual(out_channels=24, hidden_channels=32, stride=2),
            InvertedResidual(out_channels=24, hidden_channels=48),
        ),
        (InvertedResidual(out_channels=32, hidden_channels=64, stride=2),),
    ),
    head=GlobalDepthwiseHead(embedding_size=32, tail_channels=64),
)
"""A short network of the MobileFaceNet kind."""

GATED = Sequence(
    layers=(
        Conv(out_channels=8, kernel=(3, 3), stride=2, padding=(1, 1)),
        BatchNorm(),
        PReLU(),
        Gate(
            body=Sequence(
                layers=(
                    GlobalAveragePool(),
                    Conv(out_channels=4, bias=True),
                    Activation(function="relu"),
                    Conv(out_channels=8, bias=True),
                    Activation(function="sigmoid"),
                )
            )
        ),
        Conv(out_channels=8, kernel=(3, 3), groups=2),
        GlobalAveragePool(),
        Flatten(),
        Linear(out_features=6),
        BatchNorm(),
    )
)
"""A bare tree with squeeze-and-excitation."""


def orl_crops(n: int, *, side: int = SIDE, first: int = 0) -> NDArray[np.uint8]:
    """Some of the bundled faces, spread over the people."""
    return load_orl(side, side).batch(np.arange(first, 400, 400 // n)[:n])


def settled_(model: FaceModel, crops: NDArray[np.uint8]) -> FaceModel:
    """The model with the statistics of the crops, scales and shifts drawn, in evaluation."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for each in model.module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.weight.uniform_(0.6, 1.4, generator=generator)
                each.bias.uniform_(-0.3, 0.3, generator=generator)
                each.momentum = None  # the plain mean over batches
        model.module.train()
        model.module(model.description.preprocessing.apply(crops))
    model.module.eval()
    return model


def small_model() -> FaceModel:
    """`SPEC`, settled and folded."""
    return fold_norms(settled_(FaceModel.fresh(SPEC, seed=2), orl_crops(20)))


def gated_model() -> FaceModel:
    """`GATED` for images of 12x12, settled and folded."""
    description = Description(network=GATED, input_shape=(3, 12, 12), arch_id="0" * 12)
    torch.manual_seed(0)
    model = FaceModel(description=description, module=build(GATED, description.input))
    return fold_norms(settled_(model, orl_crops(20, side=12)))


def mean_loss(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean of 1 - cosine."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(1 - np.mean((a * b).sum(axis=1) / norms))
