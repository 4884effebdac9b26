"""The optimiser of a training, with weight decay where it belongs."""

import torch
from torch import nn

from nas_face.train.settings import TrainSettings


def build_optimiser(
    settings: TrainSettings, module: nn.Module, objective: nn.Module
) -> torch.optim.Optimizer:
    """SGD with Nesterov's momentum, or AdamW, over a network and what belongs to its loss.

    Parameters with two or more dimensions decay: filters, matrices and class centres. Norms,
    slopes and biases have one and do not: a norm's factor that decays to zero takes its channel
    with it. The decay of AdamW is decoupled (Loshchilov and Hutter, arXiv 1711.05101): each step
    takes `learning_rate` x `weight_decay` off, as SGD's does, but untouched by the running mean of
    squared gradients, so 0.05 is as usual there as 5e-4 is for SGD.

    Args:
        settings: `optimizer`, `learning_rate`, `momentum` (of SGD; the two of AdamW are 0.9 and
            0.999) and `weight_decay`.
        module: the network.
        objective: whose parameters train with it, such as class centres.

    Returns:
        An optimiser of two groups, decayed and not, each in the order of the parameters.
    """
    parameters = [*module.parameters(), *objective.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate)
    return torch.optim.SGD(
        groups, lr=settings.learning_rate, momentum=settings.momentum, nesterov=True
    )
