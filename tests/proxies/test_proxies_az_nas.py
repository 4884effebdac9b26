"""AZ-NAS: entropy and Jacobian by other roads, and the sum of ranks."""

import math

import numpy as np
import pytest
import torch
from proxy_cases import net, subject
from scipy.stats import rankdata
from torch import nn

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.proxies import log_rank_sum, proxy_values
from nas_face.proxies.az_nas import _fold, _spectral_norm, az_nas

CHAIN = net(ConvUnit(out_channels=10), ConvUnit(out_channels=12, stride=2))


def entropies(made) -> list[float]:
    """Of the maps behind the three blocks, by singular values instead of eigenvalues."""
    module = made.model.module.train()
    found, x = [], made.x
    with torch.no_grad():
        for block in (module.stem[0], *module.stages[0]):
            x = block(x)
            pixels = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).double().numpy()
            power = np.linalg.svd(pixels - pixels.mean(axis=0), compute_uv=False) ** 2
            shares = power / power.sum()
            found.append(float(-(shares * np.log(shares)).sum()))
    return found


def test_expressivity_and_progressivity():
    made = subject(CHAIN)
    expressivity, progressivity, _, madds = az_nas(made)
    expected = entropies(made)
    assert expressivity == pytest.approx(sum(expected), rel=1e-5)
    assert progressivity == pytest.approx(min(np.diff(expected)), rel=1e-3)
    assert madds == CHAIN.cost().madds


def test_spectral_norm_of_a_1x1_convolution_is_that_of_its_matrix():
    layer = nn.Conv2d(6, 9, 1, bias=False)
    before = torch.randn(40, 6, 30, 30, requires_grad=True)
    found = _spectral_norm(before, layer(before), torch.Generator().manual_seed(0))
    expected = float(torch.linalg.matrix_norm(layer.weight.detach()[:, :, 0, 0], 2))
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("side", "stride"), [(8, 2), (9, 3)])
def test_a_block_with_a_stride_reads_the_pixels_of_a_cell_as_channels(side, stride):
    layer = nn.Conv2d(4, 5, stride, stride=stride, bias=False)
    before = torch.randn(300, 4, side, side, requires_grad=True)
    found = _spectral_norm(before, layer(before), torch.Generator().manual_seed(0))
    expected = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
    assert found == pytest.approx(expected, rel=0.05)


def test_folding_is_that_of_torch_where_it_has_one():
    x = torch.randn(2, 3, 8, 12)
    assert torch.equal(_fold(x, (4, 6)), nn.functional.pixel_unshuffle(x, 2))


def test_folding_loses_nothing_where_the_side_is_no_multiple():
    x = torch.randn(2, 3, 9, 7)
    folded = _fold(x, (5, 4))
    assert folded.shape == (2, 12, 5, 4)
    assert sorted(folded[folded != 0].tolist()) == sorted(x.flatten().tolist())


def test_trainability_is_best_where_the_jacobian_keeps_lengths():
    healths = []
    for gain in (0.3, 1.0, 3.0):
        made = subject(net(ConvUnit(out_channels=8, kernel=1, act=None)), n=32)
        weight = made.model.module.get_parameter("stages.0.0.conv.weight")
        with torch.no_grad():
            weight.copy_(gain * torch.eye(8)[:, :, None, None])
        for each in made.model.module.modules():
            if isinstance(each, nn.modules.batchnorm._BatchNorm):
                each.register_forward_hook(lambda norm, inputs, output: inputs[0])
        healths.append(az_nas(made)[2])
    assert max(healths) == healths[1]
    assert healths[1] == pytest.approx(0, abs=0.05)
    assert healths[2] == pytest.approx(2 - 3 - 1 / 3, rel=0.3)  # 2,048 random signs a channel


def test_a_network_of_one_block_has_no_progress():
    found = az_nas(subject(net()))
    assert math.isfinite(found[0])
    assert [math.isnan(value) for value in found] == [False, True, True, False]


def test_ranks_are_summed_as_logarithms():
    table = np.random.default_rng(0).integers(0, 5, (4, 9)).astype(float)
    expected = sum(np.log(rankdata(row) / 9) for row in table)
    assert log_rank_sum(table) == pytest.approx(expected)


def test_what_is_not_defined_ranks_last():
    assert log_rank_sum([[2.0, math.nan, -5.0]]) == pytest.approx(np.log([3 / 3, 1 / 3, 2 / 3]))


def test_az_nas_is_joined_over_the_networks_that_are_compared():
    names = ("az_expressivity", "az_progressivity", "az_trainability", "madds")
    rows = np.random.default_rng(1).normal(size=(6, 4))
    networks = [dict(zip(names, row, strict=True)) for row in rows]
    assert proxy_values("az_nas", networks) == pytest.approx(log_rank_sum(rows.T))
