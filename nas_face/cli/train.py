"""The command `train`."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nas_face.cli.console import Interrupted, console, named_sources, results
from nas_face.cli.stopping import stopping
from nas_face.errors import ConfigError

if TYPE_CHECKING:
    from nas_face.cli.stopping import Stop
    from nas_face.nn.ranks import Ranks
    from nas_face.study.training import TrainingJob
    from nas_face.train import EpochReport, StepReport

RECIPE = "Recipe"
FACES = "Faces"
MACHINE = "Machine"

MAX_NAMED = 10  # of skipped images


def train(
    network: Annotated[
        str, typer.Argument(metavar="RUN|NETWORK", help="Run folder, zoo name or spec.json.")
    ],
    trial: Annotated[int | None, typer.Option(help="Trial of the run.")] = None,
    study: Annotated[
        str, typer.Option(help="Study file with faces and recipe, for a network of no run.")
    ] = "studies/quickstart.yaml",
    out: Annotated[Path | None, typer.Option(help="Model folder to write.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="Model folder whose weights to start from.")
    ] = None,
    input_size: Annotated[
        str | None, typer.Option(help="N or HEIGHTxWIDTH, in place of the study's.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FACES",
            help="Faces of any format, in place of the study's; may be repeated.",
            rich_help_panel=FACES,
        ),
    ] = None,
    same_names: Annotated[
        str | None,
        typer.Option(
            help="A name in two of --data: join (one person), apart (two) or refuse.",
            rich_help_panel=FACES,
        ),
    ] = None,
    exclude: Annotated[
        str | None,
        typer.Option(help="Text file of identities to leave out.", rich_help_panel=FACES),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="Train on everybody who is not on these pairs, and verify on them.",
            rich_help_panel=FACES,
        ),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Root of the images that the pair list names.", rich_help_panel=FACES),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="FF or FP, of CFP.", rich_help_panel=FACES)
    ] = None,
    allow_overlap: Annotated[
        bool,
        typer.Option(
            "--allow-overlap", help="Train on people of the pairs, too.", rich_help_panel=FACES
        ),
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(help="In place of the study's.", rich_help_panel=RECIPE)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Likewise, as all of these.", rich_help_panel=RECIPE)
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(rich_help_panel=RECIPE)] = None,
    seed: Annotated[int | None, typer.Option(rich_help_panel=RECIPE)] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="Learn from it, too: sface, ONNX file, model or run folder.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Any other key of the recipe, such as loss.margin=0.4; may be repeated.",
            rich_help_panel=RECIPE,
        ),
    ] = None,
    device: Annotated[
        str,
        typer.Option(help="cpu, cuda, or auto: cuda where there is one.", rich_help_panel=MACHINE),
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(help="Of the processor, in place of the study's.", rich_help_panel=MACHINE),
    ] = None,
    teacher_cache: Annotated[
        Path,
        typer.Option(
            help="Folder for embeddings of teachers, of all trainings.", rich_help_panel=MACHINE
        ),
    ] = Path("runs/teachers"),
    keep_epochs: Annotated[
        bool,
        typer.Option(
            "--keep-epochs",
            help="Keep the network after each epoch, too, for students to follow.",
            rich_help_panel=MACHINE,
        ),
    ] = False,
    tensorboard: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Write its curves there, for TensorBoard.",
            rich_help_panel=MACHINE,
        ),
    ] = None,
) -> None:
    """Train one network in full: a trial of a run, or a published network by name."""
    given = {"--images": images, "--protocol": protocol}
    for option, value in given.items() if pairs is None else ():
        if value is not None:
            raise ConfigError(f"{option} goes with --pairs")
    from nas_face.study.devices import device_kind, device_of
    from nas_face.study.networks import image_size
    from nas_face.study.overrides import recipe_values
    from nas_face.study.training import training_job
    from nas_face.study.verification.verify import PairSource

    of_recipe = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "teacher": teacher,
    }
    overrides: dict[str, Any] = {
        **{f"full_training.{key}": value for key, value in of_recipe.items()},
        "input_size": None if input_size is None else list(image_size(input_size)),
        "data.source": named_sources(data),
        "data.same_names": same_names,
        "data.exclude": exclude,
        "seed": seed,
        "threads": threads,
    }
    overrides = {key: value for key, value in overrides.items() if value is not None}
    overrides |= recipe_values(settings or ())
    judges = None
    if pairs is not None:
        judges = PairSource(name=pairs, root=images, protocol=protocol)
    kind = device_kind(device)
    with _ranks(kind) as ranks:
        job = _as_the_first(
            ranks,
            lambda: replace(
                training_job(
                    network,
                    trial,
                    study,
                    overrides,
                    out,
                    pairs=judges,
                    allow_overlap=allow_overlap,
                    init=init,
                ),
                device=device_of(kind, ranks.local_rank),
                keep_epochs=keep_epochs,
                teachers=teacher_cache,
            ),
        )
        _train(job, ranks, tensorboard if ranks.leads else None)


def _train(job: "TrainingJob", ranks: "Ranks", tensorboard: Path | None) -> None:
    from nas_face.cli.progress import training_display
    from nas_face.study.tables import verification_table
    from nas_face.study.tensorboard import TensorBoardLog
    from nas_face.study.training import train_model, train_network

    terminal = console(quiet=not ranks.leads)
    for line in _introduction(job, ranks):
        terminal.print(line)
    log = None if tensorboard is None else TensorBoardLog(tensorboard)
    with log or contextlib.nullcontext(), stopping() as stop:
        try:
            with training_display(terminal) as display:

                def on_step(report: "StepReport") -> bool:
                    display.step(report)
                    if log is not None:
                        log.step(report)
                    return stop.step(report)

                def on_epoch(report: "EpochReport") -> None:
                    display.epoch(report)
                    if log is not None:
                        log.epoch(report)

                if not ranks.leads:
                    train_model(job, on_epoch, on_step=on_step, ranks=ranks)
                    return
                result = train_network(
                    job, on_epoch, on_step=on_step, note=display.note, ranks=ranks
                )
        except KeyboardInterrupt:
            raise Interrupted(_how_to_go_on(job, stop) if ranks.leads else None) from None
        if log is not None:
            log.verified(result)
    results().print(verification_table(result))
    terminal.print(f"written: {job.out} (verified on {job.faces.where})")


def _introduction(job: "TrainingJob", ranks: "Ranks") -> Iterator[str]:
    """What people should read before a training begins."""
    faces = job.faces
    for each in faces.skipped[:MAX_NAMED]:
        yield f"skipped {each.name}: {each.reason}"
    yield from faces.remarks()
    together = "" if ranks.n == 1 else f", {ranks.n} processes"
    yield (
        f"training {job.name} ({job.spec.cost().madds:,} MAdds, input {job.spec.input}) "
        f"on {len(faces.train)} images of {faces.train.n_identities} people, to be verified on "
        f"{len(faces.pairs)} pairs ({job.device.type}{together})"
    )


def _how_to_go_on(job: "TrainingJob", stop: "Stop") -> str:
    from nas_face.study.layout import MODEL_FILE

    if (job.out / MODEL_FILE).exists():
        return f"interrupted while verifying; the trained model is in {job.out}"
    folder = job.checkpoints.folder
    if not folder.is_dir():
        return "interrupted before the first checkpoint; run the same command to start again"
    at = "" if stop.last is None else f" after step {stop.last.step} of {stop.last.n_steps}"
    return f"interrupted{at}, checkpoint in {folder}; run the same command to go on"


@contextlib.contextmanager
def _ranks(kind: Literal["cpu", "cuda"]) -> Iterator["Ranks"]:
    """The processes that train together; all but the first keep quiet."""
    from nas_face.nn.ranks import Ranks

    ranks = Ranks.from_environment(kind)
    if not ranks.leads:
        logging.getLogger().setLevel(logging.ERROR)
    try:
        yield ranks
    finally:
        ranks.close()


def _as_the_first(ranks: "Ranks", prepare: Callable[[], "TrainingJob"]) -> "TrainingJob":
    """What every process prepares; a mistake that the first one meets is told only by it.

    Raises:
        NasFaceError: of this process, which is the first or has met it alone.
        Exit: the first process tells why.
    """
    try:
        job = prepare()
    except Exception:
        if ranks.tell(False) or ranks.leads:
            raise
        raise typer.Exit(2) from None
    if not ranks.tell(True):
        raise typer.Exit(2)
    return job
