"""nas-face: search face-verification networks under a compute budget, then shrink the one you
choose."""

import os

__version__ = "0.1.0"

# Else ONNX Runtime tells a server of Microsoft's of its use, and keeps a number of this machine
# and a data base in the home folder. It asks when it is imported, wherever that is.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
