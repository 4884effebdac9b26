"""How to choose: objectives, budgets, samplers, rungs and the loop. Nothing here trains."""

from nas_face.search.budget import Budget, parse_bytes, parse_milliseconds, parse_quantity
from nas_face.search.claims import Alone, Claims, SqlClaims
from nas_face.search.designs import (
    Candidate,
    Designs,
    ParameterDesigns,
    SpaceDesigns,
    SpaceExhausted,
)
from nas_face.search.front_gain import FrontGainSampler
from nas_face.search.ledger import PHASES, Ledger, Seconds
from nas_face.search.loop import run_search
from nas_face.search.nni.sampler import NniSampler
from nas_face.search.nni.space import NniSpace, dump_nni, load_nni, parse_nni, restrict, to_nni
from nas_face.search.objectives import OBJECTIVES, Objective, objective
from nas_face.search.pareto import hypervolume, hypervolume_gains, pareto_front, pareto_ranks
from nas_face.search.rung_trial import RungTrial
from nas_face.search.rungs import Rungs
from nas_face.search.samplers import DEFAULT_SAMPLER, SAMPLERS, SamplerName, make_sampler
from nas_face.search.seeds import derive_seed
from nas_face.search.settings import Evaluate, Report, SearchSettings, TrialStopped
from nas_face.search.stock.budgeted import BudgetedSampler
from nas_face.search.workers import Worker

__all__ = [
    "DEFAULT_SAMPLER",
    "OBJECTIVES",
    "PHASES",
    "SAMPLERS",
    "Alone",
    "Budget",
    "BudgetedSampler",
    "Candidate",
    "Claims",
    "Designs",
    "Evaluate",
    "FrontGainSampler",
    "Ledger",
    "NniSampler",
    "NniSpace",
    "Objective",
    "ParameterDesigns",
    "Report",
    "RungTrial",
    "Rungs",
    "SamplerName",
    "SearchSettings",
    "Seconds",
    "SpaceDesigns",
    "SpaceExhausted",
    "SqlClaims",
    "TrialStopped",
    "Worker",
    "derive_seed",
    "dump_nni",
    "hypervolume",
    "hypervolume_gains",
    "load_nni",
    "make_sampler",
    "objective",
    "pareto_front",
    "pareto_ranks",
    "parse_bytes",
    "parse_milliseconds",
    "parse_nni",
    "parse_quantity",
    "restrict",
    "run_search",
    "to_nni",
]
