"""Margin losses that draw or remember: ranks, recurrences, and nothing outside training."""

import copy

import numpy as np
import pytest
import torch

from nas_face.losses.margins import (
    AdaFace,
    ArcFace,
    CosFace,
    CurricularFace,
    ElasticFace,
    build_margin,
)

forms = pytest.mark.parametrize("form", ["arcface", "cosface"])


def batch(n: int, *, seed: int = 0, longest: float = 60.0):
    """Cosines with the own class and with five others, and lengths, in float64."""
    rng = torch.Generator().manual_seed(seed)
    uniform = {"generator": rng, "dtype": torch.float64}
    return (
        2 * torch.rand(n, **uniform) - 1,
        2 * torch.rand(n, 5, **uniform) - 1,
        longest * torch.rand(n, **uniform),
    )


def margins_in(form: str, target: torch.Tensor, harder: torch.Tensor) -> np.ndarray:
    """The margins that made `harder` of `target`."""
    if form == "cosface":
        return (target - harder).numpy()
    return np.arccos(harder.numpy()) - np.arccos(target.numpy())


@forms
@pytest.mark.parametrize("sort", [False, True])
def test_margins_have_mean_and_deviation_of_the_settings(form, sort):
    elastic = build_margin(ElasticFace(form=form, margin=0.4, sigma=0.05, sort=sort)).double()
    torch.manual_seed(1)
    target = torch.linspace(-0.5, 0.9, 20_000, dtype=torch.float64)
    harder, _ = elastic(target, target[:, None], target)
    margins = margins_in(form, target, harder)
    assert margins.mean() == pytest.approx(0.4, abs=0.002)
    assert margins.std() == pytest.approx(0.05, rel=0.03)


@forms
def test_sorted_margins_go_by_rank(form):
    """Written out: the image with the k-th smallest cosine has the k-th largest of the margins
    that the same seed gives unsorted."""
    target, others, norms = batch(9)
    target = 0.8 * target
    found = {}
    for sort in (False, True):
        torch.manual_seed(4)
        elastic = build_margin(ElasticFace(form=form, sigma=0.05, sort=sort)).double()
        found[sort] = margins_in(form, target, elastic(target, others, norms)[0])
    expected = []
    for image in range(9):
        n_farther = sum(bool(target[other] < target[image]) for other in range(9))
        expected.append(sorted(found[False], reverse=True)[n_farther])
    np.testing.assert_allclose(found[True], expected, atol=1e-9)
    assert np.abs(found[True] - found[False]).max() > 0.01


def test_the_posted_indexing_would_hand_out_other_margins():
    """Three images in a cycle tell a permutation from its inverse."""
    target = torch.tensor([0.1, 0.5, 0.3], dtype=torch.float64)
    torch.manual_seed(2)
    elastic = build_margin(ElasticFace(form="cosface", sigma=0.05, sort=True)).double()
    margins = target - elastic(target, target[:, None], target)[0]
    torch.manual_seed(2)
    drawn = 0.35 + 0.05 * torch.randn(3, dtype=torch.float64)
    smallest, middle, largest = drawn.sort().values
    torch.testing.assert_close(margins, torch.stack([largest, smallest, middle]))
    posted = drawn.sort().values[target.argsort(descending=True)]
    assert not torch.allclose(margins, posted)


def test_equal_cosines_share_the_margins_out_the_same_way_every_time():
    target = torch.zeros(50, dtype=torch.float64)
    elastic = build_margin(ElasticFace(form="cosface", sort=True)).double()
    margins = target - elastic(target, target[:, None], target)[0]
    assert (margins.diff() >= 0).all()


@forms
@pytest.mark.parametrize("sort", [False, True])
def test_equal_seeds_draw_equal_margins_and_each_step_draws_anew(form, sort):
    elastic = build_margin(ElasticFace(form=form, sort=sort)).double()
    torch.manual_seed(3)
    first, second = elastic(*batch(6))[0], elastic(*batch(6))[0]
    torch.manual_seed(3)
    again = copy.deepcopy(elastic)(*batch(6))[0]
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("form", "plain"),
    [("arcface", ArcFace(past_pi="none")), ("cosface", CosFace(margin=0.35))],
)
def test_outside_training_elasticface_has_the_mean_margin_and_draws_nothing(form, plain):
    elastic = build_margin(ElasticFace(form=form, sort=True)).double().eval()
    before = torch.get_rng_state()
    target, _ = elastic(*batch(6))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(target, build_margin(plain)(*batch(6))[0])


