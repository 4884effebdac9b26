"""Commands about architectures: `cost`, `diff` and `zoo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, console, print_json, results
from nas_face.errors import ConfigError, near_names

if TYPE_CHECKING:
    from nas_face.arch.conventions import Convention
    from nas_face.arch.cost import Cost
    from nas_face.arch.diff import Difference
    from nas_face.arch.summary import Part, Row
    from nas_face.arch.zoo import PublishedNetwork


def cost(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Zoo name, spec.json, model or run folder.")
    ],
    trial: Annotated[int | None, typer.Option(help="Trial, where NETWORK is a run.")] = None,
    blocks: Annotated[bool, typer.Option("--blocks", help="By block instead of stage.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="As a nested listing.")] = False,
    depth: Annotated[
        int | None,
        typer.Option(min=1, help="Levels of the listing: 1 stages, 2 blocks, more for layers."),
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(help="Count as A (ours), B, C, D or thop do, and compare them all."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw it too: PNG, SVG or PDF file to write.")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(metavar="N|HxW", help="Image, where NETWORK is a zoo name.")
    ] = None,
    embedding_size: Annotated[
        int | None, typer.Option(min=1, help="Where NETWORK is a zoo name.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show shapes, parameters and multiply-adds, by stage and in total."""
    from nas_face.arch.conventions import CONVENTIONS, operations
    from nas_face.arch.conventions import convention as convention_of
    from nas_face.arch.summary import outline, summarise
    from nas_face.study.networks import design_of, image_size

    counted = CONVENTIONS["A"] if convention is None else convention_of(convention)
    size = None if input_size is None else image_size(input_size)
    design = design_of(network, trial, input_size=size, embedding_size=embedding_size)
    summary = summarise(design.network, design.input)
    parts = None
    if tree or depth is not None:
        parts = outline(design.network, design.input, spec=design.spec, depth=depth or 2)
    if plot is not None:
        from nas_face.study.cost_plot import plot_cost

        title = f"{_titled(network, trial)}, input {design.input}"
        plot_cost(summary, counted, plot, title=title)
        console().print(f"written: {plot}")
    if as_json:
        rows = summary.blocks if blocks else summary.stages
        shown = None if convention is None else counted
        data: dict[str, Any] = {row.name: _row_data(row, shown) for row in rows}
        if parts is not None:
            data = {"tree": [_part_data(each, shown) for each in parts]}
        data["total"] = _row_data(summary.total, shown)
        if convention is not None:
            data["total"]["conventions"] = {
                each.name: operations(design.network, design.input, each)
                for each in CONVENTIONS.values()
            }
        print_json(data)
        return
    from nas_face.study.cost_tables import convention_table, cost_table, listing

    if parts is not None:
        results().print(listing(parts, summary.total, counted))
    else:
        results().print(cost_table(summary, counted, blocks=blocks))
    total = summary.total.cost
    results().print(
        f"{total.madds:,} MAdds ({total.flops:,} FLOPs), {total.params:,} parameters "
        f"({total.folded_params:,} with batch normalisation folded), "
        f"peak {total.peak_activations:,} activations"
    )
    if convention is not None:
        published = None if design.entry is None else design.entry.published_compute
        results().print(convention_table(summary.total, published))


def diff(
    first: Annotated[
        str, typer.Argument(metavar="A", help="Zoo name, spec.json, model or run folder.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    trial_a: Annotated[int | None, typer.Option(help="Trial, where A is a run.")] = None,
    trial_b: Annotated[int | None, typer.Option(help="Trial, where B is a run.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show where two networks differ: blocks, settings, costs; weights are not compared."""
    from nas_face.arch.diff import compare_networks, compare_specs
    from nas_face.study.networks import design_of

    a, b = design_of(first, trial_a), design_of(second, trial_b)
    if a.spec is not None and b.spec is not None:
        found = compare_specs(a.spec, b.spec)
    else:
        found = compare_networks(a.network, a.input, b.network, b.input)
    if as_json:
        print_json(_difference_data(found))
        return
    equal = sum(pair.same for pair in found.pairs)
    if found.same:
        results().print(
            f"equal: all {equal} blocks, {found.cost_a.madds:,} MAdds, "
            f"{found.cost_a.params:,} parameters"
        )
        return
    from nas_face.study.cost_tables import difference_table, totals_table

    names = (_titled(first, trial_a), _titled(second, trial_b))
    results().print(difference_table(found, *names))
    results().print(f"{equal} of {len(found.pairs)} blocks are equal")
    results().print(totals_table(found, *names))


def zoo(
    family: Annotated[str | None, typer.Option(help="Only this family, with sources.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List the published networks, with exact and published counts."""
    from nas_face.arch.zoo import NETWORKS

    families = {entry.family for entry in NETWORKS.values()}
    if family is not None and family not in families:
        raise ConfigError(f"no family {family!r} in the zoo; {near_names(family, families)}")
    entries = [each for each in NETWORKS.values() if family in (None, each.family)]
    if as_json:
        print_json([_entry_data(entry) for entry in entries])
        return
    from nas_face.study.cost_tables import zoo_table

    results().print(zoo_table(entries, sources=family is not None))


def _titled(name: str, trial: int | None) -> str:
    return name if trial is None else f"{name}, trial {trial}"


def _row_data(row: "Row", convention: "Convention | None") -> dict[str, Any]:
    from nas_face.arch.conventions import operations

    counted = {}
    if convention is not None:
        counted["operations"] = operations(row.layer, row.input, convention)
    return {
        "input": list(row.input),
        "output": list(row.output),
        **_cost_data(row.cost),
        **counted,
    }


def _cost_data(cost: "Cost") -> dict[str, int]:
    return {
        "params": cost.params,
        "madds": cost.madds,
        "flops": cost.flops,
        "folded_params": cost.folded_params,
        "peak_activations": cost.peak_activations,
    }


def _part_data(part: "Part", convention: "Convention | None") -> dict[str, Any]:
    """Figures are of one of the repeats."""
    return {
        "name": part.row.name,
        "what": part.words,
        "repeats": part.repeats,
        **_row_data(part.row, convention),
        "parts": [_part_data(each, convention) for each in part.parts],
    }


def _difference_data(difference: "Difference") -> dict[str, Any]:
    return {
        "equal": difference.same,
        "input": [list(difference.input_a), list(difference.input_b)],
        "cost": [_cost_data(difference.cost_a), _cost_data(difference.cost_b)],
        "blocks": [
            {
                "a": pair.a,
                "b": pair.b,
                "kind": [pair.kind_a, pair.kind_b],
                "settings": {change.setting: [change.a, change.b] for change in pair.changes},
            }
            for pair in difference.pairs
            if not pair.same
        ],
        "equal_blocks": sum(pair.same for pair in difference.pairs),
    }


def _entry_data(entry: "PublishedNetwork") -> dict[str, Any]:
    cost = entry.spec.cost()
    return {
        "name": entry.name,
        "family": entry.family,
        "input_shape": list(entry.spec.input_shape),
        "embedding_size": entry.spec.embedding_size,
        "arch_id": entry.spec.arch_id,
        "params": cost.params,
        "folded_params": cost.folded_params,
        "madds": cost.madds,
        "published_params": entry.published_params,
        "published_compute": entry.published_compute,
        "published_accuracy": entry.published_accuracy,
        "source": entry.source,
    }
