"""Quantisation-aware training: it wins back what few bits cost, and is resumed to the bit."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from quantisation_checks import SIDE, SPEC, mean_loss, orl_crops, settled_, small_model

from nas_face.compress.quantisation.aware import on_grids, quantisation_aware
from nas_face.compress.quantisation.fold import fold_norms
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.data import FaceImages, load_orl
from nas_face.deploy import OnnxSession, export_onnx, quantise_onnx
from nas_face.deploy.low_bit import quantise_weights
from nas_face.errors import CompressionError
from nas_face.losses.distillation import Angular
from nas_face.losses.margins import CosFace
from nas_face.nn.model import FaceModel
from nas_face.train import Checkpoints, TrainSettings, train
from nas_face.train.teachers import TeacherSettings

N_KNOWN = 300  # images of the first 30 people; the other ten are never trained on

FROM_LABELS = TrainSettings(
    epochs=6, batch_size=32, learning_rate=0.1, loss=CosFace(margin=0.2, scale=16.0)
)
FROM_FLOAT = TrainSettings(
    epochs=4,
    batch_size=16,
    optimizer="adamw",
    learning_rate=1e-3,
    weight_decay=0.0,
    loss=None,
    teacher=TeacherSettings(model="the network in float"),
    distil=(Angular(),),
)


class Targets:
    """Embeddings of some images by a model, as `nas_face.train` asks for them."""

    def __init__(self, model: FaceModel, pixels: NDArray[np.uint8]) -> None:
        self.views: list[NDArray[np.float32]] = []
        for view in (pixels, np.ascontiguousarray(pixels[:, :, ::-1])):
            found = model.embed(view, flip=False)
            unit = found / np.linalg.norm(found, axis=1, keepdims=True)
            self.views.append(unit.astype(np.float32))
        self.embedding_size = self.views[0].shape[1]
        self.identity = model.digest

    def rows(
        self, indices: NDArray[np.int64], mirrored: NDArray[np.bool_], *, epoch: int
    ) -> NDArray[np.float32]:
        plain, turned = (view[indices] for view in self.views)
        return np.where(mirrored[:, None], turned, plain).astype(np.float32)

    def prepare(self, *, epoch: int, mirrored: bool) -> None:
        """They are all there."""

    def sample(self, n: int) -> NDArray[np.float32]:
        return self.views[0][:n]


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A small network that knows 30 people, folded, and what the tests need beside it."""

    model: FaceModel
    known: FaceImages
    crops: NDArray[np.uint8]
    strangers: NDArray[np.uint8]
    targets: Targets
    wanted: NDArray[np.float32]

    def loss(self, model: FaceModel) -> float:
        """Mean of 1 - cosine to the network in float, on people it was never shown."""
        return mean_loss(self.wanted, model.embed(self.strangers, flip=False))

    def loss_on_grids(self, model: FaceModel, **grids) -> float:
        with quantisation_aware(model, self.crops, **grids) as quantised:
            return self.loss(quantised)

    def taught(self, settings: TrainSettings, **grids) -> FaceModel:
        """A copy of the network, trained on grids to embed as the network does in float."""
        with quantisation_aware(copy.deepcopy(self.model), self.crops, **grids) as student:
            train(student, self.known, settings, seed=0, teacher=self.targets)
        return student


@pytest.fixture(scope="module")
def trained() -> Trained:
    faces = load_orl(SIDE, SIDE)
    pixels = faces.batch(np.arange(400))
    known = FaceImages.from_array(pixels[:N_KNOWN], faces.labels[:N_KNOWN])
    model = fold_norms(train(FaceModel.fresh(SPEC, seed=1), known, FROM_LABELS, seed=0))
    return Trained(
        model=model,
        known=known,
        crops=pixels[:N_KNOWN:8],
        strangers=pixels[N_KNOWN:],
        targets=Targets(model, pixels[:N_KNOWN]),
        wanted=model.embed(pixels[N_KNOWN:], flip=False),
    )


