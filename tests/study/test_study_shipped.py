"""Every study, recipe and space of recipes that comes with nas-face loads, from any folder."""

from pathlib import Path

import numpy as np
import pytest

from nas_face.shipped import PACKAGE, find_file, shipped_files
from nas_face.space import load_space
from nas_face.space.survey import smallest
from nas_face.study.compression.recipe import DEFAULT_RECIPE, load_recipe
from nas_face.study.compression.recipe_search.space_file import DEFAULT_SPACE, load_recipe_space
from nas_face.study.config import load_study, study_of

FILES = {str(path): path for path in shipped_files("studies", ".yaml")}
RECIPES = [name for name, path in FILES.items() if path.parent.name == "recipes"]
RECIPE_SPACES = [name for name, path in FILES.items() if path.parent.name == "recipe_spaces"]
STUDIES = [name for name in FILES if name not in (*RECIPES, *RECIPE_SPACES)]
EVERY = [*FILES.values(), *shipped_files("search_spaces", ".yaml")]


def test_there_are_some():
    assert {Path(name).stem for name in STUDIES} >= {"quickstart", "faces_64"}
    assert Path(DEFAULT_SPACE).name in {Path(name).name for name in RECIPE_SPACES}
    assert Path(DEFAULT_RECIPE).name in {Path(name).name for name in RECIPES}


@pytest.mark.parametrize("name", STUDIES)
def test_study_loads_and_its_space_fits_the_budget(name):
    config = load_study(Path(name))
    space = load_space(Path(config.space)).with_input_size(*(config.image_size or (112, 112)))
    assert config.budget.fits(min_cost(space))


@pytest.mark.parametrize("name", STUDIES)
def test_study_survives_its_record(name):
    config = load_study(Path(name))
    assert study_of(config.to_data(), where="record") == config


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_loads_by_path_and_by_name(name):
    assert load_recipe(name) == load_recipe(Path(name).stem)


@pytest.mark.parametrize("name", RECIPE_SPACES)
def test_recipe_space_loads_by_path_and_by_name(name):
    assert load_recipe_space(name, {}) == load_recipe_space(Path(name).stem, {})


@pytest.mark.parametrize("path", EVERY, ids=lambda path: path.name)
def test_files_are_found_from_anywhere(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = next(each for each in path.parents if each in (PACKAGE / "_shipped", PACKAGE.parent))
    found = find_file(path.relative_to(root).as_posix())
    assert found is not None
    assert found.read_bytes() == path.read_bytes()


def test_own_file_goes_before_the_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = Path("studies/quickstart.yaml")
    mine.parent.mkdir()
    mine.write_text("mine", encoding="utf-8")
    assert find_file("studies/quickstart.yaml") == mine


def test_folder_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_file("studies") is None
    assert find_file("studies/nope.yaml") is None


def min_cost(space):
    start = space.sample(np.random.default_rng(0))
    return smallest(space, start, lambda cost: cost.madds).spec.cost()
