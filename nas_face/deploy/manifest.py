"""The manifest of an artefact: what every file takes and gives, and whether it is whole.

Which pixels, in which order, cut out how, and what is compared with what: a file that is fed by
guesswork still gives embeddings, only worse ones. `manifest.json` says it, so that no caller in
any language has to guess.
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Self, final

from pydantic import TypeAdapter, ValidationError

from nas_face.arch.codec import first_problem
from nas_face.deploy.files import write_atomically
from nas_face.errors import DeployError, near_names
from nas_face.nn.model import ChannelOrder

MANIFEST_FILE: Final = "manifest.json"
MANIFEST_VERSION: Final = 1
POINTS: Final = (
    "eye on the left of the image",
    "eye on the right of the image",
    "tip of the nose",
    "corner of the mouth on the left of the image",
    "corner of the mouth on the right of the image",
)
"""Of the alignment, in its order."""

Runtime = Literal["onnxruntime", "openvino"]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A file on disk.

    Attributes:
        name: below the folder of the manifest, without folders.
        sha256: of its content, hexadecimal.
        size_bytes: its length.

    Raises:
        DeployError: the name leads out of the folder.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    name: str
    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or "/" in self.name or "\\" in self.name:
            raise DeployError(f"a file must lie in the folder of the manifest, got {self.name!r}")

    @classmethod
    def of(cls, path: Path) -> Self:
        """The part that a file is.

        Raises:
            DeployError: it cannot be read.
        """
        return cls(name=path.name, sha256=_sha256(path), size_bytes=path.stat().st_size)

    def require(self, folder: Path) -> Path:
        """The file in a folder, if it is still the same.

        Raises:
            DeployError: it is missing, or its content is another.
        """
        path = folder / self.name
        if not path.is_file():
            raise DeployError(
                f"{path}: is missing, but {MANIFEST_FILE} lists it; copy the whole folder again"
            )
        size = path.stat().st_size
        if size != self.size_bytes:
            raise DeployError(
                f"{path}: is {size:,} bytes long where {MANIFEST_FILE} says {self.size_bytes:,}; "
                "copy the folder again"
            )
        if _sha256(path) != self.sha256:
            raise DeployError(
                f"{path}: its content is not the one that {MANIFEST_FILE} lists (SHA-256 "
                "differs); "
                "copy the folder again"
            )
        return path


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInput:
    """What every file of the folder takes: pixels as they are.

    Attributes:
        height: of the crop, in pixels.
        width: of the crop, in pixels.
        name: of the input.
        layout: of the array; the batch is free.
        dtype: of its values.
        channel_order: of the array, whatever the network behind it wants.
        low: value of a black pixel.
        high: value of a full one.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    height: int
    width: int
    name: str
    layout: Literal["NCHW"] = "NCHW"
    dtype: Literal["float32"] = "float32"
    channel_order: Literal["RGB"] = "RGB"
    low: int = 0
    high: int = 255


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """What the graph itself does with the pixels: (x - mean) / scale.

    Attributes:
        mean: subtracted from values 0 to 255.
        scale: divided by.
        channel_order: that the network takes; the graph changes the order of the input.
        in_graph: always; a caller must not do it again.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    mean: float
    scale: float
    channel_order: ChannelOrder
    in_graph: Literal[True] = True


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Where the five points of a face lie in a crop, which is a similarity transform of the photo.

    Attributes:
        points: (x, y) in pixels of a crop of the input's size, in the order of `names`.
        names: of the points.

    Raises:
        DeployError: they are not five.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    points: tuple[tuple[float, float], ...]
    names: tuple[str, ...] = POINTS

    def __post_init__(self) -> None:
        if len(self.points) != len(POINTS) or self.names != POINTS:
            raise DeployError(
                f"alignment takes the five points {', '.join(POINTS)}, in this order"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingOutput:
    """What every file of the folder gives.

    Attributes:
        size: values of an embedding.
        name: of the output.
        unit_length: never; divide by the length, or compare by cosine.
        flip: `add`: thresholds are of the embedding of a crop plus that of its mirror image.
        compare: by which figure.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    size: int
    name: str
    unit_length: Literal[False] = False
    flip: Literal["add"] = "add"
    compare: Literal["cosine"] = "cosine"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """From which cosine on a pair is the same person, at a false match rate.

    Attributes:
        fmr: false match rate, in (0, 1].
        cosine: in [-1, 1].
        low: lower end of the interval in which the threshold of exactly this rate may lie.
        high: upper end.
        holds: what other pairs said: whether the rate lies in the interval of theirs, or None
            where there were none.

    Raises:
        DeployError: a number is out of range.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    fmr: float
    cosine: float
    low: float
    high: float
    holds: bool | None = None

    def __post_init__(self) -> None:
        if not (0 < self.fmr <= 1 and -1 <= self.cosine <= 1):
            raise DeployError(
                "a threshold needs an fmr in (0, 1] and a cosine in [-1, 1], "
                f"got {self.fmr} and {self.cosine}"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One way to run the model.

    Attributes:
        runtime: that runs it.
        precision: such as `fp32`, `int8` or `w4`.
        parts: the file to open; behind it those that it needs beside it.
        card: its threshold card, or None where the pairs supported none.
        thresholds: of the card, by falling rate.

    Raises:
        DeployError: there is no file.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    runtime: Runtime
    precision: str
    parts: tuple[Part, ...]
    card: Part | None = None
    thresholds: tuple[Threshold, ...] = ()

    def __post_init__(self) -> None:
        if not self.parts:
            raise DeployError(f"{self.precision} for {self.runtime} lists no file")

    @property
    def size_bytes(self) -> int:
        """Of all its parts."""
        return sum(part.size_bytes for part in self.parts)

    def require(self, folder: Path) -> Path:
        """The file to open, if all that it needs is whole, its card included.

        Raises:
            DeployError: a file is missing, or its content is another.
        """
        if self.card is not None:
            self.card.require(folder)
        return [part.require(folder) for part in self.parts][0]

    def threshold(self, fmr: float, *, where: str) -> Threshold:
        """The threshold for a false match rate.

        Args:
            fmr: the rate.
            where: starts the message.

        Raises:
            DeployError: the card has none for this rate.
        """
        for each in self.thresholds:
            if math.isclose(each.fmr, fmr, rel_tol=1e-6):
                return each
        known = ", ".join(f"{each.fmr:g}" for each in self.thresholds)
        raise DeployError(
            f"{where}: no threshold for FMR {fmr:g} at {self.precision}; "
            + (
                f"there are some for {known}"
                if known
                else "the card has none; make one on more pairs with nas-face verify --card"
            )
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """All that a caller of the files must know.

    Attributes:
        model: digest of the float network that all files were made of, weights included.
        input: what they take.
        normalisation: what they do with it first.
        embedding: what they give.
        alignment: how crops are cut, or None where nobody said.
        recommended: precision to take where nothing else is said.
        files: ways to run the model, no two alike.

    Raises:
        DeployError: two files have the same runtime and precision, or none is of the recommended
            precision.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    model: str
    input: ImageInput
    normalisation: Normalisation
    embedding: EmbeddingOutput
    alignment: Alignment | None = None
    recommended: str
    files: tuple[ModelFile, ...]

    def __post_init__(self) -> None:
        ways = [(each.runtime, each.precision) for each in self.files]
        for runtime, precision in ways:
            if ways.count((runtime, precision)) > 1:
                raise DeployError(f"two files are {precision} for {runtime}")
        if self.recommended not in self.precisions:
            raise DeployError(f"no file is of the recommended precision {self.recommended!r}")

    @property
    def precisions(self) -> tuple[str, ...]:
        """Of the files, each once, in their order."""
        return tuple(dict.fromkeys(each.precision for each in self.files))

    @property
    def embedding_contract(self) -> str:
        """Equal where embeddings of two artefacts may be compared with one another.

        SHA-256 of everything that an embedding depends on: the pixels that go in, where the face
        lies in them, mean and scale, the network with its weights, and the mirror image. The
        precision is not among it: embeddings of one network at two precisions are near, but each
        has thresholds of its own.
        """
        parts = {
            "model": self.model,
            "input": asdict(self.input),
            "normalisation": asdict(self.normalisation),
            "embedding": asdict(self.embedding),
            "alignment": None if self.alignment is None else asdict(self.alignment),
        }
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def ways(self, precision: str, *, where: str) -> tuple[ModelFile, ...]:
        """Files of one precision.

        Args:
            precision: which.
            where: starts the message.

        Raises:
            DeployError: there is none.
        """
        found = tuple(each for each in self.files if each.precision == precision)
        if not found:
            raise DeployError(
                f"{where}: no file of precision {precision!r}; "
                + near_names(precision, self.precisions)
            )
        return found

    def to_json(self) -> str:
        """The text of `manifest.json`."""
        data = {
            "version": MANIFEST_VERSION,
            "embedding_contract": self.embedding_contract,
            **asdict(self),
        }
        return json.dumps(data, indent=1) + "\n"

    def write(self, folder: Path) -> Path:
        """Write `manifest.json`; a crash leaves the old one or the new one.

        Returns:
            Its path.

        Raises:
            DeployError: it cannot be written.
        """
        path = folder / MANIFEST_FILE
        write_atomically(path, self.to_json().encode())
        return path

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """Read `manifest.json` of an artefact.

        Raises:
            DeployError: it is missing, of another version, or malformed; or it was changed by hand
                so that its contract does not fit any more.
        """
        path = folder / MANIFEST_FILE
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except OSError as failure:
            raise DeployError(
                f"{folder}: not an artefact, {MANIFEST_FILE} cannot be read ({failure.strerror}); "
                "nas-face compress makes one"
            ) from failure
        except ValueError as failure:
            raise DeployError(f"{path}: not valid JSON ({failure})") from failure
        if not isinstance(data, dict):
            raise DeployError(f"{path}: must hold a mapping, got {type(data).__name__}")
        version = data.pop("version", None)
        if version != MANIFEST_VERSION:
            raise DeployError(
                f"{path}: must be of version {MANIFEST_VERSION}, got {version!r}; read it with "
                "the nas-face that wrote it, or compress again"
            )
        contract = data.pop("embedding_contract", None)
        found = _validated(data, path)
        if contract != found.embedding_contract:
            raise DeployError(
                f"{path}: embedding_contract does not fit the rest; the file was changed, copy "
                "the "
                "folder again"
            )
        return found


def _validated(data: dict[str, Any], path: Path) -> Manifest:
    try:
        # Text, since only in JSON a list may stand for a tuple where all else is strict.
        found: Manifest = _ADAPTER.validate_json(json.dumps(data), strict=True)
    except ValidationError as failure:
        worst = failure.errors(include_url=False)[0]
        text = first_problem(failure)
        if worst["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            text += f" ({near_names(str(worst['loc'][-1]), _KEYS)})"
        raise DeployError(f"{path}: {text}") from failure
    except DeployError as failure:
        raise DeployError(f"{path}: {failure}") from failure
    return found


_ADAPTER: Final = TypeAdapter(Manifest)
_KEYS: Final = {
    each.name
    for part in (
        Manifest,
        ImageInput,
        Normalisation,
        Alignment,
        EmbeddingOutput,
        ModelFile,
        Part,
        Threshold,
    )
    for each in fields(part)
}


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as failure:
        raise DeployError(f"{path}: cannot be read ({failure.strerror})") from failure
