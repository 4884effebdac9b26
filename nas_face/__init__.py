"""nas-face: search face-verification networks under a compute budget, then shrink the one you
choose."""

__version__ = "0.1.0"
