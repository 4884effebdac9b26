"""The state dict of a network out of the operators that were matched with it."""

from nas_face.arch.layers import BatchNorm
from nas_face.foreign.fitting import Weights, fitted, identity_norm
from nas_face.foreign.matching import Match
from nas_face.foreign.operators import Source
from nas_face.foreign.sites import Site


def weights_of(found: Match, source: Source, sites: tuple[Site, ...]) -> Weights:
    """The network's state dict, counters left out.

    A bias that a convolution of ours has no place for moves into the normalisation behind it:
    y = (x + b - mean) * s + shift is the same with mean - b.
    """
    weights: Weights = {}
    for site, at in zip(sites, found.assigned, strict=True):
        if at is not None:
            fit = fitted(source.operators[at], site)
            assert fit is not None
        elif isinstance(site.layer, BatchNorm):
            fit = identity_norm(site.layer, site.shapes["running_mean"][0])
        else:
            fit = {"weight": identity_norm(BatchNorm(), site.shapes["weight"][0])["weight"]}
        if site.behind is not None and "running_mean" in site.shapes:
            surplus = weights.pop(f"{sites[site.behind].path}.bias*", None)
            if surplus is not None and at is None:
                fit["bias"] = surplus
            elif surplus is not None:
                fit["running_mean"] = fit["running_mean"] - surplus
        for key, value in fit.items():
            spare = key not in site.shapes
            weights[f"{site.path}.{key}{'*' if spare else ''}"] = value
    return weights