def test_margins_carry_no_derivative():
    """Sorting by the cosine does not make the margin depend on it."""
    target, others, norms = batch(6)
    target.requires_grad_()
    elastic = build_margin(ElasticFace(form="cosface", sort=True)).double()
    elastic(target, others, norms)[0].sum().backward()
    assert torch.equal(target.grad, torch.ones(6, dtype=torch.float64))


def test_t_of_curricularface_follows_its_recurrence_and_each_batch_is_judged_by_it():
    curricular = build_margin(CurricularFace(momentum=0.2)).double()
    assert curricular.t == 0
    t = 0.0
    for step in range(6):
        target, others, norms = batch(8, seed=step)
        target = target.abs()
        t = 0.2 * target.numpy().mean() + 0.8 * t
        _, changed = curricular(target, others, norms)
        assert curricular.t.item() == pytest.approx(t, rel=1e-12)
        cosines, theta = others.numpy(), np.arccos(target.numpy())
        for i, j in np.ndindex(cosines.shape):
            hard = cosines[i, j] > np.cos(theta[i] + 0.5)
            expected = cosines[i, j] * (t + cosines[i, j]) if hard else cosines[i, j]
            assert changed[i, j].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("momentum", [0.01, 0.3, 1.0])
def test_running_lengths_of_adaface_follow_their_recurrence(momentum):
    ada = build_margin(AdaFace(momentum=momentum)).double()
    mean, deviation = 20.0, 100.0
    assert (ada.mean, ada.deviation) == (mean, deviation)
    for step in range(6):
        target, others, norms = batch(8, seed=step, longest=150)
        assert (norms > 100).any()
        lengths = np.clip(norms.numpy(), 0.001, 100)
        mean = momentum * lengths.mean() + (1 - momentum) * mean
        deviation = momentum * lengths.std(ddof=1) + (1 - momentum) * deviation
        harder, _ = ada(target, others, norms)
        assert ada.mean.item() == pytest.approx(mean, rel=1e-12)
        assert ada.deviation.item() == pytest.approx(deviation, rel=1e-12)
        k = np.clip(0.333 * (lengths - mean) / (deviation + 1e-3), -1, 1)
        theta = np.arccos(np.clip(target.numpy(), -0.999, 0.999))
        turned = np.clip(theta - 0.4 * k, 1e-3, np.pi - 1e-3)
        np.testing.assert_allclose(harder, np.cos(turned) - 0.4 * (1 + k), atol=1e-12)


def test_a_batch_of_one_image_leaves_the_lengths_of_adaface_alone():
    ada = build_margin(AdaFace()).double()
    target, _ = ada(*batch(1))
    assert torch.isfinite(target).all()
    assert (ada.mean, ada.deviation) == (20.0, 100.0)


@pytest.mark.parametrize("settings", [CurricularFace(), AdaFace()], ids=lambda each: each.kind)
class TestState:
    def test_stands_still_outside_training(self, settings):
        margin = build_margin(settings).double().eval()
        before = copy.deepcopy(margin.state_dict())
        margin(*batch(8))
        assert before
        for name, value in margin.state_dict().items():
            assert torch.equal(value, before[name])

    def test_goes_on_from_a_state_dict_to_the_bit(self, settings):
        whole, halved = build_margin(settings), build_margin(settings)
        batches = [tuple(each.float() for each in batch(8, seed=seed)) for seed in range(6)]
        for each in batches[:3]:
            whole(*each)
            halved(*each)
        resumed = build_margin(settings)
        resumed.load_state_dict(halved.state_dict())
        for each in batches[3:]:
            for one, other in zip(whole(*each), resumed(*each), strict=True):
                assert torch.equal(one, other)
        assert all(
            torch.equal(value, resumed.state_dict()[name])
            for name, value in whole.state_dict().items()
        )

    def test_carries_no_derivative(self, settings):
        """In training the derivatives are those of the same state standing still."""
        target, others, norms = batch(8)
        target.requires_grad_()
        others.requires_grad_()
        margin = build_margin(settings).double()

        def gradients():
            first, second = margin(target, others, norms)
            return torch.autograd.grad(first.sum() + second.square().sum(), (target, others))

        moving = gradients()
        margin.eval()
        for one, other in zip(moving, gradients(), strict=True):
            assert torch.equal(one, other)
        assert not any(value.requires_grad for value in margin.state_dict().values())
