"""Coupling on trees that are small enough for tables made by hand."""

import numpy as np
import pytest

from nas_face.arch.combinators import (
    Concat,
    Gate,
    Graph,
    Layer,
    Product,
    Sequence,
    Split,
    Step,
    Sum,
)
from nas_face.arch.cost import Shape
from nas_face.arch.layers import (
    Activation,
    BatchNorm,
    ChannelConv,
    ChannelPool,
    ChannelShuffle,
    ChannelSlice,
    Conv,
    CrossCovarianceAttention,
    Flatten,
    FourierFeatures,
    GatedChannelTransform,
    GlobalAveragePool,
    LayerNorm,
    Linear,
    MaxFeatureMap,
    NormAwarePool,
    PReLU,
)
from nas_face.arch.zoo import NETWORKS, network
from nas_face.compress.pruning.channels import Coupling, couple
from nas_face.errors import ShapeError

INPUT = Shape(3, 4, 4)


def seq(**layers: Layer) -> Sequence:
    return Sequence(layers=tuple(layers.values()), names=tuple(layers))


def dense(width: int) -> Conv:
    return Conv(out_channels=width)


def depthwise(width: int) -> Conv:
    return Conv(out_channels=width, kernel=(3, 3), padding=(1, 1), groups=width)


def coupled(*, out: int = 2, **layers: Layer) -> Coupling:
    """Coupling of the layers followed by a dense layer, so that nothing of theirs is the output.

    The input has classes 0 to 2, so the first channel that a layer writes is class 3.
    """
    return couple(seq(**layers, last=dense(out)), INPUT)


def written(coupling: Coupling, path: str) -> list[int]:
    return next(site.out_classes.tolist() for site in coupling.sites if site.path == path)


def read(coupling: Coupling, path: str) -> list[int]:
    return next(site.in_classes.tolist() for site in coupling.sites if site.path == path)


def families(coupling: Coupling) -> dict[str, tuple[int, ...]]:
    return {family.name: family.classes for family in coupling.families}


def test_dense_layers_write_new_channels_and_elementwise_ones_pass_them() -> None:
    tree = coupled(a=dense(4), n=BatchNorm(), p=PReLU(), s=Activation(function="silu"))
    assert read(tree, "a") == [0, 1, 2]
    for path in "anps":
        assert written(tree, path) == [3, 4, 5, 6]
    assert read(tree, "last") == [3, 4, 5, 6]
    assert written(tree, "last") == [7, 8]
    assert tree.protected.tolist() == [True] * 3 + [False] * 4 + [True] * 2
    assert families(tree) == {"a": (3, 4, 5, 6)}


def test_depthwise_filters_go_with_their_channel() -> None:
    tree = coupled(a=dense(3), d=depthwise(3))
    assert written(tree, "d") == written(tree, "a") == [3, 4, 5]


def test_a_depthwise_layer_on_the_image_is_protected() -> None:
    tree = coupled(d=depthwise(3))
    assert written(tree, "d") == [0, 1, 2]
    assert tree.families == ()


def test_groups_go_whole() -> None:
    tree = coupled(a=dense(6), g=Conv(out_channels=3, groups=3))
    assert written(tree, "a") == [3, 3, 4, 4, 5, 5]
    assert written(tree, "g") == [3, 4, 5]
    assert [(family.classes, family.class_width) for family in tree.families] == [((3, 4, 5), 1)]


def test_few_wide_groups_lose_the_same_place_each() -> None:
    tree = coupled(a=dense(8), g=Conv(out_channels=10, groups=2))
    assert written(tree, "a") == [3, 4, 5, 6, 3, 4, 5, 6]
    assert written(tree, "g") == [7, 8, 9, 10, 11, 7, 8, 9, 10, 11]
    assert families(tree) == {"a": (3, 4, 5, 6), "g": (7, 8, 9, 10, 11)}


def test_groups_of_constant_width_that_overlap_through_widening() -> None:
    # The second convolution reads four channels a group: two groups of the first.
    tree = coupled(a=dense(4), g=Conv(out_channels=8, groups=4), h=Conv(out_channels=2, groups=2))
    assert written(tree, "a") == [3, 3, 4, 4]
    assert written(tree, "g") == [3, 3, 3, 3, 4, 4, 4, 4]
    assert written(tree, "h") == [3, 4]


def test_sum_ties_positions() -> None:
    tree = coupled(a=dense(3), s=Sum(branches=(Sequence(), dense(3), dense(3))))
    assert written(tree, "s.branches.1") == written(tree, "s.branches.2") == [3, 4, 5]


