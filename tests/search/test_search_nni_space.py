"""NNI's search-space JSON, held against a sampler of it that is written down here."""

import itertools
import json

import numpy as np
import optuna
import pytest
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from nas_face.errors import ArchError, ConfigError, SpaceError
from nas_face.search.nni.space import (
    dump_nni,
    load_nni,
    parse_nni,
    restrict,
    to_nni,
)
from nas_face.shipped import find_file
from nas_face.space import load_space

SPACE = """
name: nested
input_shape: {choice: {small: [3, 32, 32], wide: [3, 32, 48]}}
shared:
  act: {choice: [relu, prelu]}
  ratio: {choice: [0.25, 0.5]}
stem:
  choice:
    plain: [{kind: conv_unit, out_channels: {choice: [8, 16]}, stride: 2, act: {shared: act}}]
    depthwise:
      - {kind: conv_unit, out_channels: 8, stride: 2, act: {shared: act}}
      - {kind: conv_unit, out_channels: 8, depthwise: true, act: {choice: {none: null, same:
          relu}}}
stages:
  - out_channels: 16
    stride: 2
    repeats: {range: [1, 2]}
    block:
      kind: inverted_residual
      expansion: {choice: [1, 2]}
      attention:
        choice:
          none: null
          squeeze: {kind: squeeze_excite, ratio: {shared: ratio}}
          more: {kind: squeeze_excite, ratio: {shared: ratio}, act: {choice: [relu, silu]}}
head: {kind: pooled_linear, embedding_size: 32, tail_channels: {choice: [null, 32]}}
constraints:
  - rule: not (stem == depthwise and stages.0.block.attention == more)
    because: an example
  - stem.plain.0.out_channels == 8 if shared.ratio in [0.5]
"""

MIXED = {
    "rate": {"_type": "loguniform", "_value": [1e-4, 0.1]},
    "layer": {
        "_type": "choice",
        "_value": [
            {"_name": "conv", "size": {"_type": "choice", "_value": [3, 5]}},
            {"_name": "pool", "size": {"_type": "randint", "_value": [2, 5]}},
            {"_name": None},
        ],
    },
    "momentum": {"_type": "quniform", "_value": [0, 0.9, 0.3]},
    "drop": {"_type": "uniform", "_value": [0, 1]},
    "flag": {"_type": "choice", "_value": [True, False, None, "x", 2.5]},
}


