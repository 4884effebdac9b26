"""Tables of what networks cost, and of where two of them differ."""

import itertools
import re
from collections.abc import Iterator, Sequence

from rich import box
from rich.table import Table

from nas_face.arch.conventions import CONVENTIONS, Convention, operations
from nas_face.arch.diff import Change, Difference, Pair
from nas_face.arch.summary import Part, Row, Summary
from nas_face.arch.zoo import PublishedNetwork

OURS = CONVENTIONS["A"]
MAX_CHANGES = 8  # lines for one pair of blocks


def cost_table(summary: Summary, convention: Convention, *, blocks: bool) -> Table:
    """Shapes, parameters and compute by stage, or by block."""
    table = Table()
    table.add_column("part")
    for name in ("input", "output", "params", _compute(convention), "share"):
        table.add_column(name, justify="right")
    whole = _operations(summary.total, convention)
    for row in summary.blocks if blocks else summary.stages:
        table.add_row(row.name, *_cost_cells(row, convention, whole))
    table.add_section()
    table.add_row("total", *_cost_cells(summary.total, convention, whole), style="bold")
    return table


def listing(parts: Sequence[Part], total: Row, convention: Convention) -> Table:
    """A network as nested lines; a line with `x4` stands for four equal parts and adds them up."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("part", no_wrap=True)
    table.add_column("what", overflow="fold")
    for name in ("input", "output", "params", _compute(convention), "share"):
        table.add_column(name, justify="right", no_wrap=True)
    whole = _operations(total, convention)
    for depth, part in _lines(parts, 0):
        times = f" x{part.repeats}" if part.repeats > 1 else ""
        table.add_row(
            f"{'  ' * depth}{part.row.name}{times}",
            part.words,
            *_cost_cells(part.row, convention, whole, part.repeats),
            style="bold" if depth == 0 else None,
        )
    table.add_section()
    table.add_row("total", "", *_cost_cells(total, convention, whole), style="bold")
    return table


def convention_table(total: Row, published: str | None) -> Table:
    """One network counted in every way, with what its authors print if they are known."""
    table = Table(
        title="Compute of one image, counted in every way",
        caption=None if published is None else f"published: {published}",
        caption_justify="left",
    )
    table.add_column("convention")
    table.add_column("operations", justify="right")
    table.add_column("counts", overflow="fold")
    table.add_column("used by", overflow="fold")
    for each in CONVENTIONS.values():
        count = f"{_operations(total, each):,}"
        table.add_row(each.name, count, each.counts, each.used_by)
    return table


def zoo_table(networks: Sequence[PublishedNetwork], *, sources: bool) -> Table:
    """The published networks by family, with our counts and the published ones.

    Args:
        networks: in the order of the zoo.
        sources: whether to say where each comes from, and what its published figures count.
    """
    table = Table(title="Published networks", caption_justify="left")
    table.caption = (
        "published: as its authors count, which --family F and --json explain and "
        "`nas-face cost NAME --convention B` compares"
    )
    if sources:
        table.caption = "\n".join(_sources(networks))
    for name in ("network", "input", "embedding"):
        table.add_column(name, no_wrap=True)
    for name in ("params", "folded params", "MAdds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("published", overflow="fold")
    families: dict[str, list[PublishedNetwork]] = {}
    for entry in networks:
        families.setdefault(entry.family, []).append(entry)
    for family, entries in families.items():
        table.add_row(family, style="bold")
        for entry in entries:
            cost = entry.spec.cost()
            table.add_row(
                f"  {entry.name}",
                str(entry.spec.input),
                str(entry.spec.embedding_size),
                f"{cost.params:,}",
                f"{cost.folded_params:,}",
                f"{cost.madds:,}",
                _published(entry, explained=sources),
            )
        table.add_section()
    return table


def difference_table(difference: Difference, a: str, b: str) -> Table:
    """The blocks that differ; neighbours that differ in the same way share a line.

    Args:
        difference: of the two networks.
        a: name of the first.
        b: name of the second.
    """
    table = Table()
    table.add_column(a)
    table.add_column(b)
    table.add_column("difference", overflow="fold")
    if difference.input_a != difference.input_b:
        table.add_row("input", "input", f"{difference.input_a} -> {difference.input_b}")
    for _, alike in itertools.groupby(difference.pairs, key=_way):
        pairs = list(alike)
        if pairs[0].same:
            continue
        said = _said(pairs[0], a, b)
        table.add_row(_run([pair.a for pair in pairs]), _run([pair.b for pair in pairs]), said)
    return table


def totals_table(difference: Difference, a: str, b: str) -> Table:
    """Costs of two networks and their ratio."""
    table = Table()
    table.add_column("")
    for name in (a, b, "change"):
        table.add_column(name, justify="right")
    for title, name in (
        ("params", "params"),
        ("folded params", "folded_params"),
        ("MAdds", "madds"),
        ("peak activations", "peak_activations"),
    ):
        left, right = getattr(difference.cost_a, name), getattr(difference.cost_b, name)
        share = f"{(right - left) / left:+.1%}" if left else ""
        table.add_row(title, f"{left:,}", f"{right:,}", f"{right - left:+,} ({share})")
    return table


def _published(entry: PublishedNetwork, *, explained: bool) -> str:
    figures = [entry.published_params, entry.published_compute]
    if not explained:
        figures = [re.sub(r" \(.*?\)", "", figure) for figure in figures]
    return "; ".join(figure for figure in figures if figure[:1].isdigit())


def _sources(networks: Sequence[PublishedNetwork]) -> list[str]:
    """A line for each source, after the names of the networks that come from it."""
    names: dict[str, list[str]] = {}
    for entry in networks:
        names.setdefault(entry.source, []).append(entry.name)
    if len(names) == 1:
        return list(names)
    return [f"{', '.join(those)}: {source}" for source, those in names.items()]


def _compute(convention: Convention) -> str:
    return "MAdds" if convention is OURS else f"operations ({convention.name})"


def _operations(row: Row, convention: Convention) -> int:
    return operations(row.layer, row.input, convention)


def _cost_cells(row: Row, convention: Convention, whole: int, repeats: int = 1) -> tuple[str, ...]:
    counted = _operations(row, convention) * repeats
    return (
        str(row.input),
        str(row.output),
        f"{row.cost.params * repeats:,}",
        f"{counted:,}",
        f"{counted / max(1, whole):.1%}",
    )


def _lines(parts: Sequence[Part], depth: int) -> Iterator[tuple[int, Part]]:
    for part in parts:
        yield depth, part
        yield from _lines(part.parts, depth + 1)


def _way(pair: Pair) -> object:
    """Equal for pairs that may share a line: of one stage each, differing in the same way."""
    stages = tuple(path and path.rpartition(".")[0] for path in (pair.a, pair.b))
    return pair.same or (stages, pair.kind_a, pair.kind_b, pair.changes)


def _run(paths: list[str | None]) -> str:
    """Neighbouring paths as one, such as `stages.0.1-4`."""
    if paths[0] is None or paths[-1] is None:
        return ""
    if len(paths) == 1:
        return paths[0]
    return f"{paths[0]}-{paths[-1].rpartition('.')[2]}"


def _said(pair: Pair, a: str, b: str) -> str:
    if pair.b is None:
        return f"{pair.kind_a} only in {a}"
    if pair.a is None:
        return f"{pair.kind_b} only in {b}"
    lines = [_change(change) for change in pair.changes[:MAX_CHANGES]]
    if len(pair.changes) > MAX_CHANGES:
        lines.append(f"and {len(pair.changes) - MAX_CHANGES} more settings")
    return "\n".join(lines)


def _change(change: Change) -> str:
    return f"{change.setting} {_value(change.a)} -> {_value(change.b)}"


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))})"
    return str(value)
