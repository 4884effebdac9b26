"""Which optimiser, and what decays: against steps written out."""

import pytest
import torch
from torch import Tensor, nn

from nas_face.train import TrainSettings
from nas_face.train.optimiser import build_optimiser


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=True),
        nn.BatchNorm2d(4),
        nn.PReLU(4),
        nn.Flatten(),
        nn.Linear(16, 5),
    )


def centres() -> nn.Module:
    module = nn.Module()
    module.centres = nn.Parameter(torch.randn(6, 5, generator=torch.Generator().manual_seed(1)))
    return module


DECAYED = {"0.weight", "4.weight", "centres"}


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_filters_matrices_and_centres_decay_and_nothing_else(kind: str) -> None:
    module, objective = network(), centres()
    optimizer = build_optimiser(
        TrainSettings(optimizer=kind, weight_decay=0.25), module, objective
    )
    names = {id(p): name for name, p in module.named_parameters()}
    names[id(objective.centres)] = "centres"
    found = [
        (group["weight_decay"], [names.pop(id(p)) for p in group["params"]])
        for group in optimizer.param_groups
    ]
    assert found == [
        (0.25, ["0.weight", "4.weight", "centres"]),
        (0.0, ["0.bias", "1.weight", "1.bias", "2.weight", "4.bias"]),
    ]
    assert not names


def sgd_by_hand(p: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    """Nesterov's form: Sutskever et al. 2013, as in torch's description of SGD."""
    velocity = torch.zeros_like(p)
    for gradient in gradients:
        g = gradient + decay * p
        velocity = 0.8 * velocity + g
        p = p - 0.1 * (g + 0.8 * velocity)
    return p


def adamw_by_hand(p: Tensor, gradients: list[Tensor], decay: float) -> Tensor:
    """Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, betas 0.9 and 0.999."""
    mean, square = torch.zeros_like(p), torch.zeros_like(p)
    for step, g in enumerate(gradients, start=1):
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g * g
        p = p * (1 - 0.1 * decay)
        upright = mean / (1 - 0.9**step)
        p = p - 0.1 * upright / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    return p


@pytest.mark.parametrize(("kind", "by_hand"), [("sgd", sgd_by_hand), ("adamw", adamw_by_hand)])
def test_three_steps_are_those_of_the_paper(kind, by_hand) -> None:
    module, objective = network(), centres()
    named = [*module.named_parameters(), *objective.named_parameters()]
    settings = TrainSettings(optimizer=kind, learning_rate=0.1, momentum=0.8, weight_decay=0.3)
    optimizer = build_optimiser(settings, module, objective)
    start = {name: p.detach().clone() for name, p in named}
    random = torch.Generator().manual_seed(2)
    gradients = {
        name: [torch.randn(p.shape, generator=random) for _ in range(3)] for name, p in named
    }
    for step in range(3):
        for name, p in named:
            p.grad = gradients[name][step]
        optimizer.step()
    for name, p in named:
        expected = by_hand(start[name], gradients[name], 0.3 if name in DECAYED else 0.0)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-5, atol=1e-6)