def test_concat_keeps_branches_apart() -> None:
    tree = coupled(a=dense(2), c=Concat(branches=(Sequence(), dense(2), depthwise(2))))
    assert read(tree, "last") == [3, 4, 5, 6, 3, 4]
    assert families(tree) == {"a": (3, 4), "c.branches.1": (5, 6)}


def test_split_parts_are_families_of_their_own() -> None:
    tree = coupled(a=dense(4), s=Split(sizes=(1, 3), branches=(dense(2), Sequence())))
    assert read(tree, "s.branches.0") == [3]
    assert read(tree, "last") == [7, 8, 4, 5, 6]
    assert families(tree) == {"a": (3,), "a/2": (4, 5, 6), "s.branches.0": (7, 8)}


def test_shuffle_ties_the_same_place_of_each_group() -> None:
    tree = coupled(a=dense(6), s=ChannelShuffle(groups=2))
    # Groups (0 1 2) and (3 4 5): places 0, 1, 2 are the classes, dealt out in turn.
    assert written(tree, "a") == [3, 4, 5, 3, 4, 5]
    assert written(tree, "s") == [3, 3, 4, 4, 5, 5]


def test_inverse_shuffle_ties_neighbours() -> None:
    tree = coupled(a=dense(6), s=ChannelShuffle(groups=2, inverse=True))
    # Neighbours were the same place of two groups; both groups come back whole.
    assert written(tree, "a") == [3, 3, 4, 4, 5, 5]
    assert written(tree, "s") == [3, 4, 5, 3, 4, 5]


def test_maximum_of_halves_ties_them() -> None:
    tree = coupled(a=dense(6), m=MaxFeatureMap())
    assert written(tree, "a") == [3, 4, 5, 3, 4, 5]
    assert written(tree, "m") == [3, 4, 5]


def test_slice_keeps_a_run() -> None:
    tree = coupled(a=dense(4), s=ChannelSlice(start=1, stop=3))
    assert read(tree, "last") == [4, 5]


def test_heads_of_attention_are_classes() -> None:
    tree = coupled(a=dense(12), x=CrossCovarianceAttention(heads=2))
    assert written(tree, "a") == [3, 3, 4, 4] * 3  # query, key, value
    assert written(tree, "x") == [3, 3, 4, 4]


def test_shuffle_of_uneven_parts_has_two_families() -> None:
    uneven = Split(sizes=(1, 2), branches=(dense(1), dense(3)))
    tree = couple(seq(u=uneven, s=ChannelShuffle(groups=2), last=dense(2)), INPUT)
    assert written(tree, "u.branches.0") == [3]
    assert written(tree, "u.branches.1") == [4, 3, 4]
    assert written(tree, "s") == [3, 3, 4, 4]
    assert families(tree) == {"u.branches.0": (3,), "u.branches.1": (4,)}


def test_shuffle_before_groups_ties_what_a_group_reads() -> None:
    tree = coupled(a=dense(8), s=ChannelShuffle(groups=2), g=Conv(out_channels=4, groups=2))
    # Shuffled places are (0 0 1 1 | 2 2 3 3): places 0 and 1 are one group, 2 and 3 the other.
    assert written(tree, "a") == [3, 3, 4, 4, 3, 3, 4, 4]
    assert written(tree, "g") == [3, 3, 4, 4]


def test_gate_ties_factors_and_leaves_the_inner_width_free() -> None:
    body = seq(
        pool=GlobalAveragePool(),
        squeeze=dense(2),
        excite=dense(3),
        gate=Activation(function="sigmoid"),
    )
    tree = coupled(a=dense(3), g=Gate(body=body))
    assert written(tree, "g.body.squeeze") == [6, 7]
    assert written(tree, "g.body.excite") == [3, 4, 5]
    assert families(tree) == {"a": (3, 4, 5), "g.body.squeeze": (6, 7)}


def test_gate_with_one_factor_for_all_channels_ties_nothing() -> None:
    tree = coupled(a=dense(3), g=Gate(body=seq(squeeze=dense(2), factor=dense(1))))
    assert written(tree, "g.body.factor") == [8]
    assert tree.protected[8]
    assert families(tree) == {"a": (3, 4, 5), "g.body.squeeze": (6, 7)}


