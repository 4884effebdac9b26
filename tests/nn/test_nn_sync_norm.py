"""Batch normalisation over ranks against torch's over the concatenated batch."""

import copy

import pytest
import torch
from crew import Crew
from torch import nn

from nas_face.nn.modules import AnyRankBatchNorm, FixedScaleBatchNorm
from nas_face.nn.ranks import ALONE, Ranks
from nas_face.nn.sync_norm import localise_, synchronise_

N_IMAGES = 7  # shares of 4 and 3, or of 3, 2 and 2
N_STEPS = 3


@pytest.fixture(scope="module", params=[2, 3])
def crew(request, tmp_path_factory):
    with Crew(tmp_path_factory.mktemp("crew"), request.param) as crew:
        yield crew


NORMS = {
    "images": lambda: AnyRankBatchNorm(3),
    "vectors": lambda: nn.BatchNorm1d(3, eps=1e-3, momentum=0.3),
    "cumulative": lambda: nn.BatchNorm2d(3, momentum=None),
    "fixed_scale": lambda: FixedScaleBatchNorm(3, 1e-5, 0.1),
    "not_affine": lambda: nn.BatchNorm2d(3, affine=False),
    "no_statistics": lambda: nn.BatchNorm2d(3, track_running_stats=False),
}


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    norm = NORMS[kind]().double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    return nn.Sequential(nn.Sequential(norm), nn.Identity())


def batches(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs far from zero mean, `(N_STEPS, N, C, ...)`, and weights of the outputs in a loss."""
    torch.manual_seed(1)
    shape = (N_STEPS, N_IMAGES, 3, *(() if kind == "vectors" else (4, 5)))
    return 5 + 2 * torch.randn(shape).double(), torch.randn(shape).double()


def passes(ranks: Ranks, kind: str):
    """Outputs, gradients by inputs and summed over ranks by parameters, and statistics."""
    module = network(kind)
    synchronise_(module, ranks)
    results = []
    for values, weights in zip(*batches(kind), strict=True):
        x = values[ranks.share(N_IMAGES)].clone().requires_grad_()
        y = module(x)
        module.zero_grad()
        (y * weights[ranks.share(N_IMAGES)]).sum().backward()
        gradients = [ranks.sum(p.grad) for p in module.parameters() if p.grad is not None]
        results.append((y.detach(), x.grad, gradients))
    module.eval()
    with torch.no_grad():
        evaluated = module(batches(kind)[0][0])
    return results, dict(module.state_dict()), evaluated


@pytest.mark.parametrize("kind", NORMS)
def test_forward_backward_and_statistics_are_those_of_the_whole_batch(crew, kind):
    alone, expected_state, expected = passes(ALONE, kind)
    plain = network(kind)
    for (y, _, _), values in zip(alone, batches(kind)[0], strict=True):
        torch.testing.assert_close(y, plain(values).detach())  # alone, it is torch's
    everyone = crew(passes, kind)
    for step, (y, to_x, to_parameters) in enumerate(alone):
        torch.testing.assert_close(torch.cat([each[0][step][0] for each in everyone]), y)
        torch.testing.assert_close(torch.cat([each[0][step][1] for each in everyone]), to_x)
        for results, _, _ in everyone:
            torch.testing.assert_close(results[step][2], to_parameters)
    for _, state, evaluated in everyone:
        assert list(state) == list(plain.state_dict())
        torch.testing.assert_close(state, expected_state)
        torch.testing.assert_close(evaluated, expected)


def in_half_precision(ranks: Ranks):
    module = nn.Sequential(AnyRankBatchNorm(2))
    synchronise_(module, ranks)
    x = (1000 + torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))).bfloat16()
    own = x[ranks.share(6)].requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = module(own)
    y.float().square().sum().backward()
    return y.detach(), own.grad.dtype, x


def test_bfloat16_activations_have_statistics_in_float32(crew):
    everyone = crew(in_half_precision)
    y = torch.cat([each[0] for each in everyone])
    assert y.dtype == torch.bfloat16
    assert {each[1] for each in everyone} == {torch.bfloat16}
    expected = AnyRankBatchNorm(2)(everyone[0][2].float())
    torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)


def one_value(ranks: Ranks):
    """One value on rank 0, none elsewhere."""
    module = nn.Sequential(nn.BatchNorm1d(2))
    synchronise_(module, ranks)
    with pytest.raises(ValueError, match="more than one value per channel"):
        module(torch.ones(1, 2)[ranks.share(1)])


def test_one_value_in_all_is_refused_on_every_rank(crew):
    crew(one_value)


def test_localising_gives_the_same_modules_with_what_they_learned():
    module = network("images")
    before = list(module.modules())
    names = list(module.state_dict())
    parameters = list(module.parameters())
    synchronise_(module, Ranks(n=1))
    synchronise_(module, Ranks(n=1))  # a second time changes nothing
    assert list(module.state_dict()) == names
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    module(batches("images")[0][0])
    state = copy.deepcopy(module.state_dict())
    module.eval()
    localise_(module)
    assert all(a is b for a, b in zip(module.modules(), before, strict=True))
    assert not module[0][0].training
    torch.testing.assert_close(dict(module.state_dict()), dict(state))
    assert state["0.0.running_mean"].abs().min() > 0.1


def test_a_copy_of_a_synchronised_module_stands_alone():
    module = network("images")
    synchronise_(module, ALONE)
    twin = copy.deepcopy(module)
    twin(batches("images")[0][0])
    assert module.state_dict()["0.0.num_batches_tracked"] == 0
    localise_(twin)
    assert twin.state_dict()["0.0.num_batches_tracked"] == 1
