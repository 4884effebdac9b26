"""The words of a template, what they mean, and what is said where they are misused."""

import copy

import numpy as np
import pytest
from space_checks import TINY, every_design, number_of_ways, space_of

from nas_face.arch.blocks.inverted_residual import InvertedResidual
from nas_face.errors import ArchError, SpaceError
from nas_face.space import Choice, SearchSpace, load_space, read_yaml
from nas_face.space.survey import smallest, survey

STAGE = TINY["stages"][0]
BLOCK = STAGE["block"]
HEAD = TINY["head"]
CONV = {"kind": "conv_unit", "out_channels": 8}


def with_block(**changes):
    return {**TINY, "stages": [{**STAGE, "block": {**BLOCK, **changes}}]}


def with_stage(**changes):
    return {**TINY, "stages": [{**STAGE, **changes}]}


def test_size_is_the_number_of_ways_to_choose(tmp_path):
    space = space_of(tmp_path, TINY)
    assert space.size == 2 * 2 * 3 * 2 * 2
    assert number_of_ways(space) == space.size


NESTED = {
    **TINY,
    "shared": {"act": {"choice": ["relu", "silu"]}, "width": {"choice": [4, 8, 12]}},
    "stem": {
        "choice": {
            "one": [{**CONV, "out_channels": {"shared": "width"}}],
            "two": [
                {**CONV, "out_channels": {"shared": "width"}},
                {**CONV, "out_channels": {"shared": "width"}, "kernel": {"choice": [1, 3]}},
            ],
            "fixed": [CONV],
        }
    },
}
CHOICE_IN_CHOICE = {
    **TINY,
    "stem": [{**CONV, "out_channels": {"choice": {"few": {"choice": [4, 8]}, "many": 32}}}],
}
UNUSED = {**TINY, "shared": {**TINY["shared"], "idle": {"choice": [1, 2, 3]}}}


@pytest.mark.parametrize(
    ("data", "ways"),
    [
        (TINY, 48),
        (UNUSED, 48),
        (NESTED, (3 + 3 * 2 + 1) * 24),
        (CHOICE_IN_CHOICE, 3 * 24),
        (with_stage(repeats=2), 16),
        (with_stage(repeats={"range": [1, 9, 4]}), 48),
        (
            {
                **TINY,
                "shared": None,
                "stem": [CONV],
                "stages": [{**STAGE, "repeats": 1, "block": {"kind": "conv_unit"}}],
            },
            1,
        ),
    ],
)
def test_size_by_enumeration(data, ways, tmp_path):
    space = space_of(tmp_path, data)
    assert space.size == number_of_ways(space) == ways


def test_every_design_of_a_small_space_decodes(tmp_path):
    space = space_of(tmp_path, NESTED)
    designs = list(every_design(space))
    assert len(designs) == space.size
    for design in designs:
        assert space.decode(design.choices) == design.spec
    assert len({tuple(sorted(each.choices.items(), key=str)) for each in designs}) == space.size
    assert {path for each in designs for path in each.choices} == set(space.choices())


def test_a_choice_inside_a_choice_has_a_path_of_its_own(tmp_path):
    space = space_of(tmp_path, CHOICE_IN_CHOICE)
    outer = "stem.0.out_channels"
    assert {outer, f"{outer}.few"} <= set(space.choices())
    widths = {design.spec.stem[0].out_channels for design in every_design(space)}
    assert widths == {4, 8, 32}


def test_a_choice_that_does_not_matter_may_not_be_given(tmp_path):
    space = space_of(tmp_path, CHOICE_IN_CHOICE)
    design = next(
        each for each in every_design(space) if each.choices["stem.0.out_channels"] == "many"
    )
    with pytest.raises(SpaceError, match=r"stem\.0\.out_channels\.few has no effect"):
        space.decode({**design.choices, "stem.0.out_channels.few": 4})


def test_shared_choices_are_picked_once(tmp_path):
    for design in every_design(space_of(tmp_path, TINY)):
        acts = {block.act for block in (*design.spec.stem, *design.spec.stages[0])}
        assert acts == {design.choices["shared.act"]}


