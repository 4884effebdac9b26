"""What may be chosen: choices, search spaces, and the YAML that declares them."""

from nas_face.space.loader import load_space, read_yaml
from nas_face.space.space import Design, SearchSpace
from nas_face.space.template import Choice, Label, Pick

__all__ = ["Choice", "Design", "Label", "Pick", "SearchSpace", "load_space", "read_yaml"]
