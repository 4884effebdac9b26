"""ZiCo: gradients that are large and agree between batches."""

import math

import torch

from nas_face.proxies.subject import Subject, batch_statistics, weighted_layers

N_BATCHES = 2


def zico(subject: Subject) -> tuple[float]:
    """Sum over layers of log(sum over weights of mean |gradient| / deviation of the gradient).

    Mean and standard deviation are over two batches, at the initial weights: images 0, 2, 4, ...
    and images 1, 3, 5, ...

    Source: Li et al., ZiCo, arXiv 2301.11300, the definition of ZiCo, with two batches as there.
    Differs: the loss is the margin loss, whose class centres are no layer of the network and are
    left out; fewer images. As in the authors' code, a weight whose gradient is the same in both
    batches is left out of its layer, and a layer without any other weight out of the sum.

    Returns:
        NaN where no layer is left, or a gradient is not finite.
    """
    module, classifier = subject.model.module, subject.classifier
    weights = list(weighted_layers(module).values())
    batches = []
    with batch_statistics(module):
        for start in range(N_BATCHES):
            labels = subject.labels[start::N_BATCHES]
            loss = classifier(module(subject.x[start::N_BATCHES]), labels)
            batches.append(torch.autograd.grad(loss, weights, materialize_grads=True))
    logarithms = []
    for layer in zip(*batches, strict=True):
        gradients = torch.stack(layer).flatten(1).double()  # (batches, weights)
        deviation = gradients.std(dim=0, correction=0)
        kept = deviation > 0
        ratios = gradients.abs().mean(dim=0)[kept] / deviation[kept]
        if kept.any():
            logarithms.append(math.log(ratios.sum()))
    total = math.fsum(logarithms) if all(map(math.isfinite, logarithms)) else math.nan
    return (total if logarithms else math.nan,)
