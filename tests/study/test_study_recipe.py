"""Recipes: what is refused before any work is done."""

import pytest

from nas_face.errors import ConfigError
from nas_face.study.compression.recipe import load_recipe
from nas_face.study.compression.step_settings import (
    AwareTraining,
    DistilStep,
    LowBitsStep,
    PruneStep,
    QuantiseStep,
)

QUANTISE = "{kind: quantise}"
PRUNE = "kind: prune, share: 0.5"

REFUSED = {
    "name: r\nsteps: [{kind: prun}]": r"steps\.0: input tag 'prun' .* 'prune', 'distil'",
    "name: r\nsteps: [{kind: prune, shar: 0.5}]": r"steps\.0: 'shar' is no key of prune; did you "
    r"mean 'share'",
    "name: r\nsteps: [{share: 0.5}]": r"steps\.0: .*'kind'",
    "name: r\nruntim: openvino\nsteps: []": r"'runtim' is no key; did you mean 'runtime'",
    f"name: r\nruntime: tvm\nsteps: [{QUANTISE}]": r"runtime: .*'openvino'.* got 'tvm'",
    f"name: r\nfloor: 0.3\nsteps: [{QUANTISE}]": r"floor is points .* 0 or below, such as -0\.3; "
    r"got 0\.3",
    f"name: r\nfloor: .nan\nsteps: [{QUANTISE}]": r"floor is points of accuracy .* got nan",
    f"name: r\ndeliver: [openvin]\nsteps: [{QUANTISE}]": r"deliver: no runtime 'openvin'; did you "
    r"mean 'openvino'",
    f"name: r\ndeliver: [openvino/int9]\nsteps: [{QUANTISE}]": r"no precision 'int9'; did you mean"
    r" 'int8'",
    f"name: r\ndeliver: [onnxruntime/w4]\nsteps: [{QUANTISE}]": r"no step makes w4; there will be "
    r"fp32, int8",
    "name: r\ndeliver: [openvino/w4]\nsteps: [{kind: low_bits, bits: 4}]": r"w4 files are for "
    r"onnxruntime only",
    "name: r\nsteps: [{kind: prune}]": r"prune: give one target, of share, madds, .* got none",
    "name: r\nsteps: [{kind: prune, share: 0.5, madds: 5}]": r"got share and madds",
    "name: r\nsteps: [{kind: prune, share: 1.0}]": r"share must be between 0 and 1, got 1\.0",
    "name: r\nsteps: [{kind: prune, share: .nan}]": r"share must be between 0 and 1, got nan",
    "name: r\nsteps: [{kind: prune, latency_share: 60}]": r"latency_share must be between 0 and 1",
    "name: r\nsteps: [{kind: prune, latency_ms: -1.0}]": r"latency_ms must be above 0, got -1",
    "name: r\nsteps: [{kind: prune, latency_ms: 5M}]": r"steps\.0\.latency_ms: expected a figure",
    "name: r\nsteps: [{kind: prune, madds: x}]": r"steps\.0\.madds: expected a figure .* got 'x'",
    "name: r\nsteps: [{kind: prune, madds: -5}]": r"madds must be at least 1, got -5",
    "name: r\nsteps: [{kind: prune, stages: {head: 0.0}}]": r"stages: head must be above 0 and at",
    "name: r\nsteps: [{kind: prune, stages: {head: 1.0}}]": r"stages: one at least must be",
    "name: r\nsteps: [{kind: prune, stages: {}}]": r"stages: one at least must be",
    "name: r\nsteps: [{kind: prune, stages: {head: 0.5}, share: 0.5}]": r"got share and stages",
    "name: r\nsteps: [{kind: prune, stages: {head: 0.5}, rounds: 2}]": r"stages goes with rounds",
    "name: r\nsteps: [{kind: prune, params: 0}]": r"params must be at least 1, got 0",
    f"name: r\nsteps: [{{{PRUNE}, round_to: 0}}]": r"round_to must be at least 1",
    f"name: r\nsteps: [{{{PRUNE}, min_keep: 5}}]": r"min_keep must be from 0 to 1",
    f"name: r\nsteps: [{{{PRUNE}, importance: l9}}]": r"importance: .*got 'l9'",
    f"name: r\nsteps: [{{{PRUNE}, scope: world}}]": r"scope: .*'isomorphic'.* got 'world'",
    f"name: r\nsteps: [{{{PRUNE}, rounds: 0}}]": r"rounds must be at least 1, got 0",
    f"name: r\nsteps: [{{{PRUNE}, recover_epochs: 2}}]": r"recover_epochs lie between rounds",
    f"name: r\nsteps: [{{{PRUNE}, max_tries: 99}}]": r"max_tries must be from 1 to 8, got 99",
    f"name: r\nsteps: [{{{PRUNE}, floor: 2}}]": r"prune: floor is points .* got 2",
    f"name: r\nsteps: [{{{PRUNE}, recover: {{epoch: 2}}}}]": r"steps\.0\.recover: 'epoch' is no "
    r"key of recover; did you mean 'epochs'",
    "name: r\nsteps: [{kind: distil, epochs: 0}]": r"epochs must be at least 1, got 0",
    "name: r\nsteps: [{kind: distil, learning_rate: -1.0}]": r"learning_rate must be above 0",
    "name: r\nsteps: [{kind: distil, weight: .nan}]": r"weight must be above 0, got nan",
    "name: r\nsteps: [{kind: distil, batch_size: 1}]": r"batch_size must be at least 2, got 1",
    "name: r\nsteps: [{kind: distil, teacher: ' '}]": r"teacher must be original, sface, or",
    "name: r\nsteps: [{kind: distil, loss: mean}]": r"loss: .*'margin' or 'none'",
    "name: r\nsteps: [{kind: quantise, n_images: 0}]": r"n_images must be at least 8, got 0",
    "name: r\nsteps: [{kind: quantise, n_images: 8.0}]": r"n_images: .*integer",
    "name: r\nsteps: [{kind: quantise, method: mean}]": r"method: .*'percentile'",
    "name: r\nsteps: [{kind: quantise, bits: 7}]": r"bits: .*8.* got 7",
    "name: r\nsteps: [{kind: quantise, keep_sensitive: -1}]": r"keep_sensitive must be at least 0",
    "name: r\nsteps: [{kind: quantise, max_latency_ms: 0.0}]": r"max_latency_ms must be above 0",
    "name: r\nsteps: [{kind: quantise, max_latency_ms: 1.0, max_latency_share: 1.0}]": r"give max_"
    r"latency_ms or max_latency_share, and not both",
    "name: r\nsteps: [{kind: quantise, aware: {epochs: 1}}]": r"aware trains only where .* give a "
    r"floor",
    "name: r\nsteps: [{kind: quantise, floor: -1, aware: {epochs: 0}}]": r"aware: epochs must be",
    "name: r\nsteps: [{kind: low_bits, bits: 5}]": r"bits: .*4, 6 or 8.* got 5",
    f"name: r\nsteps: [{QUANTISE}, {{kind: distil}}]": r"steps\.1: distil behind quantise changes "
    r"the float weights, .*; put quantise behind it",
    f"name: r\nsteps: [{QUANTISE}, {{{PRUNE}}}]": r"steps\.1: prune behind quantise",
    f"name: r\nsteps: [{QUANTISE}, {QUANTISE}]": r"steps\.1: quantise makes int8 files of the "
    r"same weights as steps\.0",
    "name: r\nsteps: []": r"steps: at least one is needed",
    "name: r\nsteps: 5": r"steps: .*array, got 5",
    "name: r\nsteps: [5]": r"steps\.0: .* got 5",
    "name: r\nsteps: {a: 1}": r"steps: .*array",
    f"name: ''\nsteps: [{QUANTISE}]": r"name must do as the name of a folder, got ''",
    f"name: ../r\nsteps: [{QUANTISE}]": r"name must do as the name of a folder, got '\.\./r'",
    f"steps: [{QUANTISE}]": r"name: field required",
    "- 1": r"expected a mapping of keys, got list",
    "name: [": r"not valid YAML",
}


