"""Grids of weights and activations, against NumPy and ONNX Runtime's own arithmetic."""

import numpy as np
import pytest
import torch
from onnxruntime.quantization.quant_utils import compute_scale_zp

from nas_face.compress.quantisation.grid import (
    ActivationRange,
    RangeObserver,
    largest_level,
    rounded,
    weight_scale,
)
from nas_face.errors import CompressionError


def test_levels_are_those_of_the_kernels() -> None:
    assert [largest_level(bits) for bits in (8, 7, 6, 4, 2)] == [127, 63, 31, 7, 1]


@pytest.mark.parametrize("bits", [1, 9])
def test_bits_out_of_range_are_refused(bits: int) -> None:
    with pytest.raises(CompressionError, match=f"2 to 8, got {bits}"):
        largest_level(bits)


@pytest.mark.parametrize("bits", [8, 7, 4])
@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (6, 1, 5, 5), (6, 10)])
def test_weights_go_to_the_nearest_of_all_levels_of_their_channel(
    shape: tuple[int, ...], bits: int
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(bits))
    scale = weight_scale(weight, bits)
    assert scale.shape == (6, *[1] * (len(shape) - 1))
    got = rounded(weight, scale, bits).numpy().reshape(6, -1)
    for row, result in zip(weight.numpy().reshape(6, -1), got, strict=True):
        most = 2 ** (bits - 1) - 1
        step = np.abs(row).max() / most
        levels = np.arange(-most, most + 1) * step
        nearest = levels[np.abs(row[:, None] - levels).argmin(axis=1)]
        np.testing.assert_allclose(result, nearest, rtol=1e-5, atol=1e-7)
        assert np.isclose(np.abs(result).max(), np.abs(row).max())


def test_a_rounded_weight_is_on_its_own_grid() -> None:
    weight = torch.randn((5, 40), generator=torch.Generator().manual_seed(0))
    once = rounded(weight, weight_scale(weight, 4), 4)
    twice = rounded(once, weight_scale(once, 4), 4)
    assert torch.allclose(once, twice, rtol=1e-6, atol=0)


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = torch.zeros(2, 3)
    weight[1] = 0.5
    scale = weight_scale(weight, 8)
    assert scale[0] == 1
    assert torch.equal(rounded(weight, scale, 8), weight)


@pytest.mark.parametrize(("low", "high"), [(-1.3, 2.2), (0.0, 4.0), (-0.25, 0.0), (-7.1, 0.3)])
def test_scale_and_zero_point_are_those_of_onnx_runtime(low: float, high: float) -> None:
    each = ActivationRange(low=low, high=high)
    zero_point, scale = compute_scale_zp(
        np.float32(low), np.float32(high), np.array(0), np.array(255)
    )
    assert each.scale() == pytest.approx(float(scale), rel=1e-6)
    assert each.zero_point() == int(zero_point)


def test_a_range_of_a_point_has_a_step() -> None:
    assert (
        ActivationRange(low=0, high=0).scale(),
        ActivationRange(low=0, high=0).zero_point(),
    ) == (1.0, 0)


@pytest.mark.parametrize(
    ("low", "high"), [(1, 2), (-2, -1), (-float("inf"), 1), (0, float("nan"))]
)
def test_ranges_without_zero_or_end_are_refused(low: float, high: float) -> None:
    with pytest.raises(CompressionError, match="finite and hold zero"):
        ActivationRange(low=low, high=high)


@pytest.mark.parametrize("percentile", [100.0, 99.9, 90.0])
def test_range_over_batches_is_that_of_all_values_sorted(percentile: float) -> None:
    values = torch.randn((23, 7, 11), generator=torch.Generator().manual_seed(1))
    observer = RangeObserver(23, percentile=percentile)
    for batch in values.split(5):
        observer.see(batch)
    in_order = np.sort(values.numpy().ravel())
    n_cut = int(len(in_order) * (100 - percentile) / 200)
    found = observer.range()
    assert (found.low, found.high) == (in_order[n_cut], in_order[-1 - n_cut])


def test_range_of_values_of_one_sign_is_widened_to_zero() -> None:
    observer = RangeObserver(2)
    observer.see(torch.tensor([[3.0, 5.0], [4.0, 2.0]]))
    assert observer.range() == ActivationRange(low=0.0, high=5.0)


def test_an_observer_that_saw_nothing_has_no_range() -> None:
    with pytest.raises(CompressionError, match="no images were seen"):
        RangeObserver(1).range()


@pytest.mark.parametrize("percentile", [100.0, 50.0])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_have_no_range(value: float, percentile: float) -> None:
    observer = RangeObserver(2, percentile=percentile)
    observer.see(torch.tensor([[1.0, value, 2.0, 3.0, 4.0, 5.0]]))
    observer.see(torch.ones(1, 6))
    with pytest.raises(CompressionError, match="values must be finite"):
        observer.range()


@pytest.mark.parametrize("percentile", [0.0, 100.1])
def test_percentile_out_of_range_is_refused(percentile: float) -> None:
    with pytest.raises(CompressionError, match="percentile must be above 0 and at most 100"):
        RangeObserver(1, percentile=percentile)
