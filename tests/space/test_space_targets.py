"""Targets: their files, and spaces filtered by them against brute force."""

import functools

import numpy as np
import pytest
import yaml
from space_checks import SHIPPED, TINY, every_design, space_of

from nas_face.arch.features import FEATURES, features_by_block
from nas_face.errors import SpaceError
from nas_face.shipped import shipped_files
from nas_face.space import load_space
from nas_face.space.filtering import filtered
from nas_face.space.target import Target, load_target

TARGETS = {path.stem: path for path in shipped_files("targets", ".yaml")}
STAGE = TINY["stages"][0]
BLOCK = STAGE["block"]
RICH = {
    **TINY,
    "head": {**TINY["head"], "act": "relu"},
    "shared": {"act": {"choice": ["relu", "silu", "prelu"]}},
    "stages": [
        {
            **STAGE,
            "repeats": {"choice": [1, 2]},
            "block": {
                "choice": {
                    "mobile": {
                        "kind": "inverted_residual",
                        "act": {"shared": "act"},
                        "expansion": 1,
                        "kernel": {"choice": [3, 5]},
                        "attention": {
                            "choice": {
                                "none": None,
                                "squeeze": {
                                    "kind": "squeeze_excite",
                                    "ratio": {"choice": [0.25, 0.5]},
                                    "act": {"choice": ["relu", "prelu"]},
                                },
                            }
                        },
                    },
                    "shuffle": {
                        "kind": "shuffle",
                        "act": {"shared": "act"},
                        "kernel": {"choice": [3, 5]},
                        "expansion": 0.5,
                    },
                }
            },
        }
    ],
}


def target(*avoid, slow=()):
    return Target(name="chip", description="", avoid=frozenset(avoid), slow=frozenset(slow))


def features(design):
    return frozenset().union(*(found for _, found in features_by_block(design.spec)))


@pytest.mark.parametrize(
    "avoid",
    [
        ("prelu",),
        ("silu", "squeeze_excite"),
        ("channel_shuffle",),
        ("depthwise_kernel_over_3",),
        ("prelu", "silu", "concat"),
        ("squeeze_excite", "channel_shuffle", "prelu", "depthwise_kernel_over_3"),
    ],
)
def test_a_filtered_space_has_exactly_the_designs_without_the_features(avoid, tmp_path):
    space = space_of(tmp_path, RICH)
    clean = [each for each in every_design(space) if not features(each) & set(avoid)]
    left = filtered(space, target(*avoid))
    assert 0 < len(clean) < space.size
    assert sorted(str(each.choices) for each in every_design(left)) == sorted(
        str(each.choices) for each in clean
    )
    offered = {
        (path, label)
        for path, choice in left.choices().items()
        for label in choice.labels
        if any(path in each.choices for each in clean)
    }
    assert offered == {option for each in clean for option in each.choices.items()}


def test_combinations_are_rejected_where_no_single_option_is_to_blame(tmp_path):
    """Each kernel alone is fine; parts of different kernels are what is avoided."""
    block = {
        **BLOCK,
        "attention": None,
        "kernel": {"choice": {"3": 3, "5": 5, "both": [3, 5]}},
    }
    space = space_of(tmp_path, {**TINY, "stages": [{**STAGE, "block": block}]})
    left = filtered(space, target("mixed_kernels"))
    assert left.choices()["stages.0.block.kernel"].labels == ("3", "5")
    rng = np.random.default_rng(0)
    design = left.sample(rng)
    for _ in range(20):
        design = left.mutate(design, rng)
        assert "mixed_kernels" not in features(design)


def test_what_is_slow_is_offered_where_that_is_allowed(tmp_path):
    space = space_of(tmp_path, RICH)
    chip = target("silu", slow=["prelu"])
    assert filtered(space, chip).choices()["shared.act"].labels == ("relu",)
    allowed = filtered(space, chip, allow_slow=True)
    assert allowed.choices()["shared.act"].labels == ("relu", "prelu")
    assert filtered(space, target()) == space


def test_decode_refuses_what_the_target_avoids(tmp_path):
    space = space_of(tmp_path, RICH)
    chosen = next(each for each in every_design(space) if "silu" in features(each)).choices
    left = filtered(space, target("silu"))
    with pytest.raises(SpaceError, match=r"shared\.act: 'silu' is not an option; known: relu, pr"):
        left.decode(chosen)


