"""Screening against the slow path: the same designs, the same costs, the same odds."""

import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from space_checks import SHIPPED

from nas_face.errors import SpaceError
from nas_face.space import load_space
from nas_face.space.screening import Screener
from nas_face.space.space import SearchSpace

every_space = pytest.mark.parametrize("name", SHIPPED)

PARTS = """
name: parts
input_shape: [3, 32, 32]
shared:
  act: {choice: [relu, prelu]}
  attention: {choice: {none: null, se: {kind: squeeze_excite, ratio: {choice: [0.25, 0.5]}}}}
stem:
  - {kind: conv_unit, out_channels: {choice: [8, 12]}, stride: 2, act: {shared: act}}
stages:
  - out_channels: {choice: [8, 16]}
    stride: 2
    repeats: {range: [1, 3]}
    block:
      choice:
        mobile:
          kind: inverted_residual
          act: {shared: act}
          attention: {shared: attention}
          expansion: {choice: [1, 2]}
          rank_ratio: {choice: [null, 0.4]}
          first:
            choice:
              wide: {expansion: 4}
              plain: {kind: conv_unit, act: {shared: act}}
        shuffle:
          kind: shuffle
          expansion: {choice: [0.5, 1.0]}
          act: {shared: act}
          attention:
            choice: {none: null, se: {kind: squeeze_excite, channels: 4, act: {shared: act}}}
        edge: {kind: split_attention, expansion: 2, parts: {choice: [2, 3]}, heads: 4}
        cells: {kind: cells}
  - {out_channels: 24, stride: 2, repeats: 1, block: {kind: seesaw, mixing: share, expansion: 2}}
head: {kind: global_depthwise, embedding_size: 16, tail_channels: {choice: [null, 32]}}
"""


def space_of(tmp_path, text: str) -> SearchSpace:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return load_space(path)


def check(space: SearchSpace, n: int) -> None:
    for screened in itertools.islice(Screener(space).draws(seed=3), n):
        cost = screened.spec.cost()  # the choices are decoded afresh, each of them asked for
        counts = (cost.madds, cost.params, cost.folded_params, cost.peak_activations)
        assert counts == (
            screened.madds,
            screened.params,
            screened.folded_params,
            screened.peak_activations,
        )


@every_space
def test_costs_are_those_of_the_specs(name):
    check(load_space(SHIPPED[name]), 300)


def test_costs_of_every_form_that_a_template_may_have(tmp_path):
    check(space_of(tmp_path, PARTS), 400)


@every_space
def test_odds_are_those_of_sampling(name):
    """Quantiles of log madds of 800 designs each way are alike, and every option is drawn."""
    space = load_space(SHIPPED[name])
    rng = np.random.default_rng(0)
    slow = [space.sample(rng).spec.cost().madds for _ in range(800)]
    fast = list(itertools.islice(Screener(space).draws(seed=0), 6000))
    shares = np.linspace(0.1, 0.9, 9)
    found = np.quantile(np.log([each.madds for each in fast]), shares)
    spread = np.ptp(np.quantile(np.log(slow), [0.1, 0.9]))
    assert np.abs(found - np.quantile(np.log(slow), shares)).max() < 0.15 * spread
    drawn = {pick for each in fast for pick in each.choices.items()}
    offered = {(path, each) for path, c in space.choices().items() for each in c.labels}
    assert offered - drawn == set()


def test_a_seed_gives_the_same_designs(tmp_path):
    screener = Screener(space_of(tmp_path, PARTS))
    first, second = (
        [each.choices for each in itertools.islice(screener.draws(seed=5), 40)] for _ in range(2)
    )
    assert first == second
    other = [each.choices for each in itertools.islice(screener.draws(seed=6), 40)]
    assert first != other


def test_what_cannot_be_built_is_not_drawn(tmp_path):
    """12 channels do not divide by 8: half of the draws are none."""
    text = """
name: halves
input_shape: [3, 32, 32]
stem: [{kind: conv_unit, out_channels: {choice: [8, 12]}, stride: 2}]
stages:
  - out_channels: 16
    stride: 2
    repeats: 1
    block: {kind: variable_group_normal, factor: 1}
head: {kind: pooled_linear, embedding_size: 16}
"""
    draws = itertools.islice(Screener(space_of(tmp_path, text)).draws(seed=0), 50)
    assert {each.choices["stem.0.out_channels"] for each in draws} == {8}


def test_rules_of_the_space_hold(tmp_path):
    text = PARTS + "constraints: [stages.0.repeats != 2, stem.0.out_channels == 12]\n"
    for each in itertools.islice(Screener(space_of(tmp_path, text)).draws(seed=0), 200):
        assert each.choices["stages.0.repeats"] != 2
        assert each.choices["stem.0.out_channels"] == 12


def test_a_space_without_any_network_says_so(tmp_path):
    space = replace(space_of(tmp_path, PARTS), avoided=frozenset({"uneven_split"}))
    with pytest.raises(SpaceError, match="parts: none of .* uneven_split"):
        next(Screener(space).draws(seed=0))


def test_screening_needs_no_torch():
    code = (
        "import sys; from nas_face.space import load_space; from pathlib import Path\n"
        "from nas_face.space.screening import Screener\n"
        f"next(Screener(load_space(Path({str(SHIPPED['seesaw'])!r}))).draws(0))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
