"""What export and int8 are worth on this processor, for every published network.

Untrained weights with batch normalisation calibrated on the built-in faces: time does not depend
on weights; the int8 cosine does, and is pessimistic here. Every time is a ratio to the plain fp32
file, measured in turns in one process, one thread, one image.

    python benchmarks/deploy.py
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nas_face.arch.zoo import NETWORKS
from nas_face.data import load_orl
from nas_face.deploy import (
    OnnxSession,
    cpu_name,
    embedding_parity,
    export_onnx,
    has_vnni,
    measure_in_turns,
    quantise_onnx,
)
from nas_face.nn import FaceModel


def main() -> None:
    """Measure and print one table."""
    torch.set_num_threads(1)
    print(f"{cpu_name()}, VNNI: {'yes' if has_vnni() else 'no'}")
    crops = load_orl(112, 112)
    calibration = crops.batch(np.arange(0, 300, 5))
    held_out = crops.batch(np.arange(300, 400, 5))
    rows = [measure(name, calibration, held_out) for name in NETWORKS]
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda value: f"{value:.3f}"))


def measure(name: str, calibration: np.ndarray, held_out: np.ndarray) -> dict[str, object]:
    """One row: export time, agreement, sizes, and times relative to the plain fp32 file."""
    model = FaceModel.fresh(NETWORKS[name].spec, seed=0)
    settle_batch_norm(model, calibration)
    with tempfile.TemporaryDirectory() as folder:
        plain, rewritten, int8 = (
            Path(folder) / file for file in ("plain.onnx", "rewritten.onnx", "int8.onnx")
        )
        export_onnx(model, plain, prelu="native")
        start = time.perf_counter()
        export_onnx(model, rewritten)
        export_ms = 1000 * (time.perf_counter() - start)
        quantise_onnx(rewritten, int8, calibration)
        reference = model.embed(held_out)
        parity, parity8 = (
            embedding_parity(reference, OnnxSession(file).embed(held_out))
            for file in (rewritten, int8)
        )
        return {
            "network": name,
            "export ms": export_ms,
            "fp32 min cosine": parity.min_cosine,
            "int8 mean cosine": parity8.mean_cosine,
            "int8 / fp32 bytes": int8.stat().st_size / rewritten.stat().st_size,
            "rewritten / plain time": measure_in_turns(rewritten, plain).ratio,
            "int8 / plain time": measure_in_turns(int8, plain).ratio,
        }


def settle_batch_norm(model: FaceModel, images: np.ndarray) -> None:
    """Let running statistics follow real faces, as a training would."""
    model.module.train()
    with torch.no_grad():
        for _ in range(20):
            model.module(model.description.preprocessing.apply(images[:20]))
    model.module.eval()


if __name__ == "__main__":
    main()
