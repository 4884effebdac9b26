"""Which weights to round up and which down, so that what a layer computes changes least."""

import math
from dataclasses import dataclass
from typing import Final, final

import torch
from torch import Tensor

# Of the rectified sigmoid: it reaches beyond 0 and 1, so that a choice can be made for good.
_LOW: Final = -0.1
_HIGH: Final = 1.1
# The regulariser's exponent falls from blunt to sharp, after a start without it.
_FIRST_EXPONENT: Final = 20.0
_LAST_EXPONENT: Final = 2.0
_FREE_SHARE: Final = 0.2
_REGULARISATION: Final = 1.0  # at the scale of the error of nearest rounding; see `rounded_best`
_TINY: Final = 1e-20
_LEARNING_RATE: Final = 0.05
_WORTH: Final = 1e-4  # of a weight's own share of the error: less is the noise of float32


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """What the squared error of a layer's outputs needs of its inputs and wanted outputs.

    The error of weights w + d, row by row and up to a constant, is d G d + 2 d r.

    Attributes:
        inputs: G, `(groups, in, in)`, mean products of inputs.
        residual: r, `(groups, out, in)`, mean products of inputs and of what the layer gives too
            much with its own weights, because its inputs are not those of the float network.
    """

    inputs: Tensor
    residual: Tensor

    @staticmethod
    def of(x: Tensor, wanted: Tensor, weight: Tensor) -> "Moments":
        """Moments of a sample.

        Args:
            x: `(groups, n, in)`.
            wanted: `(groups, n, out)`, without the bias.
            weight: `(groups, out, in)`.
        """
        inputs = torch.bmm(x.transpose(1, 2), x) / x.shape[1]
        products = torch.bmm(wanted.transpose(1, 2), x) / x.shape[1]
        return Moments(inputs=inputs, residual=torch.bmm(weight, inputs) - products)

    def error(self, change: Tensor) -> Tensor:
        """`(groups, out, 1)`, of weights changed by `(groups, out, in)`; negative where the change
        makes up for more than it spoils."""
        product = torch.bmm(change, self.inputs) + 2 * self.residual
        return (change * product).sum(dim=2, keepdim=True)


def rounded_best(
    weight: Tensor, scale: Tensor, largest: int, moments: Moments, *, n_iterations: int
) -> Tensor:
    """Weights on their grid, each rounded up or down as suits the outputs.

    The largest weight of a row stays on the last level, so that the grid can be told from the
    weights. No row is worse on the moments than with its weights rounded to the nearest.

    Args:
        weight: `(groups, out, in)`.
        scale: `(groups, out, 1)`, the step of each row.
        largest: level.
        moments: of the layer.
        n_iterations: of Adam over all weights at once.

    Source: Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, arXiv
        2004.10568, equations 21 to 25: rectified sigmoid, annealed regulariser.
    Differs: gradients are exact and of the whole sample at once, from its second moments; so a few
        hundred iterations do. What they leave is improved by single changes. Errors are in units
        of what rounding is expected to cost the row, scale^2 / 12 times the mean squared length of
        the input, so that one regularisation fits all layers. What the activation behind a layer
        does to the error is left out.
    """
    position = (weight / scale).clamp(-largest, largest)
    down = position.floor().clamp(max=largest - 1)
    share = position - down
    nearest = (share >= 0.5).to(weight)
    on_last_level = position.abs() > largest - 1e-3
    free = on_last_level.any(dim=2, keepdim=True) & ~on_last_level  # a row of zeros stays, too
    expected = scale.square() / 12 * moments.inputs.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1)
    expected = expected.clamp(min=max(1e-9 * float(expected.max()), _TINY))  # of dead channels
    hidden = torch.logit((share - _LOW) / (_HIGH - _LOW))
    mean, square = torch.zeros_like(hidden), torch.zeros_like(hidden)
    for iteration in range(n_iterations):
        sigmoid = hidden.sigmoid()
        stretched = sigmoid * (_HIGH - _LOW) + _LOW
        up = stretched.clamp(0, 1)
        change = (down + up) * scale - weight
        slope = 2 * scale * (torch.bmm(change, moments.inputs) + moments.residual) / expected
        slope += _regularisation_slope(up, iteration / n_iterations) / weight.shape[2]
        moving = free & (stretched > 0) & (stretched < 1)
        slope *= (_HIGH - _LOW) * sigmoid * (1 - sigmoid) * moving
        mean.lerp_(slope, 0.1)
        square.lerp_(slope.square(), 0.001)
        unbiased = mean / (1 - 0.9 ** (iteration + 1))
        length = (square / (1 - 0.999 ** (iteration + 1))).sqrt() + 1e-12
        hidden -= _LEARNING_RATE * unbiased / length
    learnt = torch.where(free, (hidden >= 0).to(weight), nearest)
    by_nearest, by_learnt = ((down + up) * scale - weight for up in (nearest, learnt))
    better = moments.error(by_learnt) < moments.error(by_nearest)
    up = _flipped(
        torch.where(better, learnt, nearest),
        torch.where(better, by_learnt, by_nearest),
        scale,
        free,
        moments,
    )
    return (down + up) * scale


def _flipped(up: Tensor, change: Tensor, scale: Tensor, free: Tensor, moments: Moments) -> Tensor:
    """Choices turned over one by one in every row, the best first, until none is worth it.

    Args:
        up: 0 or 1, `(groups, out, in)`.
        change: of the weights by that.
        scale: `(groups, out, 1)`.
        free: which may be turned.
        moments: of the layer.
    """
    up = up.clone()
    slope = torch.bmm(change, moments.inputs) + moments.residual
    curvature = moments.inputs.diagonal(dim1=1, dim2=2).unsqueeze(1)
    group = torch.arange(len(up), device=up.device).view(-1, 1)
    for _ in range(up.shape[2]):
        step = (1 - 2 * up) * scale
        gain = (step * (2 * slope + step * curvature)).masked_fill_(~free, 0)
        least, place = gain.min(dim=2, keepdim=True)
        worth = least < -_WORTH * scale.square() * curvature.mean(dim=2, keepdim=True)
        if not worth.any():
            break
        taken = torch.where(worth, step.gather(2, place), 0)
        slope += taken * moments.inputs[group, place.squeeze(2)]
        up.scatter_(2, place, torch.where(worth, 1 - up.gather(2, place), up.gather(2, place)))
    return up


def _regularisation_slope(up: Tensor, done: float) -> Tensor:
    """Derivative of 1 - |2 h - 1|^exponent, which pulls h to 0 or 1 the sharper, the more is
    done."""
    if done < _FREE_SHARE:
        return torch.zeros_like(up)
    phase = (done - _FREE_SHARE) / (1 - _FREE_SHARE)
    exponent = _LAST_EXPONENT + (_FIRST_EXPONENT - _LAST_EXPONENT) * (
        0.5 * (1 + math.cos(math.pi * phase))
    )
    away = 2 * up - 1
    return -2 * _REGULARISATION * exponent * away.abs().pow(exponent - 1) * away.sign()
