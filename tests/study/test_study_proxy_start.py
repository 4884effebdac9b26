"""Proxies in a real search: the head start they give, and their figures in the sampler's model."""

import json

import pytest
from tiny_study import write_study

from nas_face.errors import ConfigError
from nas_face.study.config import load_study
from nas_face.study.proxies.scorer import PROXIES_FILE
from nas_face.study.run import Run


def searched(folder, **changes):
    run = Run.start(folder / "run", load_study(write_study(folder, changes)))
    run.search(run.faces())
    return run


@pytest.mark.slow
def test_search_begins_with_what_the_proxies_chose(tmp_path):
    proxies = {"names": ["synflow"], "start": 2, "shortlist": 3, "images": 8}
    run = searched(tmp_path, proxies=proxies, trials=3)
    chosen = run.study().user_attrs["proxy_start"]
    assert [trial.params for trial in run.trials()[:2]] == chosen
    assert len(chosen) == 2


@pytest.mark.slow
def test_figures_of_every_trained_network_reach_the_model(tmp_path):
    proxies = {"names": ["naswot"], "start": 0, "images": 8, "features": True}
    run = searched(tmp_path, proxies=proxies, trials=9, rungs=None)
    (records,) = json.loads((run.folder / PROXIES_FILE).read_text()).values()
    asked = [trial.user_attrs["arch_id"] for trial in run.trials()]
    assert set(asked[:7]) <= set(records)  # the model is asked once that many have values
    assert len(records) > len(asked)  # and for a shortlist


def test_features_need_proxies(tmp_path):
    with pytest.raises(ConfigError, match=r"proxies.features needs proxies.names"):
        load_study(write_study(tmp_path, {"proxies": {"features": True}}))
