"""Settings of distillation: published numbers, YAML forms, rules."""

from dataclasses import dataclass

import pytest

from nas_face.arch.codec import canonical_json, from_data, to_data
from nas_face.errors import ConfigError
from nas_face.losses.distillation import (
    AdaptiveCentres,
    Angular,
    DistillationSettings,
    PairRanks,
    Relational,
    Shrink,
    Template,
)
from nas_face.losses.margins import ArcFace, CosFace


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    distil: tuple[DistillationSettings, ...] = ()


KINDS = {
    "angular": Angular(),
    "shrink": Shrink(),
    "template": Template(),
    "relational": Relational(),
    "ranks": PairRanks(),
    "adaptive_centres": AdaptiveCentres(),
}


def read(*distil: object) -> Holder:
    return from_data(Holder, {"distil": list(distil)}, where="file", error=ConfigError)


@pytest.mark.parametrize("kind", KINDS)
def test_bare_name_takes_the_published_settings(kind):
    assert read(kind) == read({"kind": kind}) == Holder(distil=(KINDS[kind],))


@pytest.mark.parametrize(
    "settings",
    [
        *KINDS.values(),
        Relational(weight=3.0, angle=0.0),
        PairRanks(n_negatives=7),
        AdaptiveCentres(loss=CosFace(margin=0.35)),
    ],
)
def test_written_settings_read_back(settings):
    holder = Holder(distil=(settings,))
    assert from_data(Holder, to_data(holder), where="file") == holder


def test_defaults_are_left_out_of_what_is_written():
    assert canonical_json(Holder(distil=(AdaptiveCentres(),))) == (
        '{"distil":[{"kind":"adaptive_centres"}]}'
    )


def test_published_numbers():
    assert (Angular().weight, Template().weight) == (7.0, 100.0)
    relational = Relational()
    assert relational.weight * relational.distance == 25.0
    assert relational.weight * relational.angle == 50.0
    ranks = PairRanks()
    assert (ranks.positive, ranks.negative, ranks.n_negatives) == (0.02, 0.01, 2000)
    assert (ranks.temperature, ranks.momentum) == (0.01, 0.01)
    assert AdaptiveCentres().loss == ArcFace(margin=0.45)


def test_margin_loss_within_may_be_a_bare_name():
    assert read({"kind": "adaptive_centres", "loss": "cosface"}).distil == (
        AdaptiveCentres(loss=CosFace()),
    )


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"kind": "angular", "weight": 0.0}, "distil.angular.weight must be above 0, got 0"),
        ({"kind": "shrink", "weight": -1.0}, "distil.shrink.weight must be above 0, got -1"),
        ({"kind": "template", "weight": float("inf")}, "distil.template.weight must be above 0"),
        ({"kind": "relational", "angle": -1.0}, "relational.angle must be 0 or above"),
        ({"kind": "relational", "angle": 0.0, "distance": 0.0}, "are both 0; nothing is left"),
        ({"kind": "relational", "angle_images": 2}, "angle_images must be at least 3, got 2"),
        ({"kind": "ranks", "positive": 0.0, "negative": 0.0}, "are both 0; nothing is left"),
        ({"kind": "ranks", "n_negatives": 0}, "n_negatives must be at least 1, got 0"),
        ({"kind": "ranks", "momentum": 1.5}, "momentum must be at most 1, got 1.5"),
        ({"kind": "ranks", "temperature": 0.0}, "temperature must be above 0"),
        ({"kind": "adaptive_centres", "weight": 0.0}, "adaptive_centres.weight must be above 0"),
        ({"kind": "angular", "wait": 1.0}, "wait is not a known key"),
        ("angle", "'angle' found using 'kind' does not match any of the expected tags"),
    ],
)
def test_rules_name_the_key_and_the_value(broken, message):
    with pytest.raises(ConfigError, match=message):
        read(broken)
