"""The command `verify`."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, console, print_json, results
from nas_face.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from nas_face.deploy import Convention
    from nas_face.study.verification.embedding import OnImages


def verify(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...", help="Model folder, ONNX or OpenVINO file, or run folder."
        ),
    ],
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Pairs: LFW's list, CSV, lines of paths, .bin, CFP's folder, 'orl', or a run."
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Root of the images that the pair list names.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="FF or FP, of CFP.")] = None,
    trial: Annotated[int | None, typer.Option(help="Trial, where MODEL is a run.")] = None,
    input_size: Annotated[
        str | None, typer.Option(help="N or HEIGHTxWIDTH, of an ONNX file of any size.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option(help="Subtracted from pixels 0 to 255: one number, or three as in 1,2,3."),
    ] = None,
    scale: Annotated[str | None, typer.Option(help="Divided by, likewise.")] = None,
    rgb: Annotated[
        bool | None, typer.Option("--rgb/--bgr", help="Order in which an ONNX file takes colours.")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="nchw or nhwc, where an ONNX file leaves it open.")
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Name of the embedding, where an ONNX file has several.")
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="For embedding; all processors by default.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip/--no-flip", help="Add embeddings of mirrored crops.")
    ] = True,
    intervals: Annotated[
        bool, typer.Option("--intervals", help="By bootstrap, of people where they are known.")
    ] = False,
    plot: Annotated[
        list[Path] | None, typer.Option(help="ROC and DET curves: .png, .svg, .pdf or .html.")
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Write thresholds by these pairs: JSON file.")
    ] = None,
    card_check: Annotated[
        str | None, typer.Option(help="Other pairs, to check the thresholds on.")
    ] = None,
    card_images: Annotated[
        Path | None, typer.Option(help="Root of the images that --card-check names.")
    ] = None,
    groups: Annotated[
        Path | None, typer.Option(help="CSV of attributes: figures of every group of people.")
    ] = None,
    group_far: Annotated[
        float, typer.Option(help="FAR over all pairs that sets the threshold of all groups.")
    ] = 0.01,
    gallery: Annotated[
        Path | None, typer.Option(help="Faces of any format: all against all.")
    ] = None,
    templates: Annotated[
        Path | None, typer.Option(help="Folder of an IJB-style set: images, lists of templates.")
    ] = None,
    embeddings: Annotated[
        Path | None, typer.Option(help="Keep embeddings in this .npy file; taken from there next.")
    ] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Judge by people of the training set, too.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Verify models: accuracy with its spread, AUC, EER, TAR at FAR; curves and thresholds."""
    if pairs is None and gallery is None and templates is None:
        raise ConfigError("verify: give --pairs, --gallery or --templates to say on what")
    of_pairs = {
        "--plot": plot,
        "--card": card,
        "--groups": groups,
        "--images": images,
        "--protocol": protocol,
    }
    _need(of_pairs if pairs is None else {}, "--pairs")
    if not 0 < group_far <= 1:
        raise ConfigError(f"--group-far must be above 0 and at most 1, got {group_far}")
    _need({"--card-check": card_check} if card is None else {}, "--card")
    _need({"--card-images": card_images} if card_check is None else {}, "--card-check")
    one_model = {"--card": card, "--embeddings": embeddings} if len(models) > 1 else {}
    _need(one_model, "one MODEL at a time")

    from nas_face.study.opening import open_models
    from nas_face.study.report.verification_plots import plot_verification, require_plot
    from nas_face.study.verification.job import VerificationJob, run_job
    from nas_face.study.verification.verify import PairSource

    for each in plot or ():
        require_plot(each)
    given = _convention(input_size, mean, scale, rgb, layout, output)
    opened = open_models(models, trial, given, threads=threads)
    job = VerificationJob(
        models=opened,
        pairs=None if pairs is None else PairSource(name=pairs, root=images, protocol=protocol),
        gallery=gallery,
        templates=templates,
        groups=groups,
        group_far=group_far,
        card=card,
        card_check=None if card_check is None else PairSource(name=card_check, root=card_images),
        flip=flip,
        resample=intervals,
        keep=embeddings,
        threads=threads,
        allow_overlap=allow_overlap,
    )
    terminal = console()
    with _bar(terminal) as on_images:
        found = run_job(job, on_images)
    for line in found.remarks():
        terminal.print(line)
    if plot is not None and found.verified:
        title = f"{pairs}{'' if protocol is None else f' {protocol}'}"
        curves = {each.model.name: each.curve for each in found.verified}
        for each in plot:
            plot_verification(curves, each, title=title)
            terminal.print(f"written: {each}")
    if as_json:
        print_json(found.as_dict())
        return
    for table in found.tables():
        results().print(table)


def _need(given: dict[str, Any], what: str) -> None:
    """Refuse the first option that is given and goes only with something else."""
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"{name} goes with {what}")


def _convention(
    input_size: str | None,
    mean: str | None,
    scale: str | None,
    rgb: bool | None,
    layout: str | None,
    output: str | None,
) -> "Convention":
    from nas_face.deploy import Convention
    from nas_face.study.networks import image_size

    layouts: dict[str, Any] = {"nchw": "NCHW", "nhwc": "NHWC"}
    if layout is not None and layout.lower() not in layouts:
        raise ConfigError(f"--layout is nchw or nhwc, got {layout!r}")
    return Convention(
        input_size=None if input_size is None else image_size(input_size),
        mean=_numbers("--mean", mean),
        scale=_numbers("--scale", scale),
        order=None if rgb is None else "RGB" if rgb else "BGR",
        layout=None if layout is None else layouts[layout.lower()],
        output=output,
    )


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as failure:
        raise ConfigError(f"{option} takes one number, or three as in 1,2,3; got {text!r}") from (
            failure
        )


@contextlib.contextmanager
def _bar(terminal: "Console") -> Iterator["OnImages"]:
    """A progress bar over the images of one set after the other."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("images"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as progress:
        task = progress.add_task("images", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
