"""Values of the command line in place of those of a file."""

import pytest
from tiny_study import write_study

from nas_face.errors import ConfigError
from nas_face.study.config import load_study
from nas_face.study.overrides import override, recipe_values


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("learning_rate=1e-3", "learning_rate", 0.001),
        ("learning_rate=2.5E+1", "learning_rate", 25.0),
        ("augment.flip=false", "augment.flip", False),
        ("loss=null", "loss", None),
        ("distil=[angular, {kind: template, weight: 2}]", "distil",
         ["angular", {"kind": "template", "weight": 2}]),
        ("full_training.teacher=sface", "teacher", "sface"),
        ("teacher=a=b.onnx", "teacher", "a=b.onnx"),
        ("teacher=1e5x", "teacher", "1e5x"),
    ],
)  # fmt: skip
def test_a_value_is_yaml(given, key, value):
    assert recipe_values([given]) == {f"full_training.{key}": value}


@pytest.mark.parametrize("given", ["epochs", "=3", "loss.=3", ".x=1", "a..b=1"])
def test_what_is_no_key_and_value_is_refused(given):
    with pytest.raises(ConfigError, match="--set takes KEY=VALUE, such as loss.margin=0.3, got"):
        recipe_values([given])


def test_a_value_that_is_no_yaml_is_refused():
    with pytest.raises(ConfigError, match=r"--set distil: not valid YAML \("):
        recipe_values(["distil=[angular"])


def overridden(recipe, *settings):
    data = {"full_training": recipe}
    for key, value in recipe_values(settings).items():
        override(data, key, value, where="test")
    return data["full_training"]


def test_a_part_of_a_word_is_a_part_of_what_it_stands_for():
    assert overridden({"loss": "arcface"}, "loss.margin=0.3") == {
        "loss": {"kind": "arcface", "margin": 0.3}
    }
    assert overridden({"teacher": "a.onnx"}, "teacher.mean=127") == {
        "teacher": {"model": "a.onnx", "mean": 127}
    }


def test_another_kind_starts_afresh_and_the_same_kind_does_not():
    recipe = {"loss": {"kind": "cosface", "margin": 0.2}}
    assert overridden(recipe, "loss.kind=arcface") == {"loss": {"kind": "arcface"}}
    assert overridden(recipe, "loss.kind=cosface") == recipe
    assert overridden(recipe, "loss.kind=arcface", "loss.scale=9") == {
        "loss": {"kind": "arcface", "scale": 9}
    }
    assert recipe == {"loss": {"kind": "cosface", "margin": 0.2}}


def test_a_part_that_the_file_leaves_out_starts_from_its_default(tmp_path):
    path = write_study(tmp_path, {"full_training": {"epochs": 1}})
    default = load_study(path).full_training.loss
    config = load_study(path, recipe_values(["loss.margin=0.123", "augment.shift=2"]))
    assert config.full_training.loss.margin == 0.123
    assert config.full_training.loss.scale == default.scale != 0.123
    assert config.full_training.augment.shift == 2
    assert config.full_training.augment.flip


def test_an_unknown_key_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"full_training\.epoch is not a known key"):
        load_study(write_study(tmp_path), recipe_values(["epoch=3"]))


def test_a_key_leads_through_mappings_only():
    with pytest.raises(ConfigError, match="test: epochs: expected a mapping of keys, got 3"):
        overridden({"epochs": 3}, "epochs.first=1")
