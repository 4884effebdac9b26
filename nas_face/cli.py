"""The command line: parse, call, print. Everything else happens elsewhere."""

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face import __version__
from nas_face.errors import ConfigError, DeployError, NasFaceError, TrainingDiverged

if TYPE_CHECKING:
    from rich.console import Console

    from nas_face.study.report import Front
    from nas_face.study.run import Run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search face-verification networks under a compute budget, then shrink the chosen one.",
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")]


def main() -> None:
    """Entry point: errors of the user's end as one line, exit code 2; failed work, 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    try:
        app()
    except NasFaceError as failure:
        print(f"nas-face: {failure}", file=sys.stderr)
        sys.exit(1 if isinstance(failure, TrainingDiverged | DeployError) else 2)
    except KeyboardInterrupt:
        print("nas-face: interrupted; run the same command to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as failure:
        if failure.errno is None:
            raise
        where = f"{failure.filename}: " if failure.filename else ""
        print(f"nas-face: {where}{failure.strerror}", file=sys.stderr)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def search(
    study: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="Study file.")],
    max_madds: Annotated[str | None, typer.Option(help="Budget, such as 150M.")] = None,
    max_flops: Annotated[str | None, typer.Option(help="Budget; 2 x multiply-adds.")] = None,
    max_params: Annotated[str | None, typer.Option(help="Budget, such as 1M.")] = None,
    trials: Annotated[int | None, typer.Option(help="Candidates in all.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder with one folder for each identity.")
    ] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Text file of identities to leave out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME if not given.")] = None,
) -> None:
    """Search a space under a budget; run again, it goes on where it stopped."""
    from nas_face.search import parse_quantity
    from nas_face.shipped import find_file
    from nas_face.study.config import load_study
    from nas_face.study.report import front_of, write_report
    from nas_face.study.run import Run

    path = find_file(study)
    if path is None:
        raise ConfigError(f"{study}: no such study file")
    overrides: dict[str, Any] = {
        "trials": trials,
        "seed": seed,
        "data.source": data,
        "data.exclude": exclude,
        "budget.max_params": _quantity(max_params, "--max-params"),
        "budget.max_madds": _quantity(max_madds, "--max-madds"),
    }
    if max_flops is not None:
        if max_madds is not None:
            raise ConfigError("--max-flops and --max-madds are one budget: give one of them")
        overrides["budget.max_madds"] = parse_quantity(max_flops, where="--max-flops") // 2
    given = {key: value for key, value in overrides.items() if value is not None}
    config = load_study(path, given)
    console = _console()
    console.print(f"study {config.name}: space {config.space}, budget {config.budget}")
    run = Run.start(out or Path("runs") / config.name, config)
    with run.locked():
        _print_survey(console, run)
        _search(console, run)
    front = front_of(run)
    files = write_report(run, front)
    _print_front(front)
    console.print("written: " + ", ".join(map(str, files)))
    if front.knee is not None:
        console.print("to compress the point nearest to the ideal, type:")
        print(f"nas-face compress {run.folder} --trial {front.knee}")


@app.command()
def pareto(
    run: RunFolder,
    as_json: JsonFlag = False,
    csv: Annotated[Path | None, typer.Option(help="Write all trials as CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the picture: PNG, SVG, PDF.")] = None,
) -> None:
    """Show the Pareto front of a run: table, JSON, CSV or picture."""
    from nas_face.study.report import front_of, plot_front
    from nas_face.study.run import Run

    opened = Run.open(run)
    front = front_of(opened)
    if csv is not None:
        csv.parent.mkdir(parents=True, exist_ok=True)
        front.trials.to_csv(csv, index=False)
    if plot is not None:
        plot_front(front, plot, title=f"{opened.config.name} under {opened.config.budget}")
    if as_json:
        records = json.loads(front.members.to_json(orient="records"))
        objectives = {each.name: each.direction for each in front.objectives}
        _print_json({"objectives": objectives, "front": records, "trials": front.n_trials})
    else:
        _print_front(front)


@app.command()
def cost(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="Zoo name, spec.json or model folder.")
    ],
    blocks: Annotated[bool, typer.Option("--blocks", help="By block instead of stage.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show shapes, parameters and multiply-adds, by stage and in total."""
    from nas_face.arch.summary import summarise
    from nas_face.study.networks import layers_of

    tree, x = layers_of(network)
    summary = summarise(tree, x)
    if as_json:
        rows = summary.blocks if blocks else summary.stages
        _print_json({row.name: _row_data(row) for row in (*rows, summary.total)})
        return
    from nas_face.study.tables import cost_table

    _out().print(cost_table(summary, blocks=blocks))
    total = summary.total.cost
    _out().print(
        f"{total.madds:,} MAdds ({total.flops:,} FLOPs), {total.params:,} parameters "
        f"({total.folded_params:,} with batch normalisation folded), "
        f"peak {total.peak_activations:,} activations"
    )


