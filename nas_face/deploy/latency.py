"""How long one image takes, measured in turns with a reference network or file."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import numpy as np
from numpy.typing import NDArray

from nas_face.deploy.onnx_export import export_onnx
from nas_face.deploy.runtime import OnnxSession
from nas_face.deploy.session import Session, open_model_file
from nas_face.nn.model import FaceModel

ROUNDS: Final = 30
WARMUP: Final = 5
# The reference's own time is the median of this many medians, so that one busy moment at the
# start does not scale every later figure.
_TRIES: Final = 5


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Time for one image, one thread.

    Attributes:
        latency_ms: median over the rounds.
        latency_p90_ms: 90th percentile over the rounds, interpolated linearly.
        reference_ms: median of the reference, over the same rounds.
        ratio: median over the rounds of candidate / reference, each pair measured back to back.
        rounds: number of pairs.
    """

    latency_ms: float
    latency_p90_ms: float
    reference_ms: float
    ratio: float
    rounds: int


def measure_in_turns(
    candidate: Session | Path,
    reference: Session | Path,
    *,
    rounds: int = ROUNDS,
    warmup: int = WARMUP,
) -> Latency:
    """Time two files in turns, A B A B ..., on one image of random pixels each.

    A machine that is slowed down by other work slows both members of a pair, so the ratio stays
    true when the milliseconds do not. Sessions of one thread are timed by the processor time of
    that thread, which stands still while another program has the processor; others by the clock on
    the wall. Both runtimes compute in the caller's thread where they may use one. The image is the
    same in every call.

    Args:
        candidate: ONNX or OpenVINO file, or an open session of either runtime.
        reference: file or open session; a path is opened with one thread.
        rounds: timed pairs, at least 1.
        warmup: pairs before them that are not timed.

    Raises:
        ValueError: `rounds` is below 1 or `warmup` below 0.
        ConfigError: a file is one of OpenVINO, which is not installed.
        DeployError: a file does not run.
    """
    if rounds < 1 or warmup < 0:
        raise ValueError(f"need rounds >= 1 and warmup >= 0, got {rounds} and {warmup}")
    runs = []
    for each in (candidate, reference):
        session = open_model_file(each) if isinstance(each, Path) else each
        runs.append((session, _random_image(session)))
    alone = all(session.threads == 1 for session, _ in runs)
    now = time.thread_time if alone else time.perf_counter
    seconds = np.empty((warmup + rounds, 2))  # candidate, reference
    for row in seconds:
        for at, (session, x) in enumerate(runs):
            start = now()
            session.run(x)
            row[at] = now() - start
    milliseconds = 1000 * seconds[warmup:]
    return Latency(
        latency_ms=float(np.median(milliseconds[:, 0])),
        latency_p90_ms=float(np.percentile(milliseconds[:, 0], 90)),
        reference_ms=float(np.median(milliseconds[:, 1])),
        ratio=float(np.median(milliseconds[:, 0] / milliseconds[:, 1])),
        rounds=rounds,
    )


@final
class LatencyMeter:
    """Measures many networks over hours on a machine that is not always equally fast.

    Each candidate is timed in turns with one reference network. Its `ratio` to the reference times
    the reference's time at one fixed moment is a figure in milliseconds in which the drift of the
    machine between two candidates cancels out, so that the first and the last candidate of a
    search can be compared.

    Args:
        reference: network to compare with, best of about the candidates' size.
        folder: where files are exported to while they are measured; nothing stays behind.

    Attributes:
        reference_ms: time of the reference when the meter was made, median of several medians.

    Raises:
        DeployError: the reference cannot be exported or does not run.
    """

    def __init__(self, reference: FaceModel, folder: Path) -> None:
        self._folder = folder
        self._reference = self._open(reference)
        tries = [measure_in_turns(self._reference, self._reference) for _ in range(_TRIES)]
        self.reference_ms = float(np.median([each.reference_ms for each in tries]))

    def measure(self, model: FaceModel, *, rounds: int = ROUNDS, warmup: int = WARMUP) -> Latency:
        """Export a model and time it against the reference.

        Args:
            model: the candidate; its weights do not matter, its shape does.
            rounds: timed pairs, at least 1.
            warmup: pairs before them that are not timed.

        Raises:
            ValueError: `rounds` is below 1 or `warmup` below 0.
            DeployError: the model cannot be exported or does not run.
        """
        return measure_in_turns(self._open(model), self._reference, rounds=rounds, warmup=warmup)

    def _open(self, model: FaceModel) -> OnnxSession:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="latency-", dir=self._folder) as folder:
            path = Path(folder) / "model.onnx"
            export_onnx(model, path)
            return OnnxSession(path)  # holds the whole file in memory


def _random_image(session: Session) -> NDArray[np.float32]:
    shape = (1, 3, session.height, session.width)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