@pytest.mark.slow
def test_training_wins_back_most_of_what_four_bits_cost(trained: Trained) -> None:
    before = trained.loss_on_grids(trained.model, weight_bits=4, narrow_bits=4)
    student = trained.taught(FROM_FLOAT, weight_bits=4, narrow_bits=4)
    after = trained.loss_on_grids(student, weight_bits=4, narrow_bits=4)
    assert before > 0.005
    assert after < before / 2


@pytest.mark.slow
def test_a_file_of_four_bits_is_nearer_to_float(trained: Trained, tmp_path: Path) -> None:
    """Of weights that were rounded as in training; a grid found anew undoes it."""

    def loss_of_file(model: FaceModel) -> float:
        export_onnx(model, tmp_path / "float.onnx")
        quantise_weights(tmp_path / "float.onnx", tmp_path / "packed.onnx", bits=4)
        found = OnnxSession(tmp_path / "packed.onnx").embed(trained.strangers, flip=False)
        return mean_loss(trained.wanted, found)

    gentle = replace(FROM_FLOAT, learning_rate=3e-4)
    student = trained.taught(gentle, weight_bits=4, activation_bits=None)
    inside = trained.loss_on_grids(student, weight_bits=4, activation_bits=None)
    rounded = on_grids(student, weight_bits=4)
    assert trained.loss(rounded) == pytest.approx(inside, rel=0.01)
    assert loss_of_file(rounded) == pytest.approx(inside, rel=0.01)
    assert inside < 0.85 * loss_of_file(trained.model)
    assert loss_of_file(student) > 1.3 * inside


@pytest.mark.slow
def test_training_on_grids_of_eight_bits_does_no_harm(trained: Trained, tmp_path: Path) -> None:
    """There is little to win: the grids are those of ONNX Runtime's int8 files, as their losses
    show, and nearly all of it is what is rounded of activations."""

    def loss_of_file(model: FaceModel) -> float:
        export_onnx(model, tmp_path / "float.onnx")
        quantise_onnx(
            tmp_path / "float.onnx",
            tmp_path / "int8.onnx",
            trained.crops,
            reduce_range=False,
            method="minmax",
        )
        found = OnnxSession(tmp_path / "int8.onnx").embed(trained.strangers, flip=False)
        return mean_loss(trained.wanted, found)

    kept = in_float_at_onnx_runtime(trained.model)
    gentle = replace(FROM_FLOAT, optimizer="sgd", learning_rate=1e-3)
    before = loss_of_file(trained.model)
    assert trained.loss_on_grids(trained.model, outputs=True, keep_float=kept) == pytest.approx(
        before, rel=0.15
    )
    student = trained.taught(gentle, outputs=True, keep_float=kept)
    assert loss_of_file(student) < 1.15 * before
    assert before < 0.001


def in_float_at_onnx_runtime(model: FaceModel) -> frozenset[str]:
    """What `quantise_onnx` leaves in float32."""
    layers = weighted_layers(model.description)
    return frozenset(
        each.path for at, each in enumerate(layers) if at == 0 or each.kind == "depthwise"
    )


def test_the_model_that_comes_out_is_a_plain_one() -> None:
    model, crops = small_model(), orl_crops(4)
    weights = copy.deepcopy(model.module.state_dict())
    plain = model.embed(crops)
    with quantisation_aware(model, crops, weight_bits=3) as student:
        assert student.module is model.module
        assert list(student.module.state_dict()) == list(weights)
        coarse = student.embed(crops)
    assert not np.allclose(coarse, plain, rtol=0.01)
    np.testing.assert_array_equal(student.embed(crops), plain)
    np.testing.assert_array_equal(model.embed(crops), plain)
    *earlier, last = student.description.lineage
    assert tuple(earlier) == model.description.lineage
    assert last.startswith(
        "trained on grids: 3-bit weights, 8-bit activations, 13 layers, 0 in float (grids "
    )


def test_layers_that_stay_in_float_are_told() -> None:
    model = small_model()
    kept = in_float_at_onnx_runtime(model)
    with quantisation_aware(model, orl_crops(4), keep_float=kept) as student:
        assert {
            path
            for path, each in student.module.named_modules()
            if type(each) in (torch.nn.Conv2d, torch.nn.Linear)
        } == kept
    assert "8 layers, 5 in float" in student.description.lineage[-1]


