import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from nas_face.verify import Interval, clopper_pearson_interval, wilson_interval

INTERVALS = {"wilson": wilson_interval, "exact": clopper_pearson_interval}


@pytest.mark.parametrize("method", INTERVALS)
@given(
    n=st.integers(1, 100_000),
    share=st.floats(0, 1),
    confidence=st.sampled_from([0.5, 0.9, 0.95, 0.999]),
)
def test_intervals_are_those_of_scipy(
    method: str, n: int, share: float, confidence: float
) -> None:
    n_hits = round(share * n)
    expected = binomtest(n_hits, n).proportion_ci(confidence, method=method)
    found = INTERVALS[method](n_hits, n, confidence=confidence)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-9)
    assert n_hits / n in found
    assert 0 <= found.low < found.high <= 1


def test_wilson_is_right_on_average_and_clopper_pearson_always() -> None:
    n, counts = 40, np.arange(41)
    for method, least_anywhere, least_mean in (("wilson", 0.83, 0.945), ("exact", 0.95, 0.95)):
        intervals = [INTERVALS[method](int(count), n) for count in counts]
        covered = [
            binom.pmf(counts, n, truth)[[truth in each for each in intervals]].sum()
            for truth in np.linspace(0.001, 0.999, 499)
        ]
        assert min(covered) >= least_anywhere
        assert np.mean(covered) >= least_mean


@pytest.mark.parametrize("method", INTERVALS)
@pytest.mark.parametrize(("n_hits", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_counts_are_checked(method: str, n_hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"got {n_hits} of {n}"):
        INTERVALS[method](n_hits, n)


@pytest.mark.parametrize("method", INTERVALS)
@pytest.mark.parametrize("confidence", [0.0, 1.0, np.nan])
def test_confidence_is_checked(method: str, confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        INTERVALS[method](1, 2, confidence=confidence)


def test_both_ends_belong_to_an_interval() -> None:
    interval = Interval(0.25, 0.5)
    assert 0.25 in interval
    assert 0.5 in interval
    assert 0.51 not in interval
