"""What may be chosen: choices, search spaces, and the YAML that declares them."""

from nas_face.space.loader import load_space, read_yaml
from nas_face.space.locate import locate
from nas_face.space.screening import Screened, Screener, screener_of
from nas_face.space.space import Design, SearchSpace
from nas_face.space.template import Choice, Label, Pick

__all__ = [
    "Choice",
    "Design",
    "Label",
    "Pick",
    "Screened",
    "Screener",
    "SearchSpace",
    "load_space",
    "locate",
    "read_yaml",
    "screener_of",
]
