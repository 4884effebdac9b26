"""Torch modules of the combinators; `nas_face.arch.combinators` says what each does.

A `Sequence` is torch's own `nn.Sequential`.
"""

from typing import Literal

import torch
from torch import Tensor, nn


class SumModule(nn.Module):
    """Adds the results of all branches."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            total = total + branch(x)
        return total


class ProductModule(nn.Module):
    """Multiplies the results of all branches."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        product: Tensor = self.branches[0](x)
        for branch in self.branches[1:]:
            product = product * branch(x)
        return product


class ConcatModule(nn.Module):
    """Concatenates the results of all branches along channels."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], dim=1)


class SplitModule(nn.Module):
    """Cuts along channels, sends each part through its branch, concatenates."""

    def __init__(self, sizes: tuple[int, ...], branches: list[nn.Module]) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.sizes, dim=1)
        return torch.cat(
            [branch(part) for branch, part in zip(self.branches, parts, strict=True)], dim=1
        )


class GateModule(nn.Module):
    """Multiplies by what the body makes of the input."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        factors: Tensor = self.body(x)  # (N, C or 1, H or 1, W or 1)
        return x * factors


class GraphModule(nn.Module):
    """Steps that each read some of the values before them.

    The weights of a step lie under `steps.<name>`, as a `ModuleDict` has them.
    """

    def __init__(
        self,
        steps: dict[str, nn.Module],
        reads: list[tuple[tuple[int, ...], Literal["sum", "concat"]]],
    ) -> None:
        super().__init__()
        self.steps = nn.ModuleDict(steps)
        self.reads = reads

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for step, (sources, join) in zip(self.steps.values(), self.reads, strict=True):
            joined = values[sources[0]]
            if len(sources) > 1 and join == "concat":
                joined = torch.cat([values[source] for source in sources], dim=1)
            else:
                for source in sources[1:]:
                    joined = joined + values[source]
            values.append(step(joined))
        return values[-1]
