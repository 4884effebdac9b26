"""What a space costs and what is wrong with it, against going through all of it."""

import copy

import pytest
from space_checks import SHIPPED, TINY, every_design, space_of

from nas_face.errors import SpaceError
from nas_face.space import load_space
from nas_face.space.check import check
from nas_face.space.draws import quantile
from nas_face.space.overview import EXACT_LIMIT, MEASURES, overview

STAGE = TINY["stages"][0]
BLOCK = STAGE["block"]
HEADS = {
    "choice": {
        "one": {"kind": "pooled_linear", "embedding_size": 8, "tail_channels": 8},
        "many": {
            "kind": "norm_aware",
            "embedding_size": {"choice": [8, 16]},
            "tail_channels": {"choice": [8, 16, 32]},
            "act": {"choice": ["relu", "silu"]},
        },
    }
}
WIDE = {
    **TINY,
    "stages": [
        {
            **STAGE,
            "out_channels": {"choice": [8, 16, 24, 32]},
            "block": {**BLOCK, "expansion": {"range": [1, 3]}},
        }
    ],
    "head": HEADS,
}


def no_limit(cost):
    return 0.0


def wall(madds):
    return lambda cost: max(0.0, cost.madds / madds - 1)


@pytest.mark.parametrize("rules", [[], ["stages.0.repeats <= 2", "stem.0.out_channels == 8"]])
def test_a_small_space_is_counted_exactly(rules, tmp_path):
    space = space_of(tmp_path, {**TINY, "constraints": rules})
    designs = list(every_design(space))
    limit = sorted(each.spec.cost().madds for each in designs)[len(designs) // 3]
    found = overview(space, wall(limit), seed=0, n_samples=10)
    assert found.exact
    assert found.n_designs == len(designs)
    assert found.n_ways == found.n_drawn == space.size
    assert found.n_architectures == len({each.spec.arch_id for each in designs})
    assert found.n_fitting == sum(each.spec.cost().madds <= limit for each in designs)
    for name, measure in MEASURES.items():
        values = sorted(measure(each.spec.cost()) for each in designs)
        spread = found.spreads[name]
        assert (spread.smallest, spread.largest) == (values[0], values[-1])
        assert spread.median == values[(len(values) - 1) // 2]


def test_estimates_of_a_larger_space_agree_with_its_true_numbers(tmp_path):
    """One head has 1 way and the other 12, so draws that counted alike would be far off."""
    space = space_of(tmp_path, {**WIDE, "constraints": ["stages.0.out_channels <= 24"]})
    assert space.size > EXACT_LIMIT
    designs = list(every_design(space))
    values = {
        name: sorted(measure(each.spec.cost()) for each in designs)
        for name, measure in MEASURES.items()
    }
    limit = values["madds"][len(designs) // 4]
    found = overview(space, wall(limit), seed=0, n_samples=1500)
    assert not found.exact
    assert found.n_ways == space.size
    assert found.n_designs == pytest.approx(len(designs), rel=0.08)
    assert found.share_fitting == pytest.approx(0.25, abs=0.05)
    for name, ranked in values.items():
        spread = found.spreads[name]
        assert (spread.smallest, spread.largest) == (ranked[0], ranked[-1])
        low, high = (ranked[int(share * len(ranked))] for share in (0.42, 0.58))
        assert low <= spread.median <= high
    again = overview(space, wall(limit), seed=0, n_samples=1500)
    assert again == found


def test_what_hardly_anything_fits_is_found_by_descent(tmp_path):
    space = space_of(tmp_path, WIDE)
    least = min(each.spec.cost().madds for each in every_design(space))
    assert overview(space, wall(least), seed=0, n_samples=20).some_fit
    none = overview(space, wall(least - 1), seed=0, n_samples=20)
    assert (none.some_fit, none.n_fitting) == (False, 0)


def test_a_space_without_legal_designs_is_refused(tmp_path):
    space = space_of(tmp_path, TINY)
    broken = space_of(tmp_path, {**TINY, "constraints": ["stages.0.repeats <= 2"]})
    broken = type(broken)(
        name="none",
        description="",
        input_shape=broken.input_shape,
        template=space.template,
        shared=space.shared,
        avoided=frozenset({"global_average_pool"}),
    )
    with pytest.raises(SpaceError, match="none: none of 48 designs is legal; the last: .* has"):
        overview(broken, no_limit, seed=0, n_samples=10)


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.1, 1.0), (0.5, 3.0), (0.89, 3.0), (1.0, 7.0)]
)
def test_quantiles_weigh(share, value):
    assert quantile([3.0, 7.0, 1.0], [8.0, 1.0, 1.0], share) == value


