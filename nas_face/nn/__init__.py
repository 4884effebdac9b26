"""Layer tree to torch: building modules, and models on disk."""

from nas_face.nn.build import build, initialise_
from nas_face.nn.model import FaceModel, Preprocessing

__all__ = ["FaceModel", "Preprocessing", "build", "initialise_"]
