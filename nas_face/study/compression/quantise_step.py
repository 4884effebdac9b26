"""A quantisation step: calibrate, judge; where the floor is broken, train under quantisation, then
leave more and more layers in float."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from nas_face.arch.codec import from_data
from nas_face.compress.quantisation.adaptive_rounding import adaptive_rounding
from nas_face.compress.quantisation.bias_correction import correct_biases
from nas_face.compress.quantisation.equalise import equalise
from nas_face.compress.quantisation.fold import fold_norms
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.compress.quantisation.mixed import Measured, search_mixed
from nas_face.compress.quantisation.sensitivity import Sensitivity, sensitivities
from nas_face.deploy import has_vnni, quantise_onnx
from nas_face.deploy.openvino import quantise_openvino
from nas_face.errors import ConfigError
from nas_face.nn import FaceModel
from nas_face.nn.model import MODEL_FILE
from nas_face.study.compression.aware_training import aware_trained
from nas_face.study.compression.calibration import calibration_images
from nas_face.study.compression.float_layers import chosen_layers
from nas_face.study.compression.results import FileResult, Runtime, Try
from nas_face.study.compression.runtimes import file_name, runtimes_of, write_float
from nas_face.study.compression.state import LayerLossRow, Outcome, PlacedFile, State, Work
from nas_face.study.compression.step_settings import QuantiseStep
from nas_face.study.compression.trying import Made, Tries
from nas_face.study.compression.usual_crops import usual_crops
from nas_face.study.files import write_text

PRECISION = "int8"
LAYERS_FILE = "layers.json"
N_SENSITIVITY_CROPS = 32


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class _Layers:
    layers: tuple[LayerLossRow, ...]


def quantise_step(step: QuantiseStep, state: State, work: Work, tries: Tries) -> Outcome:
    """Carry a quantisation out.

    Args:
        step: what is asked.
        state: in front of it.
        work: what all steps share.
        tries: of this step.

    Raises:
        CompressionError: nothing can be quantised, or a layer is not there.
        DeployError: a file does not run.
        TrainingDiverged: training under quantisation went astray.
    """
    quantiser = _Quantiser(step, state, work, tries)
    chosen, in_float = quantiser.chosen()
    if not chosen.keeps:
        return Outcome(
            state=state,
            verdict=f"rolled back: {chosen.setting}, which comes nearest, still breaks the floor",
            tries=tries.done,
            files=(state.file,),
        )
    tries.take(chosen)
    first = PlacedFile(path=tries.folder / chosen.file.file, result=chosen.file)
    others = [
        quantiser.for_runtime(runtime, in_float)
        for runtime in runtimes_of(work.recipe, PRECISION)
        if runtime != work.runtime
    ]
    layers = quantiser.layers(in_float)
    write_text(
        tries.folder / LAYERS_FILE, json.dumps(asdict(_Layers(layers=layers)), indent=1) + "\n"
    )
    return Outcome(
        state=replace(
            state, few_bits=(*state.few_bits, first, *others), layers=layers or state.layers
        ),
        verdict=quantiser.verdict(chosen),
        tries=tries.done,
        files=(first, *others),
    )


def known_layers(folder: Path) -> tuple[LayerLossRow, ...]:
    """What a quantisation that is done noted of its layers.

    Raises:
        ConfigError: the record is broken.
    """
    path = folder / LAYERS_FILE
    if not path.exists():
        return ()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as failure:
        raise ConfigError(f"{path}: not valid JSON; delete the folder to start over") from failure
    return from_data(_Layers, data, where=str(path), error=ConfigError).layers


@final
class _Quantiser:
    """Makes int8 files of one model, with these layers or those in float."""

    def __init__(self, step: QuantiseStep, state: State, work: Work, tries: Tries) -> None:
        self.step = step
        self.state = state
        self.work = work
        self.tries = tries
        self.folder = tries.folder
        self.images = usual_crops(
            calibration_images(
                step.calibration, step.n_images, work.bench.faces.train, seed=work.seed
            ),
            state.model,
            work.note,
        )
        self.reduced = not has_vnni() if step.reduce_range is None else step.reduce_range
        self.weight_bits = step.bits - 1 if self.reduced else step.bits
        self._known = weighted_layers(state.model.description)
        self._rows: tuple[Sensitivity, ...] | None = None
        self._trained = False
        self._always = chosen_layers(self._known, step.keep_float)
        if step.keep_sensitive:
            rest = [row.path for row in self.rows() if row.path not in self._always]
            self._always = self._always.union(rest[: step.keep_sensitive])

    def chosen(self) -> tuple[Try, frozenset[str]]:
        """What is taken, and its layers in float; where it breaks the floor, what came nearest.

        Where training under quantisation helps and is not enough, layers are spared of the trained
        weights first, and then of those that were not: with all of these in float nothing is lost.
        """
        calibrated = first = self._attempt(self._always)
        if not first.keeps and self.step.aware is not None:
            self._trained = True
            first = self._attempt(self._always)
        ceiling = self._ceiling_ms()
        within = ceiling is None or first.file.latency_ms <= ceiling
        may_fill = ceiling is not None and self.tries.least is None and within
        if first.keeps and not may_fill:
            return first, self._always
        if self._trained:
            found = self._searched(first, ceiling)
            if found[0].keeps:
                return found
            self._trained = False
        return self._searched(calibrated, ceiling)

    def _searched(self, first: Try, ceiling: float | None) -> tuple[Try, frozenset[str]]:
        """The best setting found by sparing layers, the first of which are those of the recipe."""
        asked = {self._always: first}

        def measured(in_float: frozenset[str]) -> Measured:
            if in_float not in asked:
                asked[in_float] = self._attempt(in_float)
            tried = asked[in_float]
            return Measured(accuracy=tried.file.judged, latency_ms=tried.file.latency_ms)

        found = search_mixed(
            self.rows(),
            measured,
            accuracy_floor=self.tries.least,
            latency_ceiling_ms=ceiling,
            always=self._always,
        )
        return asked[found.best.keep_float], found.best.keep_float

    def verdict(self, chosen: Try) -> str:
        """Of a try that is taken."""
        ceiling = self._ceiling_ms()
        if ceiling is not None and chosen.file.latency_ms > ceiling:
            return (
                f"softened: {chosen.setting}; {chosen.file.latency_ms:.2f} ms is above the "
                f"ceiling of {ceiling:.2f} ms"
            )
        if self.tries.least is not None and chosen.position:
            return f"softened: {chosen.setting}"
        return "kept" if chosen == self.tries.done[0] else f"kept: {chosen.setting}"

    def for_runtime(self, runtime: Runtime, in_float: frozenset[str]) -> PlacedFile:
        """The file for another runtime than that which decides, measured."""
        path = self._write(self.folder, runtime, in_float)
        return PlacedFile(path=path, result=self._measured(path, runtime))

    def rows(self) -> tuple[Sensitivity, ...]:
        """What each layer loses by int8, most first."""
        if self._rows is None:
            self.work.note(f"{self.tries.step}: measuring what each layer loses by int8")
            self._rows = sensitivities(
                fold_norms(self.state.model),
                self.images[:N_SENSITIVITY_CROPS],
                weight_bits=self.weight_bits,
                activation_bits=self.step.bits,
            )
        return self._rows

    def layers(self, in_float: frozenset[str]) -> tuple[LayerLossRow, ...]:
        """What is known of the layers; nothing where they were not looked at."""
        return tuple(
            LayerLossRow(path=row.path, mean_loss=row.mean_loss, in_float=row.path in in_float)
            for row in self._rows or ()
        )

    def _attempt(self, in_float: frozenset[str]) -> Try:
        n_more = len(in_float) - len(self._always)
        trained = " after training for it" if self._trained else ""
        words = f"int8{trained}, {len(in_float)} of {len(self._known)} layers spared"

        def make(place: Path) -> Made:
            path = self._write(place, self.work.runtime, in_float)
            return Made(model=self.state.model, file=self._measured(path, self.work.runtime))

        return self.tries.attempt(words, n_more, make)

    def _write(self, place: Path, runtime: Runtime, in_float: frozenset[str]) -> Path:
        source = write_float(self._model(), self.folder / "source", runtime)
        target = place / file_name(PRECISION, runtime)
        if runtime == "openvino":
            quantise_openvino(
                source,
                target,
                self.images,
                preset=self.step.preset,
                overflow_fix=self.step.reduce_range,
                keep_float=in_float,
            )
        else:
            quantise_onnx(
                source,
                target,
                self.images,
                reduce_range=self.step.reduce_range,
                method=self.step.method,
                keep_float=in_float,
            )
        return target

    def _measured(self, path: Path, runtime: Runtime) -> FileResult:
        return self.work.bench.measure(path, runtime, PRECISION, self.state.model)

    def _ceiling_ms(self) -> float | None:
        share = self.step.max_latency_share
        if share is not None:
            return share * self.state.file.result.latency_ms
        return self.step.max_latency_ms

    def _model(self) -> FaceModel:
        """What the quantiser is given: the float model, prepared as the step asks."""
        if self._trained:
            assert self.step.aware is not None
            return aware_trained(
                self.state.model,
                self.step.aware,
                self.work,
                self.folder / "aware",
                images=self.images,
                weight_bits=self.weight_bits,
                activation_bits=self.step.bits,
                keep_float=self._always,
            )
        folder = self.folder / "prepared"
        if (folder / MODEL_FILE).exists():
            return FaceModel.load(folder)
        model = prepared(
            self.state.model,
            self.images,
            equalised=self.step.equalise,
            adaptive=self.step.rounding == "adaptive",
            corrected=self.step.bias_correction,
            weight_bits=self.weight_bits,
            keep_float=self._always,
        )
        model.save(folder)
        return model


def prepared(
    model: FaceModel,
    images: NDArray[np.uint8],
    *,
    equalised: bool = False,
    adaptive: bool = False,
    corrected: bool = False,
    weight_bits: int,
    keep_float: frozenset[str],
) -> FaceModel:
    """A model whose weights lose less on a grid; nearly the same function in float.

    Args:
        model: float weights.
        images: crops that the methods look at.
        equalised: even out the ranges of channels first.
        adaptive: round weights to what keeps the outputs of their layer.
        corrected: shift biases by what rounding shifts the outputs.
        weight_bits: of the grid.
        keep_float: layers that stay as they are.
    """
    if not (equalised or adaptive or corrected):
        return model
    model = fold_norms(model)
    if equalised:
        model = equalise(model, images)
    reference = model
    if adaptive:
        model = adaptive_rounding(model, images, weight_bits=weight_bits, keep_float=keep_float)
    if corrected:
        model = correct_biases(
            model,
            images,
            weight_bits=weight_bits,
            keep_float=keep_float,
            reference=reference,
        )
    return model
