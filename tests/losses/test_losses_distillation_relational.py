"""Distances and angles within a batch, against loops over pairs and triplets."""

import itertools

import numpy as np
import pytest
import torch

from nas_face.losses.distillation import Relational, build_distillation


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def huber(a: float, b: float) -> float:
    gap = abs(a - b)
    return 0.5 * gap**2 if gap < 1 else gap - 0.5


def distance_loss(student: np.ndarray, teacher: np.ndarray) -> float:
    pairs = list(itertools.combinations(range(len(student)), 2))
    apart = [[float(np.linalg.norm(x[i] - x[j])) for i, j in pairs] for x in (student, teacher)]
    relative = [[d / np.mean(each) for d in each] for each in apart]
    return float(np.mean([huber(a, b) for a, b in zip(*relative, strict=True)]))


def cosine_at(x: np.ndarray, i: int, j: int, k: int) -> float:
    return float(unit(x[i] - x[j]) @ unit(x[k] - x[j]))


def angle_loss(student: np.ndarray, teacher: np.ndarray) -> float:
    triplets = itertools.permutations(range(len(student)), 3)
    return float(
        np.mean([huber(cosine_at(student, *t), cosine_at(teacher, *t)) for t in triplets])
    )


def loss(settings: Relational, student: np.ndarray, teacher: np.ndarray) -> float:
    method = build_distillation(settings, embedding_size=5, n_classes=2)
    return float(method(torch.from_numpy(student), torch.from_numpy(teacher)))


RNG = np.random.default_rng(3)
STUDENT, TEACHER = RNG.normal(size=(6, 5)), RNG.normal(size=(6, 5))


def test_distances_are_those_of_a_loop_over_pairs():
    expected = distance_loss(unit(STUDENT), unit(TEACHER))
    settings = Relational(weight=1.0, angle=0.0)
    assert loss(settings, STUDENT, TEACHER) == pytest.approx(expected)


def test_angles_are_those_of_a_loop_over_triplets():
    expected = angle_loss(unit(STUDENT), unit(TEACHER))
    settings = Relational(weight=1.0, distance=0.0, angle=1.0)
    assert loss(settings, STUDENT, TEACHER) == pytest.approx(expected)


def test_whole_loss_is_the_weighted_sum():
    distances = distance_loss(unit(STUDENT), unit(TEACHER))
    angles = angle_loss(unit(STUDENT), unit(TEACHER))
    assert loss(Relational(), STUDENT, TEACHER) == pytest.approx(25 * distances + 50 * angles)


def test_turning_the_students_space_changes_nothing():
    turn, _ = np.linalg.qr(RNG.normal(size=(5, 5)))
    assert loss(Relational(), STUDENT @ turn, STUDENT) == pytest.approx(0, abs=1e-20)
    assert loss(Relational(), STUDENT @ turn, TEACHER) == pytest.approx(
        loss(Relational(), STUDENT, TEACHER)
    )


def test_angles_of_a_large_batch_are_those_of_an_evenly_spread_part():
    settings = Relational(weight=1.0, distance=0.0, angle=1.0, angle_images=3)
    part = [0, 2, 4]
    expected = angle_loss(unit(STUDENT)[part], unit(TEACHER)[part])
    assert loss(settings, STUDENT, TEACHER) == pytest.approx(expected)


def test_far_outlier_counts_linearly():
    """Beyond a gap of 1 the Huber loss is linear: one pair far apart among many that are close."""
    student = np.array([[1.0, 0], [1, 0.001], [1, 0.002], [1, 0.003], [-1, 0]])
    teacher = RNG.normal(size=(5, 2))
    expected = distance_loss(unit(student), unit(teacher))
    method = build_distillation(Relational(weight=1.0, angle=0.0), embedding_size=2, n_classes=2)
    value = float(method(torch.from_numpy(student), torch.from_numpy(teacher)))
    assert value == pytest.approx(expected)


def test_coincident_images_among_others_pull_no_gradient_through_their_angle():
    student = torch.from_numpy(STUDENT).clone()
    student[1] = student[0]
    leaf = student.requires_grad_()
    settings = Relational(weight=1.0, distance=0.0, angle=1.0)
    method = build_distillation(settings, embedding_size=5, n_classes=2)
    method(leaf, torch.from_numpy(TEACHER)).backward()
    assert torch.isfinite(leaf.grad).all()
    assert leaf.grad.abs().max() < 10
