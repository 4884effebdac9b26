"""Every shipped space: sampled, costed by torch, and the published networks in it."""

import functools
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_checks import SHIPPED

from nas_face.arch.spec import ArchSpec
from nas_face.errors import SpaceError
from nas_face.space import load_space
from nas_face.space.survey import smallest

N_BUILT = int(os.environ.get("NAS_FACE_DESIGNS", "12"))
"""Designs of each space that are built and counted; more take minutes."""

every_space = pytest.mark.parametrize("name", SHIPPED)


@functools.cache
def space_of(name):
    return load_space(SHIPPED[name])


@functools.cache
def samples(name):
    rng = np.random.default_rng(1)
    return [space_of(name).sample(rng) for _ in range(500)]


def test_spaces_are_shipped():
    families = {"all_families", "seesaw", "shuffle", "variable_group", "mix", "ghost"}
    assert families <= set(SHIPPED)


@every_space
def test_samples_decode_to_themselves(name):
    space = space_of(name)
    for design in samples(name)[:150]:
        assert space.decode(design.choices) == design.spec
        assert set(design.choices) <= set(space.choices())


@every_space
def test_samples_differ_and_survive_json(name):
    specs = [design.spec for design in samples(name)]
    assert len({spec.arch_id for spec in specs}) > 490
    for spec in specs[:50]:
        assert ArchSpec.from_data(spec.to_data(), where="copy") == spec


@every_space
def test_cost_of_samples_is_torchs(name, torch_cost):
    rng = np.random.default_rng(2)
    small = space_of(name).with_input_size(48)
    for _ in range(N_BUILT):
        spec = small.sample(rng).spec
        assert spec.input_shape == (3, 48, 48)
        shape, torch_says = torch_cost(spec.lower(), spec.input)
        cost = spec.cost()
        assert shape == (spec.embedding_size, 1, 1)
        assert (cost.madds, cost.params, cost.folded_params) == (
            torch_says.madds,
            torch_says.params,
            torch_says.folded_params,
        )


@every_space
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_mutation_and_crossover_stay_inside_the_space(name, seed):
    space = space_of(name)
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng), space.sample(rng)
    for child in (space.mutate(a, rng), space.crossover(a, b, rng)):
        assert space.decode(child.choices) == child.spec
    mutant = space.mutate(a, rng)
    common = set(a.choices) & set(mutant.choices)
    assert sum(a.choices[path] != mutant.choices[path] for path in common) == 1


@every_space
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_child_has_its_labels_from_its_parents(name, seed):
    space = space_of(name)
    rng = np.random.default_rng(seed)
    a, b = space.sample(rng), space.sample(rng)
    child = space.crossover(a, b, rng)
    from_parents = {path for path in child.choices if path in a.choices or path in b.choices}
    for path in from_parents:
        theirs = {parent.choices[path] for parent in (a, b) if path in parent.choices}
        assert child.choices[path] in theirs


@every_space
def test_same_seed_same_designs(name):
    space = space_of(name)
    first, second = (np.random.default_rng(4) for _ in range(2))
    for _ in range(5):
        a, b = space.sample(first), space.sample(second)
        assert a == b
        assert space.mutate(a, first) == space.mutate(b, second)


@every_space
def test_descent_finds_nothing_larger_than_any_sample(name):
    def madds(cost):
        return cost.madds

    designs = samples(name)
    least = smallest(space_of(name), designs[0], madds).spec.cost().madds
    assert least <= min(design.spec.cost().madds for design in designs)


@every_space
def test_decode_refuses_what_it_does_not_know(name):
    space = space_of(name)
    choices = samples(name)[0].choices
    path = next(iter(choices))
    with pytest.raises(SpaceError, match=f"{name}: no value for {path}"):
        space.decode({key: value for key, value in choices.items() if key != path})
    with pytest.raises(SpaceError, match=f"{path}: 'nonsense' is not an option; known: "):
        space.decode({**choices, path: "nonsense"})
    with pytest.raises(SpaceError, match=f"{name}: surprise has no effect in this design"):
        space.decode({**choices, "surprise": 1})
