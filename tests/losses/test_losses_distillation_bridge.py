"""Bridges between embeddings of different lengths."""

import copy

import pytest
import torch
from torch.nn import functional

from nas_face.losses.distillation import Angular, Bridge, build_distillation

both = pytest.mark.parametrize("kind", ["isometry", "linear"])


def draw(seed: int, n: int, size: int) -> torch.Tensor:
    return torch.randn(n, size, generator=torch.Generator().manual_seed(seed))


def distances(x: torch.Tensor) -> torch.Tensor:
    return functional.pdist(x.double())


@both
def test_equal_lengths_pass_unchanged_without_parameters(kind):
    bridge = Bridge(kind, student_size=4, teacher_size=4)
    student, teacher = draw(1, 3, 4), draw(2, 3, 4)
    over = bridge(student, teacher)
    assert torch.equal(over[0], student)
    assert torch.equal(over[1], teacher)
    assert list(bridge.state_dict()) == []
    assert bridge.size == 4


@both
@pytest.mark.parametrize("sizes", [(3, 7), (7, 3)])
def test_both_come_out_at_the_common_length(kind, sizes):
    bridge = Bridge(kind, student_size=sizes[0], teacher_size=sizes[1])
    student, teacher = bridge(draw(1, 5, sizes[0]), draw(2, 5, sizes[1]))
    assert student.shape == teacher.shape == (5, bridge.size)


@pytest.mark.parametrize("sizes", [(3, 7), (7, 3)])
def test_isometry_keeps_distances_and_lengths(sizes):
    bridge = Bridge("isometry", student_size=sizes[0], teacher_size=sizes[1])
    before = (draw(1, 5, sizes[0]), draw(2, 5, sizes[1]))
    for x, y in zip(before, bridge(*before), strict=True):
        torch.testing.assert_close(distances(y), distances(x))
        torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1))


def test_isometry_stays_one_in_training_and_learns_the_map():
    """A teacher that is a turned student: the map has to find the turn."""
    turn, _ = torch.linalg.qr(draw(3, 7, 3))
    student = draw(1, 200, 3)
    teacher = student @ turn.T
    torch.manual_seed(0)
    bridge = Bridge("isometry", student_size=3, teacher_size=7)
    method = build_distillation(Angular(weight=1.0), embedding_size=7, n_classes=2)
    optimiser = torch.optim.SGD(bridge.parameters(), lr=0.5, momentum=0.9, weight_decay=5e-4)
    losses = []
    for _ in range(100):
        optimiser.zero_grad()
        loss = method(*bridge(student, teacher))
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[0] > 1
    assert losses[-1] < 1e-4
    over, _ = bridge(student, teacher)
    torch.testing.assert_close(distances(over), distances(student), rtol=1e-5, atol=1e-5)


def test_isometry_starts_at_the_principal_directions_of_the_teacher():
    """A sample that lies in three of seven dimensions: they are spanned, in falling order."""
    basis, _ = torch.linalg.qr(draw(3, 7, 3))
    sample = (draw(4, 500, 3) * torch.tensor([1.0, 5.0, 2.0])) @ basis.T
    bridge = Bridge("isometry", student_size=3, teacher_size=7, sample=sample)
    image, _ = bridge(torch.eye(3), sample)  # (3, 7): where the student's axes go
    alike = (image @ basis).abs()
    torch.testing.assert_close(alike, torch.eye(3)[[1, 2, 0]], atol=0.1, rtol=0)


def test_isometry_starts_from_a_sample_smaller_than_the_space():
    bridge = Bridge("isometry", student_size=5, teacher_size=8, sample=draw(1, 2, 8))
    x = draw(2, 6, 5)
    torch.testing.assert_close(distances(bridge(x, draw(3, 6, 8))[0]), distances(x))


def test_start_is_where_the_sample_says_up_to_rounding():
    sample = draw(1, 50, 8)
    bridge = Bridge("isometry", student_size=5, teacher_size=8, sample=sample)
    start = bridge.weight.detach().clone()
    image, _ = bridge(torch.eye(5), sample)
    torch.testing.assert_close(image.T, start)


def test_sample_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"sample must be \(n, 8\), got \(50, 7\)"):
        Bridge("isometry", student_size=5, teacher_size=8, sample=draw(1, 50, 7))


def test_lift_of_a_shorter_teacher_is_fixed_dense_and_the_same_every_time():
    one = Bridge("isometry", student_size=8, teacher_size=3)
    other = Bridge("isometry", student_size=8, teacher_size=3)
    assert list(one.parameters()) == []
    assert torch.equal(one.lift, other.lift)
    assert (one.lift.square().sum(dim=1) > 0).all()


@both
@pytest.mark.parametrize("sizes", [(3, 5), (5, 3)])
def test_gradient_is_that_of_finite_differences(kind, sizes):
    bridge = Bridge(kind, student_size=sizes[0], teacher_size=sizes[1]).double()
    student = draw(1, 4, sizes[0]).double().requires_grad_()
    teacher = draw(2, 4, sizes[1]).double()
    weights = [each.detach().clone().requires_grad_() for each in bridge.parameters()]

    def loss(x, *values):
        named = dict(zip(dict(bridge.named_parameters()), values, strict=True))
        over = torch.func.functional_call(bridge, named, (x, teacher))
        return (over[0] - over[1]).square().sum()

    assert torch.autograd.gradcheck(loss, (student, *weights))


@both
def test_scaling_the_weight_of_an_isometry_changes_nothing(kind):
    bridge = Bridge(kind, student_size=3, teacher_size=5)
    student, teacher = draw(1, 4, 3), draw(2, 4, 5)
    before = bridge(student, teacher)[0].detach()
    bridge.weight.data *= 0.5
    after = bridge(student, teacher)[0].detach()
    torch.testing.assert_close(after, before if kind == "isometry" else 0.5 * before)


@both
def test_training_resumes_to_the_bit(kind):
    def run(bridge, optimiser, steps):
        for seed in steps:
            optimiser.zero_grad()
            student, teacher = bridge(draw(seed, 6, 3), draw(seed + 90, 6, 5))
            (student - teacher).square().mean().backward()
            optimiser.step()

    def build():
        bridge = Bridge(kind, student_size=3, teacher_size=5)
        return bridge, torch.optim.SGD(bridge.parameters(), lr=0.1, momentum=0.9)

    straight, first, resumed = build(), build(), build()
    first[0].load_state_dict(straight[0].state_dict())
    run(*straight, range(6))
    run(*first, range(3))
    resumed[0].load_state_dict(first[0].state_dict())
    resumed[1].load_state_dict(copy.deepcopy(first[1].state_dict()))
    run(*resumed, range(3, 6))
    assert torch.equal(resumed[0].weight, straight[0].weight)


@both
@pytest.mark.parametrize("sizes", [(3, 5), (5, 3)])
def test_autocast_does_not_round_the_bridge(kind, sizes):
    bridge = Bridge(kind, student_size=sizes[0], teacher_size=sizes[1])
    student, teacher = draw(1, 4, sizes[0]).bfloat16(), draw(2, 4, sizes[1])
    expected = bridge(student.float(), teacher)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        over = bridge(student, teacher)
    assert torch.equal(over[0], expected[0])
    assert torch.equal(over[1], expected[1])
