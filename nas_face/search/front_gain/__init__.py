"""Our own sampler: what the Pareto front is expected to gain most from."""

from nas_face.search.front_gain.sampler import Features, FrontGainSampler
from nas_face.search.front_gain.walls import Walls

__all__ = ["Features", "FrontGainSampler", "Walls"]
