"""Commands about runs: `search`, `pareto` and `dashboard`."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.budget import (
    Limit,
    MaxActivations,
    MaxFlops,
    MaxLatency,
    MaxMadds,
    MaxParams,
    MaxSize,
    MinActivations,
    MinFlops,
    MinLatency,
    MinMadds,
    MinParams,
    MinSize,
    limits,
)
from nas_face.cli.console import (
    DataOption,
    JsonFlag,
    console,
    named_sources,
    print_json,
    print_table,
    program,
)
from nas_face.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from nas_face.study.report import Front
    from nas_face.study.run import Run

MAX_NAMED = 10  # of skipped images, so that a broken disk does not flood the terminal

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")]


def search(
    study: Annotated[str, typer.Argument(metavar="STUDY.yaml", help="Study file.")],
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
    max_latency: MaxLatency = None,
    min_latency: MinLatency = None,
    trials: Annotated[int | None, typer.Option(help="Candidates in all.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything.")] = None,
    start_with: Annotated[
        list[str] | None,
        typer.Option(help="Network, spec file or run to propose first; may be repeated."),
    ] = None,
    data: DataOption = None,
    exclude: Annotated[
        str | None, typer.Option(help="Text file of identities to leave out.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Deployment target, such as integer_npu, or a YAML file.")
    ] = None,
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="Propose what the target runs poorly.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME if not given.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this computer.")] = 1,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Database of the trials, for workers on several computers, such as "
            "postgresql+psycopg://user@host/database; a file in the run folder if not given.",
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            min=1, help="Seconds of silence after which a worker elsewhere counts as dead."
        ),
    ] = 180,
) -> None:
    """Search a space under a budget; run again, it goes on where it stopped, or joins in."""
    from nas_face.shipped import find_file

    path = find_file(study)
    if path is None:
        raise ConfigError(f"{study}: no such study file")
    from nas_face.study.config import load_study
    from nas_face.study.report import front_of, write_report
    from nas_face.study.run import Run

    overrides: dict[str, Any] = {
        "trials": trials,
        "seed": seed,
        "start_with": start_with or None,
        "data.source": named_sources(data),
        "data.exclude": exclude,
        "target": target,
        "allow_slow": allow_slow or None,
        **_budget(
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
            max_latency=max_latency,
            min_latency=min_latency,
        ),
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    config = load_study(path, given)
    terminal = console()
    aim = "" if config.target is None else f", target {config.target}"
    terminal.print(f"study {config.name}: space {config.space}, budget {config.budget}{aim}")
    run = Run.start(out or Path("runs") / config.name, config, storage)
    for line in run.survey().lines():
        terminal.print(line)
    _search(terminal, run, workers, grace)
    front = front_of(run)
    with run.locked():
        files = write_report(run, front)
    _print_front(front)
    terminal.print("written: " + ", ".join(map(str, files)))
    if front.knee is not None:
        terminal.print("to compress the point nearest to the ideal, type:")
        print(f"{program()} compress {shlex.quote(str(run.folder))} --trial {front.knee}")


def pareto(
    run: RunFolder,
    as_json: JsonFlag = False,
    csv: Annotated[Path | None, typer.Option(help="Write all trials as CSV.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write the picture: PNG, SVG, PDF.")] = None,
) -> None:
    """Show the Pareto front of a run and what it cost: table, JSON, CSV or picture."""
    from nas_face.study.report import front_of, plot_front, rung_report, search_cost, side_tables
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
        rungs = rung_report(opened)
        print_json(
            {
                "objectives": {each.name: each.direction for each in front.objectives},
                "front": records,
                "hypervolume": {
                    "share": front.hypervolume,
                    "reference": front.reference,
                    "ideal": front.ideal,
                },
                "trials": front.n_trials,
                "rungs": None if rungs is None else rungs.to_data(),
                "cost": search_cost(opened).to_data(),
            }
        )
    else:
        _print_front(front)
        for table in side_tables(opened):
            print_table(table)


def dashboard(
    run: RunFolder,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on this computer.")] = 8080,
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
    opened.trials()  # a broken storage shows here
    console().print(f"http://127.0.0.1:{port}  (stop with Ctrl-C)")
    run_server(opened.storage_url, host="127.0.0.1", port=port)


def _budget(**options: Limit) -> dict[str, float]:
    """Limits of the command line, by their keys in a study."""
    return {f"budget.{wall}": limit for wall, limit in limits(**options).items()}


def _search(terminal: "Console", run: "Run", n_workers: int, grace_s: float) -> None:
    """The search itself, behind progress bars."""
    from nas_face.cli.progress import crowding, search_display, sigterm_as_ctrl_c
    from nas_face.study.supervisor import search_in_parallel

    faces = run.faces()
    split = faces.split
    for each in faces.skipped[:MAX_NAMED]:
        terminal.print(f"skipped {each.name}: {each.reason}")
    skipped = f"; {len(faces.skipped)} images or folders skipped" if faces.skipped else ""
    terminal.print(
        f"faces: {split.train.n_identities} identities to train on ({len(split.train)} images), "
        f"{split.search.n_identities} to search by ({len(faces.search_pairs)} pairs), "
        f"{split.test.n_identities} to report on ({len(faces.test_pairs)} pairs){skipped}"
    )
    crowded = crowding(n_workers, run.config.threads)
    if crowded is not None:
        terminal.print(crowded)
    with sigterm_as_ctrl_c(), search_display(terminal, run, n_workers) as display:
        if n_workers > 1:
            search_in_parallel(run, n_workers, display, grace_s=grace_s)
        else:
            run.search(
                faces,
                on_epoch=lambda report: display.epoch(1, report),
                on_trial=lambda trial: display.trial(1, trial),
                on_wait=lambda n_busy: display.waits(1, n_busy),
                on_note=display.note,
                grace_s=grace_s,
            )


def _print_front(front: "Front") -> None:
    from nas_face.study.tables import front_table

    print_table(front_table(front))
