"""Weights out of other people's files into our layer trees.

A file becomes operators in an order (`checkpoint`, `onnx_reader`), a tree becomes sites in running
order (`sites`), and `matching` brings them together or says why not.
"""

from nas_face.foreign.assembly import weights_of
from nas_face.foreign.checkpoint import read_safetensors, read_torch
from nas_face.foreign.matching import Match, match
from nas_face.foreign.onnx_image import InGraph
from nas_face.foreign.onnx_reader import OnnxNetwork, read_onnx
from nas_face.foreign.operators import Operator, Source
from nas_face.foreign.reference import run_onnx
from nas_face.foreign.sites import Site, sites_of

__all__ = [
    "InGraph",
    "Match",
    "OnnxNetwork",
    "Operator",
    "Site",
    "Source",
    "match",
    "read_onnx",
    "read_safetensors",
    "read_torch",
    "run_onnx",
    "sites_of",
    "weights_of",
]
