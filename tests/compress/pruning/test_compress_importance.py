"""Criteria against the same sums written as plain loops."""

import copy

import numpy as np
import pytest
import torch
from pruning_checks import noise_crops, random_model, shrunk, tree_model

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import BatchNorm, Conv, TranslationVariantConv
from nas_face.arch.zoo import network
from nas_face.compress.pruning import angular_gradients, per_sample_gradients
from nas_face.compress.pruning.channels import Coupling, couple
from nas_face.compress.pruning.importance import CRITERIA, Importance, score_classes
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

# Two families: 6 channels in pairs (grouped convolution), then 4 single ones without a norm.
TREE = Sequence(
    layers=(
        Conv(out_channels=6),
        BatchNorm(),
        Conv(out_channels=3, groups=3),
        Conv(out_channels=4, bias=True),
        Conv(out_channels=2),
    ),
    names=("a", "norm", "grouped", "b", "out"),
)
INPUT = Shape(3, 4, 4)
PAIRS, SINGLES = [3, 4, 5], [6, 7, 8, 9]  # classes


@pytest.fixture
def model() -> FaceModel:
    return tree_model(TREE, INPUT)


@pytest.fixture
def coupling() -> Coupling:
    return couple(TREE, INPUT)


def weight(model: FaceModel, path: str) -> np.ndarray:
    return model.module.get_parameter(f"{path}.weight").detach().numpy().astype(np.float64)


def of_mean_one(values: list[float]) -> list[float]:
    return [value / (sum(values) / len(values)) for value in values]


def test_l2_sums_rows_and_columns(model: FaceModel, coupling: Coupling) -> None:
    a, grouped, b, out = (weight(model, path) for path in ("a", "grouped", "b", "out"))
    scores = score_classes(coupling, model.module, "l2")
    pairs = [
        np.sqrt((a[2 * i : 2 * i + 2] ** 2).sum() + (grouped[i] ** 2).sum() + (b[:, i] ** 2).sum())
        for i in range(3)
    ]
    singles = [np.sqrt((b[i] ** 2).sum() + (out[:, i] ** 2).sum()) for i in range(4)]
    assert scores[PAIRS] == pytest.approx(of_mean_one(pairs))
    assert scores[SINGLES] == pytest.approx(of_mean_one(singles))


def test_l1_sums_absolute_rows_and_columns(model: FaceModel, coupling: Coupling) -> None:
    a, grouped, b, out = (np.abs(weight(model, path)) for path in ("a", "grouped", "b", "out"))
    scores = score_classes(coupling, model.module, "l1")
    pairs = [a[2 * i : 2 * i + 2].sum() + grouped[i].sum() + b[:, i].sum() for i in range(3)]
    singles = [b[i].sum() + out[:, i].sum() for i in range(4)]
    assert scores[PAIRS] == pytest.approx(of_mean_one(pairs))
    assert scores[SINGLES] == pytest.approx(of_mean_one(singles))


def test_lamp_is_the_share_of_what_is_left(model: FaceModel, coupling: Coupling) -> None:
    squares = score_classes(coupling, model.module, "l2") ** 2
    scores = score_classes(coupling, model.module, "lamp")
    for members in (PAIRS, SINGLES):
        expected = [
            squares[each]
            / sum(squares[other] for other in members if squares[other] >= squares[each])
            for each in members
        ]
        assert scores[members] == pytest.approx(expected)


def test_hessian_sums_squares_of_every_samples_products(
    model: FaceModel, coupling: Coupling
) -> None:
    crops = noise_crops(model, n=3)
    products = {path: np.zeros_like(weight(model, path)) for path in ("a", "grouped", "b", "out")}
    for crop in crops:
        model.module.zero_grad()
        model.module(model.description.preprocessing.apply(crop[None])).square().sum().backward()
        for path in products:
            gradient = model.module.get_parameter(f"{path}.weight").grad.numpy()
            products[path] += (weight(model, path) * gradient) ** 2
    gradients = per_sample_gradients(model, crops, lambda y, number: y.square().sum())
    scores = score_classes(coupling, model.module, "hessian", gradients)
    singles = [products["b"][i].sum() + products["out"][:, i].sum() for i in range(4)]
    pairs = [
        products["a"][2 * i : 2 * i + 2].sum()
        + products["grouped"][i].sum()
        + products["b"][:, i].sum()
        for i in range(3)
    ]
    assert scores[SINGLES] == pytest.approx(of_mean_one(singles), rel=1e-5)
    assert scores[PAIRS] == pytest.approx(of_mean_one(pairs), rel=1e-5)