@pytest.mark.parametrize("text", REFUSED)
def test_broken_rule_is_named_with_the_file(text, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=REFUSED[text]) as caught:
        load_recipe(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_recipe_names_the_shipped_ones():
    with pytest.raises(ConfigError, match=r"nope: no such recipe; .*prune_distil_int8\.yaml"):
        load_recipe("nope")
    with pytest.raises(ConfigError, match=r"did you mean 'half_latency'"):
        load_recipe("half_latncy")


def test_steps_in_order(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: r\nsteps: [{kind: distil}, {kind: prune, madds: 1.5M}, {kind: quantise}]",
        encoding="utf-8",
    )
    steps = load_recipe(str(path)).steps
    assert steps == (DistilStep(), PruneStep(madds=1_500_000), QuantiseStep())


def test_every_kind_of_step_with_its_parts(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        """
name: r
runtime: onnxruntime
deliver: [onnxruntime/fp32, openvino/int8]
floor: -1
steps:
  - {kind: prune, latency_ms: 2.5ms, rounds: 2, recover_epochs: 1, recover: {epochs: 3}, floor:
      -0.5}
  - {kind: quantise, floor: -0.3, aware: {epochs: 2}, keep_float: [first, gates]}
  - {kind: low_bits, bits: 4}
""",
        encoding="utf-8",
    )
    recipe = load_recipe(str(path))
    assert recipe.precisions == ("fp32", "int8", "w4")
    assert recipe.floor == -1.0
    prune, quantise, low_bits = recipe.steps
    assert prune.target == ("latency_ms", 2.5)
    assert prune.recover == DistilStep(epochs=3)
    assert quantise.aware == AwareTraining(epochs=2)
    assert quantise.keep_float == ("first", "gates")
    assert low_bits == LowBitsStep(bits=4)


@pytest.mark.parametrize(
    "steps",
    [
        [QUANTISE, "{kind: distil}", QUANTISE],
        [QUANTISE, "{kind: low_bits}"],
        ["{kind: low_bits, bits: 4}", "{kind: low_bits, bits: 6}"],
        ["{kind: low_bits}", f"{{{PRUNE}}}", QUANTISE],
    ],
)
def test_orders_that_make_sense(steps, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"name: r\nsteps: [{', '.join(steps)}]", encoding="utf-8")
    assert len(load_recipe(str(path)).steps) == len(steps)
