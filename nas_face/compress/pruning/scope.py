"""Who is ranked together with whom (numpy only)."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.layers import Conv
from nas_face.compress.pruning.channels import Coupling, Site
from nas_face.compress.pruning.walk import keeps_groups

Scope = Literal["local", "global", "isomorphic", "saving"]
"""`local`: every family loses the same share of its classes. `global`: all families are ranked
together by their scores, which have one mean in each. `isomorphic`: families are ranked together
with those of one structure, and every such group loses the same share. `saving`: all are ranked
together by the raw score over the MAdds (or parameters, where these are the target) that go with a
class; for the criteria by gradient, whose scores are in units of the loss."""

SCOPES: tuple[Scope, ...] = ("local", "global", "isomorphic", "saving")


def priorities(
    coupling: Coupling, scores: NDArray[np.float64], scope: Scope
) -> NDArray[np.float64]:
    """`(n_classes,)`, in which order classes go, the lowest first; protected ones have 0.

    Args:
        coupling: classes and families.
        scores: `(n_classes,)`, comparable over families.
        scope: who is ranked together.

    Source: of `isomorphic`, Fang et al., arXiv 2407.04616; of `saving`, the order in which a
        knapsack is filled, as Shen et al., arXiv 2210.06659, do with measured latencies.
    Differs: in the former, scores are divided by the mean of their family, not by the mean of the
        group that is ranked together.
    """
    if scope in ("global", "saving"):
        return scores
    numbers = range(len(coupling.families))
    groups = [(number,) for number in numbers] if scope == "local" else alike(coupling)
    found = np.zeros(coupling.n_classes)
    for group in groups:
        members = _least_first(coupling, scores, group)
        found[members] = (np.arange(len(members)) + 0.5) / len(members)
    return found


def _least_first(
    coupling: Coupling, scores: NDArray[np.float64], group: Sequence[int]
) -> list[int]:
    """Classes of some families, least important first; equal scores thin all out evenly."""
    keyed = []
    for number in group:
        ranked = sorted(coupling.families[number].classes, key=lambda member: -scores[member])
        keyed += [
            (scores[member], -place / len(ranked), number, member)
            for place, member in enumerate(ranked)
        ]
    return [member for *_, member in sorted(keyed)]


def alike(coupling: Coupling) -> tuple[tuple[int, ...], ...]:
    """Numbers of families that have one structure: their channels are written, read and passed on
    by the same kinds of layers in the same order, whatever the widths and windows are."""
    family_of = np.full(coupling.n_classes, -1)
    for number, family in enumerate(coupling.families):
        family_of[list(family.classes)] = number
    roles: list[list[tuple[str, bool, bool]]] = [[] for _ in coupling.families]
    for site in coupling.sites:
        read = set(family_of[site.in_classes].tolist())
        written = set(family_of[site.out_classes].tolist())
        for number in sorted((read | written) - {-1}):
            roles[number].append((_kind(site), number in read, number in written))
    groups: dict[tuple[tuple[str, bool, bool], ...], list[int]] = {}
    for number, each in enumerate(roles):
        groups.setdefault(tuple(each), []).append(number)
    return tuple(tuple(group) for group in groups.values())


def _kind(site: Site) -> str:
    """Kind of a layer; depthwise and other narrow groups are kinds of their own."""
    if isinstance(site.layer, Conv) and site.layer.groups > 1:
        n_channels = len(site.in_classes)
        if keeps_groups(site.layer, n_channels):
            return "conv in wide groups"
        return "depthwise" if site.layer.groups == n_channels else "conv in narrow groups"
    return site.layer.kind
