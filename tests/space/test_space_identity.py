"""Identities do not depend on the process: hash seed, order of construction, round trip."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from space_checks import SHIPPED

from nas_face.arch.spec import ArchSpec
from nas_face.space import load_space

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "arch_ids.json").read_text(encoding="utf-8")
)
PRINT_ZOO = (
    "import json; from nas_face.arch.zoo import NETWORKS\n"
    "print(json.dumps({name: each.spec.arch_id for name, each in NETWORKS.items()}))"
)
PRINT_SAMPLES = (
    "import json, sys, numpy; from pathlib import Path; from nas_face.space import load_space\n"
    "space = load_space(Path(sys.argv[1])); rng = numpy.random.default_rng(3)\n"
    "print(json.dumps([space.sample(rng).spec.arch_id for _ in range(20)]))"
)


def in_a_process(code, *arguments, hash_seed):
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.mark.parametrize("hash_seed", ["0", "1", "4294967295"])
def test_identities_of_other_processes_are_the_recorded_ones(hash_seed):
    found = in_a_process(PRINT_ZOO, hash_seed=hash_seed)
    assert {name: found[name] for name in GOLDEN} == {
        name: entry["arch_id"] for name, entry in GOLDEN.items()
    }


def test_samples_of_other_processes_are_the_same():
    path = str(SHIPPED["seesaw"])
    rng = np.random.default_rng(3)
    space = load_space(SHIPPED["seesaw"])
    here = [space.sample(rng).spec.arch_id for _ in range(20)]
    for hash_seed in ("0", "7"):
        assert in_a_process(PRINT_SAMPLES, path, hash_seed=hash_seed) == here


@pytest.mark.parametrize("name", SHIPPED)
def test_identity_survives_json_with_keys_in_another_order(name):
    space = load_space(SHIPPED[name])
    rng = np.random.default_rng(0)
    for _ in range(10):
        spec = space.sample(rng).spec
        text = json.dumps(backwards(spec.to_data()))
        assert ArchSpec.from_data(json.loads(text), where="copy").arch_id == spec.arch_id


def backwards(data):
    if isinstance(data, dict):
        return {key: backwards(value) for key, value in reversed(data.items())}
    return [backwards(each) for each in data] if isinstance(data, list) else data
