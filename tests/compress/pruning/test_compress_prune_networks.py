"""Published networks of every kind and every head: pruned equals masked, at several budgets."""

import dataclasses
import functools
import json
from pathlib import Path

import pytest
import torch
from pruning_checks import (
    EACH_KIND,
    assert_equals_masked,
    counted_madds,
    counted_params,
    random_model,
    shrunk,
)

from nas_face.arch.combinators import Concat, Gate, Graph, Layer, Product, Sequence, Split, Sum
from nas_face.arch.cost import Shape
from nas_face.arch.heads import (
    GlobalDepthwiseHead,
    NormAwareHead,
    PooledLinearHead,
    VariableGroupHead,
)
from nas_face.arch.layers import Conv
from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, network
from nas_face.compress.pruning import prune
from nas_face.compress.pruning.channels import couple
from nas_face.compress.pruning.surgery import narrowed
from nas_face.nn.model import FaceModel

HEADS = {
    "global_depthwise": GlobalDepthwiseHead(
        embedding_size=64, tail_channels=96, global_act="prelu", embedding_bias=True
    ),
    "variable_group": VariableGroupHead(embedding_size=64, tail_channels=96),
    "norm_aware": NormAwareHead(embedding_size=64, tail_channels=96),
    "pooled_linear": PooledLinearHead(embedding_size=64, tail_channels=96),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_embedding_stays_whatever_else_goes(name: str) -> None:
    spec = network(name).spec
    tree = spec.lower()
    coupling = couple(tree, spec.input)
    alive = coupling.protected.copy()
    alive[[family.classes[0] for family in coupling.families]] = True  # one of each
    assert alive.sum() < coupling.n_classes
    smallest = narrowed(tree, coupling, alive)
    assert smallest.output_shape(spec.input) == Shape(spec.embedding_size, 1, 1)


def test_each_kind_is_of_every_family() -> None:
    assert {network(name).family for name in EACH_KIND} == {
        each.family for each in NETWORKS.values()
    }


@functools.lru_cache(maxsize=1)
def small(name: str) -> FaceModel:
    """The published network for small images; not to be changed."""
    return random_model(shrunk(network(name).spec, side=32))


@pytest.mark.parametrize("percent", [60, 30])
@pytest.mark.parametrize("name", EACH_KIND)
def test_zoo_network_equals_its_masked_self(name: str, percent: int) -> None:
    model = small(name)
    before = model.description
    target = before.cost.madds * percent // 100

    result = prune(model, target_madds=target, min_keep=0.1)

    after = result.model.description
    assert 0.99 * target < after.cost.madds <= target
    assert result.off_target == after.cost.madds / target - 1
    assert (result.madds_before, result.madds_after) == (before.cost.madds, after.cost.madds)
    assert counted_madds(result.model) == after.cost.madds
    assert after.embedding_size == before.embedding_size
    assert _skeleton(after.network) == _skeleton(before.network)
    assert after.cost.params < before.cost.params
    assert counted_params(result.model) == after.cost.params
    assert set(result.model.module.state_dict()) == set(model.module.state_dict())
    assert assert_equals_masked(model, result.model, result.removed) > 1e-3


@pytest.mark.parametrize("percent", [70, 50, 30])
@pytest.mark.parametrize("head", HEADS)
def test_head_equals_its_masked_self(head: str, percent: int) -> None:
    spec = network("mobilefacenet_128").spec
    short = dataclasses.replace(shrunk(spec, side=32), stages=spec.stages[:1], head=HEADS[head])
    model = random_model(short)
    before = model.description

    result = prune(model, target_madds=before.cost.madds * percent // 100)

    assert result.model.description.embedding_size == 64
    assert counted_madds(result.model) == result.madds_after
    heads = [each for each in result.families if each.name.startswith("head.")]
    assert heads
    assert_equals_masked(model, result.model, result.removed, n_images=2)


@pytest.mark.parametrize("name", ["seesaw_shuffle", "vargfacenet"])
def test_pruned_model_survives_disk(name: str, tmp_path: Path) -> None:
    model = random_model(shrunk(network(name).spec, side=32))
    pruned = prune(model, target_madds=model.description.cost.madds // 2).model

    pruned.save(tmp_path)
    loaded = FaceModel.load(tmp_path)

    assert loaded.description == pruned.description
    spec = ArchSpec.of_tree(loaded.description.network, loaded.description.input)
    assert spec.arch_id == loaded.description.arch_id != network(name).spec.arch_id
    (tmp_path / "spec.json").write_text(json.dumps(spec.to_data()))
    again = FaceModel.fresh(ArchSpec.load(tmp_path / "spec.json"), seed=1)
    assert again.description.arch_id == spec.arch_id
    again.module.load_state_dict(loaded.module.state_dict(), strict=True)
    images = torch.ones(1, *pruned.description.input_shape)
    with torch.no_grad():
        assert torch.equal(loaded.module.eval()(images), pruned.module(images))


def test_variable_groups_keep_their_width() -> None:
    model = random_model(shrunk(network("vargfacenet").spec))
    pruned = prune(model, target_madds=model.description.cost.madds // 2).model.description
    widths = {
        len(site.in_classes) // site.layer.groups
        for site in couple(pruned.network, pruned.input).sites
        if isinstance(site.layer, Conv) and site.layer.groups > 1
    }
    assert widths == {8}


def test_a_pruned_model_can_be_pruned_again() -> None:
    model = random_model(shrunk(network("shufflefacenet_1x").spec))
    madds = model.description.cost.madds
    once = prune(model, target_madds=madds * 7 // 10).model
    twice = prune(once, target_madds=madds // 2)
    assert [line.split(" to ")[0] for line in twice.model.description.lineage] == [
        f"pruned from {madds:,}",
        f"pruned from {once.description.cost.madds:,}",
    ]
    assert_equals_masked(once, twice.model, twice.removed)


def _skeleton(layer: Layer) -> object:
    """Kinds and names without any width."""
    match layer:
        case Sequence():
            return [(name, _skeleton(child)) for name, child in layer.named_layers()]
        case Sum() | Product() | Concat() | Split():
            return layer.kind, [_skeleton(branch) for branch in layer.branches]
        case Gate():
            return layer.kind, _skeleton(layer.body)
        case Graph():
            return [
                (name, step.sources, step.join, _skeleton(step.layer))
                for name, step in layer.named_steps()
            ]
        case _:
            return layer.kind
