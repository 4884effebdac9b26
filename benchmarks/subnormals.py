"""What subnormal weights cost an ONNX file, and whether flushing them changes its embeddings.

Processor time of one image in one thread, in turns, median of several.

    python benchmarks/subnormals.py MODEL.onnx
"""

import argparse
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import torch

from nas_face.deploy.runtime import open_session


def main() -> None:
    """Parse, time, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    session = open_session(arguments.model, threads=1)
    taken = session.get_inputs()[0]
    shape = [side if isinstance(side, int) else 1 for side in taken.shape]
    x = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    seconds: dict[bool, list[float]] = {False: [], True: []}
    outputs: dict[bool, np.ndarray] = {}

    def run(flush: bool) -> None:
        torch.set_flush_denormal(flush)
        session.run(None, {taken.name: x})
        began = time.thread_time()
        outputs[flush] = session.run(None, {taken.name: x})[0]
        seconds[flush].append(time.thread_time() - began)

    for _ in range(arguments.turns):
        for flush in (False, True):
            thread = threading.Thread(target=run, args=(flush,))
            thread.start()
            thread.join()
    kept, flushed = (1000 * statistics.median(seconds[flush]) for flush in (False, True))
    apart = np.abs(outputs[False] - outputs[True]).max() / np.abs(outputs[False]).max()
    print(f"kept {kept:.1f} ms, flushed {flushed:.1f} ms, {kept / flushed:.1f} times faster")
    print(f"largest relative difference of the embedding: {apart:.1e}")


if __name__ == "__main__":
    main()
