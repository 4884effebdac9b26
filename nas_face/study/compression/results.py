"""What every step of a compression came to: one record a step, one more for each of its files."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, final

from nas_face.study.verification.groups import worst_tar_of
from nas_face.verify.groups import GroupReport

Runtime = Literal["onnxruntime", "openvino"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FileResult:
    """What one file of a step is worth.

    Attributes:
        runtime: that runs it.
        precision: `fp32`, `int8`, or `w4`, `w6`, `w8` of a file that keeps its weights in so many
            bits and computes in float32.
        file: its name below the step's folder.
        size_bytes: of the file, and of the file of weights that belongs to it.
        latency_ms: one image, one thread.
        speedup: latency of the plain original over this one's, in turns; the plain original is
            the model that was given, fp32, in ONNX Runtime, with PReLU as one node.
        accuracy: on the pairs that are reported, 10-fold, 0 to 1.
        accuracy_std: over the folds.
        auc: on the same pairs.
        eer: on the same pairs.
        judged: on the pairs that decide, 0 to 1: the mean of TAR and 1 - FAR at the threshold
            where it is highest, which is the accuracy of as many impostor as genuine pairs.
        min_cosine: lowest cosine of this file's embedding of a real crop to torch's, in fp32, of
            the weights of the same step.
        p01_cosine: first percentile of the same.
        mean_cosine: their mean.
        max_abs_difference: largest difference of one value of an embedding.
    """

    runtime: Runtime
    precision: str
    file: str
    size_bytes: int
    latency_ms: float
    speedup: float
    accuracy: float
    accuracy_std: float
    auc: float
    eer: float
    judged: float
    min_cosine: float
    p01_cosine: float
    mean_cosine: float
    max_abs_difference: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What a compression is worth behind one step.

    Attributes:
        step: name of the row.
        kind: of the step; `original` for what was given.
        verdict: `kept`, `softened: ...` or `rolled back: ...`. Behind a step that was rolled back
            everything is as it was in front of it, and so are the figures.
        madds: multiply-accumulates.
        params: parameters as torch counts them.
        files: that this step leaves; the first is on the recipe's runtime, and decides.
        seconds: that all its tries took.
        groups: of people on the pairs that are reported, of the first file, by each attribute.
    """

    step: str
    kind: str
    verdict: str
    madds: int
    params: int
    files: tuple[FileResult, ...]
    seconds: float
    groups: tuple[GroupReport, ...] = ()

    @property
    def first(self) -> FileResult:
        """The file that decides."""
        return self.files[0]

    @property
    def rolled_back(self) -> bool:
        """Whether the step left everything as it was."""
        return self.verdict.startswith("rolled back")

    @property
    def worst_group_tar(self) -> float | None:
        """Lowest TAR of any group; None without groups that are large enough."""
        return worst_tar_of(self.groups)

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON; nothing about groups where there are none."""
        data = asdict(self)
        data["files"] = [asdict(each) for each in self.files]
        del data["groups"]
        if self.groups:
            data["worst_group_tar"] = self.worst_group_tar
            data["groups"] = [each.as_dict() for each in self.groups]
        return data


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One setting of a step that was carried out, measured and judged.

    Attributes:
        step: name of the row that it belongs to.
        setting: what was done, for people: ``to 60% of the latency``, ``3 layers in float``.
        position: 0 is what the recipe asks for; the higher, the softer.
        madds: multiply-accumulates.
        params: parameters as torch counts them.
        file: on the recipe's runtime.
        least: accuracy on the pairs that decide which the floor asks for, 0 to 1; None without.
        keeps: whether the floor is kept.
        seconds: that it took.
    """

    step: str
    setting: str
    position: int
    madds: int
    params: int
    file: FileResult
    least: float | None
    keeps: bool
    seconds: float


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Compression:
    """What a recipe came to.

    Attributes:
        results: the original, and one for each step.
        tries: of all steps, those that were not taken included.
        reached: whether every step did what was asked of it and the recipe's floor is kept.
        shortfalls: where not, what is missing, a line each.
        delivered: every file that ships, measured; the first is the one to use.
    """

    results: tuple[StepResult, ...]
    tries: tuple[Try, ...]
    reached: bool
    shortfalls: tuple[str, ...]
    delivered: tuple[FileResult, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return {
            "reached": self.reached,
            "shortfalls": list(self.shortfalls),
            "delivered": [asdict(each) for each in self.delivered],
            "steps": [each.as_dict() for each in self.results],
            "tries": [asdict(each) for each in self.tries],
        }
