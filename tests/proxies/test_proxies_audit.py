"""Verdicts on proxies, and the file that remembers figures."""

import json
import math

import numpy as np
import pytest
from proxy_cases import faces, net

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.data import FaceImages
from nas_face.errors import ConfigError
from nas_face.losses.margins.settings import CosFace
from nas_face.proxies import PROXIES, proxy_scores, subject
from nas_face.search import objective
from nas_face.study.config import TrainSettings
from nas_face.study.proxies import scorer as proxy_scorer
from nas_face.study.proxies import settings as proxy_settings
from nas_face.study.proxies.audit import audit
from nas_face.study.proxies.scorer import ProxyScorer, some_faces
from nas_face.study.proxies.settings import ProxySettings

SPECS = [net(ConvUnit(out_channels=width)) for width in (4, 6, 8)]


def networks(n, seed=0):
    """Made-up figures: `synflow` foretells the truth, `naswot` is large nets, `zico` is noise,
    `params` the opposite of the truth."""
    rng = np.random.default_rng(seed)
    madds, quality, noise = rng.normal(size=(3, n))
    truth = madds + quality + 0.3 * rng.normal(size=n)
    table = [
        {"madds": a, "synflow": b, "naswot": 3 * a, "zico": c, "params": -b}
        for a, b, c in zip(madds, quality, noise, strict=True)
    ]
    return table, truth


def verdicts(n, name="auc", sign=1.0, seed=0):
    table, truth = networks(n, seed)
    proxies = ["madds", "synflow", "naswot", "zico", "params"]
    found = audit(proxies, table, objective(name), sign * truth, seconds={"zico": 0.5})
    assert [each.proxy for each in found] == proxies
    assert {each.seconds for each in found if each.proxy == "zico"} == {0.5}
    return [each.verdict for each in found]


def test_what_foretells_adds_and_size_or_noise_does_not():
    nothing = "adds nothing here"
    assert verdicts(300) == ["the yardstick", "adds", nothing, nothing, "misleads here"]


def test_objective_that_is_to_be_small_gives_the_same():
    assert verdicts(300, "eer", -1.0) == verdicts(300)


def test_few_networks_tell_nothing():
    assert set(verdicts(9)) == {"the yardstick", "too few networks to tell"}
    assert verdicts(12, seed=1)[3] == "too few networks to tell"


def test_fewer_than_four_networks_are_refused():
    with pytest.raises(ConfigError, match="at least 4 trained networks .* there are 3"):
        verdicts(3)


def test_network_for_which_a_proxy_is_not_defined_is_left_out_of_it():
    table, truth = networks(40)
    table[7]["synflow"] = math.nan
    found = audit(["madds", "synflow"], table, objective("auc"), truth, seconds={})
    assert [each.n_networks for each in found] == [40, 39]
    kept = [place for place in range(40) if place != 7]
    alone = audit(
        ["synflow"], [table[place] for place in kept], objective("auc"), truth[kept], seconds={}
    )
    assert found[1].comparison == alone[0].comparison


def test_proxy_that_is_never_defined_is_no_failure():
    table, truth = networks(20)
    for each in table:
        each["synflow"] = math.nan
    (found,) = audit(["synflow"], table, objective("auc"), truth, seconds={})
    assert found.n_networks == 0
    assert math.isnan(found.comparison.tau.value)


def images_of(size):
    images, labels = faces(24, *size)
    return FaceImages.from_array(images, labels)


def scorer(path, **changes):
    settings = {"n_images": 8, "seed": 0, **changes}
    return ProxyScorer(
        images_of, TrainSettings(loss=CosFace(margin=0.2, scale=16.0)), path=path, **settings
    )


def test_figures_are_those_of_the_study_s_faces_and_loss():
    images, labels = some_faces(images_of((16, 16)), 8, seed=3)
    loss = CosFace(margin=0.2, scale=16.0)
    expected = proxy_scores(SPECS[0], images, labels, loss=loss, seed=3)
    assert scorer(None, seed=3)(SPECS[0], tuple(PROXIES)).figures == expected


def test_figures_are_measured_once(tmp_path, monkeypatch):
    path = tmp_path / "proxies.json"
    first = scorer(path)(SPECS[0], ["zico", "madds"])
    calls = []
    real = proxy_scorer.measure_proxies
    monkeypatch.setattr(
        proxy_scorer,
        "measure_proxies",
        lambda *a, **k: calls.append(k["names"]) or real(*a, **k),
    )
    again = scorer(path)(SPECS[0], ["madds", "zico"])
    assert again.figures == first.figures
    assert calls == []
    assert set(scorer(path)(SPECS[0], ["zico", "naswot"]).figures) == {"zico", "madds", "naswot"}
    scorer(path, seed=1)(SPECS[0], ["zico"])
    scorer(path, n_images=10)(SPECS[0], ["zico"])
    scorer(path)(SPECS[0], ["zico", "naswot", "madds"])
    assert calls == [["naswot"], ["zico"], ["zico"]]


def test_two_writers_lose_nothing(tmp_path):
    path = tmp_path / "proxies.json"
    one, two = scorer(path), scorer(path)
    one(SPECS[0], ["madds"])
    two(SPECS[1], ["madds"])
    one(SPECS[2], ["madds"])
    (networks,) = json.loads(path.read_text()).values()
    assert set(networks) == {spec.arch_id for spec in SPECS}


def test_what_is_not_defined_is_null_in_the_file_and_stays_so(tmp_path):
    path = tmp_path / "proxies.json"
    names = ["az_nas"]
    before = scorer(path)(net(), names).figures
    assert math.isnan(before["az_progressivity"])
    assert "NaN" not in path.read_text()
    after = scorer(path)(net(), names).figures
    assert [str(value) for value in after.values()] == [str(value) for value in before.values()]


def test_broken_file_is_named(tmp_path):
    path = tmp_path / "proxies.json"
    path.write_text("[1, 2")
    with pytest.raises(ConfigError, match=r"proxies.json: not the figures of proxies; delete it"):
        scorer(path)


def test_faces_are_of_several_images_a_person_and_alike_in_both_halves():
    labels = np.repeat(np.arange(10), 6)
    pixels = np.arange(60, dtype=np.uint8)[:, None, None, None] * np.ones((8, 8, 3), np.uint8)
    images = FaceImages.from_array(pixels, labels)
    found, people = some_faces(images, 16, seed=0)
    assert len(found) == 16
    assert len(np.unique(found[:, 0, 0, 0])) == 16
    assert (labels[found[:, 0, 0, 0]] == people).all()
    assert np.unique(people, return_counts=True)[1].tolist() == [4, 4, 4, 4]
    assert sorted(people[0::2]) == sorted(people[1::2])
    assert (some_faces(images, 16, seed=1)[1] != people).any()
    assert len(some_faces(images, 1000, seed=0)[0]) == 40


def test_settings_name_the_proxies_that_there_are():
    assert set(proxy_settings.PROXY_NAMES) == set(PROXIES)
    assert proxy_settings.MIN_IMAGES == subject.MIN_IMAGES
    assert ProxySettings().names == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("zicco",)}, "proxies.names: unknown proxy 'zicco'; did you mean 'zico'"),
        ({"names": ("zico", "zico")}, "proxies.names must differ, got zico, zico"),
        ({"images": 3}, "proxies.images must be at least 4, got 3"),
        ({"start": -1}, "proxies.start must be at least 0, got -1"),
        ({"shortlist": 0}, "proxies.shortlist must be at least 1, got 0"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        ProxySettings(**changes)
