"""What the README shows is what happens: commands parse, examples load, listings are to the
letter."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from nas_face.arch.zoo import network
from nas_face.cli.main import app, main
from nas_face.data import load_orl, sampling
from nas_face.data.augment import AugmentSettings
from nas_face.deploy import export_onnx, quantise_onnx
from nas_face.deploy.manifest import (
    EmbeddingOutput,
    ImageInput,
    Manifest,
    ModelFile,
    Normalisation,
    Part,
    Threshold,
)
from nas_face.losses.distillation import settings as distillation
from nas_face.losses.margins import settings as margins
from nas_face.nn import FaceModel
from nas_face.search import OBJECTIVES
from nas_face.space import load_space
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.step_settings import STEPS, AwareTraining
from nas_face.study.config import DataSettings, StudyConfig
from nas_face.train.settings import TrainSettings
from nas_face.train.teachers.settings import TeacherSettings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^(?:\$ )?nas-face (.+)$", README, flags=re.MULTILINE)))
LISTINGS = re.findall(
    r"^\$ nas-face ((?:cost|zoo)\b.*)\n((?:(?!```).*\n)+)```", README, re.MULTILINE
)


def test_there_are_commands_and_listings_to_check():
    verbs = {command.split()[0] for command in COMMANDS}
    assert verbs == set(typer.main.get_command(app).commands)
    assert LISTINGS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_parses(command):
    verb, *arguments = command.split()
    chosen = typer.main.get_command(app).commands[verb]
    while hasattr(chosen, "commands"):
        verb, *arguments = arguments
        chosen = chosen.commands[verb]
    context = chosen.make_context(verb, arguments)
    assert context.args == []


@pytest.mark.parametrize(("command", "shown"), LISTINGS)
def test_a_listing_is_to_the_letter(command, shown, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nas-face", *command.split()])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    printed = capsys.readouterr().out
    assert [line.rstrip() for line in shown.splitlines()] == [
        line.rstrip() for line in printed.splitlines()
    ]


def test_the_example_space_loads(tmp_path):
    (example,) = [
        text
        for text in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
        if "stages" in yaml.safe_load(text)
    ]
    path = tmp_path / "example.yaml"
    path.write_text(example)
    assert load_space(path).size > 1000


def test_the_two_set_up_commands_are_one_line_each():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv .venv && ")]
    assert [line.split(" && ")[-1] for line in lines] == [
        ".venv/bin/nas-face search studies/quickstart.yaml",
        ".venv/bin/python -m pytest",
    ]


def test_every_key_of_a_recipe_is_in_the_readme():
    kinds = [Recipe, RecipeSpace, AwareTraining, *STEPS.values()]
    keys = {name for kind in kinds for name in kind.__slots__} - {"kind"}
    assert [key for key in sorted(keys) if f"`{key}`" not in README] == []


def test_every_key_of_a_study_and_every_objective_is_in_the_readme():
    names = [*StudyConfig.__slots__, *OBJECTIVES]
    assert [name for name in names if f"`{name}`" not in README] == []


def test_every_key_of_a_recipe_and_of_its_data_is_in_the_readme():
    parts = (TrainSettings, DataSettings, AugmentSettings, TeacherSettings)
    names = [name for part in parts for name in part.__slots__]
    assert [name for name in names if not re.search(rf"[`{{ ]{name}[`:,}}]", README)] == []


def test_every_loss_method_and_sampling_is_in_the_readme():
    modules = (margins, distillation, sampling)
    kinds = [
        each().kind
        for module in modules
        for each in vars(module).values()
        if isinstance(each, type) and "kind" in getattr(each, "__slots__", ())
    ]
    assert len(kinds) >= 17
    assert [kind for kind in kinds if f"`{kind}`" not in README] == []


def test_the_file_tree_names_what_is_there():
    (tree,) = re.findall(r"## Files\n\n```\n(.*?)```", README, re.DOTALL)
    folders = re.findall(r"^  ([a-z]+)/ ", tree, re.MULTILINE)
    here = {path.name for path in (ROOT / "nas_face").iterdir() if (path / "__init__.py").exists()}
    assert set(folders) == here


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The repository's files, two photos, and what a compression leaves."""
    for path in ROOT.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    crops = load_orl(56, 56).batch(np.arange(0, 80, 10))
    for name, crop in zip("ab", crops, strict=False):
        Image.fromarray(crop).save(f"{name}.jpg")
    out = tmp_path / "out"
    out.mkdir()
    spec = replace(network("mobilefacenet_128").spec, input_shape=(3, 56, 56))
    export_onnx(FaceModel.fresh(spec, seed=0), out / "model.onnx")
    quantise_onnx(out / "model.onnx", out / "model.int8.onnx", crops)
    (out / "card.json").write_text("{}")
    file = ModelFile(
        runtime="onnxruntime",
        precision="int8",
        parts=(Part.of(out / "model.int8.onnx"),),
        card=Part.of(out / "card.json"),
        thresholds=(Threshold(fmr=0.001, cosine=0.5, low=0.4, high=0.6),),
    )
    Manifest(
        model="of the test",
        input=ImageInput(height=56, width=56, name="image"),
        normalisation=Normalisation(mean=127.5, scale=127.5, channel_order="RGB"),
        embedding=EmbeddingOutput(size=128, name="embedding"),
        alignment=None,
        recommended="int8",
        files=(file,),
    ).write(out)


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_an_example_in_python_runs(example, here):
    exec(compile(example, "README.md", "exec"), {})
