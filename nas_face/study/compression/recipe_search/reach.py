"""The ends of a space of recipes: those to begin with, and the nearest to walls nothing keeps."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from nas_face.search.budget import UNITS, figure
from nas_face.search.designs import Candidate
from nas_face.study.compression.recipe_search.designs import (
    BITS_OF,
    N_STEPS,
    SHARE,
    WEIGHTS,
    RecipeDesigns,
)
from nas_face.study.compression.recipe_search.walls import miss

Labels = Mapping[str, Any]

N_EVERY: Final = 1000
N_DRAWS: Final = 200
N_CHANGES: Final = 300
"""A space of up to so many recipes is looked at as a whole; of a larger one so many are drawn, and
the best of them is changed so often."""


def plain_recipes(drafts: RecipeDesigns) -> list[Labels]:
    """One recipe a precision that prunes nothing, or as little as may be: what a user would try
    first, and what all others are to be held against."""
    most = {
        **{name: each.choices[0] for name, each in drafts.distributions.items()},
        **{SHARE + stage: max(drafts.space.shares_of(stage)) for stage in drafts.prunable},
        **_few_bits(drafts),
    }
    return [{**most, "precision": each} for each in drafts.space.precision if each != "fp32"]


def out_of_reach(drafts: RecipeDesigns, float_bytes: int) -> str:
    """Which wall even the narrowest network in the fewest bits breaks, in words; or nothing.

    Args:
        drafts: the recipes.
        float_bytes: of the model's float32 file.
    """
    known = _smallest(drafts, float_bytes).known
    for wall in drafts.space.budget.analytic_walls:
        value = known[wall.quantity]
        if wall.is_upper and wall.excess(value):
            return (
                f"budget.{wall.name} of {figure(wall.limit)} cannot be reached: the smallest "
                f"network of the space has {figure(round(value))} {UNITS[wall.quantity]}; "
                "give smaller shares, a lower min_keep or round_to, or fewer bits"
            )
    return ""


def nearest_recipe(
    drafts: RecipeDesigns, float_bytes: int, tried: Sequence[Labels] = ()
) -> Labels | None:
    """Where nothing keeps the walls that are known before: what misses them least.

    Args:
        drafts: the recipes.
        float_bytes: of the model's float32 file.
        tried: labels of recipes that it shall not be.

    Returns:
        Labels, or None where no other recipe of the space does anything.
    """
    free = drafts.designs(float_bytes, within_walls=False)
    walls = drafts.space.budget.analytic_walls
    seen = {drafts.identity(each) for each in tried}

    def badness(candidate: Candidate) -> tuple[bool, float]:
        nothing = candidate.known[N_STEPS] == 0 or free.identity(candidate) in seen
        return nothing, miss(walls, candidate.known)

    smallest = _smallest(drafts, float_bytes)
    some = free.everything(N_EVERY) or itertools.islice(free.draws(0), N_DRAWS)
    here = min((smallest, *some), key=badness)
    rng = np.random.default_rng(0)
    for _ in range(N_CHANGES):
        other = free.mutate(here, rng)
        if other is not None and badness(other) < badness(here):
            here = other
    return None if badness(here)[0] else here.params


def _smallest(drafts: RecipeDesigns, float_bytes: int) -> Candidate:
    """The narrowest network in the fewest bits."""
    space = drafts.space
    labels = {
        **{name: each.choices[0] for name, each in drafts.distributions.items()},
        **{SHARE + stage: min(space.shares_of(stage)) for stage in drafts.prunable},
        "round_to": min(space.round_to),
        "precision": min(space.precision, key=lambda each: BITS_OF[each]),
        **_few_bits(drafts),
    }
    found = drafts.designs(float_bytes, within_walls=False).of(labels)
    assert found is not None  # every label is one of the choices
    return found


def _few_bits(drafts: RecipeDesigns) -> dict[str, str]:
    """Weights of every stage in the fewest bits that may be."""
    few = "few" if "few" in drafts.space.stage_precision else "float"
    return {WEIGHTS + stage: few for stage in drafts.weighted}
