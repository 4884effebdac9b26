"""How much slower is counting all scores of a gallery than only multiplying its embeddings?

The peer multiplies the same upper triangle block by block with numpy and does nothing with the
scores; it is timed twice, with the blocks and threads of `gallery_scores` and with large blocks
that the BLAS library spreads over the cores, and the faster of the two is taken. All are timed in
turns. Wall seconds on a quiet machine, processor seconds on a busy one.

    python benchmarks/gallery_speed.py --images 20000 --dims 128
"""

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from nas_face.verify.gallery import DEFAULT_BLOCK_BYTES, GALLERY_FARS, gallery_scores
from nas_face.verify.gallery_blocks import for_each_block, sorted_set

Floats = NDArray[np.float32]


def main() -> None:
    """Parse, time in turns, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--dims", type=int, default=128)
    parser.add_argument("--images-per-identity", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--blas-block", type=int, default=2048)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    embeddings, labels = faces(
        np.random.default_rng(arguments.seed),
        arguments.images,
        arguments.dims,
        arguments.images_per_identity,
    )
    before_mb = peak_mb()
    ours: dict[str, Callable[[], object]] = {
        "counted, FAR 1e-1 to 1e-8": lambda: gallery_scores(embeddings, labels),
        "counted, FAR 1e-3 to 1e-8": lambda: gallery_scores(
            embeddings, labels, fars=GALLERY_FARS[2:]
        ),
        "with identification": lambda: gallery_scores(embeddings, labels, identification=True),
    }
    bare: dict[str, Callable[[], object]] = {
        "product, our blocks": lambda: bare_in_blocks(embeddings, labels),
        "product, large blocks": lambda: bare_by_blas(embeddings, arguments.blas_block),
    }
    gallery_scores(embeddings, labels)
    ours_mb = peak_mb()
    wall: dict[str, list[float]] = {name: [] for name in bare | ours}
    processor: dict[str, list[float]] = {name: [] for name in bare | ours}
    for _ in range(arguments.repeats):
        for name, call in (bare | ours).items():
            start, start_processor = time.perf_counter(), time.process_time()
            call()
            wall[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - start_processor)
    n_pairs = arguments.images * (arguments.images - 1) // 2
    table = Table(title=f"{arguments.images} images, {arguments.dims} dims, {n_pairs:.3g} pairs")
    for heading in ("", "wall s", "ratio", "processor s", "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    base = min(min(wall[name]) for name in bare)
    base_processor = min(min(processor[name]) for name in bare)
    for name in wall:
        cells = (min(wall[name]), min(wall[name]) / base)
        cells += (min(processor[name]), min(processor[name]) / base_processor)
        table.add_row(name, *(f"{cell:.2f}" for cell in cells))
    console = Console(width=100)
    console.print(table)
    console.print(
        f"peak memory: {before_mb:.0f} MB with the embeddings ({embeddings.nbytes / 2**20:.0f} "
        "MB), "
        f"{ours_mb:.0f} MB after the first count"
    )
    result = gallery_scores(embeddings, labels)
    console.print({f"{far:g}": round(result.tar_at(far), 5) for far in result.fars})


def faces(
    rng: np.random.Generator, n: int, n_dims: int, per_identity: int
) -> tuple[Floats, NDArray[np.int64]]:
    """Made-up embeddings `(n, n_dims)` around one centre an identity, and the identities."""
    labels = np.arange(n, dtype=np.int64) // per_identity
    centres = rng.standard_normal((labels[-1] + 1, n_dims), dtype=np.float32)
    embeddings = centres[labels]
    embeddings += rng.standard_normal((n, n_dims), dtype=np.float32)
    order = rng.permutation(n)
    return embeddings[order], labels[order]


def bare_in_blocks(embeddings: Floats, labels: NDArray[np.int64]) -> None:
    rows = sorted_set(embeddings, labels, "embeddings", block_bytes=DEFAULT_BLOCK_BYTES)
    for_each_block(rows, None, lambda block: None, block_bytes=DEFAULT_BLOCK_BYTES)


def bare_by_blas(embeddings: Floats, size: int) -> None:
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    room = np.empty(size * size, dtype=np.float32)
    for row in range(0, len(unit), size):
        for column in range(row, len(unit), size):
            left, right = unit[row : row + size], unit[column : column + size]
            scores = room[: len(left) * len(right)].reshape(len(left), len(right))
            np.matmul(left, right.T, out=scores)


def peak_mb() -> float:
    """Most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


if __name__ == "__main__":
    main()
