"""Margin losses against their formulas in float64, written with angles."""

import math

import numpy as np
import pytest
import torch

from nas_face.nn.margins import MarginClassifier

both = pytest.mark.parametrize("kind", ["arcface", "cosface"])
N_CLASSES, SIZE = 5, 4


def classifier(kind: str, *, margin: float = 0.5, scale: float = 8.0) -> MarginClassifier:
    torch.manual_seed(0)
    return MarginClassifier(SIZE, N_CLASSES, kind=kind, margin=margin, scale=scale)


def target_logit(kind: str, theta: np.ndarray, margin: float) -> np.ndarray:
    if kind == "cosface":
        return np.cos(theta) - margin
    fallen_back = np.cos(theta) - margin * np.sin(margin)
    return np.where(theta + margin < np.pi, np.cos(theta + margin), fallen_back)


def formula(kind, embeddings, centres, labels, *, margin, scale) -> float:
    """Mean cross-entropy, from angles."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    directions = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    cosines = unit @ directions.T
    rows = np.arange(len(labels))
    logits = cosines.copy()
    logits[rows, labels] = target_logit(kind, np.arccos(cosines[rows, labels]), margin)
    logits *= scale
    top = logits.max(1)
    log_sum = top + np.log(np.exp(logits - top[:, None]).sum(1))
    return float((log_sum - logits[rows, labels]).mean())


def difference_quotients(function, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    result = np.zeros_like(at)
    for index in np.ndindex(*at.shape):
        up, down = at.copy(), at.copy()
        up[index] += step
        down[index] -= step
        result[index] = (function(up) - function(down)) / (2 * step)
    return result


def embeddings_at(
    angles: list[float], centres: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """Embeddings of length 3 at given angles to the centres of their classes."""
    rng = torch.Generator().manual_seed(7)
    towards = torch.nn.functional.normalize(centres.double()[labels])
    aside = torch.randn(len(labels), SIZE, generator=rng, dtype=torch.float64)
    aside -= (aside * towards).sum(1, keepdim=True) * towards
    aside = torch.nn.functional.normalize(aside)
    theta = torch.tensor(angles, dtype=torch.float64)[:, None]
    return 3 * (theta.cos() * towards + theta.sin() * aside)


ANGLES = [0.3, 1.0, 1.6, 2.3, 2.6, 2.7, 3.0, 3.1]  # the last four have theta + m > pi


@both
@pytest.mark.parametrize("margin", [0.0, 0.35, 0.5])
def test_loss_and_gradients_are_those_of_the_formula(kind, margin):
    margin_loss = classifier(kind, margin=margin)
    labels = torch.arange(len(ANGLES)) % N_CLASSES
    embeddings = embeddings_at(ANGLES, margin_loss.centres.detach(), labels)
    leaf = embeddings.float().requires_grad_()

    loss = margin_loss(leaf, labels)
    loss.backward()

    exact = leaf.detach().double().numpy()
    centres = margin_loss.centres.detach().double().numpy()
    fixed = {"labels": labels.numpy(), "margin": margin, "scale": 8.0}
    assert loss.item() == pytest.approx(formula(kind, exact, centres, **fixed), rel=1e-5)
    to_embeddings = difference_quotients(lambda e: formula(kind, e, centres, **fixed), exact)
    to_centres = difference_quotients(
        lambda c: formula(kind, exact, c, **fixed), centres, step=1e-8
    )
    np.testing.assert_allclose(leaf.grad, to_embeddings, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(
        margin_loss.centres.grad, to_centres, rtol=2e-3, atol=2e-3 * np.abs(to_centres).max()
    )


@both
def test_logits_are_scaled_cosines_with_a_harder_target(kind):
    margin_loss = classifier(kind)
    labels = torch.tensor([0, 3, 4])
    embeddings = torch.randn(3, SIZE)
    logits = margin_loss.logits(embeddings, labels).detach()
    cosines = torch.nn.functional.cosine_similarity(
        embeddings[:, None], margin_loss.centres.detach()[None], dim=2
    )
    others = torch.ones(3, N_CLASSES, dtype=torch.bool)
    others[torch.arange(3), labels] = False
    torch.testing.assert_close(logits[others], 8 * cosines[others], rtol=1e-5, atol=1e-5)
    theta = np.arccos(cosines[~others].numpy().astype(np.float64))
    np.testing.assert_allclose(
        logits[~others], 8 * target_logit(kind, theta, 0.5), rtol=1e-4, atol=1e-4
    )


@both
def test_target_falls_as_the_angle_grows(kind):
    """Monotone over the whole half circle, past the point where arcface falls back as well."""
    margin_loss = classifier(kind)
    angles = [math.pi * step / 200 for step in range(1, 200)]
    labels = torch.zeros(len(angles), dtype=torch.int64)
    embeddings = embeddings_at(angles, margin_loss.centres.detach(), labels).float()
    target = margin_loss.logits(embeddings, labels)[:, 0]
    assert (target.diff() < 0).all()


@both
def test_length_of_embeddings_and_centres_does_not_matter(kind):
    margin_loss = classifier(kind)
    labels = torch.tensor([0, 1, 2])
    embeddings = torch.randn(3, SIZE)
    before = margin_loss(embeddings, labels)
    margin_loss.centres.data *= 17
    torch.testing.assert_close(margin_loss(embeddings * 0.01, labels), before)


@both
@pytest.mark.parametrize("sign", [1, -1])
def test_gradient_is_finite_on_a_centre_and_opposite_to_it(kind, sign):
    margin_loss = classifier(kind)
    margin_loss.centres.data.copy_(torch.eye(N_CLASSES)[:, :SIZE])  # cosines of exactly 1
    margin_loss.centres.data[-1] = 1
    embeddings = (sign * margin_loss.centres.detach()[:2]).clone().requires_grad_()
    margin_loss(embeddings, torch.tensor([0, 1])).backward()
    assert torch.isfinite(embeddings.grad).all()
    assert torch.isfinite(margin_loss.centres.grad).all()


@both
def test_half_precision_embeddings_are_taken(kind):
    margin_loss = classifier(kind)
    labels = torch.tensor([0, 1, 2])
    embeddings = torch.randn(3, SIZE).half()
    loss = margin_loss(embeddings, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, margin_loss(embeddings.float(), labels))


@both
def test_no_margin_is_a_plain_cosine_classifier(kind):
    margin_loss = classifier(kind, margin=0.0, scale=4.0)
    embeddings, labels = torch.randn(6, SIZE), torch.tensor([0, 1, 2, 3, 4, 0])
    cosines = torch.nn.functional.cosine_similarity(
        embeddings[:, None], margin_loss.centres[None], dim=2
    )
    expected = torch.nn.functional.cross_entropy(4 * cosines, labels)
    torch.testing.assert_close(margin_loss(embeddings, labels), expected)
