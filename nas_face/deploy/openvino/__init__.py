"""OpenVINO, the faster runtime on x86, and NNCF, its quantiser; imported at first use.

They come along on x86, and are an extra elsewhere.
"""

from nas_face.deploy.openvino.convert import export_openvino
from nas_face.deploy.openvino.library import openvino_missing
from nas_face.deploy.openvino.quantise import quantise_openvino
from nas_face.deploy.openvino.session import OpenVinoSession

__all__ = ["OpenVinoSession", "export_openvino", "openvino_missing", "quantise_openvino"]
