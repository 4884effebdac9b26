"""The space of a search for a recipe: read, checked, shipped."""

from pathlib import Path

import pytest
import yaml

from nas_face.errors import ConfigError
from nas_face.search import Budget
from nas_face.shipped import shipped_files
from nas_face.study.compression.recipe_search.space_file import DEFAULT_SPACE, load_recipe_space

SHIPPED = [path.stem for path in shipped_files("studies/recipe_spaces", ".yaml")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shares: [0.0]", "shares: shares of the channels .* above 0 and at most 1 .* got 0$"),
        ("stages: {stages.0: []}", "stages.stages.0: shares of the channels .* got none$"),
        ("{shares: [1.0], precision: [fp32]}", "every choice leaves the network as it is; give"),
        ("budget: [1MB]", "budget: expected walls such as"),
        ("share: [0.5]", "'share' is no key; .*shares"),
        ("quantise: {n_image: 3}", "quantise: 'n_image' is no key; did you mean 'n_images'"),
        ("budget: {max_latency: 2ms}", "budget: 'max_latency' is no key; .*'max_latency_ms'"),
        ("shares: 0.5", r"shares: a list of choices is needed, such as \[0.5\], got 0.5"),
        ("stages: {stages.0: 0.5}", "stages.stages.0: a list of choices is needed"),
        ("precision: [int7]", "precision.0: input should be 'fp32', 'int8'.* got 'int7'"),
        ("deliver: [tflite]", "deliver: the search chooses the precision, so give onnxruntime"),
        ("deliver: [onnxruntime/int8]", "RUNTIME/fp32, got 'onnxruntime/int8'"),
        ("budget: {max_peak_activations: 5}", "max_peak_activations is no wall of a search"),
        ("floor: 1", "floor is points of accuracy"),
        ("quantise: {floor: -1}", "quantise: floor goes in the space itself"),
        ("importance: [l2, l2]", "importance: one or more different choices"),
        ("sampler: 'nni:evolution'", "take one objective"),
    ],
)
def test_wrong_space_is_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe_space(str(path), {})
    assert "\n" not in str(caught.value)


def test_space_of_a_file_and_of_options(tmp_path):
    path = tmp_path / "space.yaml"
    raw = {
        "stages": {"stages.0": [0.5, 1]},
        "budget": {"max_latency_ms": "2ms", "max_size_bytes": "1MB"},
        "recover": {"learning_rate": 0.01},
    }
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    space = load_recipe_space(str(path), {"trials": 7, "budget": {"max_latency_ms": 1.0}})
    assert space.trials == 7
    assert space.budget == Budget(max_latency_ms=1.0, max_size_bytes=1_000_000)
    assert space.stages == {"stages.0": (0.5, 1.0)}
    assert space.recover.learning_rate == 0.01


def test_shipped_spaces_write_to_folders_of_their_own():
    names = {load_recipe_space(name, {}).name for name in SHIPPED}
    assert len(names) == len(SHIPPED) >= 2


def test_default_space_trains_nothing_and_has_a_floor():
    space = load_recipe_space(None, {})
    assert space == load_recipe_space(Path(DEFAULT_SPACE).stem, {})
    assert space.recover_epochs == (0,)
    assert space.floor is not None
    assert space.limits == "at most 1 point lost"


def test_unknown_space_names_those_that_are_shipped(tmp_path):
    with pytest.raises(ConfigError, match="wihtout_training: no such space .*without_training"):
        load_recipe_space("wihtout_training", {})


def test_recipe_in_place_of_a_space_says_where_it_goes():
    with pytest.raises(ConfigError, match="is a recipe .it has steps. and no space"):
        load_recipe_space("studies/recipes/int8.yaml", {})
