"""Learning rates by step, and the rules of a recipe."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.errors import ConfigError
from nas_face.train import TrainSettings
from nas_face.train.schedule import learning_rate

N = 200


def rates(n_steps: int = N, **recipe) -> list[float]:
    settings = TrainSettings(learning_rate=0.4, **recipe)
    return [learning_rate(step, n_steps, settings) for step in range(n_steps)]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step"])
def test_warm_up_rises_in_equal_steps_to_the_peak(schedule):
    rising = rates(schedule=schedule, warmup=0.1)[:21]
    assert rising[:20] == pytest.approx([0.4 * (step + 1) / 20 for step in range(20)])
    assert rising[20] == pytest.approx(0.4)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step"])
def test_without_warm_up_it_starts_at_the_peak(schedule):
    assert rates(schedule=schedule, warmup=0.0)[0] == pytest.approx(0.4)


def test_cosine_by_formula():
    falling = rates(schedule="cosine", warmup=0.1)[20:]
    expected = [0.2 * (1 + math.cos(math.pi * step / 180)) for step in range(180)]
    assert falling == pytest.approx(expected)
    assert falling[90] == pytest.approx(0.2)
    assert falling[-1] < 0.4 / 1000


def test_linear_by_formula():
    falling = rates(schedule="linear", warmup=0.1)[20:]
    assert falling == pytest.approx([0.4 * (180 - step) / 180 for step in range(180)])


def test_step_falls_to_a_tenth_three_times():
    values = rates(schedule="step", warmup=0.1)
    for first, last, rate in ((20, 100, 0.4), (100, 150, 0.04), (150, 180, 4e-3), (180, N, 4e-4)):
        assert values[first:last] == pytest.approx([rate] * (last - first))


@given(
    n_steps=st.integers(1, 300),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from(["cosine", "linear", "step"]),
)
def test_rates_rise_then_fall_and_never_vanish(n_steps, warmup, schedule):
    values = rates(n_steps, warmup=warmup, schedule=schedule)
    peak = values.index(max(values))
    assert all(0 < value <= 0.4 * (1 + 1e-12) for value in values)
    assert values[: peak + 1] == sorted(values[: peak + 1])
    assert values[peak:] == sorted(values[peak:], reverse=True)


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"warmup": 1.0}, "warmup must be from 0 to below 1, got 1.0"),
        ({"warmup": -0.1}, "warmup must be from 0 to below 1, got -0.1"),
        ({"momentum": 0.0}, "momentum must be between 0 and 1, got 0.0"),
        ({"momentum": 1.0}, "momentum must be between 0 and 1, got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be at least 0, got -0.0001"),
        ({"margin": 1.5}, "margin must be from 0 to below 1.5, got 1.5"),
        ({"margin": -0.1}, "margin must be from 0 to below 1.5, got -0.1"),
        ({"scale": 0.0}, "scale must be above 0, got 0.0"),
        ({"shift": -1}, "shift must be at least 0, got -1"),
        ({"clip_norm": 0.0}, "clip_norm must be above 0, got 0.0"),
    ],
)
def test_impossible_recipes_are_refused(given, rule):
    with pytest.raises(ConfigError, match=f"^training.{rule}$"):
        TrainSettings(**given)


def test_boundary_values_are_taken():
    settings = TrainSettings(epochs=1, batch_size=2, warmup=0.0, weight_decay=0.0, margin=0.0)
    assert settings.epochs == 1
