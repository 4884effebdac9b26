"""What `prune` promises besides equality: budgets, rounding, floors, messages, no side effects."""

import re

import pytest
import torch
from pruning_checks import random_model, shrunk, tree_model

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Conv
from nas_face.arch.zoo import network
from nas_face.compress.pruning import mask_, prune
from nas_face.compress.pruning.channels import couple
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

SPEC = shrunk(network("mobilefacenet_128").spec, side=32)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return random_model(SPEC)


def test_the_given_model_is_left_alone(model: FaceModel) -> None:
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    prune(model, target_madds=model.description.cost.madds // 2)
    assert model.description.lineage == ()
    after = model.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_result_shares_no_memory_with_the_given_model(model: FaceModel) -> None:
    result = prune(model, target_madds=model.description.cost.madds // 2)
    theirs = {each.data_ptr() for each in model.module.state_dict().values()}
    assert all(each.data_ptr() not in theirs for each in result.model.module.state_dict().values())


def test_same_input_same_result(model: FaceModel) -> None:
    target = model.description.cost.madds // 2
    first, second = (prune(model, target_madds=target) for _ in range(2))
    assert first.removed == second.removed
    assert first.model.description == second.model.description


def test_mode_of_the_module_is_kept(model: FaceModel) -> None:
    target = model.description.cost.madds // 2
    assert not prune(model, target_madds=target).model.module.training
    fresh = FaceModel.fresh(SPEC, seed=0)
    assert prune(fresh, target_madds=target).model.module.training


def test_present_cost_as_target_removes_nothing(model: FaceModel) -> None:
    result = prune(model, target_madds=model.description.cost.madds)
    assert result.removed == ()
    assert result.model.description.arch_id == SPEC.arch_id
    assert result.model.description.network == model.description.network
    assert all(each.n_removed == 0 for each in result.families)


@pytest.mark.parametrize("round_to", [1, 4, 8, 16])
def test_widths_are_multiples_of_the_rounding(model: FaceModel, round_to: int) -> None:
    result = prune(model, target_madds=model.description.cost.madds // 2, round_to=round_to)
    widths = [
        site.layer.out_channels
        for site in couple(result.model.description.network, SPEC.input).sites
        if isinstance(site.layer, Conv)
    ]
    assert all(width % round_to == 0 for width in widths)


@pytest.mark.parametrize("min_keep", [0.0, 0.4, 0.6])
def test_floors_hold(model: FaceModel, min_keep: float) -> None:
    result = prune(
        model, target_madds=model.description.cost.madds // 2, min_keep=min_keep, round_to=1
    )
    assert all(
        each.channels_after >= max(1, min_keep * each.channels_before) for each in result.families
    )
    removed = sum(each.n_removed for each in result.families)
    assert removed == len(result.removed)


def test_equal_scores_thin_all_families_evenly() -> None:
    fresh = FaceModel.fresh(SPEC, seed=0)  # every batch normalisation starts with scale 1
    target = fresh.description.cost.madds // 2
    result = prune(fresh, target_madds=target, importance="bn_scale", round_to=1)
    kept = [each.channels_after / each.channels_before for each in result.families]
    assert max(kept) - min(kept) < 0.05


def test_channels_that_do_nothing_go_first(model: FaceModel) -> None:
    target = model.description.cost.madds // 2
    useless = prune(model, target_madds=target).removed
    partly_dead = random_model(SPEC)
    mask_(partly_dead, useless)

    result = prune(partly_dead, target_madds=target, importance="bn_scale")

    assert result.removed == useless
    images = torch.ones(1, *SPEC.input_shape)
    with torch.no_grad():
        torch.testing.assert_close(
            result.model.module(images), partly_dead.module(images), rtol=1e-4, atol=1e-5
        )


def test_lineage_says_what_was_done(model: FaceModel) -> None:
    before = model.description.cost.madds
    result = prune(model, target_madds=before // 2, round_to=4)
    assert result.model.description.lineage == (
        f"pruned from {before:,} to {result.madds_after:,} MAdds "
        f"(target={before // 2:,} MAdds, importance=l2, scope=global, round_to=4, min_keep=0.25, "
        f"arch_id before={SPEC.arch_id})",
    )


def test_target_above_the_present_cost(model: FaceModel) -> None:
    madds = model.description.cost.madds
    with pytest.raises(CompressionError, match=f"at most the {madds:,} MAdds.*got {madds + 1:,}"):
        prune(model, target_madds=madds + 1)


@pytest.mark.parametrize(
    "name", ["mobilefacenet_128", "shufflefacenet_1x", "vargfacenet", "edgeface_xs"]
)
def test_unreachable_target_says_what_can_be_reached(name: str) -> None:
    model = random_model(shrunk(network(name).spec, side=32))
    with pytest.raises(CompressionError, match="target_madds=1 cannot be reached") as caught:
        prune(model, target_madds=1)
    found = re.findall(r"(\S+)(?: network has| would allow) ([\d,]+)", str(caught.value))
    reach = {knob: int(number.replace(",", "")) for knob, number in found}

    assert {"smallest", "min_keep=0", "both"} <= set(reach)
    assert {knob: _reached(model, knob, madds) for knob, madds in reach.items()} == reach
    smallest = reach["smallest"]
    assert all(madds < smallest for knob, madds in reach.items() if knob != "smallest")
    with pytest.raises(CompressionError, match=f"the smallest network has {smallest:,} MAdds"):
        prune(model, target_madds=smallest - 1)


@pytest.mark.parametrize("round_to", [0, -8])
def test_rounding_must_be_positive(model: FaceModel, round_to: int) -> None:
    with pytest.raises(CompressionError, match=f"round_to must be 1 or more.*got {round_to}"):
        prune(model, target_madds=1_000_000, round_to=round_to)


@pytest.mark.parametrize("min_keep", [-0.1, 1.5, float("nan")])
def test_floor_must_be_a_fraction(model: FaceModel, min_keep: float) -> None:
    with pytest.raises(CompressionError, match=f"min_keep must be a fraction.*got {min_keep}"):
        prune(model, target_madds=1_000_000, min_keep=min_keep)


def test_only_known_and_free_classes_can_be_masked(model: FaceModel) -> None:
    n_classes = couple(model.description.network, SPEC.input).n_classes
    with pytest.raises(CompressionError, match="class 0 is protected"):
        mask_(model, [0])
    with pytest.raises(CompressionError, match=f"numbered 0 to {n_classes - 1}, got {n_classes}"):
        mask_(model, [n_classes])


def test_a_network_that_has_nothing_to_remove_says_so() -> None:
    tree = Sequence(layers=(Conv(out_channels=3, groups=3), Conv(out_channels=2)))
    model = tree_model(tree, Shape(3, 4, 4))
    with pytest.raises(CompressionError, match="nothing narrower exists"):
        prune(model, target_madds=model.description.cost.madds - 1)


def _reached(model: FaceModel, knob: str, madds: int) -> int:
    min_keep = 0.0 if knob in ("min_keep=0", "both") else 0.25
    round_to = 1 if knob in ("round_to=1", "both") else 8
    return prune(model, target_madds=madds, min_keep=min_keep, round_to=round_to).madds_after
