"""Commands about trained models: `compress` and `import-weights`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas_face.cli.budget import limits
from nas_face.cli.console import (
    DataOption,
    JsonFlag,
    console,
    epoch_bar,
    named_sources,
    print_json,
    print_table,
    results,
)
from nas_face.errors import CompressionError, ConfigError, DeployError, TrainingDiverged

PANEL = "Search for a recipe"

if TYPE_CHECKING:
    from nas_face.study.compression.job import CompressJob
    from nas_face.study.compression.recipe import Recipe
    from nas_face.study.compression.recipe_search.space import RecipeSpace
    from nas_face.study.compression.results import Compression


def compress(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL|RUN", help="Model folder, or run folder with --trial.")
    ],
    trial: Annotated[int | None, typer.Option(help="Trial, where MODEL is a run.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Recipe file; a shipped one by its name.", show_default="prune_distil_int8"
        ),
    ] = None,
    study: Annotated[
        str, typer.Option(help="Study file or run with the faces, for a model of no run.")
    ] = "studies/quickstart.yaml",
    data: DataOption = None,
    exclude: Annotated[
        str | None, typer.Option(help="Text file of identities to leave out.")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option(help="Verify on this pair list instead of the test pairs.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Root of the images that the pair list names.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="FF or FP, of CFP.")] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Judge by people of the training set, too.")
    ] = False,
    groups: Annotated[
        Path | None,
        typer.Option(help="CSV of attributes: every group of people before and after."),
    ] = None,
    group_far: Annotated[
        float | None,
        typer.Option(help="FAR over all pairs that sets the threshold of all groups."),
    ] = None,
    allow_untrained: Annotated[
        bool, typer.Option("--allow-untrained", help="Take weights that were never trained, too.")
    ] = False,
    whole_front: Annotated[
        bool, typer.Option("--all", help="Every member of the front of RUN.")
    ] = False,
    search: Annotated[
        bool, typer.Option("--search", help="Let Optuna choose the recipe.", rich_help_panel=PANEL)
    ] = False,
    space: Annotated[
        str | None,
        typer.Option(
            metavar="SPACE.yaml",
            help="What it may choose; a shipped one by its name.",
            show_default="without_training",
            rich_help_panel=PANEL,
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Recipes in all.", rich_help_panel=PANEL)
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="Which one proposes.", rich_help_panel=PANEL)
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option(help="Wall, such as 10ms.", rich_help_panel=PANEL)
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="Wall, of the file, such as 1MB.", rich_help_panel=PANEL)
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(help="Wall: points that may be lost, such as -1.", rich_help_panel=PANEL),
    ] = None,
    as_json: JsonFlag = False,
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
) -> None:
    """Compress a trained network by a recipe: prune, distil, quantise; verified at every step.

    Run again, it goes on where it stopped.
    """
    from nas_face.study.compression.job import compress_job
    from nas_face.study.compression.recipe import DEFAULT_RECIPE, load_recipe

    asked = {
        "--space": space,
        "--trials": trials,
        "--sampler": sampler,
        "--max-latency": max_latency,
        "--max-size": max_size,
        "--floor": floor,
    }
    if not search:
        for option, value in asked.items():
            if value is not None:
                raise ConfigError(f"{option} goes with --search")
    elif whole_front:
        raise ConfigError(
            "--search is for one model and --all for a whole front; leave --all out and give "
            "--trial, or search on one member and give the others its best_recipe.yaml by --recipe"
        )
    elif recipe is not None:
        raise ConfigError(
            f"--search chooses the recipe itself; leave --recipe {recipe} out, or --search"
        )
    given = {
        "data.source": named_sources(data),
        "data.exclude": exclude,
        "data.attributes": None if groups is None else str(groups),
        "data.group_far": group_far,
    }
    overrides = {key: value for key, value in given.items() if value is not None}

    def job_of(number: int | None) -> "CompressJob":
        return compress_job(
            model,
            number,
            study,
            overrides,
            pairs,
            images,
            protocol=protocol,
            allow_overlap=allow_overlap,
            allow_untrained=allow_untrained,
        )

    if search:
        from nas_face.study.compression.recipe_search.space_file import load_recipe_space

        changes = {"trials": trials, "sampler": sampler, "floor": floor}
        walls = limits(max_latency=max_latency, max_size=max_size)
        chosen = load_recipe_space(
            space,
            {
                **{key: value for key, value in changes.items() if value is not None},
                "budget": walls,
            },
        )
        _search_recipe(job_of(trial), chosen, out, as_json=as_json)
        return
    steps = load_recipe(recipe or DEFAULT_RECIPE)
    if not whole_front:
        _compress_one(job_of(trial), steps, out, as_json=as_json)
        return
    if trial is not None:
        raise ConfigError("--all takes every member of the front; leave --trial out")
    _compress_front(model, job_of, steps, out, as_json=as_json)


def _compress_one(
    job: "CompressJob", recipe: "Recipe", out: Path | None, *, as_json: bool
) -> None:
    from nas_face.study.tables import compression_tables, group_change_tables

    folder = out or job.folder / recipe.name
    done = _carried_out(job, recipe, folder)
    if as_json:
        print_json(done.as_dict())
    else:
        for table in compression_tables(done):
            print_table(table)
        for table in group_change_tables(done.results[0], done.results[-1]):
            results().print(table)
    terminal = console()
    for line in done.shortfalls:
        terminal.print(f"not as asked: {line}")
    terminal.print(f"written: {folder}")


def _search_recipe(
    job: "CompressJob", space: "RecipeSpace", out: Path | None, *, as_json: bool
) -> None:
    from nas_face.study.compression.recipe_search.publishing import BEST_FILE
    from nas_face.study.compression.recipe_search.search import search_recipe
    from nas_face.study.compression.recipe_search.wording import recipe_front_table
    from nas_face.study.tables import compression_tables, group_change_tables

    terminal = console()
    folder = out or job.folder / space.name
    terminal.print(
        f"searching a recipe for {job.name} ({job.model.description.cost.madds:,} MAdds): "
        f"{space.trials} recipes, {len(job.faces.judge)} pairs to decide by; {space.limits}"
    )
    for line in job.remarks:
        terminal.print(line)
    found = search_recipe(
        job.model,
        space,
        job.faces,
        folder,
        training=job.config.full_training,
        seed=job.config.seed,
        epochs=lambda n_epochs: epoch_bar(terminal, n_epochs),
        source=job.source,
        trial=job.trial,
        data=job.config.data,
        note=terminal.print,
    )
    if as_json:
        print_json(found.as_dict())
    else:
        print_table(recipe_front_table(found.front))
        done = found.compression
        for table in compression_tables(done):
            print_table(table)
        for table in group_change_tables(done.results[0], done.results[-1]):
            results().print(table)
    shortfall = found.front.shortfall
    for line in (*([shortfall] if shortfall else []), *found.compression.shortfalls):
        terminal.print(f"not as asked: {line}")
    terminal.print(f"written: {folder / BEST_FILE}, {found.report}, {found.folder}")


def _compress_front(
    run: Path,
    job_of: "Callable[[int | None], CompressJob]",
    recipe: "Recipe",
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    from nas_face.study.compression.front import Member, compressed_front, front_members
    from nas_face.study.files import write_text
    from nas_face.study.report.front_change import write_front_change
    from nas_face.study.tables import front_change_table

    terminal = console()
    numbers = front_members(run)
    members: list[Member] = []
    for position, number in enumerate(numbers, start=1):
        terminal.print(f"member {position} of {len(numbers)} of the front:")
        job = job_of(number)
        folder = job.folder / recipe.name if out is None else out / f"trial-{number}"
        try:
            done = _carried_out(job, recipe, folder)
        except (CompressionError, DeployError, TrainingDiverged) as failure:
            if position == len(numbers) and not members:
                raise
            terminal.print(f"left out: {failure}")
            continue
        for line in done.shortfalls:
            terminal.print(f"not as asked: {line}")
        members.append(Member(trial=number, folder=folder, compression=done))
    front = compressed_front(members)
    path = (out or run / "compressed") / f"front-{recipe.name}.json"
    write_text(path, json.dumps(front.as_dict(), indent=1) + "\n")
    page = path.with_suffix(".html")
    write_front_change(front, page)
    if as_json:
        print_json(front.as_dict())
    else:
        print_table(front_change_table(front))
    terminal.print(f"written: {page}, {path}, " + ", ".join(str(each.folder) for each in members))


def _carried_out(job: "CompressJob", recipe: "Recipe", folder: Path) -> "Compression":
    """One compression, behind progress bars."""
    from nas_face.study.compression.steps import compress as carry_out

    terminal = console()
    terminal.print(
        f"compressing {job.name} ({job.model.description.cost.madds:,} MAdds) by {recipe.name}; "
        f"{len(job.faces.train)} images to train on, {len(job.faces.judge)} pairs to decide by, "
        f"{len(job.faces.pairs)} pairs to report on"
    )
    for line in job.remarks:
        terminal.print(line)
    return carry_out(
        job.model,
        recipe,
        job.faces,
        folder,
        training=job.config.full_training,
        seed=job.config.seed,
        epochs=lambda n_epochs: epoch_bar(terminal, n_epochs),
        source=job.source,
        trial=job.trial,
        data=job.config.data,
        note=terminal.print,
    )


def import_weights(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Torch checkpoint, safetensors or ONNX file.")
    ],
    network: Annotated[
        str, typer.Option("--as", metavar="NETWORK", help="Zoo name, spec.json or model folder.")
    ],
    trial: Annotated[int | None, typer.Option(help="Trial, where NETWORK is a run.")] = None,
    part: Annotated[
        str | None, typer.Option(help="Which dict of a checkpoint, such as state_dict.")
    ] = None,
    mean: Annotated[
        float | None, typer.Option(help="Subtracted from pixels 0 to 255; 127.5 by default.")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Divided by; 127.5 by default.")] = None,
    bgr: Annotated[
        bool, typer.Option("--bgr", help="The network takes blue, green, red.")
    ] = False,
    input_size: Annotated[
        str | None, typer.Option(help="N or HEIGHTxWIDTH, where NETWORK is a zoo name.")
    ] = None,
    embedding_size: Annotated[
        int | None, typer.Option(help="Where NETWORK is a zoo name.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Model folder to write.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Every layer.")] = False,
) -> None:
    """Load somebody else's weights into a network, and prove that they are in the right places."""
    from nas_face.study.importing.job import ImportOptions, default_folder, write
    from nas_face.study.importing.job import import_weights as carry_out
    from nas_face.study.importing.table import import_table
    from nas_face.study.networks import image_size

    imported = carry_out(
        file,
        network,
        ImportOptions(
            part=part,
            mean=mean,
            scale=scale,
            bgr=bgr,
            input_size=None if input_size is None else image_size(input_size),
            embedding_size=embedding_size,
            trial=trial,
        ),
    )
    terminal = console()
    results().print(import_table(imported, every_layer=verbose))
    for line in imported.remarks():
        terminal.print(line)
    folder = out or default_folder(imported)
    new = write(imported, folder)
    terminal.print(f"written: {folder}" if new else f"already there: {folder}")
