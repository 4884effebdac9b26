"""Margin settings: published numbers, YAML there and back, one clear line for a mistake."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import yaml

from nas_face.arch.codec import from_data, to_data
from nas_face.errors import ConfigError
from nas_face.losses.margins import (
    AdaFace,
    ArcFace,
    Combined,
    CosFace,
    CurricularFace,
    ElasticFace,
    LiArcFace,
    MagFace,
    MarginSettings,
)

EVERY_KIND = {
    "cosface": CosFace,
    "arcface": ArcFace,
    "combined": Combined,
    "li_arcface": LiArcFace,
    "elasticface": ElasticFace,
    "curricularface": CurricularFace,
    "magface": MagFace,
    "adaface": AdaFace,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """As a study's training section holds it."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    loss: MarginSettings | None = CosFace(margin=0.35, scale=32.0)


def read(text: str) -> Study:
    return from_data(Study, yaml.safe_load(text), where="study.yaml", error=ConfigError)


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        (CosFace(), {"margin": 0.40}),
        (ArcFace(), {"margin": 0.5}),
        (Combined(), {"m1": 1.0, "m2": 0.3, "m3": 0.2}),
        (LiArcFace(), {"margin": 0.45}),
        (ElasticFace(), {"mean_margin": 0.5, "margin_deviation": 0.05}),
        (ElasticFace(sort=True), {"mean_margin": 0.5, "margin_deviation": 0.0175}),
        (ElasticFace(form="cosface"), {"mean_margin": 0.35, "margin_deviation": 0.05}),
        (ElasticFace(form="cosface", sort=True), {"mean_margin": 0.35, "margin_deviation": 0.02}),
        (CurricularFace(), {"margin": 0.5, "momentum": 0.01}),
        (MagFace(), {"lower_norm": 10, "upper_norm": 110, "lower_margin": 0.45}),
        (MagFace(), {"upper_margin": 0.8, "norm_weight": 35, "easy_margin": True}),
        (AdaFace(), {"margin": 0.4, "concentration": 0.333, "momentum": 0.01}),
    ],
)
def test_defaults_are_the_published_ones(settings, published):
    assert {name: getattr(settings, name) for name in published} == published
    assert settings.scale == 64.0


def test_numbers_given_to_elasticface_go_before_the_published_ones():
    settings = ElasticFace(form="cosface", sort=True, margin=0.2, sigma=0.0)
    assert (settings.mean_margin, settings.margin_deviation) == (0.2, 0.0)


@pytest.mark.parametrize(("kind", "cls"), EVERY_KIND.items())
@pytest.mark.parametrize("text", ["loss: {}", "loss: {{kind: {}}}"])
def test_a_name_and_a_mapping_with_only_a_kind_read_alike(kind, cls, text):
    assert read(text.format(kind)).loss == cls()


@pytest.mark.parametrize(
    "text",
    [
        *(f"loss: {kind}" for kind in EVERY_KIND),
        "loss: null",
        "loss: {kind: arcface, margin: 0.3, past_pi: none, gradient: straight_through}",
        "loss: {kind: elasticface, form: cosface, sigma: 0.1, sort: true}",
        "loss: {kind: magface, easy_margin: false, norm_weight: 0}",
        "loss: {kind: adaface, scale: 32, momentum: 1}",
        "{}",
    ],
)
def test_what_is_written_reads_back(text):
    settings = read(text)
    written = yaml.safe_dump(to_data(settings))
    assert read(written) == settings


def test_only_what_differs_from_the_default_is_written_and_the_kind():
    assert to_data(read("loss: arcface")) == {"loss": {"kind": "arcface"}}
    assert to_data(read("loss: {kind: arcface, margin: 0.3}")) == {
        "loss": {"kind": "arcface", "margin": 0.3}
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss: arcfac", r"loss: there is no margin loss 'arcfac'; did you mean 'arcface'"),
        ("loss: {margin: 0.3}", r"loss\.kind is missing; known: adaface, arcface, "),
        ("loss: {kind: arcface, margn: 0.3}", r"margn is not a known key"),
        ("loss: {kind: arcface, margin: wide}", r"margin: input should be a valid number"),
        ("loss: {kind: cosface, past_pi: none}", r"past_pi is not a known key"),
        ("loss: {kind: arcface, past_pi: stop}", r"past_pi: input should be 'fall_back' or 'none"),
        ("loss: {kind: arcface, margin: 2}", r"loss\.margin must be from 0 to below 1\.5, got 2"),
        ("loss: 3", r"loss: input should be an object, got 3"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_with_file_and_key(text, message):
    with pytest.raises(ConfigError, match=rf"^study\.yaml: .*{message}[^\n]*$"):
        read(text)


@pytest.mark.parametrize(
    ("cls", "name", "values"),
    [
        *((each, "scale", (0.0, -1.0, math.inf, math.nan)) for each in EVERY_KIND.values()),
        *(
            (each, "margin", (-0.1, 1.5, math.nan))
            for each in (CosFace, ArcFace, LiArcFace, ElasticFace, CurricularFace, AdaFace)
        ),
        (Combined, "m1", (0.0, -1.0, 4.1, math.nan)),
        (Combined, "m2", (-0.1, 1.5)),
        (Combined, "m3", (-0.1, 1.5)),
        (ElasticFace, "sigma", (-0.1, 1.0, math.nan)),
        (CurricularFace, "momentum", (0.0, 1.1, math.nan)),
        (AdaFace, "momentum", (0.0, 1.1)),
        (AdaFace, "concentration", (0.0, math.inf)),
        (MagFace, "lower_norm", (0.0, -1.0)),
        (MagFace, "upper_norm", (10.0, 9.0, math.inf)),
        (MagFace, "lower_margin", (-0.1, 1.5)),
        (MagFace, "upper_margin", (0.44, 1.5)),
        (MagFace, "norm_weight", (-1.0, math.inf)),
    ],
)
def test_numbers_out_of_range_are_refused_by_name(cls, name, values):
    for value in values:
        with pytest.raises(ConfigError, match=rf"^loss\.{name} must be .*, got {value}$"):
            cls(**{name: value})
