"""Ranks among running thresholds, against loops over pairs."""

import itertools
import math

import numpy as np
import pytest
import torch

from nas_face.losses.distillation import PairRanks, build_distillation

ONE_IN = (10, 100, 1000, 10**4, 10**5, 10**6)
LABELS = np.array([0, 0, 1, 1, 2, 2, 2, 3])


def draw(seed: int, n: int = 8) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(n, 5))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def rank(similarity: float, thresholds: list[float], temperature: float) -> float:
    return sum(1 / (1 + math.exp((t - similarity) / temperature)) for t in thresholds)


class Oracle:
    """The method in plain Python."""

    def __init__(self, settings: PairRanks) -> None:
        self.settings = settings
        self.thresholds: list[list[float]] | None = None

    def __call__(self, student: np.ndarray, teacher: np.ndarray, labels: np.ndarray) -> float:
        pairs = list(itertools.combinations(range(len(labels)), 2))
        alike = [[float(x[i] @ x[j]) for i, j in pairs] for x in (student, teacher)]
        positive = [p for p, (i, j) in enumerate(pairs) if labels[i] == labels[j]]
        negative = [p for p, (i, j) in enumerate(pairs) if labels[i] != labels[j]]
        batch = []
        for each in alike:
            falling = sorted((each[p] for p in negative), reverse=True)
            batch.append([falling[len(falling) // n] for n in ONE_IN])
        if self.thresholds is None:
            self.thresholds = batch
        else:
            share = self.settings.momentum
            self.thresholds = [
                [(1 - share) * old + share * new for old, new in zip(*rows, strict=True)]
                for rows in zip(self.thresholds, batch, strict=True)
            ]
        hardest = sorted(negative, key=lambda p: -alike[0][p])[: self.settings.n_negatives]
        return self.settings.positive * self.part(alike, positive) + (
            self.settings.negative * self.part(alike, hardest)
        )

    def part(self, alike: list[list[float]], pairs: list[int]) -> float:
        assert self.thresholds is not None
        of_student, of_teacher = (
            [rank(each[p], thresholds, self.settings.temperature) for p in pairs]
            for each, thresholds in zip(alike, self.thresholds, strict=True)
        )
        gaps = [(a - b) ** 2 for a, b in zip(of_student, of_teacher, strict=True)]
        return sum(gaps) / len(gaps)


@pytest.mark.parametrize(
    "settings",
    [PairRanks(), PairRanks(n_negatives=5, temperature=0.1, momentum=0.3, positive=1.0)],
)
def test_batches_in_a_row_are_those_of_loops_over_pairs(settings):
    method = build_distillation(settings, embedding_size=5, n_classes=4).double()
    oracle = Oracle(settings)
    for seed in range(4):
        student, teacher = draw(seed), draw(seed + 50)
        value = method(
            torch.from_numpy(student), torch.from_numpy(teacher), torch.from_numpy(LABELS)
        )
        assert float(value) == pytest.approx(oracle(student, teacher, LABELS), rel=1e-9)
    assert oracle.thresholds is not None
    np.testing.assert_allclose(method.student_thresholds, oracle.thresholds[0], rtol=1e-12)
    np.testing.assert_allclose(method.teacher_thresholds, oracle.thresholds[1], rtol=1e-12)


def test_thresholds_of_a_large_batch_let_their_share_of_negatives_pass():
    labels = torch.arange(150)  # 11175 negative pairs
    student, teacher = torch.from_numpy(draw(1, 150)), torch.from_numpy(draw(2, 150))
    method = build_distillation(PairRanks(), embedding_size=5, n_classes=150).double()
    method(student, teacher, labels)
    for thresholds, x in (
        (method.student_thresholds, student),
        (method.teacher_thresholds, teacher),
    ):
        alike = (x @ x.T)[torch.ones(150, 150).triu(1).bool()]
        assert [int((alike > t).sum()) for t in thresholds] == [1117, 111, 11, 1, 0, 0]


def test_a_batch_of_one_identity_leaves_the_thresholds_alone():
    method = build_distillation(PairRanks(), embedding_size=5, n_classes=4).double()
    first = (torch.from_numpy(draw(1)), torch.from_numpy(draw(2)), torch.from_numpy(LABELS))
    method(*first)
    before = method.student_thresholds.clone()
    value = method(first[0], first[1], torch.zeros(8, dtype=torch.int64))
    assert torch.equal(method.student_thresholds, before)
    assert float(value) > 0  # of the positive pairs


def test_a_batch_without_positive_pairs_has_the_part_of_the_negatives_only():
    arguments = (torch.from_numpy(draw(1)), torch.from_numpy(draw(2)), torch.arange(8))
    of_both, of_negatives, of_positives = (
        float(build_distillation(settings, embedding_size=5, n_classes=8)(*arguments))
        for settings in (PairRanks(), PairRanks(positive=0.0), PairRanks(negative=0.0))
    )
    assert of_both == of_negatives > 0
    assert of_positives == 0


def test_similarities_far_from_all_thresholds_rank_first_or_last():
    """The same order, spread otherwise: ranks agree though similarities do not."""
    angles = np.array([0.0, 0.01, 1.5, 1.51, 3.0, 3.01])
    wide = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    narrow = np.stack([np.cos(angles / 2), np.sin(angles / 2)], axis=1)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    method = build_distillation(PairRanks(negative=0.0), embedding_size=2, n_classes=3).double()
    assert float(method(torch.from_numpy(wide), torch.from_numpy(narrow), labels)) < 1e-3
