"""Options that set a budget: one for each wall, and FLOPs beside multiply-adds."""

from typing import Annotated, Final, TypeAlias

import typer

from nas_face.errors import ConfigError

PANEL = "Budget (FLOPs are 2 x multiply-adds)"


def _option(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(name, help=text, rich_help_panel=PANEL)
    return option


Limit: TypeAlias = str | None

MaxMadds = Annotated[Limit, _option("--max-madds", "Most multiply-adds, such as 150M.")]
MinMadds = Annotated[Limit, _option("--min-madds", "Least multiply-adds.")]
MaxFlops = Annotated[Limit, _option("--max-flops", "Most FLOPs, such as 300M.")]
MinFlops = Annotated[Limit, _option("--min-flops", "Least FLOPs.")]
MaxParams = Annotated[Limit, _option("--max-params", "Most parameters, such as 1M.")]
MinParams = Annotated[Limit, _option("--min-params", "Least parameters.")]
MaxSize = Annotated[Limit, _option("--max-size", "Most bytes of fp32 weights, such as 4MB.")]
MinSize = Annotated[Limit, _option("--min-size", "Least bytes of fp32 weights.")]
MaxActivations = Annotated[
    Limit, _option("--max-activations", "Most values alive at once, such as 600k.")
]
MinActivations = Annotated[Limit, _option("--min-activations", "Least values alive at once.")]
MaxLatency = Annotated[Limit, _option("--max-latency", "Longest latency, such as 10ms.")]
MinLatency = Annotated[Limit, _option("--min-latency", "Shortest latency, such as 2ms.")]

WALLS: Final = {
    "madds": "madds",
    "params": "params",
    "size": "size_bytes",
    "activations": "peak_activations",
    "latency": "latency_ms",
}
"""What a wall limits, by the end of its option."""


def limits(**options: Limit) -> dict[str, float]:
    """Limits that are given, by their names in `nas_face.search.Budget`.

    Args:
        options: texts of the options, by their names: `max_madds`, `min_size` and so on.

    Raises:
        ConfigError: a text is no figure, or multiply-adds and FLOPs are limited at once.
    """
    from nas_face.search import parse_quantity
    from nas_face.search.budget import parse_wall

    found: dict[str, float] = {}
    for name, text in options.items():
        if text is None:
            continue
        end, limited = name.split("_")
        where = f"--{end}-{limited}"
        if limited != "flops":
            wall = f"{end}_{WALLS[limited]}"
            found[wall] = parse_wall(wall, text, where=where)
            continue
        if options.get(f"{end}_madds") is not None:
            raise ConfigError(f"{where} and --{end}-madds are one budget: give one of them")
        flops = parse_quantity(text, where=where)
        found[f"{end}_madds"] = flops // 2 if end == "max" else (flops + 1) // 2
    return found
