"""From an architecture back to the choices that decode to it."""

from dataclasses import replace

import numpy as np
import pytest
from space_checks import SHIPPED

from nas_face.arch.zoo import NETWORKS
from nas_face.space import load_space
from nas_face.space.locate import locate

every_space = pytest.mark.parametrize("name", SHIPPED)
IN_THEIR_FAMILY = [name for name, entry in NETWORKS.items() if entry.family in SHIPPED]
IN_ALL_FAMILIES = [
    "mobilefacenet_128",
    "mobilefacenet_512",
    "mobilefacenet_relu",
    "seesaw_share",
    "seesaw_shuffle",
    "vargfacenet",
    "shufflefacenet_1_5x",
]


@pytest.mark.parametrize("name", IN_THEIR_FAMILY)
def test_every_published_network_lies_in_the_space_of_its_family(name):
    entry = NETWORKS[name]
    space = load_space(SHIPPED[entry.family])
    design = locate(space, entry.spec)
    assert design is not None
    assert space.decode(design.choices) == entry.spec
    assert design.spec.arch_id == entry.spec.arch_id


def test_families_without_a_space_are_meant():
    without = {entry.family for entry in NETWORKS.values()} - set(SHIPPED)
    assert without == {"resnet", "lightcnn", "squeeze"}


@pytest.mark.parametrize("name", IN_ALL_FAMILIES)
def test_families_meet_in_one_space(name):
    space = load_space(SHIPPED["all_families"])
    design = locate(space, NETWORKS[name].spec)
    assert design is not None
    assert space.decode(design.choices) == NETWORKS[name].spec


@every_space
def test_any_design_is_found_again(name):
    space = load_space(SHIPPED[name])
    rng = np.random.default_rng(7)
    for _ in range(60):
        spec = space.sample(rng).spec
        design = locate(space, spec)
        assert design is not None
        assert space.decode(design.choices) == spec


def test_what_a_space_does_not_contain_is_not_found():
    space = load_space(SHIPPED["seesaw"])
    spec = NETWORKS["seesaw_share"].spec
    assert locate(space, NETWORKS["mobilefacenet_128"].spec) is None
    assert locate(space, replace(spec, input_shape=(3, 96, 96))) is None
    assert locate(space, replace(spec, stages=spec.stages[:2])) is None
    narrower = replace(spec.head, tail_channels=333)
    assert locate(space, replace(spec, head=narrower)) is None
    odd = replace(spec.stages[0][1], hidden_channels=20)
    stages = ((spec.stages[0][0], odd, *spec.stages[0][2:]), *spec.stages[1:])
    assert locate(space, replace(spec, stages=stages)) is None
