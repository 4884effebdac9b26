"""What holds for every distillation loss."""

from dataclasses import replace

import pytest
import torch

from nas_face.losses.distillation import (
    AdaptiveCentres,
    Angular,
    PairRanks,
    Relational,
    Shrink,
    Template,
    build_distillation,
)
from nas_face.losses.margins import CosFace

N, SIZE, N_CLASSES = 6, 4, 3
LABELS = torch.tensor([0, 1, 0, 2, 1, 0])
SETTINGS = [
    Angular(),
    Shrink(),
    Template(),
    Relational(),
    PairRanks(temperature=0.2),  # soft enough for a derivative everywhere
    AdaptiveCentres(loss=CosFace(scale=4.0)),
]
every = pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings.kind)


def built(settings):
    return build_distillation(settings, embedding_size=SIZE, n_classes=N_CLASSES)


def embeddings(seed: int, n: int = N) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, SIZE, generator=generator, dtype=torch.float64)


def settled(settings):
    """In evaluation, with the state of one training batch: a function of its arguments only."""
    method = built(settings).double()
    method(embeddings(1), embeddings(2), LABELS)
    return method.eval()


@every
def test_gradient_is_that_of_finite_differences(settings):
    method = settled(settings)
    student = embeddings(3).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: method(s, embeddings(4), LABELS), (student,))


@every
def test_teacher_gets_no_gradient_and_its_length_does_not_matter(settings):
    method = settled(settings)
    student, teacher = embeddings(3).requires_grad_(), embeddings(4).requires_grad_()
    loss = method(student, teacher, LABELS)
    loss.backward()
    assert teacher.grad is None
    assert student.grad.abs().sum() > 0
    torch.testing.assert_close(method(student, 9 * teacher, LABELS), loss)


@every
def test_loss_is_proportional_to_its_weight(settings):
    once = settled(replace(settings, weight=1.0))(embeddings(3), embeddings(4), LABELS)
    thrice = settled(replace(settings, weight=3.0))(embeddings(3), embeddings(4), LABELS)
    torch.testing.assert_close(thrice, 3 * once)


@pytest.mark.parametrize("settings", SETTINGS[:-1], ids=lambda settings: settings.kind)
def test_student_equal_to_its_teacher_has_no_loss(settings):
    method = built(settings)
    teacher = embeddings(4)
    assert float(method(5 * teacher, teacher, LABELS)) == pytest.approx(0, abs=1e-12)
    assert float(method(embeddings(3), teacher, LABELS)) > 1e-3


@every
def test_half_precision_and_autocast_are_computed_in_single(settings):
    student, teacher = embeddings(3).bfloat16(), embeddings(4).float()
    expected = built(settings)(student.float(), teacher, LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = built(settings)(student, teacher, LABELS)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@every
@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("equal_rows", [False, True])
@pytest.mark.parametrize("as_teacher", [False, True])
def test_degenerate_batches_of_one_identity_stay_finite(settings, n, equal_rows, as_teacher):
    student = embeddings(3, n).float()
    student = student[:1].repeat(n, 1) if equal_rows else student
    teacher = student.clone() if as_teacher else embeddings(4, n).float()
    method = built(settings)
    for labels in (torch.zeros(n, dtype=torch.int64), torch.arange(n)):
        leaf = student.clone().requires_grad_()
        loss = method(leaf, teacher, labels)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(leaf.grad).all()
        assert leaf.grad.abs().max() < 1e4
    assert all(torch.isfinite(value).all() for value in method.state_dict().values())


@every
def test_order_of_the_batch_does_not_matter(settings):
    shuffled = torch.tensor([3, 5, 0, 1, 4, 2])
    one, other = built(settings).double(), built(settings).double()
    torch.testing.assert_close(
        one(embeddings(3), embeddings(4), LABELS),
        other(embeddings(3)[shuffled], embeddings(4)[shuffled], LABELS[shuffled]),
    )
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()))


@every
def test_state_resumes_to_the_bit(settings):
    straight, first, resumed = built(settings), built(settings), built(settings)
    for seed in (1, 2, 3, 4):
        last = straight(embeddings(seed).float(), embeddings(seed + 9).float(), LABELS)
    for seed in (1, 2):
        first(embeddings(seed).float(), embeddings(seed + 9).float(), LABELS)
    resumed.load_state_dict(first.state_dict())
    for seed in (3, 4):
        again = resumed(embeddings(seed).float(), embeddings(seed + 9).float(), LABELS)
    assert torch.equal(last, again)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name])


@every
def test_evaluation_leaves_the_state_alone(settings):
    method = settled(settings)
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method(embeddings(7), embeddings(8), LABELS)
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("settings", [s for s in SETTINGS if built(s).needs_labels])
def test_missing_labels_are_refused(settings):
    with pytest.raises(ValueError, match="needs the labels"):
        built(settings)(embeddings(3), embeddings(4), None)


@pytest.mark.parametrize("settings", [s for s in SETTINGS if not built(s).needs_labels])
def test_label_free_methods_do_not_look_at_labels(settings):
    method = built(settings)
    without = method(embeddings(3), embeddings(4))
    assert torch.equal(without, method(embeddings(3), embeddings(4), LABELS))


@pytest.mark.parametrize("settings", [s for s in SETTINGS if built(s).pairwise])
def test_pairwise_methods_take_embeddings_of_different_lengths(settings):
    method = built(settings).double()
    padded = torch.nn.functional.pad(embeddings(4), (0, 3))
    torch.testing.assert_close(
        method(embeddings(3), padded, LABELS),
        built(settings).double()(embeddings(3), embeddings(4), LABELS),
    )


def test_which_methods_need_labels_and_which_compare_pairs():
    assert [s.kind for s in SETTINGS if built(s).needs_labels] == ["ranks", "adaptive_centres"]
    assert [s.kind for s in SETTINGS if built(s).pairwise] == ["relational", "ranks"]
