"""How to choose: objectives, budgets, samplers, rungs and the loop. Nothing here trains."""

from nas_face.search.budget import Budget, parse_quantity
from nas_face.search.designs import SpaceExhausted
from nas_face.search.loop import run_search
from nas_face.search.objectives import OBJECTIVES, Objective, objective
from nas_face.search.rungs import Rungs, pareto_ranks
from nas_face.search.sampler import BudgetedSampler
from nas_face.search.samplers import SamplerName
from nas_face.search.seeds import derive_seed
from nas_face.search.settings import Evaluate, Report, SearchSettings, TrialStopped

__all__ = [
    "OBJECTIVES",
    "Budget",
    "BudgetedSampler",
    "Evaluate",
    "Objective",
    "Report",
    "Rungs",
    "SamplerName",
    "SearchSettings",
    "SpaceExhausted",
    "TrialStopped",
    "derive_seed",
    "objective",
    "pareto_ranks",
    "parse_quantity",
    "run_search",
]
