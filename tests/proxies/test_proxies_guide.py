"""Proxies as a head start and as features."""

import math
from dataclasses import dataclass, replace

import numpy as np
import yaml
from proxy_cases import faces, net

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.data import FaceImages
from nas_face.search import Budget
from nas_face.search.designs import Candidate
from nas_face.space import load_space
from nas_face.study.config import TrainSettings
from nas_face.study.proxies.guide import ProxyFeatures, chosen_by_proxies, warm_start
from nas_face.study.proxies.scorer import ProxyScorer
from nas_face.study.proxies.settings import ProxySettings


@dataclass(frozen=True)
class Made:
    madds: int
    good: float


def candidates(n=400, seed=0):
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(np.log(1e5), np.log(1e7), n)).astype(int)
    return [Made(int(madds), float(rng.random())) for madds in sizes]


def chosen(made, n, shortlist, asked=None):
    def score(each):
        if asked is not None:
            asked.append(each)
        return {"synflow": each.good, "zico": each.good + 1}

    return warm_start(made, score, n, names=["synflow", "zico"], shortlist=shortlist)


def test_designs_are_spread_over_the_logarithm_of_multiply_adds():
    found = chosen(candidates(), 5, 8)
    steps = np.diff([math.log(each.madds) for each in found])
    assert len(set(found)) == 5
    assert steps.min() > 0.5 * np.log(100) / 5
    assert steps.max() < 1.5 * np.log(100) / 5


def test_each_is_the_best_of_its_shortlist():
    asked = []
    found = chosen(candidates(), 5, 8, asked)
    assert len(asked) == 40
    shortlists = [asked[start : start + 8] for start in range(0, 40, 8)]
    assert [max(each, key=lambda one: one.good) for each in shortlists] == found
    assert all(
        max(one.madds for one in each) < 1.5 * min(o.madds for o in each) for each in shortlists
    )


def test_shortlist_of_one_asks_for_the_nearest_only():
    assert len({each.good for each in chosen(candidates(), 5, 1)}) == 5


def test_few_candidates_are_all_taken():
    few = candidates(3)
    assert chosen(few, 5, 8) == sorted(few, key=lambda each: each.madds)
    assert sorted(chosen(few, 3, 8), key=hash) == sorted(few, key=hash)
    assert chosen([], 5, 8) == []


def test_design_without_a_figure_is_the_last_choice():
    made = [Made(1000 + place, place) for place in range(4)]

    def score(each):
        return {"synflow": math.nan if each.good == 3 else each.good}

    (found,) = warm_start(made, score, 1, names=["synflow"], shortlist=4)
    assert found.good == 2


def features(names, path=None):
    def images_of(size):
        return FaceImages.from_array(*faces(12, *size))

    scorer = ProxyScorer(images_of, TrainSettings(), n_images=8, seed=0, path=path)
    return ProxyFeatures(
        lambda params: net(*[ConvUnit(out_channels=params["width"])] * params["n"]), scorer, names
    )


def candidate(**params):
    return Candidate(key=str(params), params=params, vector=np.zeros(1, np.float32), known={})


def test_features_are_the_figures_with_sizes_as_logarithms(tmp_path):
    made = features(["params", "az_nas"], tmp_path / "proxies.json")
    vector = made(candidate(width=6, n=2))
    spec = net(ConvUnit(out_channels=6), ConvUnit(out_channels=6))
    assert made.figures == (
        "params",
        "az_expressivity",
        "az_progressivity",
        "az_trainability",
        "madds",
    )
    assert vector.dtype == np.float32
    assert vector[0] == np.float32(math.log(spec.cost().params))
    assert vector[4] == np.float32(math.log(spec.cost().madds))
    assert (made(candidate(n=2, width=6)) == vector).all()
    assert np.isfinite(vector).all()


def test_features_that_are_not_defined_are_zero():
    vector = features(["az_nas"])(candidate(width=6, n=0))
    assert vector[1:3].tolist() == [0, 0]
    assert vector[0] > 0


def start(space, settings, seed=0):
    def images_of(size):
        return FaceImages.from_array(*faces(12, *size))

    scorer = ProxyScorer(images_of, TrainSettings(), n_images=8, seed=0)
    return chosen_by_proxies(space, BUDGET, settings, scorer, seed=seed)


BUDGET = Budget(max_madds=200_000)
SPACE = {
    "name": "tiny",
    "input_shape": [3, 24, 24],
    "stem": [{"kind": "conv_unit", "out_channels": {"choice": [4, 8, 16]}, "stride": 2}],
    "stages": [
        {
            "out_channels": {"choice": [8, 16, 24]},
            "stride": 2,
            "repeats": {"choice": [1, 2]},
            "block": {"kind": "inverted_residual", "expansion": {"choice": [1, 2]}},
        }
    ],
    "head": {"kind": "pooled_linear", "embedding_size": 16, "tail_channels": 16},
}


def test_start_fits_the_budget_and_a_seed_gives_the_same(tmp_path):
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    space = load_space(tmp_path / "space.yaml")
    settings = ProxySettings(names=("synflow", "naswot"), start=3, shortlist=4)
    found = start(space, settings)
    assert len({space.decode(each).arch_id for each in found}) == 3
    assert all(BUDGET.fits(space.decode(each).cost()) for each in found)
    assert start(space, settings) == found
    assert len(start(space, replace(settings, start=2))) == 2
