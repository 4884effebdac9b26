"""A running mean of a network's weights, which often verifies better than the weights do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn


@final
class WeightAverage:
    """Exponential moving average of the weights and running statistics of a module.

    After update n (from 1) the mean keeps min(`decay`, (1 + n) / (10 + n)) of itself and takes the
    rest from the module, so that it soon forgets the random weights that it starts from. Counts
    (integer buffers) are copied.

    Source: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; the
    rising start as in TensorFlow's ExponentialMovingAverage(num_updates).
    Differs: statistics of batch normalisation are averaged like the weights, not measured again.

    Args:
        module: on its device and with its final layers already; the mean starts as a copy.
        decay: between 0 and 1; 0.999 forgets half in 693 steps.

    >>> module = nn.Linear(1, 1)
    >>> average = WeightAverage(module, decay=0.999)
    >>> average.update()
    >>> with average.applied():
    ...     verified = module(torch.ones(1, 1))
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, got {decay}")
        self.module = module
        self.decay = decay
        self.n_updates = 0
        self._mean = {name: tensor.clone() for name, tensor in self._tensors().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the module's weights; call it once after each optimiser step that counted."""
        self.n_updates += 1
        keep = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        means, weights = [], []
        for name, tensor in self._tensors().items():
            if tensor.is_floating_point():
                means.append(self._mean[name])
                weights.append(tensor)
            else:
                self._mean[name].copy_(tensor)
        torch._foreach_lerp_(means, weights, 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module holds the mean in this block, and its own weights again afterwards.

        What the block changes in the module goes into the mean.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def apply_(self) -> None:
        """Put the mean into the module for good."""
        for name, tensor in self._tensors().items():
            tensor.copy_(self._mean[name])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and a count, to go on from."""
        return {"n_updates": self.n_updates, "mean": dict(self._mean)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave for a module with the same weights.

        Raises:
            KeyError: a tensor is missing.
        """
        for name, tensor in self._mean.items():
            tensor.copy_(state["mean"][name])
        self.n_updates = int(state["n_updates"])

    @torch.no_grad()
    def _exchange(self) -> None:
        for name, tensor in self._tensors().items():
            own = tensor.clone()
            tensor.copy_(self._mean[name])
            self._mean[name].copy_(own)

    def _tensors(self) -> dict[str, Tensor]:
        """What a state dict holds, looked up anew: layers may have been replaced meanwhile."""
        return self.module.state_dict()
