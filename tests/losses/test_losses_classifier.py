"""The margin classifier against formulas, and on several ranks against one."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from crew import Crew
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from nas_face.errors import DataError
from nas_face.losses.classifier import MarginClassifier
from nas_face.losses.margins import (
    AbstractMargin,
    AdaFace,
    ArcFace,
    Combined,
    CosFace,
    CurricularFace,
    ElasticFace,
    LiArcFace,
    MagFace,
)
from nas_face.losses.partial_fc import draw_classes, only_rows_
from nas_face.nn.modules import AnyRankBatchNorm
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.nn.sharded_state import full_state, load_full_state_
from nas_face.nn.sync_norm import synchronise_

N_CLASSES, SIZE = 7, 4


def classifier(loss=None, **options) -> MarginClassifier:
    torch.manual_seed(0)
    return MarginClassifier(SIZE, N_CLASSES, loss or CosFace(scale=8.0), **options)


# ---- one rank


@pytest.mark.parametrize("loss", [CosFace(margin=0.35, scale=8.0), ArcFace(margin=0.5, scale=8.0)])
def test_value_and_gradients_are_bit_for_bit_those_of_the_plain_form(loss):
    """The plain form: one matrix product, the margin put in by scatter, torch's cross-entropy."""
    margin_loss = classifier(loss)
    torch.manual_seed(0)
    centres = nn.Parameter(torch.empty(N_CLASSES, SIZE))
    nn.init.normal_(centres, std=0.01)
    assert torch.equal(margin_loss.centres, centres)
    labels = torch.arange(20) % N_CLASSES
    x = 3 * torch.randn(20, SIZE)
    leaf, plain_leaf = x.clone().requires_grad_(), x.clone().requires_grad_()

    cosines = functional.linear(
        functional.normalize(plain_leaf), functional.normalize(centres)
    ).clamp(-1.0, 1.0)
    target = cosines.gather(1, labels[:, None])
    if isinstance(loss, ArcFace):
        m = loss.margin
        sine = (1.0 - target.square()).clamp_min(1e-12).sqrt()
        added = target * math.cos(m) - sine * math.sin(m)
        harder = torch.where(target > math.cos(math.pi - m), added, target - m * math.sin(m))
    else:
        harder = target - loss.margin
    plain = functional.cross_entropy(8.0 * cosines.scatter(1, labels[:, None], harder), labels)
    plain.backward()
    value = margin_loss(leaf, labels)
    value.backward()

    assert torch.equal(value, plain)
    assert torch.equal(leaf.grad, plain_leaf.grad)
    assert torch.equal(margin_loss.centres.grad, centres.grad)


