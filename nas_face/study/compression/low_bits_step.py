"""A step that keeps weights in few bits, for size."""

from pathlib import Path

from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.deploy import export_onnx
from nas_face.deploy.low_bit import quantise_weights
from nas_face.search import derive_seed
from nas_face.study.compression.float_layers import chosen_layers
from nas_face.study.compression.quantise_step import prepared
from nas_face.study.compression.results import Try
from nas_face.study.compression.runtimes import file_name
from nas_face.study.compression.state import Outcome, PlacedFile, State, Work
from nas_face.study.compression.step_settings import Bits, LowBitsStep
from nas_face.study.compression.trying import Made, Tries
from nas_face.study.compression.usual_crops import usual_crops
from nas_face.study.faces import sample_images

_LADDER: tuple[Bits, ...] = (4, 6, 8)


def low_bits_step(step: LowBitsStep, state: State, work: Work, tries: Tries) -> Outcome:
    """Keep weights in few bits; where that breaks the floor, in more.

    The file is for ONNX Runtime, whatever the recipe's runtime is.

    Args:
        step: what is asked.
        state: in front of it.
        work: what all steps share.
        tries: of this step.

    Raises:
        CompressionError: no layer can be kept in few bits, or one is not there.
        DeployError: a file does not run.
    """
    in_float = chosen_layers(weighted_layers(state.model.description), step.keep_float)
    drawn = sample_images(
        work.bench.faces.train, step.n_images, seed=derive_seed(work.seed, "calibration")
    )
    images = usual_crops(drawn, state.model, work.note)

    def attempt(position: int, bits: Bits) -> Try:
        def make(place: Path) -> Made:
            model = prepared(
                state.model,
                images,
                adaptive=step.rounding == "adaptive",
                weight_bits=bits,
                keep_float=in_float,
            )
            source = place / "source.onnx"
            export_onnx(model, source)
            path = place / file_name(f"w{bits}", "onnxruntime")
            quantise_weights(source, path, bits=bits, keep_float=in_float)
            source.unlink()
            file = work.bench.measure(path, "onnxruntime", f"w{bits}", state.model)
            return Made(model=state.model, file=file)

        return tries.attempt(f"weights in {bits} bits", position, make)

    ladder = [bits for bits in _LADDER if bits >= step.bits]
    for position, bits in enumerate(ladder):
        tried = attempt(position, bits)
        if tried.keeps:
            break
    if not tried.keeps:
        return Outcome(
            state=state,
            verdict=f"rolled back: {tried.setting} still break the floor",
            tries=tries.done,
            files=(state.file,),
        )
    tries.take(tried)
    placed = PlacedFile(path=tries.folder / tried.file.file, result=tried.file)
    return Outcome(
        state=State(
            model=state.model,
            file=state.file,
            few_bits=(*state.few_bits, placed),
            layers=state.layers,
        ),
        verdict="kept" if tried.position == 0 else f"softened: {tried.setting}",
        tries=tries.done,
        files=(placed,),
    )