def test_hessian_needs_gradients_of_single_samples(model: FaceModel, coupling: Coupling) -> None:
    model.module(torch.ones(1, *INPUT)).sum().backward()
    with pytest.raises(CompressionError, match="single samples and a.weight has none"):
        score_classes(coupling, model.module, "hessian")


def test_taylor_of_one_sample_is_that_of_its_own_backward(
    model: FaceModel, coupling: Coupling
) -> None:
    crops = noise_crops(model, n=1)
    gradients = per_sample_gradients(model, crops, lambda y, number: y.square().sum())
    model.module(model.description.preprocessing.apply(crops)).square().sum().backward()
    assert score_classes(coupling, model.module, "taylor", gradients) == pytest.approx(
        score_classes(coupling, model.module, "taylor"), rel=1e-5
    )


def test_l2_of_few_wide_groups_sums_columns_of_all_groups() -> None:
    tree = Sequence(
        layers=(Conv(out_channels=8), Conv(out_channels=8, groups=2), Conv(out_channels=2))
    )
    model = tree_model(tree, INPUT)
    first, grouped, _ = (weight(model, path) for path in "012")
    sums = [
        np.sqrt(
            (first[[i, i + 4]] ** 2).sum()  # channel i of both groups
            + (grouped[:4, i] ** 2).sum()
            + (grouped[4:, i] ** 2).sum()
        )
        for i in range(4)
    ]
    scores = score_classes(couple(tree, INPUT), model.module, "l2")
    assert scores[3:7] == pytest.approx(of_mean_one(sums))


def test_bn_scale_averages_and_falls_back_to_l2(model: FaceModel, coupling: Coupling) -> None:
    with torch.no_grad():
        model.module.get_parameter("norm.weight").copy_(torch.tensor([1, -1, 3, 1, 0, 0.0]))
    scores = score_classes(coupling, model.module, "bn_scale")
    assert scores[PAIRS] == pytest.approx([1, 2, 0])
    assert scores[SINGLES] == pytest.approx(score_classes(coupling, model.module, "l2")[SINGLES])


@pytest.mark.parametrize(
    ("norms", "criterion"),
    [((BatchNorm(fixed_scale=True),), "l2"), ((BatchNorm(), BatchNorm(fixed_scale=True)), None)],
)
def test_bn_scale_leaves_out_what_is_not_learned(
    norms: tuple[BatchNorm, ...], criterion: Importance | None
) -> None:
    tree = Sequence(layers=(Conv(out_channels=4), *norms, Conv(out_channels=2)))
    model = tree_model(tree, INPUT)
    coupling = couple(tree, INPUT)
    if criterion is None:
        expected = of_mean_one(weight(model, "1").tolist())
    else:
        expected = score_classes(coupling, model.module, criterion)[3:7].tolist()
    assert score_classes(coupling, model.module, "bn_scale")[3:7] == pytest.approx(expected)


@pytest.mark.parametrize("importance", ["l2", "fpgm"])
def test_filters_that_agree_at_every_position_count_as_one(importance: Importance) -> None:
    padded = Conv(out_channels=4, kernel=(3, 3), padding=(1, 1), groups=4)
    plain, variant = (
        Sequence(layers=(Conv(out_channels=4), each, Conv(out_channels=2)))
        for each in (padded, TranslationVariantConv())
    )
    model = tree_model(plain, INPUT)
    other = tree_model(variant, INPUT)
    weights = model.module.state_dict()
    filters = weights["1.weight"].reshape(4, 9, 1, 1)
    other.module.load_state_dict({**weights, "1.weight": filters.expand(4, 9, 4, 4)})
    scores = score_classes(couple(plain, INPUT), model.module, importance)
    assert score_classes(couple(variant, INPUT), other.module, importance)[3:7] == pytest.approx(
        scores[3:7], rel=1e-5
    )


def test_taylor_counts_the_filters_of_all_positions() -> None:
    tree = Sequence(layers=(Conv(out_channels=4), TranslationVariantConv(), Conv(out_channels=2)))
    model = tree_model(tree, INPUT)
    images = torch.rand((2, *INPUT), generator=torch.Generator().manual_seed(0))
    model.module(images).square().sum().backward()
    first, variant, last = (
        np.abs(weight(model, path) * model.module.get_parameter(f"{path}.weight").grad.numpy())
        for path in "012"
    )
    sums = [first[i].sum() + variant[i].sum() + last[:, i].sum() for i in range(4)]
    scores = score_classes(couple(tree, INPUT), model.module, "taylor")[3:7]
    assert scores == pytest.approx(of_mean_one(sums), rel=1e-5)


