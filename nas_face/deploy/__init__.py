"""Models as files that run elsewhere: export, int8, runtimes, parity and latency."""

from nas_face.deploy.artefact import Artefact, Verdict, open_artefact
from nas_face.deploy.cpu import cpu_name, has_vnni
from nas_face.deploy.latency import Latency, LatencyMeter, measure_in_turns
from nas_face.deploy.model_files import size_bytes_of
from nas_face.deploy.onnx_convention import Convention
from nas_face.deploy.onnx_embedder import OnnxEmbedder
from nas_face.deploy.onnx_export import export_onnx
from nas_face.deploy.openvino import (
    OpenVinoSession,
    export_openvino,
    openvino_missing,
    quantise_openvino,
)
from nas_face.deploy.parity import Parity, embedding_parity, require_parity
from nas_face.deploy.quantisation_report import QuantisationReport
from nas_face.deploy.quantise import quantise_onnx
from nas_face.deploy.runtime import OnnxSession
from nas_face.deploy.session import Session, open_model_file

__all__ = [
    "Artefact",
    "Convention",
    "Latency",
    "LatencyMeter",
    "OnnxEmbedder",
    "OnnxSession",
    "OpenVinoSession",
    "Parity",
    "QuantisationReport",
    "Session",
    "Verdict",
    "cpu_name",
    "embedding_parity",
    "export_onnx",
    "export_openvino",
    "has_vnni",
    "measure_in_turns",
    "open_artefact",
    "open_model_file",
    "openvino_missing",
    "quantise_onnx",
    "quantise_openvino",
    "require_parity",
    "size_bytes_of",
]
