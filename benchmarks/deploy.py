"""What export, OpenVINO and int8 are worth on this processor, and what int8 costs in fidelity.

For published networks, whose untrained weights follow the faces in their batch normalisation (time
does not depend on weights; the cosine of int8 does, and is pessimistic there), and for trained
ones from model folders. Every time is a ratio to the plain fp32 file in ONNX Runtime, measured in
turns in one process, one thread, one image. Calibration and held-out crops show different people.

    python benchmarks/deploy.py
    python benchmarks/deploy.py --data FACES --crops 1000 --model FOLDER --model mobilefacenet_128
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from nas_face.arch.zoo import NETWORKS
from nas_face.data import FaceImages, load_orl
from nas_face.data.formats.opening import load_faces
from nas_face.deploy import (
    Parity,
    QuantisationReport,
    cpu_name,
    embedding_parity,
    export_onnx,
    export_openvino,
    has_vnni,
    measure_in_turns,
    open_model_file,
    quantise_onnx,
    quantise_openvino,
    size_bytes_of,
)
from nas_face.nn import FaceModel

Crops = NDArray[np.uint8]


def main() -> None:
    """Measure and print one table, and which layers stayed in float."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="faces of any format; the built-in ones if left")
    parser.add_argument("--model", action="append", help="zoo name or model folder; every name")
    parser.add_argument("--calibration", type=int, default=60, help="crops to calibrate on")
    parser.add_argument("--crops", type=int, default=20, help="crops to hold int8 against fp32 on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{cpu_name()}, VNNI: {'yes' if has_vnni() else 'no'}")
    rows = []
    for name in options.model or NETWORKS:
        fresh = name in NETWORKS
        model = (
            FaceModel.fresh(NETWORKS[name].spec, seed=0) if fresh else FaceModel.load(Path(name))
        )
        calibration, held_out = crops_of(
            faces_of(options.data, model), options.calibration, options.crops
        )
        if fresh:
            settle_batch_norm(model, calibration)
        rows += measure(name, model, calibration, held_out)
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.4f}"))


def faces_of(data: Path | None, model: FaceModel) -> FaceImages:
    """Crops of the model's size."""
    size = {"height": model.height, "width": model.width}
    return load_orl(**size) if data is None else load_faces(data, **size)


def crops_of(faces: FaceImages, n_calibration: int, n_held_out: int) -> tuple[Crops, Crops]:
    """Crops of two halves of the people."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(faces))
    first = np.isin(faces.labels, rng.permutation(np.unique(faces.labels))[::2])[order]
    return faces.batch(order[first][:n_calibration]), faces.batch(order[~first][:n_held_out])


def measure(
    name: str, model: FaceModel, calibration: Crops, held_out: Crops
) -> list[dict[str, object]]:
    """One row a file: seconds to make it, size, agreement with torch, time beside the plain."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        plain, rewritten, ir = (folder / each for each in ("p.onnx", "r.onnx", "f.xml"))
        int8, int8_ir = folder / "q.onnx", folder / "q.xml"
        reports: dict[Path, QuantisationReport] = {}
        steps = {
            plain: lambda: export_onnx(model, plain, prelu="native"),
            rewritten: lambda: export_onnx(model, rewritten),
            ir: lambda: export_openvino(model, ir),
            int8: lambda: reports.update({int8: quantise_onnx(rewritten, int8, calibration)}),
            int8_ir: lambda: reports.update(
                {int8_ir: quantise_openvino(ir, int8_ir, calibration)}
            ),
        }
        titles = ("ORT plain", "ORT rewritten", "OpenVINO fp32", "ORT int8", "OpenVINO int8")
        expected = model.embed(held_out, flip=False)
        rows = []
        for title, (path, make) in zip(titles, steps.items(), strict=True):
            start = time.perf_counter()
            make()
            seconds = time.perf_counter() - start
            parity = embedding_parity(expected, open_model_file(path).embed(held_out, flip=False))
            rows.append(row(name, title, seconds, path, plain, parity, reports.get(path)))
        return rows


def row(
    name: str,
    title: str,
    seconds: float,
    path: Path,
    plain: Path,
    parity: Parity,
    report: QuantisationReport | None,
) -> dict[str, object]:
    """Figures of one file; which of its layers are in float is printed at once."""
    if report is not None:
        in_float = " ".join(report.float_layers) or "none"
        print(f"{name}, {title}: {report.summary}; in float32: {in_float}", flush=True)
    return {
        "network": name,
        "file": title,
        "made in s": round(seconds, 1),
        "bytes": size_bytes_of(path),
        "mean cosine": parity.mean_cosine,
        "1st percentile": parity.p01_cosine,
        "time / plain": measure_in_turns(path, plain).ratio,
        "in float32": 0 if report is None else report.n_float_nodes,
    }


def settle_batch_norm(model: FaceModel, images: Crops) -> None:
    """Let running statistics follow real faces, as a training would."""
    model.module.train()
    with torch.no_grad():
        for _ in range(20):
            model.module(model.description.preprocessing.apply(images[:20]))
    model.module.eval()


if __name__ == "__main__":
    main()