def test_graph_joins_what_its_steps_read() -> None:
    graph = Graph(
        steps=(
            Step(layer=dense(2), sources=(0,)),
            Step(layer=dense(2), sources=(0,)),
            Step(layer=PReLU(), sources=(1, 2)),
            Step(layer=Sequence(), sources=(3, 0), join="concat"),
        ),
        names=("b", "c", "sum", "both"),
    )
    tree = coupled(a=dense(3), g=graph)
    assert written(tree, "g.steps.b") == written(tree, "g.steps.c") == [6, 7]
    assert read(tree, "g.steps.sum") == [6, 7]
    assert read(tree, "last") == [6, 7, 3, 4, 5]


@pytest.mark.parametrize(
    "layer",
    [
        LayerNorm(),
        GatedChannelTransform(),
        ChannelPool(),
        Gate(body=seq(pool=GlobalAveragePool(), conv=ChannelConv(kernel=3))),
    ],
)
def test_channels_that_others_are_weighed_with_are_protected(layer: Layer) -> None:
    assert families(coupled(a=dense(4), layer=layer)) == {}
    assert families(coupled(a=dense(4), b=dense(3), layer=layer)) == {"a": (3, 4, 5, 6)}


def test_what_does_not_depend_on_the_image_is_protected() -> None:
    beside = Concat(branches=(Sequence(), FourierFeatures(width=2)))
    tree = coupled(a=dense(2), f=beside)
    assert tree.protected[read(tree, "last")].tolist() == [False] * 2 + [True] * 4


def test_flatten_repeats_each_channel() -> None:
    tree = couple(
        seq(a=Conv(out_channels=2, kernel=(3, 4)), f=Flatten(), e=Linear(out_features=2)),
        INPUT,
    )
    assert read(tree, "e") == [3, 3, 4, 4]
    assert tree.protected[written(tree, "e")].all()


def test_channels_behind_a_function_that_moves_zero_are_protected() -> None:
    loud = Activation(function="sigmoid")
    assert coupled(a=dense(2), s=loud).families == ()
    assert coupled(a=dense(2), s=loud, p=NormAwarePool()).families == ()
    assert families(coupled(a=dense(2), s=loud, n=BatchNorm())) == {"a": (3, 4)}
    assert families(coupled(a=dense(2), s=loud, d=depthwise(2))) == {"a": (3, 4)}
    assert families(coupled(a=dense(2), s=Sum(branches=(loud, Sequence())))) == {}
    assert families(coupled(a=dense(2), s=loud, n=BatchNorm(fixed_scale=True))) == {}
    assert families(coupled(a=dense(2), s=Product(branches=(loud, Sequence())))) == {"a": (3, 4)}
    beside = Concat(branches=(Sequence(), seq(b=dense(2), s=loud)))
    assert families(coupled(a=dense(2), s=beside)) == {"a": (3, 4)}


def test_a_layer_that_cannot_take_its_input_is_an_error() -> None:
    with pytest.raises(ShapeError, match="multiples of groups=2"):
        couple(seq(a=Conv(out_channels=4, groups=2)), INPUT)


def test_mobilefacenet_has_one_family_a_width_of_the_paper() -> None:
    spec = network("mobilefacenet_128").spec
    tree = couple(spec.lower(), spec.input)
    streams = {family.name: len(family.classes) for family in tree.families}
    assert len(streams) == 20  # stem, 3 streams, 15 hidden widths, tail
    assert streams["stem.0.conv"] == 64
    assert streams["stages.0.0.project.conv"] == 64
    assert streams["stages.1.0.project.conv"] == 128
    assert streams["head.tail.conv"] == 512


@pytest.mark.parametrize("name", NETWORKS)
def test_families_partition_the_classes_that_may_go(name: str) -> None:
    spec = NETWORKS[name].spec
    tree = couple(spec.lower(), spec.input)
    members = [each for family in tree.families for each in family.classes]
    assert sorted(members) == np.flatnonzero(~tree.protected).tolist()
    assert len({family.name for family in tree.families}) == len(tree.families)


@pytest.mark.parametrize("name", NETWORKS)
def test_members_of_a_family_are_interchangeable(name: str) -> None:
    spec = NETWORKS[name].spec
    tree = couple(spec.lower(), spec.input)
    family_of = np.full(tree.n_classes, -1)
    for number, family in enumerate(tree.families):
        family_of[list(family.classes)] = number
    for site in tree.sites:
        counts = np.bincount(site.out_classes, minlength=tree.n_classes)
        for number in np.unique(family_of[site.out_classes]):
            members = family_of == number
            assert number == -1 or len(set(counts[members])) == 1
