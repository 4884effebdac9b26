"""`proxies` as a user types it."""

import json

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from nas_face.search.record import ARCH_ID
from nas_face.study.config import load_study
from nas_face.study.proxies.audit_run import trained_networks
from nas_face.study.run import Run


def a_run(folder, study, n_networks):
    """A run folder with made-up results of different networks, one of them twice."""
    run = Run.start(folder, load_study(study))
    rng = np.random.default_rng(0)
    designs = {}
    while len(designs) < n_networks:
        design = run.space.sample(rng)
        designs[design.spec.arch_id] = design
    for arch_id, design in [*designs.items(), *list(designs.items())[:1]]:
        options = run.space.choices()
        run.study().add_trial(
            create_trial(
                params=design.choices,
                distributions={
                    path: CategoricalDistribution(options[path].labels) for path in design.choices
                },
                values=[float(rng.random()), float(design.spec.cost().madds)],
                user_attrs={ARCH_ID: arch_id},
            )
        )
    return folder


@pytest.fixture(scope="module")
def run_of_twelve(study, tmp_path_factory):
    """A run folder of 12 networks; not to be changed but for what `proxies` writes."""
    return a_run(tmp_path_factory.mktemp("twelve") / "run", study, 12)


def test_table_of_all_proxies(nas_face, run_of_twelve):
    answer = nas_face("proxies", run_of_twelve, "--images", 8)
    assert answer.code == 0, answer.err
    assert "Proxies against log_tar, 12 networks" in answer.out
    for name in ("params", "madds", "synflow", "naswot", "zico", "az_nas"):
        assert sum(f" {name} " in line for line in answer.out.splitlines()) >= 1
    assert "the yardstick" in answer.out


def test_json_and_what_is_remembered(nas_face, run_of_twelve):
    command = ["proxies", run_of_twelve, "--images", 8, "--seed", 3, "--names", "naswot, synflow"]
    answer = nas_face(*command, "--json")
    data = json.loads(answer.out)
    assert (data["networks"], data["images"]) == (12, 8)
    assert [each["proxy"] for each in data["proxies"]] == ["madds", "params", "naswot", "synflow"]
    assert {each["objective"] for each in data["proxies"]} == {"log_tar"}
    file = run_of_twelve / "proxies.json"
    records = json.loads(file.read_text(encoding="utf-8"))
    (known,) = [value for key, value in records.items() if "seed 3" in key]
    trials = trained_networks(Run.open(run_of_twelve))
    assert set(known) == {trial.user_attrs["arch_id"] for trial in trials}
    before = file.read_bytes()
    assert nas_face(*command, "--json").out == answer.out
    assert file.read_bytes() == before


def test_interrupted_it_goes_on(nas_face, run_of_twelve):
    command = ["proxies", run_of_twelve, "--images", 8, "--seed", 4, "--names", "naswot", "--json"]
    whole = nas_face(*command)
    file = run_of_twelve / "proxies.json"
    records = json.loads(file.read_text(encoding="utf-8"))
    (key,) = [key for key in records if "seed 4" in key]
    half = dict(list(records[key].items())[:5])
    file.write_text(json.dumps({**records, key: half}), encoding="utf-8")
    again = nas_face(*command)

    def without_time(answer):
        return [{**each, "seconds": 0} for each in json.loads(answer.out)["proxies"]]

    assert without_time(again) == without_time(whole)
    kept = json.loads(file.read_text(encoding="utf-8"))[key]
    assert {name: kept[name] for name in half} == half
    assert len(kept) == 12


def test_too_few_networks(nas_face, study, tmp_path):
    answer = nas_face("proxies", a_run(tmp_path / "run", study, 3))
    assert answer.code == 2
    assert answer.err.splitlines()[-1].endswith(
        "at least 4 trained networks are needed to compare ranks, there are 3; search on, with "
        "more --trials"
    )
    assert not (tmp_path / "run" / "proxies.json").exists()


def test_unknown_proxy(nas_face, run_of_twelve):
    answer = nas_face("proxies", run_of_twelve, "--names", "synflo")
    assert answer.code == 2
    assert "unknown proxy 'synflo'; did you mean 'synflow'?" in answer.err