def test_range_has_both_ends(tmp_path):
    choice = space_of(tmp_path, with_stage(repeats={"range": [1, 7, 3]})).choices()
    assert choice["stages.0.repeats"].labels == (1, 4, 7)
    assert space_of(tmp_path, with_stage(repeats={"range": [2, 2]})).choices()[
        "stages.0.repeats"
    ].labels == (2,)


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [
        ((1, 2), True),
        ((0.5, 2), True),
        ((None, 2), False),
        ((True, False), False),
        (("a",), False),
    ],
)
def test_order_is_that_of_numbers(labels, ordered):
    assert Choice(options={label: label for label in labels}).ordered is ordered


def test_ratios_become_widths(tmp_path):
    """expansion x input width in steps of 4; the attention's ratio x hidden width."""
    for design in every_design(space_of(tmp_path, TINY)):
        width = design.spec.stem[0].out_channels
        for block in design.spec.stages[0]:
            hidden = width * design.choices["stages.0.block.expansion"]
            squeezed = design.choices["stages.0.block.attention"] == "squeeze"
            assert isinstance(block, InvertedResidual)
            assert block.hidden_channels == hidden
            inner = None if block.attention is None else block.attention.channels
            assert inner == (hidden // 4 if squeezed else None)
            width = block.out_channels


@pytest.mark.parametrize(
    ("expansion", "hidden"), [(0.01, 4), (0.3, 4), (0.8, 8), (1.24, 8), (1.26, 12), (3, 24)]
)
def test_ratios_are_rounded_to_a_multiple_and_never_to_nothing(expansion, hidden, tmp_path):
    data = with_block(expansion=expansion)
    data["stem"] = [CONV]
    design = space_of(tmp_path, data).sample(np.random.default_rng(0))
    assert design.spec.stages[0][0].hidden_channels == hidden


def test_first_block_of_a_stage_may_differ(tmp_path):
    by_kind = {"kind": "shuffle", "expansion": 1.0}
    for first, kind, hidden in (
        ({"expansion": 4}, "inverted_residual", 32),
        (by_kind, "shuffle", 8),
    ):
        data = with_stage(repeats=3, block={**BLOCK, "expansion": 2, "first": first})
        data["stem"] = [CONV]
        blocks = space_of(tmp_path, data).sample(np.random.default_rng(0)).spec.stages[0]
        assert [block.kind for block in blocks] == [kind, *["inverted_residual"] * 2]
        assert [block.hidden_channels for block in blocks] == [hidden, 16, 16]
        assert [block.stride for block in blocks] == [2, 1, 1]


def test_input_size_changes_nothing_else(tmp_path):
    space = space_of(tmp_path, TINY)
    larger = space.with_input_size(32)
    assert larger.input_shape == (3, 32, 32)
    assert larger.choices() == space.choices()
    assert space.input_shape == (3, 16, 16)


def test_smallest_is_the_minimum_of_the_space(tmp_path):
    space = space_of(tmp_path, NESTED)
    for measure in (lambda cost: cost.madds, lambda cost: cost.params):
        least = min(measure(design.spec.cost()) for design in every_design(space))
        for seed in range(5):
            start = space.sample(np.random.default_rng(seed))
            assert measure(smallest(space, start, measure).spec.cost()) == least


def test_survey_counts_what_fits(tmp_path):
    space = space_of(tmp_path, TINY)
    madds = sorted(design.spec.cost().madds for design in every_design(space))
    wall = madds[len(madds) // 2]
    result = survey(space, lambda cost: cost.madds <= wall, seed=0, n_samples=400)
    true_share = sum(each <= wall for each in madds) / len(madds)
    assert len(result.costs) == 400
    assert result.share_fitting == sum(cost.madds <= wall for cost in result.costs) / 400
    assert result.share_fitting == pytest.approx(true_share, abs=0.1)
    assert result.smallest.spec.cost().madds == madds[0]
    drawn = [cost.madds for cost in result.costs]
    assert result.quantile(lambda cost: cost.madds, 0) == min(drawn)
    assert result.quantile(lambda cost: cost.madds, 1) == max(drawn)
    assert result.quantile(lambda cost: cost.madds, 0.5) == np.median(drawn)
    assert survey(space, lambda cost: True, seed=0, n_samples=400).costs == result.costs


def test_mutation_of_a_space_without_choices_is_the_design_itself(tmp_path):
    data = {
        **TINY,
        "shared": {},
        "stem": [CONV],
        "stages": [{"out_channels": 8, "stride": 2, "repeats": 1, "block": {"kind": "conv_unit"}}],
    }
    space = space_of(tmp_path, data)
    rng = np.random.default_rng(0)
    design = space.sample(rng)
    assert design.choices == {}
    assert space.mutate(design, rng) == design
    assert space.crossover(design, design, rng) == design


def test_numbers_mostly_move_to_a_neighbour(tmp_path):
    """Half of the time a neighbour and anywhere otherwise: of 9 options, 1/2 + 1/2 x 2/8."""
    data = {
        **TINY,
        "shared": {},
        "stem": [CONV],
        "stages": [
            {
                "out_channels": 8,
                "stride": 2,
                "repeats": {"range": [1, 9]},
                "block": {"kind": "conv_unit"},
            }
        ],
    }
    space = space_of(tmp_path, data)
    start = space.propose(lambda path, choice: 5)
    rng = np.random.default_rng(0)
    steps = [abs(space.mutate(start, rng).choices["stages.0.repeats"] - 5) for _ in range(2000)]
    assert min(steps) == 1
    assert max(steps) == 4
    assert sum(step == 1 for step in steps) / 2000 == pytest.approx(0.625, abs=0.04)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_stage(repeats={"range": [3, 1]}), r"stages\.0\.repeats: range needs low <= high"),
        (with_stage(repeats={"range": [1]}), r"range needs \[low, high\] or .* got \[1\]"),
        (with_stage(repeats={"range": [1, 5, 0]}), "step >= 1"),
        (with_stage(repeats={"range": [1, 5, -1]}), "step >= 1"),
        (with_stage(repeats={"range": [1, 2.5]}), r"range needs .* got \[1, 2\.5\]"),
        (with_stage(repeats={"range": [True, 5]}), r"range needs"),
        (with_stage(repeats={"range": "1-3"}), "range needs .* got '1-3'"),
        (with_stage(repeats={"choice": []}), r"choice needs a list or a mapping .* got \[\]"),
        (with_stage(repeats={"choice": {}}), "choice needs a list or a mapping"),
        (with_stage(repeats={"choice": 3}), "choice needs a list or a mapping .* got 3"),
        (with_stage(repeats={"choice": [1, 1]}), r"options must differ, got \[1, 1\]"),
        (with_stage(repeats={"choice": [1, True]}), r"options must differ"),
        (with_stage(repeats={"choice": [{"range": [1, 2]}]}), "need labels"),
        (with_stage(repeats={"choice": [1], "range": [1, 2]}), "must stand alone, got also"),
        (with_stage(repeats={"choice": [1], "note": 1}), "choice must stand alone, got also note"),
        (with_block(act={"shared": "atc"}), r"no shared choice 'atc'; did you mean 'act'\?"),
        (with_block(act={"shared": ["act"]}), r"no shared choice \['act'\]"),
        (
            {**TINY, "shared": {**TINY["shared"], "a": {"shared": "b"}, "b": 1}},
            r"shared\.a: no shared choice 'b'",
        ),
        (with_block(kernel={3: 3}), r"block\.kernel: keys must be words, got 3"),
        (with_stage(repeats=0), r"stages\.0\.repeats must be 1 or more, got 0"),
        (with_stage(repeats="two"), r"stages\.0\.repeats must be 1 or more, got 'two'"),
        (with_stage(stride=3), r"stages\.0\.block: stride: .* got 3"),
        (with_stage(block=5), r"stages\.0\.block: expected a mapping .* got 5"),
        (with_stage(block="conv_unit"), r"stages\.0\.block: expected a mapping"),
        (with_block(first=3), r"stages\.0\.block\.first: expected a mapping .* got 3"),
        (with_stage(blok=1), r"stages\.0: a stage has exactly the keys block, out_channels, "),
        ({**TINY, "stages": [{"out_channels": 8}]}, r"stages\.0: a stage has exactly the keys"),
        ({**TINY, "stages": ["a"]}, r"stages\.0: a stage has exactly the keys"),
        ({**TINY, "stages": STAGE}, "stages: expected a list"),
        ({**TINY, "stem": CONV}, "stem: expected a list"),
        ({**TINY, "stem": [5]}, r"stem\.0: expected a mapping .* got 5"),
        ({**TINY, "stem": ["conv_unit"]}, r"stem\.0: expected a mapping .* got 'conv_unit'"),
        ({**TINY, "stem": [{"out_channels": 8}]}, r"stem\.0: a block needs a kind, got None"),
        ({**TINY, "stem": [{**CONV, "kind": 5}]}, r"stem\.0: a block needs a kind, got 5"),
        ({**TINY, "stem": [{**CONV, "kind": "conv"}]}, r"stem\.0: unknown block kind 'conv'"),
        ({**TINY, "stem": [{**CONV, "width": 8}]}, r"stem\.0: width is not a known key"),
        ({**TINY, "stem": [{"kind": "conv_unit"}]}, r"stem\.0: out_channels: field required"),
        ({**TINY, "stem": []}, r"stem: expected blocks, .* got \[\]"),
        ({**TINY, "stem": "conv"}, "stem: expected blocks, .* got 'conv'"),
        ({**TINY, "head": {**HEAD, "kind": "pooled"}}, "head: .*pooled"),
        ({**TINY, "head": {**HEAD, "size": 3}}, "head: .*size is not a known key"),
        ({**TINY, "head": None}, "head: expected blocks"),
        (with_block(expansion=0), r"stages\.0\.block\.expansion must be a positive number, got 0"),
        (with_block(expansion="two"), r"expansion must be a positive number, got 'two'"),
        (with_block(expansion=None), r"stages\.0\.block: hidden_channels: .*integer"),
        ({**TINY, "input_shape": [3, 16]}, r"input_shape must be \[channels, height, width\]"),
        ({**TINY, "input_shape": [3, 16, 0]}, "input_shape must be"),
        ({**TINY, "input_shape": "16"}, "input_shape must be .* got '16'"),
        ({**TINY, "shard": {}}, r"shard is not a known key; did you mean 'shared' or 'head'"),
        ({**TINY, "shared": ["act"]}, "shared: expected a mapping of names"),
        ([1, 2], "expected a mapping of keys, got list"),
        ("text", "expected a mapping of keys, got str"),
        (None, "expected a mapping of keys, got NoneType"),
    ],
)
def test_mistakes_are_refused_in_one_line_with_file_and_path(data, message, tmp_path):
    with pytest.raises(SpaceError, match=rf"space\.yaml: .*{message}") as e:
        space_of(tmp_path, data)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("key", ["name", "input_shape", "stem", "stages", "head"])
