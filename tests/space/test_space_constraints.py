"""Rules between choices: what they mean, what is refused on load, and that nothing breaks them."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from space_checks import TINY, every_design, space_of

from nas_face.errors import SpaceError
from nas_face.space.constraints import RuleBroken
from nas_face.space.space import SearchSpace

STAGE = TINY["stages"][0]
WIDTHS = {"choice": [8, 16, 24]}
STAGES = {
    **TINY,
    "stages": [
        {**STAGE, "out_channels": WIDTHS, "repeats": {"choice": [1, 2]}},
        {
            **STAGE,
            "out_channels": WIDTHS,
            "repeats": 1,
            "block": {"kind": "conv_unit", "act": {"shared": "act"}},
        },
    ],
    "head": {
        "choice": {
            "pooled": {
                "kind": "pooled_linear",
                "embedding_size": 8,
                "tail_channels": {"choice": [8, 16]},
            },
            "norm_aware": {"kind": "norm_aware", "embedding_size": 8, "tail_channels": 8},
        }
    },
}
EXPANSION = "stages.0.block.expansion"
ATTENTION = "stages.0.block.attention"
WIDTH_0, WIDTH_1 = "stages.0.out_channels", "stages.1.out_channels"
TAIL = "head.pooled.tail_channels"


def ruled(folder, *rules, data=STAGES) -> SearchSpace:
    return space_of(folder, {**data, "constraints": list(rules)})


MEANINGS = {
    f"{WIDTH_1} >= {WIDTH_0}": lambda c: c[WIDTH_1] >= c[WIDTH_0],
    f"{WIDTH_0} < {WIDTH_1} <= 16": lambda c: c[WIDTH_0] < c[WIDTH_1] <= 16,
    f"{WIDTH_0} + {WIDTH_1} == 32": lambda c: c[WIDTH_0] + c[WIDTH_1] == 32,
    f"{WIDTH_0} * 2 - 8 != {WIDTH_1}": lambda c: c[WIDTH_0] * 2 - 8 != c[WIDTH_1],
    f"{WIDTH_1} % {WIDTH_0} == 0": lambda c: c[WIDTH_1] % c[WIDTH_0] == 0,
    f"{WIDTH_1} // {WIDTH_0} >= 1": lambda c: c[WIDTH_1] // c[WIDTH_0] >= 1,
    f"{WIDTH_1} / {WIDTH_0} > 1.5": lambda c: c[WIDTH_1] / c[WIDTH_0] > 1.5,
    f"-{WIDTH_1} < -8": lambda c: c[WIDTH_1] > 8,
    "shared.act == relu": lambda c: c["shared.act"] == "relu",
    "shared.act != 'relu'": lambda c: c["shared.act"] != "relu",
    'shared.act == "silu" or head == pooled': lambda c: (
        c["shared.act"] == "silu" or c["head"] == "pooled"
    ),
    f"not (shared.act == silu and {EXPANSION} == 2)": lambda c: (
        not (c["shared.act"] == "silu" and c[EXPANSION] == 2)
    ),
    f"{WIDTH_0} in [8, 24]": lambda c: c[WIDTH_0] in (8, 24),
    f"{WIDTH_0} not in (8, 24)": lambda c: c[WIDTH_0] not in (8, 24),
    "head in [norm_aware]": lambda c: c["head"] == "norm_aware",
    f"{TAIL} == 16": lambda c: TAIL not in c or c[TAIL] == 16,
    f"{TAIL} == 16 if shared.act == relu": lambda c: (
        TAIL not in c or c["shared.act"] != "relu" or c[TAIL] == 16
    ),
    f"head == norm_aware if {WIDTH_0} == 8 else {WIDTH_1} == 8": lambda c: (
        c["head"] == "norm_aware" if c[WIDTH_0] == 8 else c[WIDTH_1] == 8
    ),
    f"{ATTENTION} == none or stages.0.repeats == 1": lambda c: (
        c[ATTENTION] == "none" or c["stages.0.repeats"] == 1
    ),
}


@pytest.mark.parametrize("rule", MEANINGS)
def test_a_rule_leaves_exactly_what_it_says(rule, tmp_path):
    free = space_of(tmp_path, STAGES)
    wanted = [design.choices for design in every_design(free) if MEANINGS[rule](design.choices)]
    assert 0 < len(wanted) < free.size
    space = ruled(tmp_path, rule)
    assert space.size == free.size
    left = [design.choices for design in every_design(space)]
    assert sorted(map(str, left)) == sorted(map(str, wanted))


def test_none_true_and_false_are_values(tmp_path):
    stem = [
        {
            "kind": "conv_unit",
            "out_channels": 8,
            "depthwise": {"choice": [False]},
            "act": {"choice": [None, "relu"]},
        }
    ]
    data = {**TINY, "stem": stem, "stages": [{**STAGE, "repeats": 1}]}
    for rule, acts in (
        ("stem.0.act == null", {None}),
        ("stem.0.act != null", {"relu"}),
        ("stem.0.depthwise or stem.0.act == relu", {"relu"}),
        ("stem.0.depthwise == false", {None, "relu"}),
    ):
        space = ruled(tmp_path, rule, data=data)
        assert {design.choices["stem.0.act"] for design in every_design(space)} == acts


REFUSED = [
    ("stages.1.width >= 8", r"names no choice or option: stages\.1\.width; did you mean"),
    ("shared.act == rleu", r"names no choice or option: rleu"),
    ("shared.act == 'rleu'", r"compares shared\.act with 'rleu', which is none of its options"),
    (f"{WIDTH_0} == 9", r"none of its options; known: 8, 16, 24"),
    (f"{WIDTH_0} in [8, 9]", r"none of its options; known: 8, 16, 24"),
    ("shared.act >= 8", r"needs a number where shared\.act may be a word"),
    ("shared.act == 8", r"which are never alike"),
    (f"{WIDTH_0} == true", r"which are never alike"),
    (f"{WIDTH_0} == null", r"which are never alike"),
    (f"{WIDTH_0} + 8", r"is neither true nor false; write a comparison"),
    (f"{WIDTH_0}", r"is neither true nor false"),
    ("shared.act", r"is neither true nor false"),
    (f"not {WIDTH_0}", r"needs true or false where stages\.0\.out_channels may be a number"),
    (f"{WIDTH_0} == 8 or 16", r"needs true or false where 16 may be a number"),
    (f"{WIDTH_0} / 0 == 8", r"divides by what may be 0"),
    (f"8 % ({WIDTH_0} - 8) == 0", r"divides by what may be 0"),
    ("1 < 2", r"mentions no choice"),
    (f"{WIDTH_0} >", r"cannot be read as a comparison of choices"),
    (f"{WIDTH_0} ** 2 == 64", r"cannot be read as a comparison of choices"),
    (f"abs({WIDTH_0}) == 8", r"names no choice or option: abs"),
    (f"{WIDTH_0} is 8", r"cannot be read; compare with"),
    (f"{WIDTH_0} in {WIDTH_1}", r"needs a list behind 'in', such as \[relu, silu\]"),
    (f"[{WIDTH_0}] == 8", r"cannot be read as a comparison of choices"),
    (f"({WIDTH_0} := 8) == 8", r"cannot be read as a comparison of choices"),
    ("__import__('os')", r"names no choice or option: __import__"),
    (f"{WIDTH_0}.real == 8", r"names no choice or option"),
    ("stages.0.block.act == relu", r"which is a shared choice: write shared\.act"),
    ("stages.1.repeats == 1", r"which is no choice but always 1: write it"),
    ("not " * 100 + "true", r"is nested too deeply"),
    (f"{WIDTH_0} == 8" + " or true" * 300, r"is longer than 1000 characters"),
    ("", r"cannot be read as a comparison of choices"),
    (True, r"expected a line such as"),
    ({"rul": "1 < 2"}, r"'rul' is not a known key; known: because, rule"),
    ({"rule": f"{WIDTH_0} == 8", "because": 3}, r"expected a line such as"),
    ([WIDTH_0], r"expected a line such as"),
]


@pytest.mark.parametrize(("rule", "message"), REFUSED)
def test_a_line_that_makes_no_sense_is_refused_on_load(rule, message, tmp_path):
    with pytest.raises(SpaceError, match=rf"space\.yaml: constraints\.1: .*{message}") as caught:
        ruled(tmp_path, f"{WIDTH_0} >= 8", rule)
    assert "\n" not in str(caught.value)


def test_constraints_are_a_list(tmp_path):
    with pytest.raises(SpaceError, match=r"constraints: expected a list of lines, got 'a'"):
        space_of(tmp_path, {**STAGES, "constraints": "a"})


def test_a_broken_rule_is_named_with_its_values_and_reason(tmp_path):
    rule = f"{WIDTH_1} >= {WIDTH_0}"
    space = ruled(tmp_path, {"rule": rule, "because": "stages only widen"})
    choices = dict(space.sample(np.random.default_rng(0)).choices)
    choices |= {WIDTH_0: 24, WIDTH_1: 8}
    with pytest.raises(SpaceError) as caught:
        space.decode(choices)
    assert str(caught.value) == (
        f"tiny: constraint {rule!r} is broken: {WIDTH_1} is 8, {WIDTH_0} is 24 (stages only widen)"
    )
    with pytest.raises(RuleBroken, match="constraint"):
        space.propose(lambda path, choice: choices[path])


def test_rules_that_nothing_obeys_are_refused(tmp_path):
    with pytest.raises(SpaceError, match=r"none of 10000 designs obeys the rules; .*is broken"):
        ruled(tmp_path, f"{WIDTH_0} < 16", f"{WIDTH_0} > 16")


TIED = [f"{WIDTH_0} == {WIDTH_1}", "shared.act == silu if head == pooled", f"{TAIL} == 16"]


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    """A space whose widths are tied, so that no single change of one is legal."""
    return ruled(tmp_path_factory.mktemp("tied"), *TIED)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_everything_that_comes_out_obeys(tied, seed):
    rng = np.random.default_rng(seed)
    a, b = tied.sample(rng), tied.sample(rng)
    children = [tied.mutate(a, rng), tied.crossover(a, b, rng), *tied.neighbours(a)]
    for design in (a, b, *children):
        assert design.choices[WIDTH_0] == design.choices[WIDTH_1]
        assert design.choices["head"] != "pooled" or design.choices["shared.act"] == "silu"
        assert design.choices.get(TAIL, 16) == 16
        assert tied.decode(design.choices) == design.spec
    assert children[0].choices != a.choices


def test_where_no_single_change_is_legal_a_mutation_makes_two(tmp_path):
    data = {
        **TINY,
        "shared": {},
        "stem": [{"kind": "conv_unit", "out_channels": WIDTHS}],
        "stages": [
            {
                "out_channels": WIDTHS,
                "stride": 2,
                "repeats": 1,
                "block": {"kind": "conv_unit"},
            }
        ],
    }
    space = ruled(tmp_path, "stem.0.out_channels == stages.0.out_channels", data=data)
    rng = np.random.default_rng(0)
    start = space.sample(rng)
    assert list(space.neighbours(start)) == []
    for _ in range(10):
        mutant = space.mutate(start, rng)
        assert set(mutant.choices.values()) & set(start.choices.values()) == set()


def test_sampling_under_a_rare_rule_works_and_stays_even(tmp_path):
    """One of the 9 pairs of widths: every design of it is drawn about as often."""
    space = ruled(tmp_path, f"{WIDTH_0} == 8", f"{WIDTH_1} == 24", "shared.act == relu")
    rng = np.random.default_rng(0)
    drawn = [space.sample(rng).choices[EXPANSION] for _ in range(400)]
    assert drawn.count(1) == pytest.approx(200, abs=50)


def test_rules_outlive_another_input_size(tmp_path):
    space = ruled(tmp_path, f"{WIDTH_0} == 8").with_input_size(32)
    assert {each.choices[WIDTH_0] for each in itertools.islice(every_design(space), 50)} == {8}
