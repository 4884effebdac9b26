"""Who is ranked together with whom."""

import numpy as np
import pytest
from pruning_checks import random_model, shrunk

from nas_face.arch.zoo import network
from nas_face.compress.pruning import Scope, Target, prune
from nas_face.compress.pruning.channels import Coupling, couple
from nas_face.compress.pruning.importance import score_classes
from nas_face.compress.pruning.scope import alike, priorities
from nas_face.compress.pruning.surgery import alive_without, narrowed
from nas_face.compress.pruning.width_cost import Counted
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

SPEC = shrunk(network("mobilefacenet_128").spec, side=32)


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return random_model(SPEC)


def shares(model: FaceModel, scope: Scope) -> list[float]:
    """What stays of each family at half of the MAdds."""
    target = model.description.cost.madds // 2
    result = prune(model, target_madds=target, scope=scope, round_to=1, min_keep=0.0)
    return [each.channels_after / each.channels_before for each in result.families]


def groups_of(model: FaceModel) -> list[list[str]]:
    coupling = couple(model.description.network, model.description.input)
    return [[coupling.families[at].name for at in group] for group in alike(coupling)]


def test_hidden_widths_are_alike_and_streams_are_not(model: FaceModel) -> None:
    (hidden,) = (group for group in groups_of(model) if len(group) > 1)
    assert hidden[0] == "stem.0.conv"  # a depthwise and a dense convolution read it, too
    assert all(name.endswith("expand.conv") for name in hidden[1:])
    assert len(hidden) == 1 + sum(len(stage) for stage in SPEC.stages)


def test_local_takes_the_same_share_of_every_family(model: FaceModel) -> None:
    kept = shares(model, "local")
    assert max(kept) - min(kept) < 0.06  # one class of 64, and what was given back
    assert max(shares(model, "global")) - min(shares(model, "global")) > 0.1


def test_isomorphic_takes_the_same_share_of_every_group(model: FaceModel) -> None:
    coupling = couple(model.description.network, model.description.input)
    result = prune(
        model,
        target_madds=model.description.cost.madds // 2,
        scope="isomorphic",
        round_to=1,
        min_keep=0.0,
    )
    kept = []
    for group in alike(coupling):
        widths = [result.families[at] for at in group]
        kept.append(
            sum(each.channels_after for each in widths)
            / sum(each.channels_before for each in widths)
        )
    assert len(kept) > 3
    assert max(kept) - min(kept) < 0.06


@pytest.mark.parametrize("scope", ["local", "isomorphic"])
def test_within_a_family_the_order_is_that_of_the_scores(model: FaceModel, scope: Scope) -> None:
    coupling = couple(model.description.network, model.description.input)
    scores = np.random.default_rng(0).random(coupling.n_classes)
    found = priorities(coupling, scores, scope)
    for family in coupling.families:
        members = list(family.classes)
        assert np.array_equal(np.argsort(found[members]), np.argsort(scores[members]))


def test_isomorphic_ranks_a_group_as_if_it_were_the_network(model: FaceModel) -> None:
    coupling = couple(model.description.network, model.description.input)
    scores = np.random.default_rng(0).random(coupling.n_classes)
    found = priorities(coupling, scores, "isomorphic")
    for group in alike(coupling):
        members = [each for at in group for each in coupling.families[at].classes]
        assert np.array_equal(np.argsort(found[members]), np.argsort(scores[members]))
        expected = (np.arange(len(members)) + 0.5) / len(members)
        assert np.sort(found[members]) == pytest.approx(expected)


def test_every_family_is_in_one_group() -> None:
    for name in ("seesaw_shuffle", "vargfacenet", "edgeface_xs", "pocketnet_s_128"):
        spec = network(name).spec
        coupling: Coupling = couple(spec.lower(), spec.input)
        numbers = sorted(at for group in alike(coupling) for at in group)
        assert numbers == list(range(len(coupling.families)))


@pytest.mark.parametrize("quantity", ["madds", "params"])
def test_saving_ranks_by_score_over_what_goes_with_a_class(
    model: FaceModel, quantity: Counted
) -> None:
    network, x = model.description.network, model.description.input
    coupling = couple(network, x)
    whole = getattr(model.description.cost, quantity)
    raw = score_classes(coupling, model.module, "l2", raw=True)
    rates = {}
    for family in coupling.families:
        without_one = narrowed(network, coupling, alive_without(coupling, family.classes[:1]))
        saved = whole - getattr(without_one.cost(x), quantity)
        rates |= {each: raw[each] / saved for each in family.classes}

    target = Target(**{quantity: whole * 9 // 10})
    result = prune(model, target=target, scope="saving", round_to=1, min_keep=0.0)

    gone = [rates[each] for each in result.removed]
    kept = [rates[each] for each in rates if each not in set(result.removed)]
    ordered = sorted(rates, key=lambda each: rates[each])[: len(gone)]
    assert len(set(ordered) & set(result.removed)) >= 0.98 * len(gone)  # some were given back
    assert np.mean(gone) < np.mean(kept)


def test_unknown_scope_names_the_near_ones(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="no scope 'globl'; did you mean 'global'"):
        prune(model, target_madds=1, scope="globl")  # type: ignore[arg-type]
