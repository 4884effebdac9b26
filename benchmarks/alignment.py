"""How well do found points align faces?

Aligned crops are turned, scaled and laid onto larger photos by known transforms, and aligned
again, each in two poses. The error is how far the result moves the template's five points from
where the original crop has them, in pixels of a 112x112 crop; it includes what another detector
than ours has put elsewhere in the originals. Between two poses of one crop only ours counts. A
trained network says how alike the old and the new crop are to it. The ORL faces of an ordinary
install are shown too; they have no published alignment, and only say how many are found.

    OMP_NUM_THREADS=1 python benchmarks/alignment.py FACES/lfw --teacher FACES/teachers/NAME.onnx
"""

import argparse
import math
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageFilter

from nas_face.align import (
    TEMPLATE,
    FaceDetector,
    align_photos,
    apply_transform,
    inverse_transform,
    similarity_transform,
    warp,
)
from nas_face.data.bundled import load_orl

PHOTO = 640


@dataclass(frozen=True)
class Posed:
    """A photo made of a crop, and where in it each point of the crop lies."""

    pixels: np.ndarray
    transform: np.ndarray


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, nargs="?", help="folder of aligned crops, any depth")
    parser.add_argument("--teacher", type=Path, help="ONNX network, (x - 127) / 128, 3x112x112")
    parser.add_argument("--images", type=int, default=150)
    parser.add_argument("--max-degrees", type=float, default=30.0)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    if arguments.faces is not None:
        paths = sorted(arguments.faces.rglob("*.jpg"))
        chosen = rng.permutation(len(paths))[: arguments.images]
        crops = [np.asarray(Image.open(paths[each]).convert("RGB")) for each in chosen]
        _aligned_again(crops, arguments.teacher, arguments.max_degrees, rng)
        _whole_folder(crops, arguments.max_degrees, rng)
    _orl()


def _aligned_again(
    crops: list[np.ndarray], teacher: Path | None, max_degrees: float, rng: np.random.Generator
) -> None:
    detector = FaceDetector()
    session = None
    if teacher is not None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(teacher), options, ["CPUExecutionProvider"])
    errors: dict[str, list[float]] = {"detected": [], "refined": []}
    cosines: dict[str, list[float]] = {"detected": [], "refined": [], "exact": [], "others": []}
    differences: dict[str, list[float]] = {
        "detected": [],
        "refined": [],
        "exact": [],
        "others": [],
    }
    between: dict[str, list[float]] = {"detected": [], "refined": []}
    before = None
    first_pose: dict[str, np.ndarray] = {}
    n_found = 0
    for number, crop in enumerate(crop for crop in crops for _ in range(2)):
        if number % 2 == 0:
            first_pose = {}
        posed = pose(crop, max_degrees, rng)
        found = [face for face in detector.detect(posed.pixels) if face.score >= 0.6]
        if not found:
            continue
        n_found += 1
        face = found[0]
        transforms = {"exact": inverse_transform(posed.transform)}
        for name, each in (("detected", face), ("refined", detector.refine(posed.pixels, face))):
            transforms[name] = similarity_transform(each.landmarks, TEMPLATE)
            moved = apply_transform(transforms[name], apply_transform(posed.transform, TEMPLATE))
            errors[name].append(float(np.hypot(*(moved - TEMPLATE).T).mean()))
            if name in first_pose:
                between[name].append(float(np.hypot(*(moved - first_pose[name]).T).mean()))
            first_pose[name] = moved
        results = {name: warp(posed.pixels, each, 112) for name, each in transforms.items()}
        if before is not None and number % 2 == 0:
            results["others"] = before
        before = crop
        original = None if session is None else embed(session, crop)
        for name, result in results.items():
            inner = np.abs(result.astype(float) - crop)[16:96, 16:96]
            differences[name].append(float(inner.mean()))
            if session is not None and original is not None:
                cosines[name].append(float(embed(session, result) @ original))
    print(f"{n_found} of {2 * len(crops)} found ({n_found / len(crops) / 2:.1%})\n")
    print(
        "| crop | mean error, px | median | 90 % | between two poses, px | "
        "mean difference, of 255 | mean cosine | 10 % |\n|---|---|---|---|---|---|---|---|"
    )
    for name, label in (
        ("detected", "points as detected"),
        ("refined", "points refined"),
        ("exact", "the known transform"),
        ("others", "another crop"),
    ):
        cells = ["", "", "", ""]
        if name in errors:
            cells = [
                f"{np.mean(errors[name]):.2f}",
                f"{np.median(errors[name]):.2f}",
                f"{np.percentile(errors[name], 90):.2f}",
                f"{np.mean(between[name]):.2f}",
            ]
        cells.append(f"{np.mean(differences[name]):.1f}")
        if session is not None:
            cells += [f"{np.mean(cosines[name]):.3f}", f"{np.percentile(cosines[name], 10):.3f}"]
        print("| " + " | ".join([label, *cells]) + " |")


