"""Commands about architectures: `cost` and `zoo`."""

from typing import Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, print_json, results


def cost(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Zoo name, spec.json, model or run folder.")
    ],
    trial: Annotated[int | None, typer.Option(help="Trial, where NETWORK is a run.")] = None,
    blocks: Annotated[bool, typer.Option("--blocks", help="By block instead of stage.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show shapes, parameters and multiply-adds, by stage and in total."""
    from nas_face.arch.summary import summarise
    from nas_face.study.networks import layers_of

    tree, x = layers_of(network, trial)
    summary = summarise(tree, x)
    if as_json:
        rows = summary.blocks if blocks else summary.stages
        print_json({row.name: _row_data(row) for row in (*rows, summary.total)})
        return
    from nas_face.study.tables import cost_table

    results().print(cost_table(summary, blocks=blocks))
    total = summary.total.cost
    results().print(
        f"{total.madds:,} MAdds ({total.flops:,} FLOPs), {total.params:,} parameters "
        f"({total.folded_params:,} with batch normalisation folded), "
        f"peak {total.peak_activations:,} activations"
    )


def zoo(as_json: JsonFlag = False) -> None:
    """List the published networks, with exact and published counts."""
    from nas_face.arch.zoo import NETWORKS

    if as_json:
        print_json([_entry_data(entry) for entry in NETWORKS.values()])
        return
    from nas_face.study.tables import zoo_table

    results().print(zoo_table(list(NETWORKS.values())))


def _row_data(row: Any) -> dict[str, Any]:
    return {
        "input": list(row.input),
        "output": list(row.output),
        "params": row.cost.params,
        "madds": row.cost.madds,
        "flops": row.cost.flops,
        "folded_params": row.cost.folded_params,
        "peak_activations": row.cost.peak_activations,
    }


def _entry_data(entry: Any) -> dict[str, Any]:
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