BLOCKED = {
    "shared act": (
        {**RICH, "shared": {"act": {"choice": ["prelu", "prelu_shared"]}}},
        ["prelu"],
        r"prelu in stem\.0, by shared\.act \(prelu, prelu_shared\)",
    ),
    "fixed act": (
        {**TINY, "stem": [{"kind": "conv_unit", "out_channels": 8, "act": "silu"}]},
        ["silu"],
        r"silu in stem\.0, by stem\.0\.act: silu",
    ),
    "attention": (
        {
            **TINY,
            "stages": [
                {
                    **STAGE,
                    "block": {
                        **BLOCK,
                        "attention": {
                            "choice": {
                                "large": {"kind": "squeeze_excite", "ratio": 0.5},
                                "small": {"kind": "squeeze_excite", "ratio": 0.25},
                            }
                        },
                    },
                }
            ],
        },
        ["squeeze_excite"],
        r"squeeze_excite in stages\.0, by stages\.0\.block\.attention \(large, small\)",
    ),
    "kernel": (
        {**TINY, "stages": [{**STAGE, "block": {**BLOCK, "kernel": {"choice": [5, 7]}}}]},
        ["depthwise_kernel_over_3"],
        r"depthwise_kernel_over_3 in stages\.0, by stages\.0\.block\.kernel \(5, 7\)",
    ),
    "default": (
        {**TINY, "shared": {"act": {"choice": ["relu", "silu"]}}},
        ["prelu"],
        r"prelu in head, by head\.act, which is prelu where nothing is given",
    ),
    "kind of block": (
        {**TINY, "stages": [{**STAGE, "block": {"kind": "shuffle", "expansion": 1.0}}]},
        ["channel_shuffle"],
        r"channel_shuffle in stages\.0; offer another block there",
    ),
    "choice of kinds": (
        {
            **TINY,
            "head": {
                "choice": {
                    "a": {"kind": "norm_aware", "embedding_size": 8},
                    "b": {"kind": "norm_aware", "embedding_size": 16},
                }
            },
        },
        ["norm_aware_pool"],
        r"norm_aware_pool in head, by head \(a, b\)",
    ),
}


@pytest.mark.parametrize("case", BLOCKED)
def test_a_space_of_which_nothing_is_left_names_the_knob(case, tmp_path):
    data, avoid, message = BLOCKED[case]
    with pytest.raises(
        SpaceError, match=rf"tiny: nothing is left for chip: every design has {message}"
    ) as caught:
        filtered(space_of(tmp_path, data), target(*avoid))
    assert "\n" not in str(caught.value)


def test_where_only_what_is_slow_blocks_the_way_out_is_named(tmp_path):
    data = {**TINY, "stem": [{"kind": "conv_unit", "out_channels": 8, "act": "silu"}]}
    with pytest.raises(SpaceError, match=r"or allow what is slow there"):
        filtered(space_of(tmp_path, data), target(slow=["silu"]))


def write(folder, data):
    path = folder / "target.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_a_target_is_read(tmp_path):
    path = write(tmp_path, {"name": "chip", "avoid": ["silu"], "slow": ["prelu"]})
    chip = load_target(path)
    assert chip.refused() == {"silu", "prelu"}
    assert chip.refused(allow_slow=True) == {"silu"}
    assert load_target(write(tmp_path, {"name": "chip", "avoid": None})).refused() == frozenset()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"avoid": []}, "name: expected a word, got None"),
        ({"name": "a", "avoid": ["swish"]}, "avoid: no feature 'swish'; did you mean"),
        ({"name": "a", "slow": ["prelu", 3]}, r"slow: no feature 3; \d+ are known, among them "),
        ({"name": "a", "slow": [["prelu"]]}, r"slow: no feature \['prelu'\]; "),
        ({"name": "a", "avoid": "silu"}, "avoid: expected a list of features, got 'silu'"),
        ({"name": "a", "avoids": []}, "avoids is not a known key; did you mean 'avoid'"),
        ({"name": "a", "avoid": ["silu"], "slow": ["silu"]}, "silu is in both lists"),
    ],
)
def test_mistakes_in_a_target_are_refused_in_one_line(data, message, tmp_path):
    with pytest.raises(SpaceError, match=rf"target\.yaml: {message}") as caught:
        load_target(write(tmp_path, data))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TARGETS)
def test_shipped_targets_are_read_and_said_what_they_are(name):
    chip = load_target(TARGETS[name])
    assert chip.name == name
    assert chip.description
    assert chip.refused()
    assert chip.refused() <= set(FEATURES)


def test_targets_are_shipped():
    assert {"onnxruntime_cpu", "openvino_cpu", "ncnn_arm", "integer_npu"} <= set(TARGETS)


@functools.cache
def shipped_filtered(space, name):
    return filtered(load_space(SHIPPED[space]), load_target(TARGETS[name]))


@pytest.mark.parametrize(
    ("space", "name"),
    [("seesaw", "ncnn_arm"), ("all_families", "integer_npu"), ("mobile", "onnxruntime_cpu")],
)
def test_samples_of_filtered_shipped_spaces_have_nothing_that_is_refused(space, name):
    left = shipped_filtered(space, name)
    refused = load_target(TARGETS[name]).refused()
    rng = np.random.default_rng(0)
    for _ in range(50):
        assert not features(left.sample(rng)) & refused


@pytest.mark.parametrize("name", ["integer_npu", "openvino_cpu"])
def test_the_space_of_all_families_has_designs_for_targets(name):
    left = shipped_filtered("all_families", name)
    assert left.size > 1_000_000
    assert left.sample(np.random.default_rng(0)).spec.cost().madds > 0
