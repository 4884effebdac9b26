"""Targets other than MAdds, how near they are met, and what is said where they are not."""

import logging
from collections.abc import Callable

import numpy as np
import pytest
from pruning_checks import assert_equals_masked, counted_params, random_model, shrunk, tree_model

from nas_face.arch.combinators import Sequence
from nas_face.arch.cost import Shape
from nas_face.arch.layers import Conv
from nas_face.arch.zoo import network
from nas_face.compress.pruning import Target, prune, selection
from nas_face.errors import CompressionError
from nas_face.nn.model import FaceModel

SPEC = shrunk(network("mobilefacenet_128").spec, side=32)
COARSE = Sequence(layers=(Conv(out_channels=16), Conv(out_channels=16), Conv(out_channels=2)))


@pytest.fixture(scope="module")
def model() -> FaceModel:
    return random_model(SPEC)


@pytest.mark.parametrize("name", ["mobilefacenet_128", "seesaw_shuffle", "vargfacenet"])
@pytest.mark.parametrize("round_to", [1, 4, 8])
def test_params_within_one_percent(name: str, round_to: int) -> None:
    model = random_model(shrunk(network(name).spec, side=32))
    target = model.description.cost.params * 6 // 10
    result = prune(model, target=Target(params=target), round_to=round_to, min_keep=0.1)
    assert 0.99 * target < counted_params(result.model) <= target
    assert result.params_after == result.reached == counted_params(result.model)
    assert result.params_before == counted_params(model)
    assert_equals_masked(model, result.model, result.removed)


def test_a_grid_too_coarse_is_told(caplog: pytest.LogCaptureFixture) -> None:
    model = tree_model(COARSE, Shape(3, 4, 4))
    target = 3200
    with caplog.at_level(logging.WARNING):
        result = prune(model, target_madds=target, round_to=8)
    reachable = {
        16 * (3 * a + a * b + 2 * b) for a in (8, 16) for b in (8, 16)
    }  # both widths on the grid
    assert result.madds_after == max(madds for madds in reachable if madds <= target)
    assert result.off_target == result.madds_after / target - 1 < -0.01
    assert "off the target of 3,200 MAdds" in caplog.text
    assert "round_to below 8 comes nearer" in caplog.text


def test_steps_are_traded_where_none_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    model = random_model(shrunk(network("lightcnn_9").spec, side=32))
    target = model.description.cost.madds // 2
    with_trades = prune(model, target_madds=target, round_to=32, min_keep=0.0)
    monkeypatch.setattr(selection, "MAX_TRADES", 0)
    without = prune(model, target_madds=target, round_to=32, min_keep=0.0)
    assert without.off_target < -0.02
    assert -0.01 < with_trades.off_target <= 0
    assert_equals_masked(model, with_trades.model, with_trades.removed)


def clock(noise: float, seed: int = 0) -> tuple[Callable[[FaceModel], float], list[float]]:
    """A latency in ms with a fixed part, a step where widths leave multiples of 16, and noise."""
    rng = np.random.default_rng(seed)
    calls: list[float] = []

    def latency(model: FaceModel) -> float:
        cost = model.description.cost
        odd = cost.params % 16 / 16
        found = 0.3 + cost.madds / 12e6 + 0.01 * odd
        calls.append(float(found * (1 + noise * rng.standard_normal())))
        return calls[-1]

    return latency, calls


@pytest.mark.parametrize("noise", [0.0, 0.005])
@pytest.mark.parametrize("share", [0.85, 0.7, 0.55])
def test_measured_cost_within_one_percent(model: FaceModel, noise: float, share: float) -> None:
    exact, _ = clock(0.0)
    latency, calls = clock(noise)
    value = share * exact(model)
    result = prune(model, target=Target(cost=latency, value=value), round_to=4, min_keep=0.1)
    assert abs(result.off_target) <= 0.01
    assert len(calls) <= 16
    assert result.reached == pytest.approx(value, rel=0.01)
    assert exact(result.model) == pytest.approx(value, rel=0.01 + 2 * noise)
    assert result.measurements[0][0] == model.description.cost.madds
    assert result.madds_after in dict(result.measurements)


def test_hopeless_noise_ends_and_says_how_near_it_got(
    model: FaceModel, caplog: pytest.LogCaptureFixture
) -> None:
    latency, calls = clock(0.3)
    value = 0.7 * clock(0.0)[0](model)
    with caplog.at_level(logging.WARNING):
        result = prune(
            model, target=Target(cost=latency, value=value), tolerance=1e-6, max_measurements=9
        )
    assert len(calls) <= 9
    assert result.reached / value - 1 == result.off_target != 0
    assert "off the target" in caplog.text


def test_measured_cost_above_and_below_what_there_is(model: FaceModel) -> None:
    latency, _ = clock(0.0)
    full = latency(model)
    with pytest.raises(CompressionError, match=r"at most the .* ms that the model has, got"):
        prune(model, target=Target(cost=latency, value=1.5 * full))
    with pytest.raises(CompressionError, match=r"0.31 ms cannot be reached: with min_keep=0.25"):
        prune(model, target=Target(cost=latency, value=0.31))


def test_a_broken_clock_is_an_error(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="cost must be a positive number, got nan"):
        prune(model, target=Target(cost=lambda each: float("nan"), value=1.0))


def test_params_below_reach_say_what_each_knob_gives(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="target_params=100 cannot be reached.*parameters"):
        prune(model, target=Target(params=100))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"madds": 1, "params": 1},
        {"cost": len},
        {"value": 1.0},
        {"madds": 1, "value": 1.0},
    ],
)
def test_exactly_one_target(given: dict[str, object]) -> None:
    with pytest.raises(CompressionError, match="give one of madds, params, and cost"):
        Target(**given)  # type: ignore[arg-type]


def test_target_must_be_positive(model: FaceModel) -> None:
    with pytest.raises(CompressionError, match="params must be above 0, got 0"):
        Target(params=0)
    with pytest.raises(CompressionError, match="give target or target_madds"):
        prune(model)
