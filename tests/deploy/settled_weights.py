"""Weights that would show a mistake of the export."""

import numpy as np
import torch
from numpy.typing import NDArray

from nas_face.nn import FaceModel


def settle_(model: FaceModel, images: NDArray[np.uint8]) -> FaceModel:
    """Give every weight that export treats specially a value that would show a mistake.

    Statistics of batch normalisation are those of the images, so that values stay of ordinary size
    through any depth; scales, shifts and slopes are random, slopes above one and below zero too,
    and so are all weights outside convolutions and linear layers.
    """
    generator = torch.Generator().manual_seed(5)

    def draw(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    with torch.no_grad():
        for each in model.module.modules():
            if isinstance(each, torch.nn.modules.batchnorm._BatchNorm):
                if isinstance(each.weight, torch.nn.Parameter):  # a fixed scale is none
                    each.weight.copy_(draw(each.weight, 0.6, 1.4))
                each.bias.copy_(draw(each.bias, -0.3, 0.3))
                each.momentum = None  # the plain mean over batches
            elif isinstance(each, torch.nn.Conv2d | torch.nn.Linear):
                if each.bias is not None:
                    each.bias.copy_(draw(each.bias, -0.3, 0.3))
            else:
                for parameter in each.parameters(recurse=False):
                    parameter.copy_(draw(parameter, -0.4, 1.4))
        model.module.train()
        model.module(model.description.preprocessing.apply(images))
    model.module.eval()
    return model