def test_missing_keys_are_named(key, tmp_path):
    with pytest.raises(SpaceError, match=rf"space\.yaml: {key} is missing"):
        space_of(tmp_path, {name: value for name, value in TINY.items() if name != key})


def test_sampling_and_changing_step_over_networks_that_do_not_work(tmp_path):
    data = copy.deepcopy(TINY)
    data["stem"].append({"kind": "conv_unit", "out_channels": 8, "depthwise": True})
    space = space_of(tmp_path, data)
    rng = np.random.default_rng(0)
    design = space.sample(rng)
    for _ in range(50):
        design = space.mutate(design, rng)
        assert design.choices["stem.0.out_channels"] == 8
    assert len(list(every_design(space))) * 2 == space.size


def test_a_space_in_which_nothing_works_is_refused(tmp_path):
    data = {**TINY, "input_shape": [3, 2, 2], "head": {**HEAD, "embedding_size": 0}}
    with pytest.raises(SpaceError, match=r"none of 200 designs makes a working network; .*head: "):
        space_of(tmp_path, data)


def test_broken_yaml_is_refused_in_one_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: [\n", encoding="utf-8")
    with pytest.raises(SpaceError, match=r"broken\.yaml: not valid YAML") as caught:
        load_space(path)
    assert "\n" not in str(caught.value)
    path.write_bytes(b"name: \xff\xfe")
    with pytest.raises(SpaceError, match=r"broken\.yaml: not valid YAML"):
        read_yaml(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(SpaceError, match=r"none\.yaml: cannot be read \(No such file"):
        load_space(tmp_path / "none.yaml")


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n", encoding="utf-8")
    with pytest.raises(SpaceError, match="not valid YAML"):
        load_space(path)


def test_a_clash_of_shapes_shows_when_proposed(tmp_path):
    space: SearchSpace = space_of(tmp_path, TINY)
    tiny = space.with_input_size(1)
    assert tiny.sample(np.random.default_rng(0)).spec.input_shape == (3, 1, 1)
    bad = copy.deepcopy(TINY)
    bad["stem"].append({"kind": "conv_unit", "out_channels": 8, "depthwise": True})
    with pytest.raises(ArchError, match=r"stem\.1: conv_unit"):
        space_of(tmp_path, bad).propose(
            lambda path, choice: 4 if path == "stem.0.out_channels" else choice.labels[0]
        )
