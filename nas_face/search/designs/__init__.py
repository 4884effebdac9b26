"""What can be proposed, and what a search begins with."""

from nas_face.search.designs.candidates import Candidate, Designs, SpaceExhausted, key_of
from nas_face.search.designs.parameter_designs import ParameterDesigns
from nas_face.search.designs.space_designs import SpaceDesigns

__all__ = [
    "Candidate",
    "Designs",
    "ParameterDesigns",
    "SpaceDesigns",
    "SpaceExhausted",
    "key_of",
]