def pose(crop: np.ndarray, max_degrees: float, rng: np.random.Generator) -> Posed:
    """A crop on a photo whose background is a blur of it, turned and scaled by chance."""
    scale = math.exp(rng.uniform(math.log(0.8), math.log(3.5)))
    turn = math.radians(rng.uniform(-max_degrees, max_degrees))
    a, b = scale * math.cos(turn), scale * math.sin(turn)
    linear = np.array([(a, -b), (b, a)])
    centre = PHOTO / 2 + rng.uniform(-60, 60, 2)
    transform = np.column_stack([linear, centre - linear @ (55.5, 55.5)])
    back = inverse_transform(transform)
    # Pillow counts from the corners of pixels.
    coefficients = back.copy()
    coefficients[:, 2] += 0.5 - back[:, :2] @ (0.5, 0.5)
    size = (PHOTO, PHOTO)
    image = Image.fromarray(crop)

    def laid(layer: Image.Image) -> Image.Image:
        return layer.transform(
            size, Image.Transform.AFFINE, coefficients.ravel().tolist(), Image.Resampling.BICUBIC
        )

    background = image.resize(size).filter(ImageFilter.GaussianBlur(60))
    mask = laid(Image.new("L", image.size, 255))
    return Posed(np.asarray(Image.composite(laid(image), background, mask)), transform)


def embed(session: onnxruntime.InferenceSession, crop: np.ndarray) -> np.ndarray:
    """The unit embedding of a crop."""
    x = ((crop.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]
    found = session.run(None, {session.get_inputs()[0].name: x})[0][0]
    return found / np.linalg.norm(found)


def _whole_folder(crops: list[np.ndarray], max_degrees: float, rng: np.random.Generator) -> None:
    """Photos per second, from files to files."""
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        photos.mkdir()
        for number, crop in enumerate(crops):
            pixels = pose(crop, max_degrees, rng).pixels
            Image.fromarray(pixels).save(photos / f"{number}.jpg", quality=92)
        print(
            f"\n| workers | photos/s ({PHOTO}x{PHOTO} JPEG) | processor time a photo, ms |\n"
            "|---|---|---|"
        )
        for n_workers in (1, 2):
            start, start_cpu = time.perf_counter(), time.process_time()
            report = align_photos(photos, Path(scratch) / str(n_workers), n_workers=n_workers)
            taken = time.perf_counter() - start
            cpu_ms = 1e3 * (time.process_time() - start_cpu) / len(report.results)
            print(f"| {n_workers} | {len(report.results) / taken:.0f} | {cpu_ms:.0f} |")
        print(f"\n{report.counts}")


def _orl() -> None:
    """Tight grey heads: as they are, and on a larger photo."""
    faces = load_orl(112, 92)
    heads = faces.batch(np.arange(len(faces)))
    detector = FaceDetector()
    print("\n| ORL | found |\n|---|---|")
    for name, pad in (("as they are", 0), ("padded by 56 pixels", 56)):
        n_found = 0
        for head in heads:
            photo = np.pad(head, ((pad, pad), (pad, pad), (0, 0)), constant_values=120)
            n_found += any(face.score >= 0.6 for face in detector.detect(photo))
        print(f"| {name} | {n_found / len(heads):.1%} |")


if __name__ == "__main__":
    main()