def test_taylor_sums_weight_times_gradient(model: FaceModel, coupling: Coupling) -> None:
    images = torch.rand((2, *INPUT), generator=torch.Generator().manual_seed(0))
    model.module(images).square().sum().backward()
    products = {
        path: np.abs(
            weight(model, path) * model.module.get_parameter(f"{path}.weight").grad.numpy()
        )
        for path in ("a", "grouped", "b", "out")
    }
    singles = [products["b"][i].sum() + products["out"][:, i].sum() for i in range(4)]
    pairs = [
        products["a"][2 * i : 2 * i + 2].sum()
        + products["grouped"][i].sum()
        + products["b"][:, i].sum()
        for i in range(3)
    ]
    scores = score_classes(coupling, model.module, "taylor")
    assert scores[SINGLES] == pytest.approx(of_mean_one(singles), rel=1e-5)
    assert scores[PAIRS] == pytest.approx(of_mean_one(pairs), rel=1e-5)


def test_taylor_without_gradients_is_an_error(model: FaceModel, coupling: Coupling) -> None:
    with pytest.raises(CompressionError, match="needs gradients and a.weight has none"):
        score_classes(coupling, model.module, "taylor")


def test_fisher_squares_what_a_factor_on_the_class_does_to_each_sample(
    model: FaceModel, coupling: Coupling
) -> None:
    crops = noise_crops(model, n=3)
    model.module.double()
    readers = {each: ("b", each - PAIRS[0]) for each in PAIRS}
    readers |= {each: ("out", each - SINGLES[0]) for each in SINGLES}

    def losses(path: str, column: int, factor: float) -> np.ndarray:
        changed = copy.deepcopy(model.module)
        with torch.no_grad():
            changed.get_parameter(f"{path}.weight")[:, column] *= factor
            y = changed(model.description.preprocessing.apply(crops).double())
        return y.square().flatten(1).sum(dim=1).numpy()

    expected = {
        each: np.mean(((losses(path, at, 1 + 1e-5) - losses(path, at, 1 - 1e-5)) / 2e-5) ** 2)
        for each, (path, at) in readers.items()
    }
    model.module.float()
    gradients = per_sample_gradients(model, crops, lambda y, number: y.square().sum())
    scores = score_classes(coupling, model.module, "fisher", gradients)
    for members in (PAIRS, SINGLES):
        found = of_mean_one([expected[each] for each in members])
        assert scores[members] == pytest.approx(found, rel=1e-4)


def test_fisher_needs_gradients_of_single_samples(model: FaceModel, coupling: Coupling) -> None:
    with pytest.raises(CompressionError, match="'fisher' needs gradients of single samples"):
        score_classes(coupling, model.module, "fisher")


def test_fpgm_sums_distances_within_the_family(model: FaceModel, coupling: Coupling) -> None:
    a, grouped, b = (weight(model, path) for path in ("a", "grouped", "b"))
    pair_vectors = [
        np.concatenate([a[2 * i : 2 * i + 2].reshape(-1), grouped[i].reshape(-1)])
        for i in range(3)
    ]
    single_vectors = [b[i].reshape(-1) for i in range(4)]
    scores = score_classes(coupling, model.module, "fpgm")
    for members, vectors in ((PAIRS, pair_vectors), (SINGLES, single_vectors)):
        sums = [sum(float(np.linalg.norm(v - w)) for w in vectors) for v in vectors]
        assert scores[members] == pytest.approx(of_mean_one(sums), rel=1e-6)


@pytest.mark.parametrize("importance", CRITERIA)
def test_every_family_of_a_network_has_mean_one(importance: Importance) -> None:
    model = random_model(shrunk(network("seesaw_shuffle").spec, side=32))
    coupling = couple(model.description.network, model.description.input)
    gradients = angular_gradients(model, noise_crops(model, n=1))
    scores = score_classes(coupling, model.module, importance, gradients)
    reduced = np.max if importance == "lamp" else np.mean
    for family in coupling.families:
        assert reduced(scores[list(family.classes)]) == pytest.approx(1.0)
        assert scores[list(family.classes)].min() >= 0


def test_unknown_criterion_names_the_near_ones(model: FaceModel, coupling: Coupling) -> None:
    with pytest.raises(CompressionError, match="no criterion 'tailor'; did you mean 'taylor'"):
        score_classes(coupling, model.module, "tailor")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_broken_weights_are_an_error(model: FaceModel, coupling: Coupling, value: float) -> None:
    with torch.no_grad():
        model.module.get_parameter("b.weight")[0] = value
    with pytest.raises(CompressionError, match="'l2' is not finite for some channels of a"):
        score_classes(coupling, model.module, "l2")


def test_all_zero_family_scores_zero(model: FaceModel, coupling: Coupling) -> None:
    with torch.no_grad():
        model.module.get_parameter("norm.weight").zero_()
    assert score_classes(coupling, model.module, "bn_scale")[PAIRS].tolist() == [0, 0, 0]
