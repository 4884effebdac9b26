"""Screening against the slow path: the same designs, the same costs, the same odds."""

import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from space_checks import SHIPPED

from nas_face.errors import ArchError, SpaceError
from nas_face.space import Label, load_space
from nas_face.space.screening import Screener, screener_of
from nas_face.space.space import Design, SearchSpace
from nas_face.space.template import needs

every_space = pytest.mark.parametrize("name", SHIPPED)

PARTS = """
name: parts
input_shape: [3, 32, 32]
shared:
  act: {choice: [relu, prelu]}
  attention: {choice: {none: null, se: {kind: squeeze_excite, ratio: {choice: [0.25, 0.5]}}}}
stem:
  - {kind: conv_unit, out_channels: {choice: [8, 12]}, stride: 2, act: {shared: act}}
stages:
  - out_channels: {choice: [8, 16]}
    stride: 2
    repeats: {range: [1, 3]}
    block:
      choice:
        mobile:
          kind: inverted_residual
          act: {shared: act}
          attention: {shared: attention}
          expansion: {choice: [1, 2]}
          rank_ratio: {choice: [null, 0.4]}
          first:
            choice:
              wide: {expansion: 4}
              plain: {kind: conv_unit, act: {shared: act}}
        shuffle:
          kind: shuffle
          expansion: {choice: [0.5, 1.0]}
          act: {shared: act}
          attention:
            choice: {none: null, se: {kind: squeeze_excite, channels: 4, act: {shared: act}}}
        edge: {kind: split_attention, expansion: 2, parts: {choice: [2, 3]}, heads: 4}
        cells: {kind: cells}
  - {out_channels: 24, stride: 2, repeats: 1, block: {kind: seesaw, mixing: share, expansion: 2}}
head: {kind: global_depthwise, embedding_size: 16, tail_channels: {choice: [null, 32]}}
"""


HALVES = """
name: halves
input_shape: [3, 32, 32]
stem: [{kind: conv_unit, out_channels: {choice: [8, 12]}, stride: 2}]
stages:
  - {out_channels: 16, stride: 2, repeats: 1, block: {kind: variable_group_normal, factor: 1}}
head: {kind: pooled_linear, embedding_size: 16}
"""
"""12 channels do not divide by 8."""


def space_of(tmp_path, text: str) -> SearchSpace:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return load_space(path)


def check(space: SearchSpace, n: int) -> None:
    for screened in itertools.islice(Screener(space).draws(seed=3), n):
        cost = screened.spec.cost()  # the choices are decoded afresh, each of them asked for
        counts = (cost.madds, cost.params, cost.folded_params, cost.peak_activations)
        assert counts == (
            screened.madds,
            screened.params,
            screened.folded_params,
            screened.peak_activations,
        )


@every_space
def test_costs_are_those_of_the_specs(name):
    check(load_space(SHIPPED[name]), 150)


def test_costs_of_every_form_that_a_template_may_have(tmp_path):
    check(space_of(tmp_path, PARTS), 400)


@every_space
def test_odds_are_those_of_sampling(name):
    """Quantiles of log madds of 800 designs each way are alike, and every option is drawn."""
    space = load_space(SHIPPED[name])
    rng = np.random.default_rng(0)
    slow = [space.sample(rng).spec.cost().madds for _ in range(800)]
    fast = list(itertools.islice(Screener(space).draws(seed=0), 1500))
    shares = np.linspace(0.1, 0.9, 9)
    found = np.quantile(np.log([each.madds for each in fast]), shares)
    spread = np.ptp(np.quantile(np.log(slow), [0.1, 0.9]))
    assert np.abs(found - np.quantile(np.log(slow), shares)).max() < 0.15 * spread
    drawn = {pick for each in fast for pick in each.choices.items()}
    offered = {(path, each) for path, c in space.choices().items() for each in c.labels}
    assert offered - drawn == set()


def test_a_seed_gives_the_same_designs(tmp_path):
    screener = Screener(space_of(tmp_path, PARTS))
    first, second = (
        [each.choices for each in itertools.islice(screener.draws(seed=5), 40)] for _ in range(2)
    )
    assert first == second
    other = [each.choices for each in itertools.islice(screener.draws(seed=6), 40)]
    assert first != other


def test_what_cannot_be_built_is_not_drawn(tmp_path):
    """Half of the draws have 12 channels."""
    draws = itertools.islice(Screener(space_of(tmp_path, HALVES)).draws(seed=0), 50)
    assert {each.choices["stem.0.out_channels"] for each in draws} == {8}


