"""What all pictures share: formats, colours, and how they get to disk."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas_face.errors import ConfigError

SUFFIXES = (".png", ".svg", ".pdf")
GREY, BLUE, RED = "#b8bec6", "#1f5fbf", "#c8442c"


def require_picture(path: Path) -> None:
    """Check the name of a picture before any work is done for it.

    Raises:
        ConfigError: it ends in no format that is written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: the name of a picture must end in {', '.join(SUFFIXES)}")


def blank(width: float, height: float) -> Figure:
    """An empty figure of that many inches."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_picture(figure: Figure, path: Path) -> None:
    """Write a figure in the format that the file's name says, into a folder made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
