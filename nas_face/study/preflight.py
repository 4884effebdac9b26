"""Before a search: what the space costs, and whether anything in it fits the budget."""

from typing import Literal

from nas_face.arch.spec import ArchSpec
from nas_face.arch.summary import summarise
from nas_face.errors import ConfigError
from nas_face.space import SearchSpace
from nas_face.space.survey import Survey, smallest, survey
from nas_face.study.config import StudyConfig


def check_budget(space: SearchSpace, config: StudyConfig) -> Survey:
    """Survey a space against the budget of a study.

    Args:
        space: at the study's input size.
        config: the study.

    Raises:
        ConfigError: nothing fits; the message names the nearest miss and what to relax.
    """
    found = survey(space, config.budget.fits, seed=config.seed)
    if found.share_fitting == 0.0:
        _require_reachable(space, config, found)
    return found


def _require_reachable(space: SearchSpace, config: StudyConfig, found: Survey) -> None:
    """Say by how much the smallest design misses the budget, and which part is largest."""
    budget = config.budget
    spec = smallest(space, found.smallest, budget.excess).spec
    missed = budget.checks(spec.cost())
    if not missed:
        return
    name, value, limit = max(missed, key=lambda each: each[1] / each[2])
    counted: Literal["madds", "params"] = "params" if name in ("params", "size_bytes") else "madds"
    part, share = _largest_part(spec, counted)
    raise ConfigError(
        f"budget.max_{name}: nothing in {config.space} fits {limit:,}; the smallest "
        f"design has {value:,} {name} ({value / limit:.2f} times the limit), {share:.0%} of "
        f"its {counted} in {part}: raise the limit, lower input_size (now "
        f"{spec.input_shape[1]}), or offer smaller options in {part}"
    )


def _largest_part(spec: ArchSpec, counted: Literal["madds", "params"]) -> tuple[str, float]:
    rows = summarise(spec.lower(), spec.input).stages
    counts = {row.name: row.cost.madds if counted == "madds" else row.cost.params for row in rows}
    largest = max(counts, key=lambda name: counts[name])
    return largest, counts[largest] / max(1, sum(counts.values()))
