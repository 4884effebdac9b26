"""Centres that follow the teacher, against loops over images and classes."""

import math

import numpy as np
import pytest
import torch

from nas_face.losses.distillation import AdaptiveCentres, build_distillation
from nas_face.losses.margins import ArcFace, CosFace, MagFace

N_CLASSES, SIZE = 4, 5


def draw(seed: int, n: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, SIZE))


def unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def built(loss=CosFace(margin=0.35, scale=8.0)):  # noqa: B008 (it is frozen)
    settings = AdaptiveCentres(loss=loss)
    return build_distillation(settings, embedding_size=SIZE, n_classes=N_CLASSES).double()


def step(method, student: np.ndarray, teacher: np.ndarray, labels: list[int]) -> float:
    return float(
        method(torch.from_numpy(student), torch.from_numpy(teacher), torch.tensor(labels))
    )


def moved(centres: np.ndarray, student, teacher, labels: list[int]) -> np.ndarray:
    """The rule, one class after the other."""
    result = centres.copy()
    for label in set(labels):
        moves = []
        for s, t, of in zip(unit(student), unit(teacher), labels, strict=True):
            if of == label:
                typical = np.clip(unit(centres[label]) @ t, 1e-6, 1)
                a = np.clip((s @ t) * typical, 1e-6, 1)
                moves.append(a * centres[label] + (1 - a) * t)
        result[label] = np.mean(moves, axis=0)
    return result


BATCHES = [[0, 1, 2], [0, 0, 1], [3, 2, 0], [1, 1, 1]]


def test_centres_follow_the_rule_batch_after_batch():
    method, centres = built(), np.zeros((N_CLASSES, SIZE))
    for seed, labels in enumerate(BATCHES):
        teacher = draw(seed + 50, 3)
        student = teacher + draw(seed, 3)
        step(method, student, teacher, labels)
        centres = moved(centres, student, teacher, labels)
        np.testing.assert_allclose(method.centres, centres, rtol=1e-9, atol=1e-12)


def test_loss_is_the_margin_loss_against_the_moved_centres():
    method = built()
    labels = [0, 1, 2, 0]
    student, teacher = draw(1, 4), draw(2, 4)
    value = step(method, student, teacher, labels)
    cosines = unit(student) @ unit(method.centres.numpy()).T
    total = 0.0
    for row, label in zip(cosines, labels, strict=True):
        logits = [8 * (c - 0.35 * (k == label)) for k, c in enumerate(row)]
        total += math.log(sum(math.exp(x) for x in logits)) - logits[label]
    assert value == pytest.approx(total / 4)


def test_first_image_of_a_class_becomes_its_centre():
    method = built()
    teacher = draw(2, 2)
    step(method, draw(1, 2), teacher, [0, 3])
    np.testing.assert_allclose(method.centres[[0, 3]], unit(teacher), atol=3e-6)
    assert not method.centres[[1, 2]].any()


def test_class_not_seen_yet_is_orthogonal_to_every_student():
    """Its cosine is 0: with two classes and no margin, a loss of log(1 + exp(-s cos))."""
    settings = AdaptiveCentres(loss=CosFace(margin=0.0, scale=3.0))
    method = build_distillation(settings, embedding_size=SIZE, n_classes=2).double()
    student, teacher = draw(1, 1), draw(2, 1)
    cosine = float((unit(student) * unit(teacher)).sum())
    value = step(method, student, teacher, [0])
    assert value == pytest.approx(math.log(1 + math.exp(-3 * cosine)))


def test_centre_is_kept_where_the_student_has_reached_a_teacher_that_is_typical():
    method = built()
    teacher = draw(2, 1)
    step(method, teacher, teacher, [0])
    before = method.centres.clone()
    step(method, teacher, teacher, [0])
    torch.testing.assert_close(method.centres, before)


def test_student_opposite_to_its_teacher_keeps_nothing_of_the_centre():
    method = built()
    step(method, draw(1, 1), draw(2, 1), [0])
    teacher = draw(3, 1)
    step(method, -teacher, teacher, [0])
    np.testing.assert_allclose(method.centres[0], unit(teacher)[0], atol=3e-6)


def test_images_of_one_class_count_alike_whatever_their_order():
    one, other = built(), built()
    student, teacher = draw(1, 3), draw(2, 3)
    for method in (one, other):
        step(method, draw(5, 1), draw(6, 1), [0])
    step(one, student, teacher, [0, 0, 0])
    step(other, student[::-1].copy(), teacher[::-1].copy(), [0, 0, 0])
    torch.testing.assert_close(one.centres, other.centres)


def test_centres_are_state_and_not_weights():
    method = built()
    assert list(method.parameters()) == []
    assert list(method.state_dict()) == ["centres"]


def test_margin_that_looks_at_the_length_of_embeddings_gets_the_students():
    method = built(MagFace())
    student, teacher = unit(draw(1, 3)), draw(2, 3)
    short, long_ = (step(method, length * student, teacher, [0, 1, 2]) for length in (20, 100))
    assert short != pytest.approx(long_)


def test_student_learns_the_directions_of_its_teacher():
    method = built(ArcFace(margin=0.45, scale=16.0))
    labels = [0, 1, 2, 3]
    teacher = torch.from_numpy(draw(2, 4))
    student = torch.from_numpy(draw(1, 4)).requires_grad_()
    before = torch.nn.functional.cosine_similarity(student.detach(), teacher)
    optimiser = torch.optim.SGD([student], lr=0.5)
    for _ in range(150):
        optimiser.zero_grad()
        method(student, teacher, torch.tensor(labels)).backward()
        optimiser.step()
    after = torch.nn.functional.cosine_similarity(student.detach(), teacher)
    assert before.mean() < 0.5
    assert after.min() > 0.75
