"""Margin losses against their formulas in float64, written with angles, and against difference
quotients."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from nas_face.losses.margins import (
    AdaFace,
    ArcFace,
    Combined,
    CosFace,
    CurricularFace,
    ElasticFace,
    LiArcFace,
    MagFace,
    build_margin,
)

EVERY_LOSS = [
    CosFace(),
    ArcFace(),
    ArcFace(past_pi="none"),
    ArcFace(gradient="straight_through"),
    Combined(),
    Combined(m1=1.35, m2=0.1, m3=0.05),
    LiArcFace(),
    ElasticFace(),
    ElasticFace(form="cosface", sort=True),
    CurricularFace(),
    MagFace(),
    MagFace(easy_margin=False),
    AdaFace(),
]
every_loss = pytest.mark.parametrize("settings", EVERY_LOSS, ids=str)

# Away from the kinks at pi - m, pi/2 and the clamps; the last three have theta + m > pi.
THETA = np.array([0.25, 0.3, 1.0, 1.5, 1.65, 2.1, 2.3, 2.8, 3.0, 3.1])
NORMS = np.array([3.0, 11.0, 60.0, 109.0, 150.0, 0.5, 20.0, 35.0, 90.0, 25.0])
rng = np.random.default_rng(3)
OTHERS = rng.uniform(0.2, 3.0, size=(len(THETA), 7))


def double(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float64))


def evaluate(settings, theta=THETA, others=OTHERS, norms=NORMS):
    """New target and others of a loss that is not in training, as NumPy."""
    margin = build_margin(settings).double().eval()
    target, rest = margin(double(np.cos(theta)), double(np.cos(others)), double(norms))
    return target.numpy(), rest.numpy()


def arcface(theta, m):
    return np.where(theta + m < np.pi, np.cos(theta + m), np.cos(theta) - m * np.sin(m))


def magface_margins(norms):
    return np.interp(norms, [10, 110], [0.45, 0.8])


def adaface(theta, norms, m=0.4, h=0.333, mean=20.0, deviation=100.0):
    k = np.clip(h * (np.clip(norms, 0.001, 100) - mean) / (deviation + 1e-3), -1, 1)
    theta = np.arccos(np.clip(np.cos(theta), -0.999, 0.999))
    return np.cos(np.clip(theta - m * k, 1e-3, np.pi - 1e-3)) - m * (1 + k)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CosFace(), np.cos(THETA) - 0.4),
        (CosFace(margin=0.0), np.cos(THETA)),
        (ArcFace(), arcface(THETA, 0.5)),
        (ArcFace(margin=1.4), arcface(THETA, 1.4)),
        (ArcFace(margin=0.0), np.cos(THETA)),
        (ArcFace(past_pi="none"), np.cos(THETA + 0.5)),
        (ArcFace(gradient="straight_through"), arcface(THETA, 0.5)),
        (ArcFace(gradient="straight_through", past_pi="none"), np.cos(THETA + 0.5)),
        (Combined(), np.cos(THETA + 0.3) - 0.2),
        (Combined(m1=0.9, m2=0.4, m3=0.15), np.cos(0.9 * THETA + 0.4) - 0.15),
        (Combined(m1=1.35, m2=0.0, m3=0.0), np.cos(1.35 * THETA)),
        (LiArcFace(), (np.pi - 2 * (THETA + 0.45)) / np.pi),
        (ElasticFace(), np.cos(THETA + 0.5)),
        (ElasticFace(form="cosface"), np.cos(THETA) - 0.35),
        (CurricularFace(), arcface(THETA, 0.5)),
        (
            MagFace(),
            np.where(THETA < np.pi / 2, np.cos(THETA + magface_margins(NORMS)), np.cos(THETA)),
        ),
        (MagFace(easy_margin=False), arcface(THETA, magface_margins(NORMS))),
        (AdaFace(), adaface(THETA, NORMS)),
        (AdaFace(margin=0.3, concentration=5.0), adaface(THETA, NORMS, m=0.3, h=5.0)),
    ],
    ids=str,
)
def test_the_target_is_that_of_the_formula(settings, expected):
    target, _ = evaluate(settings)
    np.testing.assert_allclose(target, expected, rtol=0, atol=1e-12)


@every_loss
def test_only_two_losses_change_the_others(settings):
    _, others = evaluate(settings)
    expected = np.cos(OTHERS)
    if isinstance(settings, LiArcFace):
        expected = (np.pi - 2 * OTHERS) / np.pi
    if isinstance(settings, CurricularFace):  # t is 0 at the start
        hard = np.cos(OTHERS) > np.cos(THETA + 0.5)[:, None]
        assert 0 < hard.sum() < hard.size
        expected = np.where(hard, np.cos(OTHERS) ** 2, np.cos(OTHERS))
    np.testing.assert_allclose(others, expected, rtol=0, atol=1e-12)


@every_loss
def test_the_scale_is_the_one_of_the_settings(settings):
    assert build_margin(settings).scale == settings.scale == 64.0


DIFFERENTIABLE = [each for each in EVERY_LOSS if each != ArcFace(gradient="straight_through")]


@pytest.mark.parametrize("settings", DIFFERENTIABLE, ids=str)
def test_derivatives_are_those_of_the_values(settings):
    margin = build_margin(settings).double().eval()
    if isinstance(settings, CurricularFace):
        margin.t.fill_(0.3)
    target = double(np.cos(THETA)).requires_grad_()
    others = double(np.cos(OTHERS)).requires_grad_()
    lengths = double(NORMS).requires_grad_(isinstance(settings, MagFace))
    assert torch.autograd.gradcheck(margin, (target, others, lengths), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("settings", [ElasticFace(), ElasticFace(form="cosface", sort=True)])
def test_derivatives_of_drawn_margins_are_those_of_the_values(settings):
    margin = build_margin(settings).double()

    def seeded(target):
        torch.manual_seed(5)
        return margin(target, double(np.cos(OTHERS)), double(NORMS))[0]

    assert torch.autograd.gradcheck(
        seeded, (double(np.cos(THETA)).requires_grad_(),), eps=1e-7, atol=1e-5
    )


@pytest.mark.parametrize("past_pi", ["fall_back", "none"])
def test_straight_through_is_the_margin_added_behind_the_back_of_autograd(past_pi):
    """Embeddings and centres get the gradient of a plain cosine classifier at the logits of
    ArcFace, as code does that changes angles in place where no derivative is taken."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    centres = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 0, 1])
    rows = torch.arange(6)
    embeddings[5] = -3 * centres[1] + 0.1  # theta + m > pi

    def gradients(add_margin):
        leaves = embeddings.clone().requires_grad_(), centres.clone().requires_grad_()
        cosines = functional.normalize(leaves[0]) @ functional.normalize(leaves[1]).T
        loss = functional.cross_entropy(8 * add_margin(cosines), labels)
        return loss, *torch.autograd.grad(loss, leaves)

    def behind_the_back(cosines):
        with torch.no_grad():
            angles = cosines.arccos()
            angles[rows, labels] += 0.5
            logits = angles.cos()
            if past_pi == "fall_back":
                past = angles > math.pi
                logits[past] = cosines[past] - 0.5 * math.sin(0.5)
                assert past.sum() == 1
            cosines.data.copy_(logits)
        return cosines

    def ours(cosines):
        margin = build_margin(ArcFace(gradient="straight_through", past_pi=past_pi))
        target, others = margin(cosines[rows, labels], cosines, embeddings.norm(dim=1))
        return others.index_put((rows, labels), target)

    for found, expected in zip(gradients(ours), gradients(behind_the_back), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_straight_through_differs_from_the_true_gradient_by_the_ratio_of_sines():
    target = double(np.cos(THETA[:7])).requires_grad_()
    others, lengths = double(np.cos(OTHERS[:7])), double(NORMS[:7])
    slopes = {}
    for gradient in ("true", "straight_through"):
        harder, _ = build_margin(ArcFace(gradient=gradient))(target, others, lengths)
        (slopes[gradient],) = torch.autograd.grad(harder.sum(), target)
    np.testing.assert_allclose(slopes["straight_through"], 1.0)
    np.testing.assert_allclose(slopes["true"], np.sin(THETA[:7] + 0.5) / np.sin(THETA[:7]))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("training", [True, False])
def test_values_and_derivatives_are_finite_on_a_centre_and_opposite_to_it(
    settings, dtype, training
):
    margin = build_margin(settings).to(dtype).train(training)
    nearly = 1 - torch.finfo(dtype).eps
    cosines = torch.tensor([1, -1, nearly, -nearly, 0, 1, -1], dtype=dtype).requires_grad_()
    lengths = torch.tensor([0, 1e30, 10, 110, 1e-30, 5, 20], dtype=dtype).requires_grad_()
    table = torch.stack([cosines, -cosines, cosines.flip(0)], dim=1)
    target, others = margin(cosines, table, lengths)
    assert target.dtype == others.dtype == dtype
    assert target.shape == (7,)
    assert others.shape == (7, 3)
    (target.sum() + others.sum() + margin.penalty(lengths)).backward()
    assert torch.isfinite(target).all()
    assert torch.isfinite(others).all()
    assert torch.isfinite(cosines.grad).all()
    assert lengths.grad is None or torch.isfinite(lengths.grad).all()


@pytest.mark.parametrize(
    ("settings", "end"),
    [
        (CosFace(), math.pi),
        (ArcFace(), math.pi),
        (ArcFace(margin=1.49), math.pi),
        (ArcFace(gradient="straight_through"), math.pi),
        (ArcFace(past_pi="none"), math.pi - 0.5),
        (Combined(), math.pi - 0.3),
        (Combined(m1=1.5, m2=0.3, m3=0.1), (math.pi - 0.3) / 1.5),
        (LiArcFace(), math.pi),
        (CurricularFace(), math.pi),
        (MagFace(), math.pi / 2),
        (MagFace(easy_margin=False), math.pi),
    ],
    ids=str,
)
def test_the_target_falls_as_the_angle_grows(settings, end):
    theta = np.linspace(0.01, end - 0.001, 400)
    target, _ = evaluate(settings, theta, np.ones((400, 1)), np.full(400, 40.0))
    assert (np.diff(target) < 0).all()


@pytest.mark.parametrize(
    ("settings", "from_theta"),
    [(ArcFace(past_pi="none"), math.pi - 0.5), (Combined(), math.pi - 0.3)],
    ids=str,
)
def test_without_a_fall_back_the_target_rises_again_past_pi(settings, from_theta):
    theta = np.linspace(from_theta + 0.01, math.pi, 50)
    target, _ = evaluate(settings, theta, np.ones((50, 1)), np.full(50, 40.0))
    assert (np.diff(target) > 0).all()


@every_loss
def test_only_magface_has_a_penalty(settings):
    lengths = double(NORMS)
    penalty = build_margin(settings).double().penalty(lengths)
    a = np.clip(NORMS, 10, 110)
    expected = 35 * np.mean(a / 110**2 + 1 / a) if isinstance(settings, MagFace) else 0.0
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(expected, rel=1e-12)


def test_the_penalty_of_magface_rewards_length_up_to_its_upper_end():
    lengths = torch.tensor([5.0, 20.0, 60.0, 109.0, 150.0], dtype=torch.float64).requires_grad_()
    penalty = build_margin(MagFace(norm_weight=2.0)).penalty
    (slopes,) = torch.autograd.grad(penalty(lengths), lengths)
    assert (slopes[1:4] < 0).all()
    assert slopes[[0, 4]].tolist() == [0, 0]
    assert torch.autograd.gradcheck(penalty, (lengths,))


def test_magface_makes_easy_images_long_and_hard_ones_short():
    """The length at which an image's loss is least falls as its angle grows."""
    lengths = np.linspace(10, 110, 2001)
    best = []
    for theta in (0.3, 0.5, 0.7, 0.8, 1.0):
        target, _ = evaluate(MagFace(), np.full(2001, theta), np.ones((2001, 1)), lengths)
        negatives = math.log(10_000)  # as many others, all at a right angle
        loss = np.logaddexp(64 * target, negatives) - 64 * target
        loss += 35 * (lengths / 110**2 + 1 / lengths)
        best.append(lengths[loss.argmin()])
    assert best == sorted(best, reverse=True)
    assert best[0] > 100 > 40 > best[-1]


@pytest.mark.parametrize(
    ("length", "expected"),
    [
        (1e-9, np.cos(THETA + 0.4)),  # k = -1: ArcFace
        (20.0, np.cos(THETA) - 0.4),  # k = 0: CosFace
        (99.0, np.cos(THETA - 0.4) - 0.8),  # k = 1
    ],
)
def test_adaface_lies_between_arcface_and_cosface_and_beyond(length, expected):
    """With a concentration that takes these lengths to the ends."""
    theta = slice(2, 6)  # where no clamp acts
    settings = AdaFace(concentration=100.0)
    target, _ = evaluate(settings, norms=np.full(len(THETA), length))
    np.testing.assert_allclose(target[theta], expected[theta], rtol=0, atol=1e-12)


def test_adaface_takes_no_derivative_by_the_length():
    lengths = double(NORMS).requires_grad_()
    target = double(np.cos(THETA)).requires_grad_()
    harder, _ = build_margin(AdaFace()).double()(target, double(np.cos(OTHERS)), lengths)
    assert torch.autograd.grad(harder.sum(), lengths, allow_unused=True) == (None,)


@every_loss
def test_float32_agrees_with_float64(settings):
    target, others = evaluate(settings)
    single = [torch.from_numpy(each).float() for each in (np.cos(THETA), np.cos(OTHERS), NORMS)]
    in_single = build_margin(settings).eval()(*single)
    np.testing.assert_allclose(in_single[0], target, rtol=0, atol=3e-6)
    np.testing.assert_allclose(in_single[1], others, rtol=0, atol=3e-6)
