"""Known designs as starting points: found in a space, or the reason why not."""

import dataclasses

import numpy as np
import pytest
from search_checks import shipped_space

from nas_face.arch.zoo import NETWORKS, network
from nas_face.search.designs.seeding import first_unseen, resized, start_of_choices, start_of_spec
from nas_face.shipped import find_file
from nas_face.space import load_space
from nas_face.space.locate import locate, located

SPACE = shipped_space()


def everything():
    path = find_file("search_spaces/all_families.yaml")
    assert path is not None
    return load_space(path).with_input_size(48)


@pytest.mark.parametrize("seed", range(5))
def test_a_design_of_the_space_is_found_again(seed):
    design = SPACE.sample(np.random.default_rng(seed))
    for start in (start_of_spec(SPACE, design.spec), start_of_choices(SPACE, design.choices)):
        assert start.design is not None
        assert start.design.spec == design.spec
        assert start.reason == ""


def test_a_zoo_network_at_another_size_is_found():
    spec = network("seesaw_share").variant(input_size=(48, 48))
    start = start_of_spec(SPACE, spec)
    assert start.design is not None
    assert start.design.spec.arch_id == spec.arch_id


def test_the_same_blocks_for_another_size():
    spec = network("mobilefacenet_128").spec
    small = resized(spec, 96, 64)
    assert small.input_shape == (3, 96, 64)
    assert (small.stem, small.stages, small.head) == (spec.stem, spec.stages, spec.head)


def test_no_reason_where_there_is_a_design_and_a_reason_where_there_is_none():
    space = everything()
    n_found = 0
    for name in NETWORKS:
        try:
            spec = network(name).variant(input_size=(48, 48))
        except Exception:  # too small an image for this one
            continue
        found = located(space, spec)
        assert found.design == locate(space, spec)
        assert (found.design is None) == (found.missed != "")
        assert "\n" not in found.missed
        n_found += found.design is not None
    assert 5 < n_found < len(NETWORKS)


def with_stage(spec, stage, **changes):
    """The architecture with fields of all blocks of a stage changed."""
    stages = list(spec.stages)
    stages[stage] = tuple(dataclasses.replace(block, **changes) for block in stages[stage])
    return dataclasses.replace(spec, stages=tuple(stages))


def test_the_reason_names_the_place_that_differs():
    spec = network("seesaw_share").variant(input_size=(48, 48))
    odd = start_of_spec(SPACE, with_stage(spec, 2, act="gelu"))
    assert odd.design is None
    assert odd.reason.startswith("stages.2.block.")
    assert odd.reason.endswith("not gelu")
    longer = dataclasses.replace(spec, stages=(*spec.stages, spec.stages[-1]))
    assert start_of_spec(SPACE, longer).reason == (
        f"stages has another number of stages than {len(spec.stages) + 1}"
    )
    head = dataclasses.replace(spec.head, embedding_size=100)
    reason = start_of_spec(SPACE, dataclasses.replace(spec, head=head)).reason
    assert reason == "head.global_depthwise.embedding_size offers 128, 256, 512, not 100"


def test_too_many_blocks_in_a_stage():
    spec = network("dw_seesaw_v1").variant(input_size=(48, 48))
    reason = start_of_spec(everything(), spec).reason
    assert reason == "stages.0.repeats offers 1, 2, 3, 4, 5, 6, not 9"


def test_labels_that_are_missing_or_not_offered():
    choices = SPACE.sample(np.random.default_rng(0)).choices
    path = sorted(choices)[0]
    without = {name: label for name, label in choices.items() if name != path}
    assert start_of_choices(SPACE, without).reason == f"{path} is not chosen"
    other = start_of_choices(SPACE, {**choices, path: "nothing"})
    assert other.design is None
    assert other.reason.startswith(f"{path} offers ")
    assert other.reason.endswith(", not nothing")


def test_labels_against_a_rule_are_refused_with_the_rule():
    path = find_file("search_spaces/mobile.yaml")
    assert path is not None
    space = load_space(path).with_input_size(48)
    rng = np.random.default_rng(0)
    for _ in range(1000):
        labels = {
            name: choice.labels[int(rng.integers(len(choice.labels)))]
            for name, choice in space.choices().items()
        }
        if not all(rule.holds(next(iter(space.ways(labels)))) for rule in space.constraints):
            break
    start = start_of_choices(space, labels)
    assert start.design is None
    assert any(rule.because in start.reason for rule in space.constraints)


def test_the_first_that_is_possible_and_new():
    rng = np.random.default_rng(3)
    designs = [SPACE.sample(rng) for _ in range(4)]
    ids = [each.spec.arch_id for each in designs]
    labels = [each.choices for each in designs]
    possible = {id(labels[at]): designs[at] for at in (1, 2, 3)}

    def first(seen):
        return first_unseen(labels, lambda each: possible.get(id(each)), seen)

    assert first([]) == designs[1]
    assert first([ids[1]]) == designs[2]
    assert first([ids[1], ids[3], ids[2]]) is None
