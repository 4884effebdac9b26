"""A folder of photos -> a folder of aligned crops."""

import contextlib
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal, final

import filelock
import numpy as np
import numpy.typing as npt

from nas_face.align.detector import DEFAULT_MIN_SCORE, Face, FaceDetector
from nas_face.align.journal import Journal, write_whole
from nas_face.align.opencv import one_thread_a_call, opencv
from nas_face.align.report import AlignReport, PhotoResult
from nas_face.align.walking import FoundPhotos, crop_names, find_photos
from nas_face.align.warp import TEMPLATE_SIZE, scaled_template, similarity_transform, warp
from nas_face.data.blobs import FileBlobs
from nas_face.data.images import decode_upright
from nas_face.errors import ConfigError, DataError

Choice = Literal["central", "largest"]
CropFormat = Literal["jpg", "png"]

DEFAULT_MIN_FACE_PX = 24
DEFAULT_QUALITY = 95

_MIN_SIZE, _MAX_SIZE = 16, 1024
_READ_AHEAD = 4  # photos in work and in waiting, for each worker

OnDone = Callable[[PhotoResult, int, int], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AlignSettings:
    """What crops are made of photos, and of which faces.

    Args:
        choose: of several faces, the one nearest to the middle of the photo or the largest.
        size: rows and columns of the crops, 16 to 1024.
        min_score: what a face needs, 0.3 to 1.
        min_face_px: shorter side of a face's box in the photo, in pixels, at least 1.
        format: JPEG, with full colour resolution, or PNG.
        quality: of JPEG, 1 to 100.

    Raises:
        ConfigError: a value is out of range.
    """

    choose: Choice = "central"
    size: int = TEMPLATE_SIZE
    min_score: float = DEFAULT_MIN_SCORE
    min_face_px: int = DEFAULT_MIN_FACE_PX
    format: CropFormat = "jpg"
    quality: int = DEFAULT_QUALITY

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("size", self.size, _MIN_SIZE, _MAX_SIZE),
            ("min_score", self.min_score, 0.3, 1.0),
            ("min_face_px", self.min_face_px, 1, 10**6),
            ("quality", self.quality, 1, 100),
        ):
            if not low <= value <= high:
                raise ConfigError(f"align: {name} must be {low} to {high}, got {value}")
        if self.choose not in ("central", "largest"):
            raise ConfigError(f"align: choose must be central or largest, got {self.choose!r}")
        if self.format not in ("jpg", "png"):
            raise ConfigError(f"align: format must be jpg or png, got {self.format!r}")


def align_photos(
    photos: Path,
    out: Path,
    *,
    settings: AlignSettings = AlignSettings(),
    n_workers: int | None = None,
    force: bool = False,
    on_done: OnDone | None = None,
) -> AlignReport:
    """Find a face in each photo, and write it as an aligned crop under the same relative path.

    The five points are brought to InsightFace's template by the similarity transform nearest to
    it. Photos are turned upright first. A photo without a usable face, or that cannot be read, is
    reported and does not stop the others.

    Crops and `OUT/aligned.csv` are written as photos are done, each in full or not at all; run
    again, only photos without a crop are worked on. The settings are kept in `OUT/aligned.json`.

    Args:
        photos: folder of photos at any depth, such as one folder for each identity.
        out: folder to write; it may not lie in `photos`, nor the other way round.
        settings: which faces, and what crops.
        n_workers: photos at a time; by default one for each core that this process may use.
        force: delete the crops of earlier runs, and make all again.
        on_done: called in this thread after each photo with its result, how many are done and how
            many there are, those that were done before included.

    Returns:
        What became of each photo; `check` refuses too few crops.

    Raises:
        ConfigError: the extra `align` is not installed; `out` has files of something else, crops
            of other settings, or another run in it.
        DataError: `photos` is missing or has no photo.
        OSError: a crop cannot be written.
    """
    detector = FaceDetector(min_score=settings.min_score)
    found = find_photos(photos)
    listed = sorted([*found.names, *found.unlisted])
    with _alone_in(photos, out):
        journal = Journal(out, asdict(settings), force=force)
        known = {
            name: result.crop for name, result in journal.before.items() if result.crop is not None
        }
        crops = crop_names(found.names, known, f".{settings.format}")
        done = {
            name: journal.before[name]
            for name, crop in known.items()
            if name in crops and (out / crop).is_file()
        }
        cropper = _Cropper(photos, out, settings, detector, crops)
        todo = [name for name in found.names if name not in done]
        with journal, one_thread_a_call():
            results = _all_results(cropper, found, todo, n_workers or n_cores())
            with contextlib.closing(results):  # an error here leaves no photo in work
                for result in results:
                    journal.add(result)
                    done[result.source] = result
                    if on_done is not None:
                        on_done(result, len(done), len(listed))
        journal.finish()
    return AlignReport(
        photos=photos,
        out=out,
        results=tuple(done[name] for name in listed),
        n_done_before=len(found.names) - len(todo),
        ignored=found.ignored,
    )