def formula(
    embeddings: np.ndarray,
    centres: np.ndarray,
    labels: np.ndarray,
    *,
    margin: float,
    scale: float,
    sub_centres: int = 1,
    classes: list[int] | None = None,
    filter_above: float = 2.0,
) -> float:
    """CosFace, image by image and class by class."""
    total = 0.0
    for z, label in zip(embeddings, labels, strict=True):
        logits = {}
        for c in range(len(centres) // sub_centres) if classes is None else classes:
            of_class = centres[c * sub_centres : (c + 1) * sub_centres]
            cosine = max(z @ w / np.linalg.norm(z) / np.linalg.norm(w) for w in of_class)
            if c == label:
                logits[c] = scale * (cosine - margin)
            else:
                logits[c] = 0.0 if cosine > filter_above else scale * cosine
        total += math.log(sum(math.exp(each) for each in logits.values())) - logits[label]
    return total / len(labels)


@pytest.mark.parametrize("sub_centres", [1, 3])
@pytest.mark.parametrize("filter_above", [None, 0.1])
def test_loss_is_that_of_the_formula(sub_centres, filter_above):
    margin_loss = classifier(sub_centres=sub_centres, filter_above=filter_above).double()
    x, labels = torch.randn(9, SIZE).double(), torch.arange(9) % 5
    assert margin_loss.centres.shape == (N_CLASSES * sub_centres, SIZE)
    expected = formula(
        x.numpy(),
        margin_loss.centres.detach().numpy(),
        labels.numpy(),
        margin=0.4,
        scale=8.0,
        sub_centres=sub_centres,
        filter_above=2.0 if filter_above is None else filter_above,
    )
    assert margin_loss(x, labels).item() == pytest.approx(expected, rel=1e-12)


def test_the_penalty_of_a_margin_is_added_once():
    with_penalty = classifier(MagFace()).double()
    without = classifier(MagFace(norm_weight=0.0)).double()
    x, labels = 20 * torch.randn(5, SIZE).double(), torch.arange(5)
    norms = x.norm(dim=1).clamp(10, 110)
    penalty = 35 * (norms / 110**2 + 1 / norms).mean()
    torch.testing.assert_close(with_penalty(x, labels), without(x, labels) + penalty)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_autocast_leaves_the_loss_in_float32(kind):
    margin_loss = classifier()
    x, labels = torch.randn(5, SIZE).to(kind), torch.arange(5)
    expected = margin_loss(x.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(margin_loss(x, labels), expected)
    assert expected.dtype == torch.float32


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("loss", [CosFace(), ArcFace(), MagFace(), AdaFace()])
def test_gradients_are_finite_on_a_centre_opposite_to_it_and_at_zero(loss, sign):
    margin_loss = classifier(loss)
    x = sign * margin_loss.centres.detach()[:3]
    x[2] = 0
    leaf = x.requires_grad_()
    margin_loss(leaf, torch.arange(3)).backward()
    assert torch.isfinite(leaf.grad).all()
    assert torch.isfinite(margin_loss.centres.grad).all()


# ---- a draw of the classes


@pytest.mark.parametrize("rate", [0.01, 0.3, 0.999])
def test_a_draw_has_all_classes_that_occur_and_no_more_than_the_rate(rate):
    torch.manual_seed(0)
    labels = torch.tensor([5, 99, 5, 0])
    counts = torch.zeros(100)
    for _ in range(400):
        classes = draw_classes(labels, 100, rate)
        assert len(classes) == max(3, round(rate * 100))
        assert (classes.diff() > 0).all()
        counts[classes] += 1
    assert (counts[[0, 5, 99]] == 400).all()
    others = np.delete(counts.numpy(), [0, 5, 99]) / 400
    share = (max(3, round(rate * 100)) - 3) / 97
    assert np.abs(others - share).max() <= 5 * math.sqrt(share * (1 - share) / 400)


def test_a_draw_takes_one_number_from_the_generator_whatever_it_draws():
    after = []
    for labels, rate in (([0], 0.1), ([0, 1, 2, 3], 0.9)):
        torch.manual_seed(0)
        draw_classes(torch.tensor(labels), 10, rate)
        after.append(torch.rand(3))
    assert torch.equal(*after)


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.5, momentum=0.9, nesterov=True, weight_decay=0.1),
    "plain_sgd": lambda p: torch.optim.SGD(p, lr=0.5, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_step_on_some_rows_moves_these_as_any_step_and_leaves_the_others(name):
    """Against one optimiser for each row, which steps only when its row is used."""
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(5, 2, dtype=torch.float64))
    optimizer = OPTIMISERS[name]([parameter])
    rows = [nn.Parameter(row.clone()[None]) for row in parameter.detach()]
    optimizers = [OPTIMISERS[name]([row]) for row in rows]
    # Each row is in every step or in none: AdamW counts the steps of all rows together.
    for _ in range(4):
        used = torch.tensor([3, 0])
        factors = torch.randn(2, 2, dtype=torch.float64)
        with only_rows_(parameter, used, optimizer):
            assert parameter.shape == (2, 2)
            (parameter.square() * factors).sum().backward()
            optimizer.step()
        for row, factor in zip(used.tolist(), factors, strict=True):
            optimizers[row].zero_grad()
            (rows[row].square() * factor).sum().backward()
            optimizers[row].step()
        assert parameter.grad is None
    torch.testing.assert_close(parameter.detach(), torch.cat([r.detach() for r in rows]))


def test_momentum_waits_for_its_row():
    parameter = nn.Parameter(torch.zeros(3, 1))
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.5)
    for row, expected in ((0, [-1, 0, 0]), (1, [-1, -1, 0]), (0, [-2.5, -1, 0])):
        with only_rows_(parameter, torch.tensor([row]), optimizer):
            parameter.sum().backward()
            optimizer.step()
        assert parameter.flatten().tolist() == expected
    assert optimizer.state[parameter]["momentum_buffer"].flatten().tolist() == [1.5, 1, 0]


def test_rows_come_back_when_a_step_fails():
    parameter = nn.Parameter(torch.arange(6.0).view(3, 2))
    optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=0.5)
    before = parameter.detach().clone()
    with pytest.raises(KeyError), only_rows_(parameter, torch.tensor([1]), optimizer):
        raise KeyError
    assert torch.equal(parameter, before)


