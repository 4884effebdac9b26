"""Commands about search spaces: `space show` and `space check`; `nni` has two more."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.budget import (
    Limit,
    MaxActivations,
    MaxFlops,
    MaxMadds,
    MaxParams,
    MaxSize,
    MinActivations,
    MinFlops,
    MinMadds,
    MinParams,
    MinSize,
    limits,
)
from nas_face.cli.console import JsonFlag, print_json, results
from nas_face.errors import ConfigError, SpaceError

if TYPE_CHECKING:
    from nas_face.search import Budget
    from nas_face.space import SearchSpace
    from nas_face.space.overview import Overview

app = typer.Typer(no_args_is_help=True, help="Look at search spaces, convert them.")

SpaceFile = Annotated[str, typer.Argument(metavar="FILE", help="YAML file of a search space.")]
InputSize = Annotated[
    str | None, typer.Option(help="N or HEIGHTxWIDTH, instead of the space's own.")
]
TargetFile = Annotated[
    str | None, typer.Option(help="Deployment target, such as integer_npu, or a YAML file.")
]
AllowSlow = Annotated[
    bool, typer.Option("--allow-slow", help="Offer what the target runs poorly.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the draws.")]


@app.command()
def show(
    space: SpaceFile,
    max_madds: MaxMadds = None,
    min_madds: MinMadds = None,
    max_flops: MaxFlops = None,
    min_flops: MinFlops = None,
    max_params: MaxParams = None,
    min_params: MinParams = None,
    max_size: MaxSize = None,
    min_size: MinSize = None,
    max_activations: MaxActivations = None,
    min_activations: MinActivations = None,
    input_size: InputSize = None,
    target: TargetFile = None,
    allow_slow: AllowSlow = False,
    knobs: Annotated[bool, typer.Option("--knobs", help="List the choices as well.")] = False,
    samples: Annotated[int, typer.Option(min=10, max=100_000, help="Designs to draw.")] = 1000,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show how many designs a space has, how large they are, and how many fit a budget."""
    from nas_face.space.overview import overview

    budget = _budget(
        max_madds=max_madds,
        min_madds=min_madds,
        max_flops=max_flops,
        min_flops=min_flops,
        max_params=max_params,
        min_params=min_params,
        max_size=max_size,
        min_size=min_size,
        max_activations=max_activations,
        min_activations=min_activations,
    )
    opened = _open(space, input_size, target, allow_slow=allow_slow)
    found = overview(opened, budget.excess, seed=seed, n_samples=samples)
    if as_json:
        print_json(_overview_data(opened, found, budget, knobs=knobs))
        return
    _print_overview(opened, found, budget)
    if knobs:
        _print_knobs(opened)


