"""Entry point: the commands together, and errors of the user's as one line."""

import errno
import io
import logging
import sys
from typing import Annotated

import typer

from nas_face import __version__
from nas_face.cli import data, models, networks, nni, proxies, runs, spaces, train, verify
from nas_face.cli.console import INTERRUPTED, Interrupted
from nas_face.errors import (
    DeployError,
    NasFaceError,
    RanksLost,
    SearchFailed,
    TrainingDiverged,
)

WRONG_PATH = (
    errno.EACCES,
    errno.EEXIST,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
)

WORK_FAILED = (SearchFailed, TrainingDiverged, RanksLost, DeployError)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search face-verification networks under a compute budget, then shrink the chosen one.",
)
for command in (
    runs.search,
    runs.pareto,
    runs.dashboard,
    proxies.proxies,
    train.train,
    verify.verify,
    models.compress,
    models.import_weights,
    networks.cost,
    networks.diff,
    networks.zoo,
):
    app.command()(command)
spaces.app.command("nni")(nni.to_nni)
spaces.app.command("from-nni")(nni.from_nni)
app.add_typer(spaces.app, name="space")
app.add_typer(data.app, name="data")


def main() -> None:
    """Entry point: errors of the user's end as one line, exit code 2; failed work, 1."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error does by itself
    try:
        app()
    except NasFaceError as failure:
        print(f"nas-face: {failure}", file=sys.stderr)
        sys.exit(1 if isinstance(failure, WORK_FAILED) else 2)
    except Interrupted as end:
        if end.line is not None:
            print(f"nas-face: {end.line}", file=sys.stderr)
        raise
    except SystemExit as end:
        if end.code == INTERRUPTED:  # Typer's answer to Ctrl-C
            print("nas-face: interrupted; run the same command to go on", file=sys.stderr)
        raise
    except OSError as failure:
        if failure.errno is None:
            raise
        where = f"{failure.filename}: " if failure.filename else ""
        print(f"nas-face: {where}{failure.strerror}", file=sys.stderr)
        sys.exit(2 if failure.errno in WRONG_PATH else 1)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
