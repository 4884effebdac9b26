"""Definitions in another order than the network runs in, and what numbers in names say."""

import pytest
import torch
from torch import Tensor

from nas_face.arch.zoo import network
from nas_face.errors import BuildError
from nas_face.foreign import match, read_torch, sites_of, weights_of
from nas_face.foreign.names import NameOrder
from nas_face.foreign.sites import Site
from nas_face.nn import FaceModel

NAMES = {
    "branches.0.norm": "bn1",
    "branches.0.first.conv": "conv1",
    "branches.0.first.norm": "bn2",
    "branches.0.act": "prelu",
    "branches.0.second.conv": "conv2",
    "branches.0.second.norm": "bn3",
    "branches.1.conv": "downsample.0",
    "branches.1.norm": "downsample.1",
}
HEAD = {
    "stem.0.conv": "conv1",
    "stem.0.norm": "bn1",
    "stem.0.act": "prelu",
    "head.map_norm": "bn2",
    "head.embedding": "fc",
    "head.embedding_norm": "features",
}


@pytest.fixture(scope="module")
def ours() -> dict[str, Tensor]:
    """Random weights of iresnet_18 for 32x32 images, scales that are fixed at one left so."""
    spec = network("iresnet_18").variant(input_size=(32, 32), embedding_size=16)
    state = FaceModel.fresh(spec, seed=0).module.state_dict()
    generator = torch.Generator().manual_seed(2)
    for key, value in state.items():
        if value.ndim and key != "head.embedding_norm.weight":
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return state


@pytest.fixture(scope="module")
def sites() -> tuple[Site, ...]:
    spec = network("iresnet_18").variant(input_size=(32, 32), embedding_size=16)
    return sites_of(spec.lower(), spec.input)


def theirs(path: str) -> str:
    """InsightFace's name of one of our layers."""
    if path in HEAD:
        return HEAD[path]
    _, stage, block, rest = path.split(".", 3)
    return f"layer{int(stage) + 1}.{block}.{NAMES[rest]}"


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, value in state.items():
        path, _, role = key.rpartition(".")
        found[f"{theirs(path)}.{role}"] = value
    return found


ORDERS = {
    "as it runs": lambda name: 0,
    "shortcuts first": lambda name: 0 if "downsample" in name else 1,
    "convolutions first": lambda name: ["conv", "downsample.0", "bn"].index(
        next((each for each in ("conv", "downsample.0") if each in name), "bn")
    ),
}


@pytest.mark.parametrize("order", ORDERS)
def test_order_within_a_block_does_not_matter(ours, sites, tmp_path, order):
    state = renamed(ours)
    blocks = list(dict.fromkeys(".".join(key.split(".")[:2]) for key in state))
    kept = {key: value for key, value in state.items() if not key.startswith("layer")}
    first = [key for key in kept if key.split(".")[0] in ("conv1", "bn1", "prelu")]
    keys = list(first)
    for block in blocks:
        if block.startswith("layer"):
            members = [key for key in state if key.startswith(f"{block}.")]
            keys += sorted(members, key=ORDERS[order])
    keys += [key for key in kept if key not in first]
    assert sorted(keys) == sorted(state)
    torch.save({key: state[key] for key in keys}, tmp_path / "a.pt")
    (source,) = read_torch(tmp_path / "a.pt")
    weights = weights_of(match(source, sites, 16), source, sites)
    for key, value in weights.items():
        assert torch.equal(torch.from_numpy(value), ours[key]), key


def test_a_block_too_many_is_refused(ours, sites, tmp_path):
    state = renamed(ours)
    more = {
        key.replace("layer1.1.", "layer1.2."): value.clone()
        for key, value in state.items()
        if key.startswith("layer1.1.")
    }
    torch.save({**state, **more}, tmp_path / "a.pt")
    (source,) = read_torch(tmp_path / "a.pt")
    with pytest.raises(BuildError):
        match(source, sites, 16)


@pytest.mark.parametrize(
    ("first", "second", "before"),
    [
        ("blocks.2.conv", "blocks.10.conv", True),
        ("blocks.10.conv", "blocks.2.conv", False),
        ("block2.conv", "block10.conv", True),
        ("conv.0", "conv.0", None),
        ("stage.a", "stage.b", None),
        ("conv", "conv1", True),
        ("a.1.x", "b.0.x", None),
    ],
)
def test_numbers_in_names_count(first, second, before):
    names = [f"blocks.{at}.conv" for at in range(12)] + [f"block{at}.conv" for at in range(12)]
    assert NameOrder([*names, first, second]).comes_before(first, second) is before


def test_labels_are_read_digit_by_digit():
    names = ["conv_1", "conv_2", "conv_23", "conv_3", "conv_34", "conv_4", "conv_45", "conv_5"]
    order = NameOrder(names)
    assert sorted(reversed(names), key=order.key) == names
    assert order.comes_before("conv_23", "conv_3")
