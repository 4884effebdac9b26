"""Spaces with fewer options, and spaces written back to YAML."""

import dataclasses
import random

import numpy as np
import pytest

from nas_face.errors import ArchError, SpaceError
from nas_face.shipped import find_file
from nas_face.space import load_space
from nas_face.space.dump import dump_space, space_data
from nas_face.space.restricting import restricted

RULES = """
name: rules
input_shape: [3, 16, 16]
shared:
  act: {choice: [relu, prelu, silu]}
  width: {choice: [null, 8, 16]}
  size: {choice: [8, 16, 32]}
stem:
  choice:
    plain: [{kind: conv_unit, out_channels: {shared: size}, act: {shared: act}}]
    kernel: [{kind: conv_unit, out_channels: 8, act: {shared: act}, kernel: {choice: [1, 3]}}]
stages: [{out_channels: 8, stride: 1, repeats: {choice: [1, 2, 8]}, block: {kind: conv_unit}}]
head: {kind: pooled_linear, embedding_size: 8, tail_channels: {shared: width}}
constraints:
  - stages.0.repeats != 2 if shared.act in [prelu, silu]
  - shared.width == null or shared.act == silu or shared.width == shared.size
  - {rule: not (1 <= stages.0.repeats == 8 and stem == 'kernel'), because: a chain}
  - stem.kernel.0.kernel == 1 or shared.act == relu
  - stages.0.repeats in [shared.size, 1, 2] or shared.width != null
"""


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")
    return load_space(path)


def legal(space, ways):
    found = set()
    for way in ways:
        try:
            found.add(tuple(sorted(space.design(way).choices.items(), key=str)))
        except ArchError:
            continue
    return found


@pytest.mark.parametrize("seed", [seed for seed in range(25) if seed != 4])  # 4 leaves nothing
def test_rules_say_the_same_of_what_is_left(seed, rules, tmp_path):
    rng = random.Random(seed)
    gone = set()
    for path, choice in rules.choices().items():
        labels = list(choice.labels)
        rng.shuffle(labels)
        gone |= {(path, label) for label in labels[1:] if rng.random() < 0.4}
    left = (way for way in rules.ways() if not gone & set(way.items()))
    wanted = legal(rules, left)
    smaller = restricted(rules, lambda path, label: (path, label) not in gone)
    assert legal(smaller, smaller.ways()) == wanted
    dump_space(smaller, tmp_path / "smaller.yaml")
    assert load_space(tmp_path / "smaller.yaml") == smaller


def test_a_rule_keeps_mentioning_a_choice_whose_option_is_gone(rules):
    smaller = restricted(rules, lambda path, label: (path, label) != ("shared.act", "silu"))
    assert [each.rule for each in smaller.constraints][:2] == [
        "stages.0.repeats != 2 if shared.act in [prelu, silu]".replace("prelu, silu", '"prelu"'),
        "shared.width == null or shared.act in [] or shared.width == shared.size",
    ]
    assert smaller.constraints[2] == rules.constraints[2]


@pytest.mark.parametrize(
    "name", ["all_families", "cell", "edge", "ghost", "mix", "mobile", "seesaw", "shuffle"]
)
def test_shipped_spaces_are_read_back_as_they_are(name, tmp_path):
    space = load_space(find_file(f"search_spaces/{name}.yaml"))
    dump_space(space, tmp_path / "space.yaml")
    again = load_space(tmp_path / "space.yaml")
    assert again == space
    labels = [choice.labels for choice in space.choices().values()]
    assert [choice.labels for choice in again.choices().values()] == labels
    rng = np.random.default_rng(0)
    design = space.sample(rng)
    assert again.design(design.choices).spec.arch_id == design.spec.arch_id


def test_a_space_for_one_input_size_is_read_back(rules, tmp_path):
    space = rules.with_input_size(24, 32)
    dump_space(space, tmp_path / "space.yaml")
    assert load_space(tmp_path / "space.yaml") == space


def test_a_space_filtered_for_a_target_has_no_file(rules):
    with pytest.raises(SpaceError, match="rules: a space without prelu, silu cannot be written"):
        space_data(dataclasses.replace(rules, avoided=frozenset({"silu", "prelu"})))


def test_a_folder_that_is_missing_is_named(rules, tmp_path):
    with pytest.raises(SpaceError, match="space.yaml: cannot be written"):
        dump_space(rules, tmp_path / "no" / "space.yaml")
