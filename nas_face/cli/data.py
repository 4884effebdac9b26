"""Commands about faces on disk: `data show`, `check`, `convert` and `align`."""

import typer

from nas_face.cli.data_align import align
from nas_face.cli.data_check import check
from nas_face.cli.data_convert import convert
from nas_face.cli.data_show import show

app = typer.Typer(
    no_args_is_help=True,
    help="Look at faces on disk, hold sets against each other, change their format, align photos.",
)
for command in (show, check, convert, align):
    app.command()(command)
