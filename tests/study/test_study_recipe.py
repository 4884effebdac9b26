"""Recipes: what is refused before any work is done."""

import pytest

from nas_face.errors import ConfigError
from nas_face.study.compression.recipe import DistilStep, PruneStep, QuantiseStep, load_recipe

QUANTISE = "{kind: quantise}"

REFUSED = {
    "name: r\nsteps: [{kind: prun}]": r"steps\.0: input tag 'prun' .* 'prune', 'distil'",
    "name: r\nsteps: [{kind: prune, shar: 0.5}]": r"steps\.0\.prune\.shar is not a known key",
    "name: r\nsteps: [{kind: prune}]": r"prune: give share or madds, and not both",
    "name: r\nsteps: [{kind: prune, share: 0.5, madds: 5}]": r"prune: give share or madds",
    "name: r\nsteps: [{kind: prune, share: 1.0}]": r"share must be between 0 and 1, got 1\.0",
    "name: r\nsteps: [{kind: prune, share: .nan}]": r"share must be between 0 and 1, got nan",
    "name: r\nsteps: [{kind: prune, madds: x}]": r"steps\.0\.madds: expected a figure .* got 'x'",
    "name: r\nsteps: [{kind: prune, madds: -5}]": r"madds must be at least 1, got -5",
    "name: r\nsteps: [{kind: prune, share: 0.5, round_to: 0}]": r"round_to must be at least 1",
    "name: r\nsteps: [{kind: prune, share: 0.5, min_keep: 5}]": r"min_keep must be from 0 to 1",
    "name: r\nsteps: [{kind: prune, share: 0.5, importance: l9}]": r"importance: .*got 'l9'",
    "name: r\nsteps: [{kind: distil, epochs: 0}]": r"epochs must be at least 1, got 0",
    "name: r\nsteps: [{kind: distil, learning_rate: -1.0}]": r"learning_rate must be above 0",
    "name: r\nsteps: [{kind: distil, weight: .nan}]": r"weight must be above 0, got nan",
    "name: r\nsteps: [{kind: quantise, n_images: 0}]": r"n_images must be at least 8, got 0",
    "name: r\nsteps: [{kind: quantise, method: best}]": r"method: .* got 'best'",
    f"name: r\nsteps: [{QUANTISE}, {QUANTISE}]": r"steps: quantise must be the last step",
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


def test_missing_recipe_names_a_shipped_one():
    with pytest.raises(ConfigError, match=r"nope: no such recipe; .*prune_distil_int8\.yaml"):
        load_recipe("nope")


def test_steps_in_order(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: r\nsteps: [{kind: distil}, {kind: prune, madds: 1.5M}, {kind: quantise}]",
        encoding="utf-8",
    )
    steps = load_recipe(str(path)).steps
    assert steps == (DistilStep(), PruneStep(madds=1_500_000), QuantiseStep())


def test_target_is_a_share_of_what_comes_in():
    assert PruneStep(share=0.5).target_madds(1001) == 500
    assert PruneStep(madds=300).target_madds(1001) == 300
