"""Lines and tables of a search for a recipe."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from nas_face.study.compression.step_settings import LowBitsStep, PruneStep
from nas_face.study.tables import file_kind, hypervolume_line

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from nas_face.study.compression.recipe_search.results import RecipeFront, TriedRecipe
    from nas_face.study.compression.results import FileResult


def said_steps(steps: Sequence[Mapping[str, Any]]) -> str:
    """Steps of a recipe that was searched for, in a few words.

    Args:
        steps: as in a recipe file.
    """
    words = []
    for step in steps:
        spared = ", ".join(step.get("keep_float", ()))
        but = f", {spared} in float" if spared else ""
        match step["kind"]:
            case "prune":
                shares = ", ".join(
                    f"{stage} to {share:g}" for stage, share in step["stages"].items()
                )
                plain = PruneStep(stages=step["stages"])
                way = (
                    f"{step.get('importance', plain.importance)} {step.get('scope', plain.scope)}"
                )
                epochs = step.get("recover", {}).get("epochs")
                trained = f", {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
                words.append(f"prune {shares} by {way}{trained}")
            case "quantise":
                words.append(f"int8{but}")
            case _:
                words.append(f"weights in {step.get('bits', LowBitsStep().bits)} bits{but}")
    return "; ".join(words)


def original_line(file: "FileResult", figures: Mapping[str, float]) -> str:
    """Of what was given."""
    return f"as it was given ({file_kind(file)}): {_figures(figures)}"


def going_on_line(n_done: int, n_trials: int) -> str:
    """Of a search that has trials from earlier sittings."""
    left = n_trials - n_done
    there = "1 recipe was" if n_done == 1 else f"{n_done} recipes were"
    return f"going on: {there} tried before, " + (f"{left} to go" if left > 0 else "none to go")


def begun_line(number: int, n_trials: int, steps: Sequence[Mapping[str, Any]]) -> str:
    """Of a recipe that is now tried."""
    return f"trial {number} ({number + 1} of {n_trials}): {said_steps(steps)}"


def ended_line(trial: "FrozenTrial", seconds: Sequence[float], n_left: int) -> str:
    """Of a recipe that was tried.

    Args:
        trial: of it.
        seconds: that each recipe of this sitting took.
        n_left: recipes still to be tried.
    """
    record = trial.user_attrs
    if "failure" in record:
        said = f"failed: {record['failure']}"
    else:
        said = _figures(record["metrics"])
        if "refused" in record:
            said += f"; off the front: {record['refused']}"
    left = n_left * sum(seconds) / len(seconds)
    rest = f", about {_duration(left)} left" if n_left else ""
    return f"  {said} ({_duration(seconds[-1])}{rest})"


def recipe_front_table(found: "RecipeFront") -> Table:
    """Recipes on the front of a search, fastest first, below what was given."""
    n_kept = len(found.front.trials)
    n_over = found.n_trials - found.n_failed - n_kept
    best = found.best
    chosen = (
        "nearest to the ideal point, of those neither slower nor larger than as it was given if "
        "there are any"
        if found.within_walls
        else "it misses the walls least"
    )
    table = _table("Front of recipes")
    table.caption = (
        f"{found.n_trials} recipes: {n_kept} within the walls, {n_over} not, {found.n_failed} "
        f"failed; * is the one that is carried out: {chosen}; judged: accuracy on the pairs that "
        "decide; x: times faster and smaller than as it was given; ms: one image, one thread"
    )
    if n_kept > 1:
        table.caption += f"\n{hypervolume_line(found.front)}"
    _add_original(table, found)
    others = [best] if best is not None and best.over else []
    for each in (*found.members, *others):
        over = f" ({each.over})" if each.over else ""
        _add_row(table, found, each, over)
    return table


def recipes_table(found: "RecipeFront") -> Table:
    """Every recipe that was tried, in order."""
    table = _table("All recipes")
    table.caption = "* is the one that is carried out; (front): no other one beats it"
    _add_original(table, found)
    for each in found.tried:
        _add_row(table, found, each, f" ({each.over or ('front' if each.on_front else 'beaten')})")
    return table


def _table(title: str) -> Table:
    table = Table(title=title, caption_justify="left")
    for name in ("trial", "judged", "points", "ms", "x", "bytes", "x", "MAdds"):
        table.add_column(name, justify="right")
    table.add_column("recipe", min_width=30)
    return table


def _add_original(table: Table, found: "RecipeFront") -> None:
    of = found.original
    table.add_row(
        "",
        f"{of['judged']:.4f}",
        "",
        f"{of['latency_ms']:.2f}",
        "",
        f"{of['size_bytes']:,.0f}",
        "",
        f"{of['madds']:,.0f}",
        "as it was given",
    )


def _add_row(table: Table, found: "RecipeFront", each: "TriedRecipe", remark: str) -> None:
    of, best = found.original, found.best
    mark = " *" if best is not None and each.trial == best.trial else ""
    table.add_row(
        f"{each.trial}{mark}",
        f"{each.judged:.4f}",
        f"{100 * (each.judged - of['judged']):+.2f}",
        f"{each.latency_ms:.2f}",
        f"{of['latency_ms'] / each.latency_ms:.2f}",
        f"{each.size_bytes:,}",
        f"{of['size_bytes'] / each.size_bytes:.2f}",
        f"{each.madds:,}",
        said_steps(each.steps) + remark,
    )


def _figures(of: Mapping[str, float]) -> str:
    return (
        f"judged {of['judged']:.2%}, {of['latency_ms']:.2f} ms, {of['size_bytes']:,.0f} bytes, "
        f"{of['madds']:,.0f} MAdds"
    )


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    return f"{minutes:.0f} min" if minutes < 100 else f"{hours:.1f} h"