@pytest.mark.parametrize("sub_centres", [1, 2])
def test_loss_of_a_draw_is_that_of_the_drawn_classes_alone(sub_centres):
    margin_loss = classifier(sub_centres=sub_centres, sample_rate=0.6).double()
    optimizer = torch.optim.SGD(margin_loss.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    whole = margin_loss.centres.detach().numpy().copy()
    labels = torch.tensor([6, 1, 6])
    torch.manual_seed(3)
    classes = draw_classes(labels, N_CLASSES, 0.6).tolist()
    assert len(classes) == 4
    torch.manual_seed(3)
    x = torch.randn(3, SIZE).double()
    torch.manual_seed(3)
    with margin_loss.drawn(labels, optimizer):
        loss = margin_loss(x, labels)
        loss.backward()
        optimizer.step()
    options = {"margin": 0.4, "scale": 8.0, "sub_centres": sub_centres}
    expected = formula(x.numpy(), whole, labels.numpy(), classes=classes, **options)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    kept = [c for c in range(N_CLASSES) if c not in classes]
    after = margin_loss.centres.detach().numpy().reshape(N_CLASSES, -1)
    before = whole.reshape(N_CLASSES, -1)
    np.testing.assert_array_equal(after[kept], before[kept])
    assert (after[classes] != before[classes]).any(1).all()


def test_parts_of_a_batch_add_up_while_earlier_losses_are_held():
    """Draws of different sizes one after another, with the losses of all of them alive."""
    margin_loss = classifier(sample_rate=0.2).double()
    optimizer = torch.optim.SGD(margin_loss.parameters(), lr=0.5)
    held = []
    for labels in (torch.tensor([0, 1, 2, 3]), torch.tensor([4, 4, 5, 4])):
        x = torch.randn(4, SIZE).double()
        centres = margin_loss.centres.detach().clone().requires_grad_()
        present = labels.unique()
        with margin_loss.drawn(labels, optimizer):
            for part in (slice(0, 2), slice(2, 4)):
                held.append(margin_loss(x[part], labels[part]))
                (held[-1] / 2).backward()
            gradient = margin_loss.centres.grad.clone()
        unit, directions = functional.normalize(x), functional.normalize(centres[present])
        logits = 8.0 * (unit @ directions.T - 0.4 * (labels[:, None] == present))
        functional.cross_entropy(logits, torch.searchsorted(present, labels)).backward()
        torch.testing.assert_close(gradient, centres.grad[present])


def test_a_label_that_was_not_drawn_is_refused():
    margin_loss = classifier(sample_rate=0.2)
    optimizer = torch.optim.SGD(margin_loss.parameters(), lr=0.5)
    labels = torch.tensor([1, 2])
    with (
        margin_loss.drawn(labels, optimizer),
        pytest.raises(ValueError, match="all labels of the step"),
    ):
        margin_loss(torch.randn(2, SIZE), labels + 3)


def test_a_rate_of_one_draws_every_class():
    margin_loss = classifier()
    with margin_loss.drawn(torch.tensor([1]), torch.optim.SGD(margin_loss.parameters(), lr=1.0)):
        assert margin_loss.centres.shape == (N_CLASSES, SIZE)


# ---- several ranks

N_IMAGES, N_STEPS = 10, 5  # shares of 4, 3 and 3


@pytest.fixture(scope="module", params=[2, 3])
def crew(request, tmp_path_factory):
    with Crew(tmp_path_factory.mktemp("crew"), request.param) as crew:
        yield crew


class Task:
    """A small training, in float64, as the loop does it."""

    def __init__(self, ranks: Ranks, loss: Any, optimiser: str, options: dict[str, Any]) -> None:
        self.ranks = ranks
        torch.manual_seed(0)
        self.backbone = nn.Sequential(
            nn.Conv2d(2, 6, 3),
            AnyRankBatchNorm(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(54, SIZE),
            AnyRankBatchNorm(SIZE),
        ).double()
        self.classifier = MarginClassifier(SIZE, N_CLASSES, loss, ranks=ranks, **options).double()
        parameters = [*self.backbone.parameters(), *self.classifier.parameters()]
        self.optimizer = OPTIMISERS[optimiser](parameters)
        self.network = self.backbone
        if ranks.n > 1:
            synchronise_(self.backbone, ranks)
            self.network = DistributedDataParallel(self.backbone, broadcast_buffers=False)
        self.gradients: dict[str, torch.Tensor] = {}

    def step(self, number: int) -> float:
        rng = torch.Generator().manual_seed(number)
        images = torch.randn(N_IMAGES, 2, 5, 5, generator=rng).double()
        labels = torch.randint(N_CLASSES, (N_IMAGES,), generator=rng)
        own = self.ranks.share(N_IMAGES)
        self.optimizer.zero_grad()
        torch.manual_seed(100 + number)
        with self.classifier.drawn(self.ranks.gather(labels[own]), self.optimizer):
            embeddings = 10 * self.network(images[own])
            loss = self.classifier(self.ranks.gather(embeddings), self.ranks.gather(labels[own]))
            loss.backward()
            if not self.gradients:
                self.gradients = {
                    name: each.grad.clone() for name, each in self.backbone.named_parameters()
                }
                self.gradients["centres"] = self.classifier.centres.grad.clone()
            self.optimizer.step()
        return loss.item()

    def state(self) -> dict[str, Any]:
        return full_state(self.classifier, self.optimizer, [self.classifier.centres], self.ranks)


def train(ranks: Ranks, *recipe: Any) -> dict[str, Any]:
    task = Task(ranks, *recipe)
    losses = [task.step(number) for number in range(N_STEPS)]
    centres = task.gradients.pop("centres")
    return {
        "losses": losses,
        "gradients": task.gradients,
        "centres": ranks.gather_rows(centres),
        "backbone": dict(task.backbone.state_dict()),
        "state": task.state(),
    }


RECIPES = {
    "cosface": (CosFace(scale=8.0), "sgd", {}),
    "arcface": (ArcFace(scale=8.0), "sgd", {}),
    "straight": (ArcFace(scale=8.0, gradient="straight_through"), "sgd", {}),
    "combined": (Combined(scale=8.0), "plain_sgd", {}),
    "li_arcface": (LiArcFace(scale=8.0), "sgd", {}),
    "elasticface": (ElasticFace(scale=8.0, sort=True), "sgd", {}),
    "curricularface": (CurricularFace(scale=8.0), "sgd", {}),
    "magface": (MagFace(scale=8.0), "sgd", {}),
    "adaface": (AdaFace(scale=8.0), "adamw", {}),
    "sub_centres": (CosFace(scale=8.0), "sgd", {"sub_centres": 3}),
    "filtered": (CurricularFace(scale=8.0), "sgd", {"filter_above": 0.3}),
    "sampled": (ArcFace(scale=8.0), "sgd", {"sample_rate": 0.9}),
    "sampled_adamw": (CosFace(scale=8.0), "adamw", {"sample_rate": 0.9, "sub_centres": 2}),
}


@pytest.mark.parametrize("name", RECIPES)
def test_several_ranks_train_as_one(crew, name):
    expected = train(ALONE, *RECIPES[name])
    everyone = crew(train, *RECIPES[name])
    close = {"rtol": 1e-6, "atol": 1e-8}
    for each in everyone:
        assert each["losses"] == pytest.approx(expected["losses"], rel=1e-7)
        torch.testing.assert_close(each["gradients"], expected["gradients"], **close)
        torch.testing.assert_close(each["backbone"], expected["backbone"], **close)
    first = everyone[0]
    torch.testing.assert_close(first["centres"], expected["centres"], **close)
    torch.testing.assert_close(first["state"]["module"], expected["state"]["module"], **close)
    mine, theirs = first["state"]["optimizer"], expected["state"]["optimizer"]
    torch.testing.assert_close(mine["state"], theirs["state"], **close)
    assert mine["param_groups"] == theirs["param_groups"]
    assert everyone[1]["state"]["module"]["centres"] is None  # whole on rank 0 only


class Entangled(AbstractMargin):
    """Negatives that depend on the target and on lengths, with derivatives."""

    def forward(self, target, others, norms):
        factor = (target.square() * norms / 10)[:, None]
        return target - 0.2, others * (1 + factor)


def gradient_of_an_entangled_margin(ranks: Ranks):
    margin_loss = classifier(ranks=ranks).double()
    margin_loss.margin = Entangled(8.0)
    x = torch.randn(6, SIZE, generator=torch.Generator().manual_seed(5)).double()
    leaf = x.requires_grad_()
    loss = margin_loss(leaf, torch.arange(6))
    loss.backward()
    return loss.item(), leaf.grad, ranks.gather_rows(margin_loss.centres.grad)


def test_negatives_may_depend_on_a_target_of_another_rank(crew):
    loss, to_embeddings, to_centres = gradient_of_an_entangled_margin(ALONE)
    everyone = crew(gradient_of_an_entangled_margin)
    for each in everyone:
        assert each[0] == pytest.approx(loss, rel=1e-12)
        torch.testing.assert_close(each[1], to_embeddings)
    torch.testing.assert_close(everyone[0][2], to_centres)


def train_on(ranks: Ranks, recipe: Any, backbone: Any, state: Any, first: int, last: int):
    """Go on from a checkpoint, if there is one, whose centres only rank 0 gets to see."""
    task = Task(ranks, *recipe)
    if state is not None:
        task.backbone.load_state_dict(backbone)
        seen = state if ranks.leads else None
        load_full_state_(task.classifier, task.optimizer, [task.classifier.centres], seen, ranks)
    for number in range(first, last):
        task.step(number)
    return dict(task.backbone.state_dict()), task.state()


@pytest.mark.parametrize("name", ["curricularface", "adaface", "sampled", "sub_centres"])
def test_a_checkpoint_goes_on_with_another_number_of_ranks(crew, name):
    recipe = RECIPES[name]
    backbone, state = train_on(ALONE, recipe, None, None, 0, N_STEPS)
    for before, after in ((ALONE, crew), (crew, ALONE)):
        half = run(before, recipe, None, None, 0, 2)
        ended = run(after, recipe, *copy.deepcopy(half), 2, N_STEPS)
        torch.testing.assert_close(ended[0], backbone, rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(ended[1]["module"], state["module"], rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(
            ended[1]["optimizer"]["state"], state["optimizer"]["state"], rtol=1e-6, atol=1e-8
        )


def run(who: Any, *arguments: Any) -> Any:
    """On one rank, or what rank 0 of a crew gives."""
    return train_on(who, *arguments) if who is ALONE else who(train_on, *arguments)[0]


@pytest.mark.parametrize("name", ["curricularface", "adaface", "sampled", "sampled_adamw"])
def test_a_checkpoint_goes_on_to_the_bit_on_one_rank(name):
    recipe = RECIPES[name]
    backbone, state = train_on(ALONE, recipe, None, None, 0, N_STEPS)
    half = copy.deepcopy(train_on(ALONE, recipe, None, None, 0, 2))
    ended = train_on(ALONE, recipe, *half, 2, N_STEPS)
    exact = {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(ended[0], backbone, **exact)
    torch.testing.assert_close(ended[1]["module"], state["module"], **exact)
    torch.testing.assert_close(
        ended[1]["optimizer"]["state"], state["optimizer"]["state"], **exact
    )


def load_nothing(ranks: Ranks):
    task = Task(ranks, *RECIPES["cosface"])
    with pytest.raises(ValueError, match="rank 0 has no state"):
        load_full_state_(task.classifier, task.optimizer, [task.classifier.centres], None, ranks)


def test_loading_nothing_fails_on_every_rank(crew):
    crew(load_nothing)


def test_starting_centres_do_not_depend_on_the_number_of_ranks():
    whole = classifier(sub_centres=2).centres.detach()
    parts = [
        classifier(sub_centres=2, ranks=Ranks(n=3, rank=rank)).centres.detach()
        for rank in range(3)
    ]
    assert [len(each) for each in parts] == [6, 4, 4]
    assert torch.equal(torch.cat(parts), whole)


def test_more_ranks_than_identities_are_refused():
    with pytest.raises(DataError, match=r"8 processes .* only 7; start fewer"):
        classifier(ranks=Ranks(n=8, rank=0))


def small_draw(ranks: Ranks):
    """Two classes are drawn, both of rank 0."""
    task = Task(ranks, CosFace(scale=8.0), "sgd", {"sample_rate": 0.01})
    labels = torch.tensor([0, 1])
    with task.classifier.drawn(labels, task.optimizer):
        x = torch.ones(2, SIZE, dtype=torch.float64, requires_grad=True)
        task.classifier(x, labels).backward()
        n_drawn = len(task.classifier.centres)
        task.optimizer.step()
    return (
        n_drawn,
        bool(torch.isfinite(x.grad).all()),
        torch.isfinite(task.classifier.centres).all(),
    )


def test_a_rank_of_which_nothing_was_drawn_takes_part_with_one_class(crew):
    results = crew(small_draw)
    assert [each[0] for each in results] == [2] + [1] * (len(results) - 1)
    assert all(each[1] and each[2] for each in results)
