"""What one file is worth: held against torch, verified, timed beside the plain original."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.data import PairList
from nas_face.deploy import (
    embedding_parity,
    measure_in_turns,
    open_model_file,
    require_parity,
    size_bytes_of,
)
from nas_face.nn import FaceModel
from nas_face.study.compression.record import CompressionFaces
from nas_face.study.compression.results import FileResult, Runtime
from nas_face.study.evaluate import embed_pairs
from nas_face.verify import cosine_scores, verify_embeddings
from nas_face.verify.metrics import roc

MIN_COSINE_FP32 = 0.9999
_ROUNDS = 60  # a candidate of a pruning to a latency is timed this often


@final
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """Measures files of one compression.

    Attributes:
        faces: to verify on.
        crops: real crops to hold files against torch on, `(N, H, W, 3)`.
        plain: ONNX file of the original with PReLU as one node: the common reference in time.
    """

    faces: CompressionFaces
    crops: NDArray[np.uint8]
    plain: Path

    def measure(
        self, path: Path, runtime: Runtime, precision: str, model: FaceModel
    ) -> FileResult:
        """Everything about a file.

        Args:
            path: `.onnx`, or `.xml` with its `.bin` beside it.
            runtime: that runs it.
            precision: of the file; one in fp32 must agree with torch.
            model: float model that it came from.

        Raises:
            DeployError: it does not run, or does not agree.
        """
        session = open_model_file(path)
        expected, got = (each.embed(self.crops, flip=False) for each in (model, session))
        parity = embedding_parity(expected, got)
        if precision == "fp32":
            require_parity(parity, min_cosine=MIN_COSINE_FP32, where=str(path))
        decide, report = self.faces.judge, self.faces.pairs
        embeddings = directed(embed_pairs(session, decide), precision)
        judged = judged_accuracy(embeddings, decide)
        if report is not decide:
            embeddings = directed(embed_pairs(session, report), precision)
        verification = verify_embeddings(embeddings, report)
        latency = measure_in_turns(session, self.plain)
        return FileResult(
            runtime=runtime,
            precision=precision,
            file=path.name,
            size_bytes=size_bytes_of(path),
            latency_ms=latency.latency_ms,
            speedup=1 / latency.ratio,
            accuracy=verification.accuracy,
            accuracy_std=verification.accuracy_std,
            auc=verification.auc,
            eer=verification.eer,
            judged=judged,
            min_cosine=parity.min_cosine,
            p01_cosine=parity.p01_cosine,
            mean_cosine=parity.mean_cosine,
            max_abs_difference=parity.max_abs_difference,
        )

    def reference(self, model: FaceModel, like: FileResult) -> FileResult:
        """The plain original as a file: held against torch and timed, and verified by another.

        Args:
            model: the original.
            like: of a float32 file of it, whose figures of verification are taken: the same
                function need not be run over all pairs twice.

        Raises:
            DeployError: it does not run, or does not agree.
        """
        session = open_model_file(self.plain)
        parity = embedding_parity(
            *(each.embed(self.crops, flip=False) for each in (model, session))
        )
        require_parity(parity, min_cosine=MIN_COSINE_FP32, where=str(self.plain))
        latency = measure_in_turns(session, self.plain)
        return replace(
            like,
            runtime="onnxruntime",
            file=self.plain.name,
            size_bytes=size_bytes_of(self.plain),
            latency_ms=latency.latency_ms,
            speedup=1.0,
            min_cosine=parity.min_cosine,
            p01_cosine=parity.p01_cosine,
            mean_cosine=parity.mean_cosine,
            max_abs_difference=parity.max_abs_difference,
        )

    def relative_latency(self, path: Path, reference: Path) -> float:
        """Latency of a file over that of another, in turns.

        Raises:
            DeployError: one does not run.
        """
        return measure_in_turns(path, reference, rounds=_ROUNDS).ratio


def directed(embeddings: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """Embeddings of which none is zero.

    Coarse numbers can leave nothing of a network: all faces then look alike to it, which costs it
    its accuracy and not the compression its end. A float32 network that gives zero is broken.
    """
    if precision == "fp32":
        return embeddings
    dead = ~np.isfinite(embeddings).all(axis=1, keepdims=True)
    dead |= ~embeddings.any(axis=1, keepdims=True)
    return np.where(dead, np.float32(1), embeddings)


def judged_accuracy(embeddings: NDArray[np.float32], pairs: PairList) -> float:
    """Mean of TAR and 1 - FAR at the threshold where it is highest, 0.5 to 1.

    Pairs that decide have many impostors for each genuine one; so their plain accuracy would
    hardly change with what the network does to the genuine ones.

    Raises:
        MetricError: embeddings are zero or not finite.
    """
    curve = roc(cosine_scores(embeddings, pairs.first, pairs.second), pairs.same)
    return float(np.max((curve.tar + 1 - curve.far) / 2))


def standard_error(judged: float, pairs: PairList) -> float:
    """Of `judged_accuracy`, 0 to 1, as if pairs were independent.

    They share people and images, so the true one is larger. One error more of each kind is
    assumed, for a network without errors is not known to make none.
    """
    rate = min(0.5, 1 - judged)
    shares = [(rate * n + 1) / (n + 2) for n in (pairs.n_same, pairs.n_different)]
    counts = (pairs.n_same, pairs.n_different)
    spread = sum(p * (1 - p) / n for p, n in zip(shares, counts, strict=True))
    return float(np.sqrt(spread) / 2)