def n_cores() -> int:
    """Processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1


def choose_face(faces: Sequence[Face], height: int, width: int, choose: Choice) -> Face:
    """One of several faces: the largest box, or the one whose middle is nearest to the image's."""
    if choose == "largest":
        return max(faces, key=lambda face: face.box[2] * face.box[3])

    def off_centre(face: Face) -> float:
        x, y, box_width, box_height = face.box
        return float(np.hypot(x + box_width / 2 - width / 2, y + box_height / 2 - height / 2))

    return min(faces, key=off_centre)


@final
class _Cropper:
    """One photo -> one crop on disk; any thread may call."""

    def __init__(
        self,
        photos: Path,
        out: Path,
        settings: AlignSettings,
        detector: FaceDetector,
        crops: dict[str, str],
    ) -> None:
        self._photos = photos
        self._out = out
        self._settings = settings
        self._detector = detector
        self._crops = crops
        self._template = scaled_template(settings.size)

    def crop(self, name: str) -> PhotoResult:
        crop = self._crops[name]
        try:
            image = decode_upright(FileBlobs((self._photos / name,)).read(0))
        except DataError as error:
            reason = str(error).removeprefix(f"{self._photos / name}: ")
            result = PhotoResult(source=name, status="broken", reason=reason)
        else:
            result, face = self._judge(name, image)
            if face is not None:
                self._write(crop, image, face)
                return replace(result, crop=crop)
        (self._out / crop).unlink(missing_ok=True)  # of a run before, which did find a face
        return result

    def _judge(self, name: str, image: npt.NDArray[np.uint8]) -> tuple[PhotoResult, Face | None]:
        """What is to be said of a photo, and the face that is taken, if any."""
        settings = self._settings
        faces = self._detector.detect(image)
        sure = [face for face in faces if face.score >= settings.min_score]
        large = [face for face in sure if face.size_px >= settings.min_face_px]
        result = PhotoResult(source=name, status="no face", n_faces=len(sure))
        if not faces:
            return result, None
        if not sure:
            return _about(replace(result, status="low score"), faces[0]), None
        if not large:
            nearest = max(sure, key=lambda face: face.size_px)
            return _about(replace(result, status="too small"), nearest), None
        face = choose_face(large, image.shape[0], image.shape[1], settings.choose)
        face = self._detector.refine(image, face)
        return _about(replace(result, status="ok"), face), face

    def _write(self, crop: str, image: npt.NDArray[np.uint8], face: Face) -> None:
        cv2 = opencv()
        transform = similarity_transform(face.landmarks, self._template)
        pixels = warp(image, transform, self._settings.size)
        how: list[int] = []
        if self._settings.format == "jpg":
            how = [
                *(cv2.IMWRITE_JPEG_QUALITY, self._settings.quality),
                *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
            ]
        written, data = cv2.imencode(
            f".{self._settings.format}", np.ascontiguousarray(pixels[:, :, ::-1]), how
        )
        assert written
        path = self._out / crop
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data.tobytes(), self._out / f".{threading.get_ident()}.part")


def _about(result: PhotoResult, face: Face) -> PhotoResult:
    return replace(result, score=face.score, box=face.box, landmarks=face.landmarks)


def _all_results(
    cropper: _Cropper, found: FoundPhotos, todo: Sequence[str], n_workers: int
) -> Generator[PhotoResult, None, None]:
    """Results as they are done; of the photos that wait, only a few are in memory."""
    for folder, reason in found.unlisted.items():
        yield PhotoResult(source=folder, status="broken", reason=reason)
    waiting = iter(todo)
    with ThreadPoolExecutor(n_workers, thread_name_prefix="align") as workers:
        pending: set[Future[PhotoResult]] = set()
        try:
            while True:
                room = _READ_AHEAD * n_workers - len(pending)
                pending |= {workers.submit(cropper.crop, name) for name in islice(waiting, room)}
                if not pending:
                    return
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield future.result()
        finally:
            workers.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _alone_in(photos: Path, out: Path) -> Iterator[None]:
    """The folder of crops, made if need be, with no other run in it."""
    inner, outer = out.resolve(), photos.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise ConfigError(
            f"{out}: crops must not be written into the folder of photos, nor around it "
            f"({photos}); choose another folder"
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; a folder for the crops is needed")
    out.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(out / ".aligned.lock", timeout=0):
            for partial in out.glob(".*.part"):  # of a run that was killed
                partial.unlink(missing_ok=True)
            yield
    except filelock.Timeout as failure:
        raise ConfigError(
            f"{out}: another `nas-face data align` writes into it; wait for it, or choose another "
            "folder"
        ) from failure
