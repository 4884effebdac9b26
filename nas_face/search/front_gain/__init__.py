"""Our own sampler: what the Pareto front is expected to gain most from."""

from nas_face.search.front_gain.sampler import Features, FrontGainSampler

__all__ = ["Features", "FrontGainSampler"]
