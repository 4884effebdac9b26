"""Teachers: embeddings of the training images, made once and kept on disk."""

from nas_face.train.teachers.cache import CachedTargets, TeacherModel, images_digest
from nas_face.train.teachers.settings import SFACE, TeacherChoice, TeacherSettings
from nas_face.train.teachers.steps import SteppedTargets
from nas_face.train.teachers.targets import TeacherTargets

__all__ = [
    "SFACE",
    "CachedTargets",
    "SteppedTargets",
    "TeacherChoice",
    "TeacherModel",
    "TeacherSettings",
    "TeacherTargets",
    "images_digest",
]