@app.command()
def zoo(as_json: JsonFlag = False) -> None:
    """List the published networks, with exact and published counts."""
    from nas_face.arch.zoo import NETWORKS

    if as_json:
        _print_json([_entry_data(entry) for entry in NETWORKS.values()])
        return
    from nas_face.study.tables import zoo_table

    _out().print(zoo_table(list(NETWORKS.values())))


@app.command()
def train(
    network: Annotated[
        str, typer.Argument(metavar="RUN|NETWORK", help="Run folder, zoo name or spec.json.")
    ],
    trial: Annotated[int | None, typer.Option(help="Trial of the run.")] = None,
    study: Annotated[
        str, typer.Option(help="Study file with faces and recipe, for a network of no run.")
    ] = "studies/quickstart.yaml",
    epochs: Annotated[int | None, typer.Option(help="In place of the study's.")] = None,
    input_size: Annotated[int | None, typer.Option(help="In place of the study's.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of identity folders.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Text file of identities to leave out.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="In place of the study's.")] = None,
    threads: Annotated[int | None, typer.Option(help="In place of the study's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Model folder to write.")] = None,
) -> None:
    """Train one network in full: a trial of a run, or a published network by name."""
    from nas_face.study.tables import verification_table
    from nas_face.study.training import train_network, training_job

    overrides = {
        "full_training.epochs": epochs,
        "input_size": input_size,
        "data.source": data,
        "data.exclude": exclude,
        "seed": seed,
        "threads": threads,
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    job = training_job(network, trial, study, given, out)
    console = _console()
    console.print(
        f"training {job.name} ({job.spec.cost().madds:,} MAdds, input {job.spec.input}) "
        f"on {len(job.faces.split.train)} images"
    )
    with _epochs(console, job.config.full_training.epochs) as on_epoch:
        result = train_network(job, on_epoch)
    _out().print(verification_table(result))
    console.print(f"written: {job.out} (verified on identities it was not trained on)")


@app.command()
def verify(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="Model folder, ONNX file, or run folder.")
    ],
    pairs: Annotated[
        str, typer.Option(help="LFW-style or CSV pair list, 'orl', or a run folder.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Root of the images that the pair list names.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Trial, where MODEL is a run.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Verify a model on pairs: 10-fold accuracy with its spread, AUC, EER, TAR at FAR."""
    from nas_face.study.evaluate import verify_on
    from nas_face.study.faces import pairs_of
    from nas_face.study.networks import embedder_of

    opened = embedder_of(model, trial)
    found = pairs_of(pairs, images, height=opened.height, width=opened.width)
    result = verify_on(opened, found)
    if as_json:
        _print_json(result.as_dict())
        return
    from nas_face.study.tables import verification_table

    _out().print(verification_table(result))


@app.command()
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
    data: Annotated[str | None, typer.Option(help="Folder of identity folders.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Text file of identities to leave out.")
    ] = None,
    pairs: Annotated[
        str | None, typer.Option(help="Verify on this pair list instead of the test pairs.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Root of the images that the pair list names.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.")] = None,
) -> None:
    """Compress a trained network by a recipe: prune, distil, quantise; verified at every step."""
    from nas_face.study.compress import compress as carry_out
    from nas_face.study.compress_job import compress_job
    from nas_face.study.recipe import load_recipe
    from nas_face.study.tables import compression_table

    steps = load_recipe(recipe)
    given = {"data.source": data, "data.exclude": exclude}
    overrides = {key: value for key, value in given.items() if value is not None}
    job = compress_job(model, trial, study, overrides, pairs, images)
    folder = out or job.folder / steps.name
    console = _console()
    console.print(
        f"compressing {job.name} ({job.model.description.cost.madds:,} MAdds) by {steps.name}; "
        f"{len(job.faces.train)} images to train on, {len(job.faces.pairs)} pairs to verify on"
    )
    results = carry_out(
        job.model,
        steps,
        job.faces,
        folder,
        training=job.config.full_training,
        seed=job.config.seed,
        epochs=lambda n_epochs: _epochs(console, n_epochs),
    )
    _out().print(compression_table(results))
    console.print(f"written: {folder}")


@app.command()
def dashboard(
    run: RunFolder,
    port: Annotated[int, typer.Option(help="Port on this computer.")] = 8080,
) -> None:
    """Open Optuna's dashboard on a run (needs the extra: pip install nas-face[ui])."""
    from nas_face.study.run import Run

    opened = Run.open(run)
    try:
        from optuna_dashboard import run_server
    except ImportError as failure:
        raise ConfigError(
            "the dashboard is an extra: install it with pip install 'nas-face[ui]'"
        ) from failure
    _console().print(f"http://127.0.0.1:{port}  (stop with Ctrl-C)")
    run_server(opened.storage_url, host="127.0.0.1", port=port)


def _search(console: "Console", run: "Run") -> None:
    """The search itself, behind a progress bar."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    faces = run.faces()
    split = faces.split
    skipped = f"; {faces.n_skipped} broken images skipped" if faces.n_skipped else ""
    console.print(
        f"faces: {split.train.n_identities} identities to train on ({len(split.train)} images), "
        f"{split.search.n_identities} to search by ({len(faces.search_pairs)} pairs), "
        f"{split.test.n_identities} to report on ({len(faces.test_pairs)} pairs){skipped}"
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("trials", total=run.config.trials, note="")
        progress.update(task, completed=run.n_ended())
        run.search(
            faces,
            on_epoch=lambda report: progress.update(
                task, note=f"epoch {report.epoch}/{report.n_epochs} loss {report.loss:.2f}"
            ),
            on_trial=lambda trial: progress.update(task, completed=run.n_ended()),
        )
        progress.update(task, note="")


def _print_survey(console: "Console", run: "Run") -> None:
    survey = run.survey()
    smallest = survey.smallest.spec.cost().madds
    median, largest = (survey.quantile(lambda c: c.madds, share) for share in (0.5, 1.0))
    console.print(
        f"space {run.space.name}: {run.space.size:.2g} designs of {smallest / 1e6:,.1f}M to "
        f"{largest / 1e6:,.0f}M MAdds (median {median / 1e6:,.0f}M); "
        f"{survey.share_fitting:.1%} of {len(survey.costs)} drawn evenly fit the budget"
    )


def _print_front(front: "Front") -> None:
    from nas_face.study.tables import front_table

    _out().print(front_table(front))


def _quantity(text: str | None, where: str) -> int | None:
    from nas_face.search import parse_quantity

    return None if text is None else parse_quantity(text, where=where)


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


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2, ensure_ascii=False))


def _console() -> "Console":
    """For talk: standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def _out() -> "Console":
    """For results: standard output, wide enough not to fold where it is piped."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


@contextlib.contextmanager
def _epochs(console: "Console", n_epochs: int) -> Iterator[Any]:
    """A progress bar over epochs; yields what `train` calls after each."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (
        TextColumn("epochs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("epochs", total=n_epochs, note="")
        yield lambda report: progress.update(
            task, completed=report.epoch, note=f"loss {report.loss:.3f}"
        )
