"""Commands about trained models: `compress` and `import-weights`."""

from pathlib import Path
from typing import Annotated

import typer

from nas_face.cli.console import DataOption, console, epoch_bar, named_sources, results


def compress(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL|RUN", help="Model folder, or run folder with --trial.")
    ],
    trial: Annotated[int | None, typer.Option(help="Trial, where MODEL is a run.")] = None,
    recipe: Annotated[
        str, typer.Option(help="Recipe file; a shipped one by its name.")
    ] = "prune_distil_int8",
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
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
) -> None:
    """Compress a trained network by a recipe: prune, distil, quantise; verified at every step."""
    from nas_face.study.compression.job import compress_job
    from nas_face.study.compression.recipe import load_recipe
    from nas_face.study.compression.steps import compress as carry_out
    from nas_face.study.tables import compression_table, group_change_tables

    steps = load_recipe(recipe)
    given = {
        "data.source": named_sources(data),
        "data.exclude": exclude,
        "data.attributes": None if groups is None else str(groups),
        "data.group_far": group_far,
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    job = compress_job(
        model,
        trial,
        study,
        overrides,
        pairs,
        images,
        protocol=protocol,
        allow_overlap=allow_overlap,
    )
    folder = out or job.folder / steps.name
    terminal = console()
    terminal.print(
        f"compressing {job.name} ({job.model.description.cost.madds:,} MAdds) by {steps.name}; "
        f"{len(job.faces.train)} images to train on, {len(job.faces.pairs)} pairs to verify on"
    )
    steps_done = carry_out(
        job.model,
        steps,
        job.faces,
        folder,
        training=job.config.full_training,
        seed=job.config.seed,
        epochs=lambda n_epochs: epoch_bar(terminal, n_epochs),
        source=job.source,
    )
    results().print(compression_table(steps_done))
    for table in group_change_tables(steps_done[0], steps_done[-1]):
        results().print(table)
    terminal.print(f"written: {folder}")


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