def kinds(found):
    return [(each.kind, each.where) for each in found.findings]


def test_a_clean_space_has_no_findings(tmp_path):
    found = check(space_of(tmp_path, TINY))
    assert found.findings == ()
    assert found.n_drawn >= 400
    assert found.n_rule_broken == found.n_unbuildable == 0


def test_an_option_that_never_fits_is_dead(tmp_path):
    data = copy.deepcopy(TINY)
    data["stem"].append({"kind": "conv_unit", "out_channels": 8, "depthwise": True})
    found = check(space_of(tmp_path, data))
    assert ("dead option", "stem.0.out_channels=4") in kinds(found)
    assert found.n_unbuildable == pytest.approx(found.n_drawn / 2, rel=0.2)
    unbuildable = next(each for each in found.findings if each.kind == "cannot be built")
    assert unbuildable.where == "stem.1"
    assert "stem.0.out_channels=4)" in unbuildable.what
    assert "50." in unbuildable.what or "4" in unbuildable.what


def test_a_rule_can_make_options_dead_and_breaking_it_is_no_finding(tmp_path):
    data = {**TINY, "constraints": ["stages.0.repeats > 1 if shared.act == relu"]}
    found = check(space_of(tmp_path, data))
    assert found.findings == ()
    assert found.n_rule_broken > 0
    data = {**TINY, "constraints": ["stages.0.repeats > 1", "shared.act == silu"]}
    found = check(space_of(tmp_path, data))
    assert kinds(found) == [
        ("dead option", "shared.act=relu"),
        ("dead option", "stages.0.repeats=1"),
    ]
    assert "is broken: stages.0.repeats is 1" in found.findings[1].what


def test_what_lies_in_a_dead_option_is_not_reported_again(tmp_path):
    stem = {
        "choice": {
            "good": TINY["stem"],
            "bad": [
                {"kind": "conv_unit", "out_channels": {"choice": [4, 12]}},
                {"kind": "conv_unit", "out_channels": 8, "depthwise": True},
            ],
        }
    }
    found = check(space_of(tmp_path, {**TINY, "stem": stem}))
    assert [each for each in kinds(found) if each[0] == "dead option"] == [
        ("dead option", "stem=bad")
    ]


def test_shared_choices_that_nothing_uses_are_dead(tmp_path):
    data = {**TINY, "shared": {**TINY["shared"], "idle": {"choice": [1, 2]}}}
    assert kinds(check(space_of(tmp_path, data))) == [("dead choice", "shared.idle")]


def test_choices_without_effect(tmp_path):
    """The first block has an expansion of its own, and there is only one block."""
    data = {
        **TINY,
        "stages": [{**STAGE, "repeats": 1, "block": {**BLOCK, "first": {"expansion": 4}}}],
    }
    assert kinds(check(space_of(tmp_path, data))) == [("no effect", "stages.0.block.expansion")]
    tied = {**TINY, "constraints": ["stages.0.block.expansion * 4 == stem.0.out_channels"]}
    assert check(space_of(tmp_path, tied)).findings == ()


def test_options_over_the_budget_are_exactly_those_that_nothing_within_it_has(tmp_path):
    space = space_of(tmp_path, WIDE)
    designs = list(every_design(space))
    ranked = sorted(each.spec.cost().madds for each in designs)
    for limit in (ranked[0], ranked[len(ranked) // 20], ranked[len(ranked) // 2], ranked[-1]):
        fitting = {
            option
            for each in designs
            if each.spec.cost().madds <= limit
            for option in each.choices.items()
        }
        inside = {label for path, label in fitting if path == "head"}
        over = {
            f"{path}={label}"
            for path, choice in space.choices().items()
            for label in choice.labels
            if (path, label) not in fitting
            and (not path.startswith("head.") or path.split(".")[1] in inside)
        }
        found = check(space, wall(limit))
        assert {each.where for each in found.findings if each.kind == "over budget"} == over


def test_check_is_the_same_for_the_same_seed(tmp_path):
    space = space_of(tmp_path, {**WIDE, "constraints": ["stages.0.out_channels <= 24"]})
    assert check(space, wall(300_000), seed=3) == check(space, wall(300_000), seed=3)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_spaces_have_nothing_wrong(name):
    assert [str(each) for each in check(load_space(SHIPPED[name])).findings] == []