@app.command()
def check(
    space: SpaceFile,
    max_madds: MaxMadds = None,
    min_madds: MinMadds = None,
    max_flops: MaxFlops = None,
    min_flops: MinFlops = None,
    max_params: MaxParams = None,
    min_params: MinParams = None,
    max_size: MaxSize = None,
    min_size: MinSize = None,
    max_activations: MaxActivations = None,
    min_activations: MinActivations = None,
    input_size: InputSize = None,
    target: TargetFile = None,
    allow_slow: AllowSlow = False,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find dead choices, choices without effect, and designs that cannot be built.

    Exit code 0 if there are none, 1 if there are.
    """
    from nas_face.search import Budget
    from nas_face.space.check import check as check_space

    budget = _budget(
        max_madds=max_madds,
        min_madds=min_madds,
        max_flops=max_flops,
        min_flops=min_flops,
        max_params=max_params,
        min_params=min_params,
        max_size=max_size,
        min_size=min_size,
        max_activations=max_activations,
        min_activations=min_activations,
    )
    opened = _open(space, input_size, target, allow_slow=allow_slow)
    found = check_space(opened, None if budget == Budget() else budget.excess, seed=seed)
    if as_json:
        findings = [
            {"kind": each.kind, "where": each.where, "what": each.what, "remedy": each.remedy}
            for each in found.findings
        ]
        print_json(
            {
                "space": opened.name,
                "drawn": found.n_drawn,
                "rule_broken": found.n_rule_broken,
                "unbuildable": found.n_unbuildable,
                "findings": findings,
            }
        )
    else:
        for each in found.findings:
            print(f"{each.kind}: {each}")
        problems = len(found.findings)
        print(
            f"{opened.name}: {problems or 'no'} problem{'' if problems == 1 else 's'} found in "
            f"{len(opened.choices())} choices and {found.n_drawn:,} designs drawn"
            + (f", of which {found.n_rule_broken:,} break a rule" * bool(found.n_rule_broken))
        )
    if found.findings:
        raise typer.Exit(1)


def named_space(name: str) -> "SearchSpace":
    """The space of a file, or one of those that come with nas-face.

    Raises:
        SpaceError: there is none, or it breaks a rule.
    """
    from nas_face.shipped import find_file
    from nas_face.space import load_space

    path = find_file(name) or find_file(f"search_spaces/{name}.yaml")
    if path is None:
        raise SpaceError(f"{name}: no such file of a search space")
    return load_space(path)


def _open(
    name: str, input_size: str | None, target: str | None, *, allow_slow: bool
) -> "SearchSpace":
    """The space of a file, at another input size and for a target where asked."""
    from nas_face.space.filtering import filtered
    from nas_face.study.networks import image_size
    from nas_face.study.targets import find_target

    space = named_space(name)
    if input_size is not None:
        space = space.with_input_size(*image_size(input_size))
    if target is None:
        if allow_slow:
            raise ConfigError("--allow-slow says what to do with a --target: give one")
        return space
    return filtered(space, find_target(target), allow_slow=allow_slow)


def _budget(**options: Limit) -> "Budget":
    from nas_face.search import Budget

    found: dict[str, Any] = limits(**options)
    return Budget(**found)


def _print_overview(space: "SearchSpace", found: "Overview", budget: "Budget") -> None:
    from rich.table import Table

    from nas_face.space import Choice

    shapes = space.template.get("input_shape")
    images = (
        ", ".join(map(str, shapes.labels))
        if isinstance(shapes, Choice)
        else "x".join(map(str, space.input_shape))
    )
    print(f"{space.name}, {images} images: {space.description}")
    if space.avoided:
        print(f"without {', '.join(sorted(space.avoided))}")
    print(f"designs: {_number_of_designs(found)}")
    table = Table()
    for name in ("", "smallest", "median", "largest"):
        table.add_column(name, justify="right" if name else "left")
    titles = {"madds": "MAdds", "params": "params", "peak_activations": "peak activations"}
    for name, spread in found.spreads.items():
        figures = (spread.smallest, spread.median, spread.largest)
        table.add_row(titles[name], *(f"{figure:,}" for figure in figures))
    results().print(table)
    if not found.exact:
        print(
            f"median: of {found.n_legal:,} designs drawn; smallest and largest: the best of them, "
            "changed one choice at a time"
        )
    if budget != type(budget)():
        print(f"budget {budget}: {_fitting(found)}")
    published = _published(space)
    if published:
        print(f"published networks in it: {', '.join(published)}")


def _published(space: "SearchSpace") -> list[str]:
    from nas_face.arch.zoo import NETWORKS
    from nas_face.space import locate

    return [name for name, entry in NETWORKS.items() if locate(space, entry.spec) is not None]


def _number_of_designs(found: "Overview") -> str:
    if found.exact:
        text = f"{found.n_designs:,.0f}, {found.n_architectures:,} distinct architectures"
        if found.n_designs < found.n_ways:
            text += f" ({found.n_ways:,} ways to choose, the others are not legal)"
        return text
    if found.n_legal == found.n_drawn:
        return _large(found.n_designs)
    return (
        f"~{found.n_designs:.2g} ({found.n_legal:,} of {found.n_drawn:,} drawn are legal, of "
        f"{_large(found.n_ways)} ways to choose)"
    )


def _large(number: float) -> str:
    return f"{number:,.0f}" if number < 1e15 else f"{number:.3g}"


def _fitting(found: "Overview") -> str:
    if found.exact:
        return f"{found.n_fitting:,.0f} designs fit ({found.share_fitting:.1%})"
    if found.n_fitting:
        return f"~{found.n_fitting:.2g} designs fit (~{found.share_fitting:.2%})"
    if found.some_fit:
        return f"fewer than one in {found.n_legal:,} designs fits, but some do"
    return "no design fits, as far as was found"


def _print_knobs(space: "SearchSpace") -> None:
    from rich.table import Table

    from nas_face.space.template import needs, shown

    table = Table(title=f"{len(space.choices())} choices")
    for name in ("choice", "options", "where"):
        table.add_column(name, overflow="fold")
    above = needs(space.template, space.shared)
    for path, choice in space.choices().items():
        where = ", ".join(f"{at}={shown(label)}" for at, label in above[path])
        table.add_row(path, ", ".join(map(shown, choice.labels)), where)
    results().print(table)
    for constraint in space.constraints:
        why = f"  ({constraint.because})" if constraint.because else ""
        print(f"constraint: {constraint.rule}{why}")


def _overview_data(
    space: "SearchSpace", found: "Overview", budget: "Budget", *, knobs: bool
) -> dict[str, Any]:
    from nas_face.arch.codec import to_data

    data: dict[str, Any] = {
        "space": space.name,
        "input_shape": list(space.input_shape),
        "ways": found.n_ways,
        "exact": found.exact,
        "designs": round(found.n_designs),
        "architectures": found.n_architectures,
        "drawn": found.n_drawn,
        "legal": found.n_legal,
        **{
            name: {
                "smallest": spread.smallest,
                "median": spread.median,
                "largest": spread.largest,
            }
            for name, spread in found.spreads.items()
        },
        "published": _published(space),
        "budget": to_data(budget),
        "fitting": round(found.n_fitting),
        "share_fitting": found.share_fitting,
        "some_fit": found.some_fit,
        "avoided": sorted(space.avoided),
    }
    if knobs:
        data["knobs"] = {path: list(choice.labels) for path, choice in space.choices().items()}
        data["constraints"] = [each.rule for each in space.constraints]
    return data