def test_rules_of_the_space_hold(tmp_path):
    text = PARTS + "constraints: [stages.0.repeats != 2, stem.0.out_channels == 12]\n"
    for each in itertools.islice(Screener(space_of(tmp_path, text)).draws(seed=0), 200):
        assert each.choices["stages.0.repeats"] != 2
        assert each.choices["stem.0.out_channels"] == 12


def test_a_space_without_any_network_says_so(tmp_path):
    space = replace(space_of(tmp_path, PARTS), avoided=frozenset({"uneven_split"}))
    with pytest.raises(SpaceError, match="parts: none of .* uneven_split"):
        next(Screener(space).draws(seed=0))


def test_screening_needs_no_torch():
    code = (
        "import sys; from nas_face.space import load_space; from pathlib import Path\n"
        "from nas_face.space.screening import Screener\n"
        f"next(Screener(load_space(Path({str(SHIPPED['seesaw'])!r}))).draws(0))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def built(space: SearchSpace, choices: Mapping[str, Label]) -> Design | None:
    """The slow path."""
    try:
        return space.design(choices)
    except ArchError:
        return None


def check_given(space: SearchSpace, n: int) -> int:
    """Every option drawn evenly, whatever comes of it: screening says the same as building."""
    screener, rng, kept = Screener(space), np.random.default_rng(2), 0
    for _ in range(n):
        choices = {
            path: choice.labels[int(rng.integers(len(choice.labels)))]
            for path, choice in space.choices().items()
        }
        slow, fast = built(space, choices), screener.screened(choices)
        assert (slow is None) == (fast is None)
        if slow is not None and fast is not None:
            assert fast.choices == slow.choices
            assert fast.cost == replace(slow.spec.cost(), peak_keeping_input=0)
            kept += 1
    assert kept > n / 20
    return kept


@every_space
def test_given_designs_are_those_that_the_space_builds(name):
    check_given(load_space(SHIPPED[name]), 120)


@pytest.mark.parametrize(
    ("name", "avoided"),
    [("mobile", "prelu"), ("edge", "gelu"), ("all_families", "hard_swish"), ("mix", "silu")],
)
def test_given_designs_of_a_target(name, avoided):
    space = replace(load_space(SHIPPED[name]), avoided=frozenset({avoided, "attention"}))
    assert check_given(space, 100) < 100


def test_given_designs_of_every_form_that_a_template_may_have(tmp_path):
    rules = "constraints: [stages.0.repeats != 2 if shared.act == relu]\n"
    check_given(space_of(tmp_path, PARTS + rules), 300)


def test_given_labels_that_do_not_matter_do_no_harm(tmp_path):
    space = space_of(tmp_path, PARTS)
    screener = Screener(space)
    for each in itertools.islice(screener.draws(seed=0), 20):
        found = screener.screened(
            {"elsewhere": 3, **dict.fromkeys(space.choices()), **each.choices}
        )
        assert found is not None
        assert (found.cost, found.choices) == (each.cost, each.choices)


@pytest.mark.parametrize("wrong", [{}, {"stages.0.repeats": 9}, {"stem.0.out_channels": "8"}])
def test_labels_that_are_missing_or_unknown_are_refused_as_by_the_space(tmp_path, wrong):
    space = space_of(tmp_path, PARTS)
    choices = dict(next(Screener(space).draws(seed=0)).choices)
    choices = {**choices, **wrong} if wrong else dict(list(choices.items())[:-1])
    with pytest.raises((KeyError, SpaceError)) as slow:
        space.design(choices)
    with pytest.raises((KeyError, SpaceError)) as fast:
        Screener(space).screened(choices)
    assert (fast.type, str(fast.value)) == (slow.type, str(slow.value))


def test_a_label_that_is_missing_behind_a_part_that_fails_is_missed(tmp_path):
    text = HALVES.replace("embedding_size: 16", "embedding_size: {choice: [16, 32]}")
    screener = Screener(space_of(tmp_path, text))
    assert screener.screened({"stem.0.out_channels": 12, "head.embedding_size": 16}) is None
    with pytest.raises(KeyError, match=r"head\.embedding_size"):
        screener.screened({"stem.0.out_channels": 12})


@every_space
def test_a_mutation_changes_one_choice_and_what_hangs_on_it(name):
    space = load_space(SHIPPED[name])
    screener, rng, above = Screener(space), np.random.default_rng(0), needs_of(space)
    n_single = 0
    for each in itertools.islice(screener.draws(seed=0), 100):
        found = screener.mutated(each.choices, rng)
        assert found is not None
        assert found.cost == replace(found.spec.cost(), peak_keeping_input=0)
        before, after = each.choices, found.choices
        changed = {path for path in before if path in after and before[path] != after[path]}
        assert changed
        come_or_gone = set(before) ^ set(after)
        assert all({other for other, _ in above[path]} & changed for path in come_or_gone)
        n_single += len(changed) == 1
    assert n_single > 90  # constraints may ask for more


def needs_of(space: SearchSpace) -> dict[str, tuple[tuple[str, Label], ...]]:
    return needs(space.template, space.shared)


def moves(space: SearchSpace, n: int) -> tuple[Counter[Any], Counter[Any]]:
    """What becomes of one design in many mutations, the slow way and the fast one."""
    screener = Screener(space)
    start = space.design(next(screener.draws(seed=4)).choices)
    slow_rng, fast_rng = np.random.default_rng(0), np.random.default_rng(1)
    slow: Counter[Any] = Counter()
    fast: Counter[Any] = Counter()
    for _ in range(n):
        slow[frozenset(space.mutate(start, slow_rng).choices.items())] += 1
        found = screener.mutated(start.choices, fast_rng)
        assert found is not None
        fast[frozenset(found.choices.items())] += 1
    return slow, fast


def test_mutations_have_the_odds_of_the_space(tmp_path):
    slow, fast = moves(space_of(tmp_path, PARTS), 4000)
    for each in slow | fast:
        expected = (slow[each] + fast[each]) / 2
        assert abs(slow[each] - fast[each]) < 6 * np.sqrt(2 * expected)


def test_children_have_the_odds_of_the_space(tmp_path):
    space = space_of(tmp_path, PARTS)
    screener = Screener(space)
    a, b = (space.design(each.choices) for each in itertools.islice(screener.draws(seed=7), 2))
    rng, counts = np.random.default_rng(0), (Counter[Any](), Counter[Any]())
    for _ in range(4000):
        counts[0].update(space.crossover(a, b, rng).choices.items())
        child = screener.crossed(a.choices, b.choices, rng)
        assert child is not None
        counts[1].update(child.choices.items())
    for each in counts[0] | counts[1]:
        expected = (counts[0][each] + counts[1][each]) / 2
        assert abs(counts[0][each] - counts[1][each]) < 6 * np.sqrt(2 * expected)


def test_moves_are_those_of_their_seed(tmp_path):
    screener = Screener(space_of(tmp_path, PARTS))
    first = next(screener.draws(seed=0)).choices
    runs = []
    for _ in range(2):
        rng, at = np.random.default_rng(3), screener.screened(first)
        for _ in range(20):
            assert at is not None
            at = screener.mutated(at.choices, rng)
        runs.append(at)
    assert runs[0] is not None
    assert runs[1] is not None
    assert runs[0].choices == runs[1].choices


def test_moves_that_nothing_allows_give_none(tmp_path):
    screener = Screener(space_of(tmp_path, HALVES))
    rng = np.random.default_rng(0)
    legal, illegal = {"stem.0.out_channels": 8}, {"stem.0.out_channels": 12}
    assert screener.mutated(legal, rng) is None
    assert screener.crossed(illegal, illegal, rng) is None
    child = screener.crossed(legal, illegal, rng)
    assert child is not None
    assert child.choices == legal


def test_a_space_without_choices_moves_nowhere(tmp_path):
    text = HALVES.replace("{choice: [8, 12]}", "8")
    found = Screener(space_of(tmp_path, text)).mutated({}, np.random.default_rng(0))
    assert found is not None
    assert found.choices == {}


def test_equal_spaces_share_a_screener_and_others_do_not(tmp_path):
    space, again = space_of(tmp_path, PARTS), space_of(tmp_path, PARTS)
    assert screener_of(space) is screener_of(again)
    for other in (
        replace(space, avoided=frozenset({"prelu"})),
        space.with_input_size(48),
        space_of(tmp_path, PARTS.replace("[relu, prelu]", "[prelu, relu]")),
        space_of(tmp_path, PARTS + "constraints: [stages.0.repeats != 2]\n"),
    ):
        assert screener_of(other) is not screener_of(space)
    shapes = (
        next(screener_of(each).draws(0)).spec.input for each in (space, space.with_input_size(48))
    )
    assert [shape.height for shape in shapes] == [32, 48]


def test_what_was_screened_is_counted_legal_or_not(tmp_path):
    space = space_of(tmp_path, PARTS + "constraints: [stages.0.repeats != 2]\n")
    screener = Screener(space)
    assert screener.n_screened == 0
    choices = next(screener.draws(0)).choices
    n_drawn = screener.n_screened
    assert n_drawn >= 1
    assert screener.screened(choices) is not None
    assert screener.screened({**choices, "stages.0.repeats": 2}) is None
    assert screener.n_screened == n_drawn + 2