@pytest.mark.parametrize(
    "other",
    [
        {"weight_bits": 5},
        {"activation_bits": 7},
        {"activation_bits": None},
        {"outputs": True},
        {"narrow_bits": 4},
        {"crops": 9},
        {"keep_float": frozenset({"head.embedding"})},
    ],
)
def test_grids_are_part_of_what_a_checkpoint_belongs_to(other) -> None:
    """Else a training on other grids would take its checkpoints up."""
    model = small_model()

    def digest(
        *,
        crops: int = 4,
        weight_bits: int = 8,
        activation_bits: int | None = 8,
        outputs: bool = False,
        narrow_bits: int | None = None,
        keep_float: frozenset[str] = frozenset(),
    ) -> str:
        with quantisation_aware(
            model,
            orl_crops(crops),
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            outputs=outputs,
            narrow_bits=narrow_bits,
            keep_float=keep_float,
        ) as student:
            return student.digest

    assert digest() == digest() != model.digest
    assert digest(**other) != digest()


@dataclass
class Stop:
    """Ends a training after some steps, as Ctrl-C does."""

    after: int

    def __call__(self, report: object) -> bool:
        self.after -= 1
        return self.after > 0


def short_training(
    folder: Path | None, on_step: Callable[[object], bool] = lambda report: True
) -> FaceModel:
    """Two epochs on grids of 4 bits, with a running mean of the weights."""
    model, crops = small_model(), orl_crops(24)
    images = FaceImages.from_array(crops, np.arange(24) % 4)
    settings = replace(FROM_FLOAT, epochs=2, batch_size=8, ema=0.9)
    with quantisation_aware(model, crops, weight_bits=4) as student:
        train(
            student,
            images,
            settings,
            seed=3,
            teacher=Targets(small_model(), crops),
            checkpoints=None if folder is None else Checkpoints(folder),
            on_step=on_step,
        )
    return student


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_a_training_that_was_interrupted_ends_with_the_same_weights(
    steps: int, tmp_path: Path
) -> None:
    straight = short_training(None)
    with pytest.raises(KeyboardInterrupt):
        short_training(tmp_path, Stop(steps))
    resumed_steps = Stop(100)
    resumed = short_training(tmp_path, resumed_steps)
    assert resumed.digest == straight.digest != small_model().digest
    assert 100 - resumed_steps.after == 6 - steps


def test_norms_have_to_be_folded_first() -> None:
    model = settled_(FaceModel.fresh(SPEC, seed=2), orl_crops(4))
    with (
        pytest.raises(CompressionError, match="batch normalisations are folded.*fold them first"),
        quantisation_aware(model, orl_crops(4)),
    ):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight_bits": 1}, "weight_bits must be 2 to 8, got 1"),
        ({"keep_float": frozenset({"stem"})}, "is called 'stem'"),
        ({"percentile": 0.0}, "percentile must be above 0"),
    ],
)
def test_misuse_is_refused(arguments, message) -> None:
    with (
        pytest.raises(CompressionError, match=message),
        quantisation_aware(small_model(), orl_crops(4), **arguments),
    ):
        pass


def test_weights_on_grids_are_those_that_the_training_saw() -> None:
    model, crops = small_model(), orl_crops(6)
    kept = frozenset({"head.embedding"})
    rounded = on_grids(model, weight_bits=4, keep_float=kept)
    with quantisation_aware(
        model, crops, weight_bits=4, activation_bits=None, keep_float=kept
    ) as student:
        np.testing.assert_allclose(
            rounded.embed(crops), student.embed(crops), rtol=1e-3, atol=1e-3
        )
    before, after = model.module.state_dict(), rounded.module.state_dict()
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    layers = {f"{each.path}.weight" for each in weighted_layers(model.description)}
    assert changed == layers - {"head.embedding.weight"}
    assert rounded.description.lineage[-1] == "rounded 12 layers to 4-bit weights"
    assert on_grids(rounded, weight_bits=4, keep_float=kept).embed(crops) == pytest.approx(
        rounded.embed(crops), rel=1e-3, abs=1e-4
    )
