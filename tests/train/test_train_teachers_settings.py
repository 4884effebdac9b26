"""What a recipe may say about its teacher."""

from dataclasses import dataclass
from typing import ClassVar

import pytest

from nas_face.arch.codec import from_data, to_data
from nas_face.errors import ConfigError
from nas_face.train.teachers import TeacherChoice, TeacherSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    teacher: TeacherChoice | None = None


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("sface", TeacherSettings(model="sface")),
        ({"model": "a", "steps": True}, TeacherSettings(model="a", steps=True)),
        ({"model": "a", "trial": 0}, TeacherSettings(model="a", trial=0)),
        (
            {"model": "a.onnx", "mean": 127.5, "scale": [1, 2, 3.5], "input_size": 112},
            TeacherSettings(
                model="a.onnx", mean=(127.5,), scale=(1.0, 2.0, 3.5), input_size=(112, 112)
            ),
        ),
        (
            {"model": "a", "order": "bgr", "layout": "nhwc", "input_size": [112, 96]},
            TeacherSettings(model="a", order="bgr", layout="nhwc", input_size=(112, 96)),
        ),
    ],
)
def test_settings_are_read_and_written_back(data, expected):
    recipe = from_data(Recipe, {"teacher": data}, where="f", error=ConfigError)
    assert recipe.teacher == expected
    assert from_data(Recipe, to_data(recipe), where="f") == recipe


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"model": ""}, "f: teacher.model is sface, an ONNX file, a model folder or a run folder"),
        ({"model": "a", "means": 1}, "f: teacher.means is not a known key"),
        ({"mean": 1}, "f: teacher.model: field required"),
        ({"model": "a", "mean": "1"}, "f: teacher.mean: "),
        ({"model": "a", "mean": [1, "x"]}, "f: teacher.mean.1: "),
        ({"model": "a", "input_size": [112]}, "f: teacher.input_size"),
        ({"model": "a", "order": "RGB"}, "f: teacher.order: "),
        ({"model": "a", "trial": -1}, "f: teacher.trial must be at least 0, got -1"),
        ({"model": "sface", "scale": 128}, "f: teacher.scale: how sface takes an image is known"),
        ({"model": "sface", "steps": True}, "f: teacher.steps goes with a model folder"),
        ({"model": "a", "trial": 3, "steps": True}, "got a trial 3"),
    ],
)
def test_errors_name_the_key(data, message):
    with pytest.raises(ConfigError) as caught:
        from_data(Recipe, {"teacher": data}, where="f", error=ConfigError)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
