"""A distillation step: train with a teacher; where it made things worse, it is undone."""

from pathlib import Path

from nas_face.nn import FaceModel
from nas_face.study.compression.runtimes import write_float
from nas_face.study.compression.state import Outcome, PlacedFile, State, Work
from nas_face.study.compression.step_settings import DistilStep
from nas_face.study.compression.teaching import distilled
from nas_face.study.compression.trying import Made, Tries


def distil_step(step: DistilStep, state: State, work: Work, tries: Tries) -> Outcome:
    """Carry a distillation out.

    Args:
        step: what is asked.
        state: in front of it.
        work: what all steps share.
        tries: of this step.

    Raises:
        NasFaceError: a file does not agree with torch, or the training diverged.
    """

    def make(place: Path) -> Made:
        model = distilled(state.model, step, work, place)
        path = write_float(model, place, work.runtime)
        return Made(model=model, file=work.bench.measure(path, work.runtime, "fp32", model))

    tried = tries.attempt(f"{step.epochs} epochs", 0, make)
    if not tried.keeps:
        return Outcome(
            state=state,
            verdict=f"rolled back: judged {tried.file.judged:.2%}, {tried.least:.2%} is the floor",
            tries=tries.done,
            files=(state.file,),
        )
    tries.take(tried)
    placed = PlacedFile(path=tries.folder / tried.file.file, result=tried.file)
    return Outcome(
        state=State(model=FaceModel.load(tries.folder), file=placed),
        verdict="kept",
        tries=tries.done,
        files=(placed,),
    )
