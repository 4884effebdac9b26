"""Identities and costs that must not change by accident."""

import json

import pytest
from make_golden import FILE, golden

from nas_face.arch.spec import ArchSpec

RECORDED = json.loads(FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", RECORDED)
def test_identity_and_cost_are_as_recorded(name):
    assert golden()[name] == RECORDED[name]


def test_every_network_is_recorded():
    assert set(golden()) == set(RECORDED)


def test_identities_are_distinct():
    assert len({each["arch_id"] for each in RECORDED.values()}) == len(RECORDED)


def test_identity_of_a_spec_written_by_hand():
    """The identity is that of the text, so a file in any order of keys finds its results."""
    text = """
    {"head": {"kind": "pooled_linear", "embedding_size": 64}, "input_shape": [3, 32, 32],
     "stages": [[{"stride": 2, "kind": "shuffle", "hidden_channels": 16, "out_channels": 32}]],
     "stem": [{"out_channels": 16, "kind": "conv_unit", "stride": 2}]}
    """
    spec = ArchSpec.from_data(json.loads(text), where="text")
    assert spec.arch_id == "e90cbf4ba0e5"
