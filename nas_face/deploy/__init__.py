"""Models as files that run elsewhere: export, int8, runtime, parity and latency."""

from nas_face.deploy.cpu import cpu_name, has_vnni
from nas_face.deploy.latency import Latency, LatencyMeter, measure_in_turns
from nas_face.deploy.onnx_convention import Convention
from nas_face.deploy.onnx_embedder import OnnxEmbedder
from nas_face.deploy.onnx_export import export_onnx
from nas_face.deploy.parity import Parity, embedding_parity, require_parity
from nas_face.deploy.quantise import QuantisationReport, quantise_onnx
from nas_face.deploy.runtime import OnnxSession

__all__ = [
    "Convention",
    "Latency",
    "LatencyMeter",
    "OnnxEmbedder",
    "OnnxSession",
    "Parity",
    "QuantisationReport",
    "cpu_name",
    "embedding_parity",
    "export_onnx",
    "has_vnni",
    "measure_in_turns",
    "quantise_onnx",
    "require_parity",
]
