"""What a network costs with so many classes of each family, without building its tree each time.

Which classes stay makes no difference to costs, only how many. Combinators add nothing of their
own, so multiply-accumulates and parameters are sums over primitive layers, each of which depends
on how many channels it reads and writes.
"""

from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.combinators import Combinator
from nas_face.compress.pruning.channels import Coupling
from nas_face.compress.pruning.selection import Counts
from nas_face.compress.pruning.surgery import narrowed_to
from nas_face.compress.pruning.walk import Ids

Counted = Literal["madds", "params"]


@final
class WidthCost:
    """Costs by numbers of classes; what was asked before is remembered.

    Args:
        coupling: of the network.
    """

    def __init__(self, coupling: Coupling) -> None:
        self.sites = [
            site
            for site in coupling.sites
            if not isinstance(site.layer, Combinator)
            and (cost := site.layer.cost(site.input)).madds + cost.params
        ]
        family_of = np.full(coupling.n_classes, len(coupling.families))  # the last one: protected
        for number, family in enumerate(coupling.families):
            family_of[list(family.classes)] = number
        sizes = [len(family.classes) for family in coupling.families]
        self.sizes: Counts = tuple(sizes)
        self._read = self._channels([site.in_classes for site in self.sites], family_of, sizes)
        self._written = self._channels([site.out_classes for site in self.sites], family_of, sizes)
        self._of_site: list[dict[tuple[int, int], tuple[int, int]]] = [{} for _ in self.sites]
        self._known: dict[Counts, tuple[int, int]] = {}

    @staticmethod
    def _channels(tensors: list[Ids], family_of: Ids, sizes: list[int]) -> NDArray[np.int64]:
        """`(sites, families + 1)`, channels for each class of a family, and those that stay."""
        found = np.zeros((len(tensors), len(sizes) + 1), np.int64)
        for row, tensor in zip(found, tensors, strict=True):
            row += np.bincount(family_of[tensor], minlength=len(sizes) + 1)
        found[:, :-1] //= np.array(sizes, np.int64)  # every class of a family has as many
        return found

    def of(self, quantity: Counted, counts: Counts) -> int:
        """Multiply-accumulates or parameters of the network with so many classes."""
        if counts not in self._known:
            self._known[counts] = self._sum(counts)
        return self._known[counts][0 if quantity == "madds" else 1]

    def savings(self, quantity: Counted) -> tuple[int, ...]:
        """What goes with one class of each family, all others being there; at least 1.

        It is 1 for a family of one class, which always stays.
        """
        return tuple(
            max(1, self.of(quantity, self.sizes) - self.of(quantity, self._without(at)))
            if size > 1
            else 1
            for at, size in enumerate(self.sizes)
        )

    def _without(self, at: int) -> Counts:
        """All classes but one of a family."""
        return (*self.sizes[:at], self.sizes[at] - 1, *self.sizes[at + 1 :])

    def _sum(self, counts: Counts) -> tuple[int, int]:
        widths = np.array([*counts, 1], np.int64)
        madds = params = 0
        pairs = zip((self._read @ widths).tolist(), (self._written @ widths).tolist(), strict=True)
        for number, pair in enumerate(pairs):
            known = self._of_site[number]
            if pair not in known:
                known[pair] = self._measured(number, *pair)
            madds += known[pair][0]
            params += known[pair][1]
        return madds, params

    def _measured(self, number: int, n_read: int, n_written: int) -> tuple[int, int]:
        site = self.sites[number]
        layer = narrowed_to(site, n_read, n_written)
        cost = layer.cost(site.input._replace(channels=n_read))
        return cost.madds, cost.params
