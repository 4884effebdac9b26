"""Commands about runs: `search`, `pareto` and `dashboard`."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, console, print_json, program, results
from nas_face.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from nas_face.study.report import Front
    from nas_face.study.run import Run

MAX_NAMED = 10  # of skipped images, so that a broken disk does not flood the terminal

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of a search.")]


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
    target: Annotated[
        str | None, typer.Option(help="Deployment target, such as integer_npu, or a YAML file.")
    ] = None,
    allow_slow: Annotated[
        bool, typer.Option("--allow-slow", help="Propose what the target runs poorly.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/NAME if not given.")] = None,
) -> None:
    """Search a space under a budget; run again, it goes on where it stopped."""
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
        "data.source": data,
        "data.exclude": exclude,
        "target": target,
        "allow_slow": allow_slow or None,
        **_budget(max_madds, max_flops, max_params),
    }
    given = {key: value for key, value in overrides.items() if value is not None}
    config = load_study(path, given)
    terminal = console()
    aim = "" if config.target is None else f", target {config.target}"
    terminal.print(f"study {config.name}: space {config.space}, budget {config.budget}{aim}")
    run = Run.start(out or Path("runs") / config.name, config)
    with run.locked():
        _print_survey(terminal, run)
        _search(terminal, run)
    front = front_of(run)
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
        print_json({"objectives": objectives, "front": records, "trials": front.n_trials})
    else:
        _print_front(front)


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


def _budget(
    max_madds: str | None, max_flops: str | None, max_params: str | None
) -> dict[str, int | None]:
    """Limits of the command line, by their keys in a study."""
    from nas_face.search import parse_quantity

    def number(text: str | None, where: str) -> int | None:
        return None if text is None else parse_quantity(text, where=where)

    madds, flops = number(max_madds, "--max-madds"), number(max_flops, "--max-flops")
    if flops is not None:
        if madds is not None:
            raise ConfigError("--max-flops and --max-madds are one budget: give one of them")
        madds = flops // 2
    return {"budget.max_madds": madds, "budget.max_params": number(max_params, "--max-params")}


def _search(terminal: "Console", run: "Run") -> None:
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
    for each in faces.skipped[:MAX_NAMED]:
        terminal.print(f"skipped {each.name}: {each.reason}")
    skipped = f"; {len(faces.skipped)} images or folders skipped" if faces.skipped else ""
    terminal.print(
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
    with Progress(*columns, console=terminal) as progress:
        task = progress.add_task("trials", total=run.config.trials, note="")
        progress.update(task, completed=run.n_ended())
        run.search(
            faces,
            on_epoch=lambda report: progress.update(
                task, note=f"epoch {report.epoch}/{report.n_epochs} loss {report.loss:.2f}"
            ),
            on_trial=lambda trial: _trial_ended(progress, task, run, trial),
        )
        progress.update(task, note="")


def _trial_ended(progress: "Progress", task: "TaskID", run: "Run", trial: Any) -> None:
    from nas_face.study.tables import trial_line

    progress.console.print(trial_line(trial, run.config.objectives))
    progress.update(task, completed=run.n_ended())


def _print_survey(terminal: "Console", run: "Run") -> None:
    survey = run.survey()
    smallest = survey.smallest.spec.cost().madds
    median, largest = (survey.quantile(lambda c: c.madds, share) for share in (0.5, 1.0))
    terminal.print(
        f"space {run.space.name}: {run.space.size:.2g} designs of {smallest / 1e6:,.1f}M to "
        f"{largest / 1e6:,.0f}M MAdds (median {median / 1e6:,.0f}M); "
        f"{survey.share_fitting:.1%} of {len(survey.costs)} drawn evenly fit the budget"
    )


def _print_front(front: "Front") -> None:
    from nas_face.study.tables import front_table

    results().print(front_table(front))
