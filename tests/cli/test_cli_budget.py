"""Options of a budget: the walls that they set, in the units that they take."""

import dataclasses
import inspect

import pytest

from nas_face.cli.budget import limits
from nas_face.cli.runs import search
from nas_face.errors import ConfigError
from nas_face.search import Budget
from nas_face.study.run import Run

GIVEN = {
    "max_madds": ("1.5M", "max_madds", 1_500_000),
    "min_madds": ("20k", "min_madds", 20_000),
    "max_flops": ("3M", "max_madds", 1_500_000),
    "min_flops": ("3M", "min_madds", 1_500_000),
    "max_params": ("200k", "max_params", 200_000),
    "min_params": ("1,000", "min_params", 1000),
    "max_size": ("2MiB", "max_size_bytes", 2_097_152),
    "min_size": ("4kB", "min_size_bytes", 4000),
    "max_activations": ("1M", "max_peak_activations", 1_000_000),
    "min_activations": ("10", "min_peak_activations", 10),
    "max_latency": ("1.5s", "max_latency_ms", 1500.0),
    "min_latency": ("800us", "min_latency_ms", 0.8),
}


@pytest.mark.parametrize("option", GIVEN)
def test_an_option_sets_its_wall(option):
    text, wall, limit = GIVEN[option]
    assert limits(**{option: text}) == {wall: pytest.approx(limit)}


def test_every_wall_has_an_option_of_search():
    options = {
        name for name in inspect.signature(search).parameters if name[:4] in ("max_", "min_")
    }
    assert options == GIVEN.keys()
    assert {wall for _, wall, _ in GIVEN.values()} == {
        field.name for field in dataclasses.fields(Budget)
    }


def test_options_that_are_not_given_set_nothing():
    assert limits(**dict.fromkeys(GIVEN)) == {}


def test_an_odd_number_of_flops_rounds_to_what_keeps_the_wall():
    assert limits(max_flops="7") == {"max_madds": 3}
    assert limits(min_flops="7") == {"min_madds": 4}


@pytest.mark.parametrize("end", ["max", "min"])
def test_multiply_adds_and_flops_are_one_wall(end):
    with pytest.raises(ConfigError, match=f"--{end}-flops and --{end}-madds are one budget"):
        limits(**{f"{end}_madds": "1M", f"{end}_flops": "2M"})
    assert len(limits(max_madds="1M", min_flops="1M")) == 2


def test_search_keeps_all_walls_at_once(nas_face, study, tmp_path):
    given = ["--min-madds", "20k", "--max-params", "200k", "--max-size", "2MB"]
    given += ["--min-params", "1k", "--max-activations", "1M"]
    answer = nas_face("search", study, *given, "--trials", 1, "--out", tmp_path / "r")
    assert answer.code == 0
    run = Run.open(tmp_path / "r")
    assert run.config.budget == Budget(
        max_madds=300_000,
        min_madds=20_000,
        max_params=200_000,
        min_params=1000,
        max_size_bytes=2_000_000,
        max_peak_activations=1_000_000,
    )
    assert "each wall alone: max_madds " in answer.err
    assert run.config.budget.fits(run.spec(run.trial(0)).cost())


def test_walls_that_contradict_each_other_end_the_search_with_code_2(nas_face, study, tmp_path):
    given = ["--max-madds", "120k", "--min-params", "4k"]
    answer = nas_face("search", study, *given, "--out", tmp_path / "r")
    assert answer.code == 2
    [line] = answer.err.splitlines()[-1:]
    assert "max_madds 120,000 and min_params 4,000 together, though each alone fits" in line
