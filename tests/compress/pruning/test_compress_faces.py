"""On real faces: a pruned network and the masked one give one embedding, for every published
network and for random designs of the widest space."""

import copy
import dataclasses
import functools
import os
from collections.abc import Iterable

import numpy as np
import pytest
from numpy.typing import NDArray
from pruning_checks import random_choice, random_model, shrunk, without

from nas_face.arch.spec import ArchSpec
from nas_face.arch.zoo import NETWORKS, network
from nas_face.compress.pruning import BY_GRADIENT, angular_gradients, mask_, prune
from nas_face.compress.pruning.channels import Coupling, couple
from nas_face.compress.pruning.importance import CRITERIA
from nas_face.compress.pruning.scope import SCOPES
from nas_face.compress.pruning.surgery import alive_without, narrowed
from nas_face.data.bundled import load_orl
from nas_face.nn.model import FaceModel
from nas_face.shipped import shipped_files
from nas_face.space import load_space

N_DESIGNS = int(os.environ.get("NAS_FACE_DESIGNS", "12"))
"""Designs that are pruned; more take minutes."""

SIDE = 32


@functools.cache
def faces() -> NDArray[np.uint8]:
    """Two faces of different people."""
    images = load_orl(SIDE, SIDE)
    return images.batch(np.array([0, 155]))


@functools.cache
def designs() -> tuple[ArchSpec, ...]:
    (path,) = (
        each for each in shipped_files("search_spaces", ".yaml") if each.stem == "all_families"
    )
    space, rng = load_space(path), np.random.default_rng(1)
    return tuple(space.sample(rng).spec for _ in range(N_DESIGNS))


@pytest.mark.parametrize("name", NETWORKS)
def test_published_network(name: str) -> None:
    check(network(name).spec, sorted(NETWORKS).index(name))


@pytest.mark.parametrize("number", range(N_DESIGNS))
def test_random_design(number: int) -> None:
    check(designs()[number], number)


def check(spec: ArchSpec, number: int) -> None:
    """A random choice, and what a criterion chooses for 70, 50 or 30 % of the MAdds, or for the
    least that there is."""
    model = random_model(shrunk(spec, side=SIDE), seed=number)
    before = model.description
    coupling = couple(before.network, before.input)
    removed = random_choice(coupling, seed=number)
    assert removed
    assert_same_embeddings(model, without(model, removed, coupling), removed)

    importance = list(CRITERIA)[number % len(CRITERIA)]
    alive = alive_without(coupling, all_that_may_go(coupling))
    smallest = narrowed(before.network, coupling, alive).cost(before.input).madds
    result = prune(
        model,
        target_madds=max(smallest, before.cost.madds * (70, 50, 30)[number % 3] // 100),
        importance=importance,
        scope=SCOPES[number // 3 % len(SCOPES)],
        min_keep=0.0,
        round_to=1,
        gradients=angular_gradients(model, faces()[:1]) if importance in BY_GRADIENT else None,
    )
    assert -0.01 < result.off_target <= 0
    assert result.model.description.embedding_size == spec.embedding_size
    assert_same_embeddings(model, result.model, result.removed)


def all_that_may_go(coupling: Coupling) -> list[int]:
    """All classes of every family but one, what layer normalisations average over excepted."""
    return [each for family in coupling.families for each in family.classes[1:]]


def assert_same_embeddings(model: FaceModel, pruned: FaceModel, removed: Iterable[int]) -> None:
    masked = dataclasses.replace(model, module=copy.deepcopy(model.module))
    mask_(masked, removed)
    expected, found = (each.embed(faces(), flip=False) for each in (masked, pruned))
    assert np.isfinite(expected).all()
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
    directions = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (expected, found)]
    assert np.abs(directions[0] - directions[1]).max() < 1e-5