@pytest.fixture
def space(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(SPACE, encoding="utf-8")
    return load_space(path)


def draws_of(data):
    """Every draw from NNI's format as NNI's documentation has it; choices only."""
    each = []
    for key, entry in data.items():
        if key == "_name":
            continue
        assert entry["_type"] == "choice"
        found = []
        for option in entry["_value"]:
            if isinstance(option, dict):
                found += [(key, {"_name": option["_name"], **draw}) for draw in draws_of(option)]
            else:
                found.append((key, option))
        each.append(found)
    return [dict(draw) for draw in itertools.product(*each)]


def labels_of(drawn):
    """Labels by path, whatever option they lie in."""
    labels = {}
    for key, value in drawn.items():
        if isinstance(value, dict):
            labels[key] = value["_name"]
            labels |= labels_of({k: v for k, v in value.items() if k != "_name"})
        else:
            labels[key] = value
    return labels


def choices_by_rule(space, labels_of_all):
    """Active choices of every draw that obeys the rules, as a set."""
    found = set()
    for labels in labels_of_all:
        try:
            found.add(tuple(sorted(space.design(labels).choices.items(), key=str)))
        except ArchError:
            continue
    return found


def test_every_draw_of_the_json_is_a_way_to_choose_and_the_other_way_round(space):
    data = json.loads(json.dumps(to_nni(space).data))
    drawn = choices_by_rule(space, map(labels_of, draws_of(data)))
    assert drawn == choices_by_rule(space, space.ways())
    assert len(drawn) > 100


def test_nnis_own_grid_search_reads_the_json_as_it_is_meant(space):
    nni = pytest.importorskip("nni", reason="the extra nni is not installed")
    from nni.algorithms.hpo.gridsearch_tuner import GridSearchTuner

    tuner = GridSearchTuner()
    tuner.update_search_space(dict(to_nni(space).data))
    drawn = []
    with pytest.raises(nni.NoMoreTrialError):
        while True:
            drawn.append(to_nni(space).flat(tuner.generate_parameters(len(drawn))))
    assert len(drawn) == len(draws_of(to_nni(space).data))
    assert choices_by_rule(space, drawn) == choices_by_rule(space, space.ways())


def test_each_choice_is_written_once_and_shared_ones_where_all_their_uses_are(space):
    nni = to_nni(space)
    keys = [each.key for each in nni.everything()]
    assert sorted(keys) == sorted(space.choices())
    assert {each.name for each in nni.parameters} >= {"shared.act", "shared.ratio", "stem"}
    assert "stem.plain.0.out_channels" not in {each.name for each in nni.parameters}


def test_a_shared_choice_of_one_option_is_written_inside_it(tmp_path):
    text = SPACE.replace(
        "null\n          squeeze: {kind: squeeze_excite, ratio: {shared: ratio}}", "null"
    )
    text = text.split("constraints:")[0]
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    space = load_space(path)
    data = to_nni(space).data
    (more,) = (
        option
        for option in data["stages.0.block.attention"]["_value"]
        if option["_name"] == "more"
    )
    assert "shared.ratio" in more
    assert "shared.ratio" not in data
    drawn = [labels_of(draw) for draw in draws_of(data)]
    assert len(drawn) == space.size
    assert choices_by_rule(space, drawn) == choices_by_rule(space, space.ways())


@pytest.mark.parametrize("name", ["all_families", "cell", "edge", "mobile", "variable_group"])
def test_shipped_spaces_come_back_whole(name, tmp_path):
    space = load_space(find_file(f"search_spaces/{name}.yaml"))
    dump_nni(to_nni(space), tmp_path / "space.json")
    read = load_nni(tmp_path / "space.json")
    assert read == to_nni(space)
    assert {key: list(each.choices) for key, each in read.distributions.items()} == {
        path: list(choice.labels) for path, choice in space.choices().items()
    }
    assert restrict(space, read) == space


def test_distributions_are_optunas():
    assert parse_nni(MIXED).distributions == {
        "rate": FloatDistribution(1e-4, 0.1, log=True),
        "layer": CategoricalDistribution(["conv", "pool", None]),
        "layer/conv/size": CategoricalDistribution([3, 5]),
        "layer/pool/size": IntDistribution(2, 4),
        "momentum": FloatDistribution(0, 0.9, step=0.3),
        "drop": FloatDistribution(0, 1),
        "flag": CategoricalDistribution([True, False, None, "x", 2.5]),
    }


@pytest.mark.parametrize(
    "bounds", [[2, 10, 5], [0.5, 9.7, 1], [0, 1, 0.3], [0, 10, 2.5], [-3, 3, 2]]
)
def test_steps_are_cut_off_at_the_bounds_as_nni_does(bounds):
    low, high, step = bounds
    uniform = np.random.default_rng(0).uniform(low, high, 4000)
    wanted = {float(min(max(round(x / step) * step, low), high)) for x in uniform}
    (found,) = parse_nni({"x": {"_type": "quniform", "_value": bounds}}).distributions.values()
    rng = optuna.samplers.RandomSampler(seed=1)
    study = optuna.create_study(sampler=rng)
    drawn = {study.ask({"x": found}).params["x"] for _ in range(400)}
    assert sorted(drawn) == pytest.approx(sorted(wanted))


def test_a_study_of_optunas_draws_what_a_users_code_for_nni_expects():
    nni = parse_nni(MIXED)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        drawn = nni.suggest(trial)
        assert nni.flat(drawn) == trial.params
        seen.add(drawn["layer"]["_name"])
        assert set(drawn) == set(MIXED)
        assert 1e-4 <= drawn["rate"] <= 0.1
        match drawn["layer"]:
            case {"_name": "conv", **inner}:
                assert inner["size"] in (3, 5)
            case {"_name": "pool", **inner}:
                assert inner["size"] in (2, 3, 4)
            case other:
                assert other == {"_name": None}
    assert seen == {"conv", "pool", None}


def test_a_draw_without_a_parameter_is_refused():
    with pytest.raises(ConfigError, match="no value for drop in the draw"):
        parse_nni({"drop": {"_type": "uniform", "_value": [0, 1]}}).flat({})


def test_a_restricted_space_has_exactly_the_ways_with_the_options_left(space):
    left = {
        "stem": {"_type": "choice", "_value": ["plain", "depthwise"]},
        "shared.ratio": {"_type": "choice", "_value": [0.25]},
        "stages.0.repeats": {"_type": "randint", "_value": [2, 9]},
        "input_shape": {"_type": "choice", "_value": ["wide"]},
        "stages.0.block.attention": {"_type": "choice", "_value": ["none", "squeeze"]},
    }
    smaller = restrict(space, parse_nni(left))
    allowed = {
        "shared.ratio": [0.25],
        "stages.0.repeats": [2],
        "input_shape": ["wide"],
        "stages.0.block.attention": ["none", "squeeze"],
    }
    wanted = [
        ways
        for ways in space.ways()
        if all(path not in ways or ways[path] in labels for path, labels in allowed.items())
    ]
    assert choices_by_rule(smaller, smaller.ways()) == choices_by_rule(space, wanted)
    assert smaller.input_shape == (3, 32, 48)
    assert "stages.0.block.attention.more.act" not in smaller.choices()


def entry(kind, *values):
    return {"x": {"_type": kind, "_value": list(values)}}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ([], "a search space of NNI's is an object of parameters"),
        ({}, "a search space of NNI's is an object of parameters"),
        ({"x": [1, 2]}, r"x: expected \{\"_type\""),
        ({"x": {"_type": "choice"}}, r"x: expected \{\"_type\""),
        (entry("choise", 1), "x: unknown _type 'choise'; did you mean 'choice'"),
        (entry(["choice"], 1), "x: unknown _type"),
        (entry("choice"), "x: _value must be a list with something in it"),
        ({"x": {"_type": "choice", "_value": "ab"}}, "x: _value must be a list"),
        (entry("choice", 1, float("nan")), "x: nan is not a number that can be drawn"),
        (entry("uniform", 0, float("inf")), "x: inf is not a number that can be drawn"),
        (entry("choice", 1, 2, 1), "x: options must differ, got 1 twice"),
        (entry("choice", 1, True), "x: options must differ, got true twice"),
        (entry("choice", [1, 2]), r"x: an option must be a number.*\[1, 2\]"),
        (entry("choice", {"_name": "a"}, "b"), "x: either all options have a _name or none"),
        (entry("choice", {"a": 1}), "x: an option must be a number"),
        (entry("choice", {"_name": "a", "y": 3}), "x/a/y: expected"),
        (entry("uniform", 1), r"x: uniform needs 2 numbers, got \[1\]"),
        (entry("uniform", 0, True), "x: uniform needs 2 numbers"),
        (entry("quniform", 0, 1), "x: quniform needs 3 numbers"),
        (entry("quniform", 0, 1, 0), "x: quniform must have a step > 0"),
        (entry("quniform", 0, 1, 3e-7), "x: of that many steps the bounds must be multiples"),
        (entry("uniform", 1, 1), "x: uniform must have lower < upper"),
        (entry("randint", 0, 1.5), "x: randint must have whole numbers"),
        (entry("loguniform", 0, 1), "x: loguniform must have lower > 0"),
        (entry("normal", 0, 1), "x: normal has no bounds.*write uniform with"),
        (entry("qlognormal", 0, 1, 2), "x: qlognormal .* write qloguniform with"),
    ],
)
def test_malformed_entries_are_named(raw, message):
    with pytest.raises(ConfigError, match=message):
        parse_nni(raw)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ('{"x": {"_type": "uniform", "_value": [0, NaN]}}', "NaN is not a number"),
        ('{"x": 1, "x": 2}', "the key 'x' is given twice"),
        ("[" * 100_000, "not valid JSON"),
        ('{"x": 1}', "x: expected"),
    ],
)
def test_broken_files_are_named(text, message, tmp_path):
    path = tmp_path / "space.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"space.json: .*{message}"):
        load_nni(path)


