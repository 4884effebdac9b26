"""Partial FC: a step works on some of the class centres only, at the price of just these."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def draw_classes(labels: Tensor, n_classes: int, rate: float) -> Tensor:
    """All classes that occur, filled up at random with others.

    Takes one number from torch's global generator on the CPU, whatever it draws, so that
    processes that are seeded alike stay alike.

    Source: An et al., Partial FC, arXiv 2203.15565, section 3.2; if more classes occur than the
    rate allows, all of them are used, as in its code.
    Differs: the share is one of all classes and not of each process' own, so that what is drawn
    does not depend on the number of processes. Their own shares then vary by a little.

    Args:
        labels: of a step, `(N,)` int64.
        n_classes: how many there are.
        rate: share of them to use, above 0 to 1.

    Returns:
        `(n_drawn,)` int64, ascending.
    """
    seed = int(torch.randint(2**62, ()))
    present = labels.unique()
    order = torch.rand(
        n_classes,
        generator=torch.Generator(labels.device).manual_seed(seed),
        device=labels.device,
    )
    order[present] = 2.0  # before all that are drawn
    n_drawn = max(len(present), round(rate * n_classes))
    return order.topk(n_drawn, sorted=False).indices.sort().values


@contextmanager
def only_rows_(
    parameter: nn.Parameter, rows: Tensor, optimizer: Optimizer, *, keep: bool = True
) -> Iterator[None]:
    """Inside the block a parameter, and what its optimiser keeps for it, are some of their rows.

    A step of the optimiser then costs what these rows cost and leaves all others as they are,
    weight decay and momentum included. Counters that are not kept by row, such as AdamW's number
    of steps, go on for all. The gradient is gone after the block.

    Args:
        parameter: two-dimensional.
        rows: `(n,)` int64, different.
        optimizer: SGD, AdamW, or another whose state of a parameter is tensors of its shape and
            numbers.
        keep: whether the rows keep what the block makes of them.
    """
    whole = parameter.data
    state = optimizer.state[parameter] if parameter in optimizer.state else {}
    kept = {key: each for key, each in state.items() if _is_by_row(each, whole)}
    parameter.grad = None
    parameter.data = whole[rows]
    state.update({key: each[rows] for key, each in kept.items()})
    try:
        yield
    finally:
        excerpt = parameter.data
        if keep:
            whole[rows] = excerpt
        parameter.data = whole
        parameter.grad = None
        state = optimizer.state[parameter] if parameter in optimizer.state else {}
        for key, each in state.items():
            if _is_by_row(each, excerpt):
                full = kept[key] if key in kept else torch.zeros_like(whole, dtype=each.dtype)
                if keep:
                    full[rows] = each
                state[key] = full


def _is_by_row(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape
