"""Pruning by a share for each stage: what stays, counted by hand, and what is refused."""

import itertools

import pytest
import torch
from pruning_checks import assert_equals_masked, random_model, shrunk
from torch.utils.flop_counter import FlopCounterMode

from nas_face.arch.zoo import network
from nas_face.compress.pruning import prune_stages, stage_of
from nas_face.compress.pruning.cutter import Cutter
from nas_face.compress.pruning.stages import prunable_channels, stage_counts
from nas_face.errors import CompressionError

NETWORKS = ("mobilefacenet_128", "seesaw_shuffle", "vargfacenet", "shufflefacenet_1x")


@pytest.fixture(scope="module", params=NETWORKS)
def model(request):
    return random_model(shrunk(network(request.param).spec))


def cutter_of(model, **settings):
    given = {"importance": "l2", "scope": "global", "round_to": 1, "min_keep": 0.0, **settings}
    return Cutter(model, **given)


@pytest.mark.parametrize(
    ("path", "stage"),
    [
        ("stem.0.conv", "stem"),
        ("stages.1.0.branches.0.expand.conv", "stages.1"),
        ("stages.12.3.conv", "stages.12"),
        ("head.tail.conv", "head"),
        ("a", "a"),
    ],
)
def test_stage_of_a_layer(path, stage):
    assert stage_of(path) == stage


@pytest.mark.parametrize("scope", ["local", "global", "isomorphic"])
@pytest.mark.parametrize("round_to", [1, 8])
def test_every_stage_keeps_its_share_and_others_stay_whole(model, scope, round_to):
    cutter = cutter_of(model, scope=scope, round_to=round_to)
    families = cutter.coupling.families
    stages = list(prunable_channels(cutter.selection))
    shares = {stages[0]: 0.7, stages[-1]: 0.4}
    counts = stage_counts(cutter.selection, shares)
    for stage in stages:
        own = [at for at, each in enumerate(families) if stage_of(each.name) == stage]
        whole = sum(len(families[at].classes) * families[at].class_width for at in own)
        kept = sum(counts[at] * families[at].class_width for at in own)
        fewest = sum(cutter.selection.floors[at] * families[at].class_width for at in own)
        if stage not in shares:
            assert kept == whole
            continue
        assert fewest <= kept <= max(fewest, shares[stage] * whole)
        steps = [
            (cutter.selection.grids[at].above(counts[at]) - counts[at]) * families[at].class_width
            for at in own
            if counts[at] < cutter.selection.grids[at].size
        ]
        assert all(kept + step > shares[stage] * whole for step in steps)


def test_a_stage_loses_what_scores_least_of_all_its_families():
    model = random_model(shrunk(network("mobilefacenet_128").spec))
    cutter = cutter_of(model)
    counts = stage_counts(cutter.selection, {"stages.2": 0.5})
    alive, scores = cutter.selection.alive(counts), cutter.selection.scores
    own = [
        each
        for family in cutter.coupling.families
        if stage_of(family.name) == "stages.2"
        for each in family.classes
    ]
    kept, gone = scores[own][alive[own]], scores[own][~alive[own]]
    # Each family keeps one class at least; nothing else lets a lesser one stay.
    fewest = [
        max(scores[list(family.classes)])
        for family in cutter.coupling.families
        if stage_of(family.name) == "stages.2"
    ]
    assert len(gone) == len(own) // 2
    assert min(set(kept.tolist()) - set(fewest)) >= max(gone)


def test_of_two_families_the_split_is_that_of_trying_all():
    model = random_model(shrunk(network("mobilefacenet_128").spec))
    cutter = cutter_of(model, round_to=64, min_keep=0.25)
    selection = cutter.selection
    counts = stage_counts(selection, {"stages.2": 0.5})
    at = [
        n for n, each in enumerate(cutter.coupling.families) if stage_of(each.name) == "stages.2"
    ]
    sizes = [selection.grids[n].size for n in at]
    permitted = [
        [count for count in range(64, size + 1, 64) if count >= 0.25 * size] for size in sizes
    ]
    budget = 0.5 * sum(sizes)
    most = max(total for total in map(sum, itertools.product(*permitted)) if total <= budget)
    assert sum(counts[n] for n in at) == most
    assert all(counts[n] in choices for n, choices in zip(at, permitted, strict=True))


def test_pruned_network_is_the_masked_one_and_costs_what_torch_counts(model):
    shares = dict.fromkeys(prunable_channels(cutter_of(model).selection), 0.5)
    pruned = prune_stages(model, shares, round_to=4, min_keep=0.1)
    cutter = cutter_of(model, round_to=4, min_keep=0.1)
    counts = stage_counts(cutter.selection, shares)
    assert_equals_masked(model, pruned, cutter.removed(counts))
    x = torch.zeros(1, *model.description.input_shape)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        pruned.module.float()(x)
    assert counter.get_total_flops() == 2 * cutter.counter("madds")(counts)
    assert sum(each.numel() for each in pruned.module.parameters()) == cutter.counter("params")(
        counts
    )
    assert "pruned from " in pruned.description.lineage[-1]
    assert pruned.description.embedding_size == model.description.embedding_size


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"stage.1": 0.5}, "'stage.1' is no stage with channels that can be pruned; .*stages.1"),
        ({"stages.1": 0.0}, "stages.1: must be above 0 and at most 1, got 0.0"),
        ({"stages.1": 1.5}, "stages.1: must be above 0 and at most 1, got 1.5"),
    ],
)
def test_wrong_shares_are_refused(shares, message):
    model = random_model(shrunk(network("mobilefacenet_128").spec))
    with pytest.raises(CompressionError, match=message):
        prune_stages(model, shares)


def test_floors_hold_where_a_share_is_below_them():
    model = random_model(shrunk(network("mobilefacenet_128").spec))
    cutter = cutter_of(model, min_keep=0.5)
    assert stage_counts(cutter.selection, {"head": 0.1})[-1] == 256
