"""Losses on the angle between student and teacher, against loops over images."""

import math

import numpy as np
import pytest
import torch

from nas_face.losses.distillation import Angular, Shrink, Template, build_distillation

RNG = np.random.default_rng(5)
STUDENT, TEACHER = RNG.normal(size=(7, 6)), RNG.normal(size=(7, 6))


def loss(settings, student=STUDENT, teacher=TEACHER) -> float:
    method = build_distillation(settings, embedding_size=6, n_classes=2)
    return float(method(torch.from_numpy(student), torch.from_numpy(teacher)))


def cosines() -> list[float]:
    return [
        float(s @ t / (np.linalg.norm(s) * np.linalg.norm(t)))
        for s, t in zip(STUDENT, TEACHER, strict=True)
    ]


def test_angular_is_the_mean_of_two_minus_two_cosines():
    assert loss(Angular()) == pytest.approx(7 * np.mean([2 - 2 * c for c in cosines()]))


def test_shrink_is_the_mean_square_of_one_minus_the_cosine():
    assert loss(Shrink()) == pytest.approx(np.mean([(1 - c) ** 2 for c in cosines()]))


def test_template_is_angular_divided_by_the_length_of_an_embedding():
    expected = 100 * np.mean([2 - 2 * c for c in cosines()]) / 6
    assert loss(Template()) == pytest.approx(expected)


@pytest.mark.parametrize(("settings", "at_right_angle"), [(Angular(weight=1.0), 2), (Shrink(), 1)])
def test_values_at_right_angles_and_opposite(settings, at_right_angle):
    east, north = np.array([[3.0, 0.0]]), np.array([[0.0, 0.5]])
    assert loss(settings, east, north) == pytest.approx(at_right_angle)
    assert loss(settings, east, -east) == pytest.approx(4)


def test_shrink_keeps_its_digits_for_a_tiny_angle():
    angle = 1e-4
    student = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float32)
    method = build_distillation(Shrink(), embedding_size=2, n_classes=2)
    value = float(method(student, torch.tensor([[1.0, 0.0]])))
    assert value == pytest.approx((angle**2 / 2) ** 2, rel=1e-3)