def test_a_missing_file_and_a_missing_folder_are_named(tmp_path, space):
    with pytest.raises(ConfigError, match="no.json: cannot be read"):
        load_nni(tmp_path / "no.json")
    with pytest.raises(ConfigError, match="space.json: cannot be written"):
        dump_nni(to_nni(space), tmp_path / "no" / "space.json")


def test_deep_nesting_is_refused():
    raw = entry("choice", 1)
    for _ in range(60):
        raw = entry("choice", {"_name": "a", **raw})
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_nni(raw)


@pytest.mark.parametrize(
    ("key", "entry", "error", "message"),
    [
        ("stam", ("choice", ["plain"]), ConfigError, "stam: nested has no such choice.*'stem'"),
        ("stem", ("choice", ["plane"]), ConfigError, "stem: 'plane' is not an option in nested"),
        ("shared.ratio", ("uniform", [0, 1]), ConfigError, "by choice or randint only"),
        ("stages.0.repeats", ("choice", [True]), ConfigError, "True is not an option"),
        ("stages.0.repeats", ("randint", [7, 9]), ConfigError, "no option is left; known: 1, 2"),
    ],
)
def test_a_file_of_another_space_is_refused(key, entry, error, message, space):
    kind, values = entry
    with pytest.raises(error, match=message):
        restrict(space, parse_nni({key: {"_type": kind, "_value": values}}))


def test_a_restriction_that_only_breaks_rules_is_refused(space):
    left = {
        "stem": {"_type": "choice", "_value": ["depthwise"]},
        "stages.0.block.attention": {"_type": "choice", "_value": ["more"]},
    }
    with pytest.raises(SpaceError, match="obeys the rules"):
        restrict(space, parse_nni(left))
