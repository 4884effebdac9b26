"""Learning rates by step, and the rules of a recipe."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.errors import ConfigError
from nas_face.losses.distillation import Angular
from nas_face.train import TrainSettings
from nas_face.train.schedule import learning_rate
from nas_face.train.teachers import TeacherSettings

N = 200
SCHEDULES = ["cosine", "linear", "step", "polynomial"]


def rates(n_steps: int = N, **recipe) -> list[float]:
    settings = TrainSettings(learning_rate=0.4, **recipe)
    return [learning_rate(step, n_steps, settings) for step in range(n_steps)]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_rises_in_equal_steps_to_the_peak(schedule):
    rising = rates(schedule=schedule, warmup=0.1)[:21]
    assert rising[:20] == pytest.approx([0.4 * (step + 1) / 20 for step in range(20)])
    assert rising[20] == pytest.approx(0.4)


@pytest.mark.parametrize("schedule", SCHEDULES)
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


def test_polynomial_is_the_square_of_the_line():
    falling = rates(schedule="polynomial", warmup=0.1)[20:]
    assert falling == pytest.approx([0.4 * ((180 - step) / 180) ** 2 for step in range(180)])


def test_step_falls_to_a_tenth_three_times():
    values = rates(schedule="step", warmup=0.1)
    for first, last, rate in ((20, 100, 0.4), (100, 150, 0.04), (150, 180, 4e-3), (180, N, 4e-4)):
        assert values[first:last] == pytest.approx([rate] * (last - first))


@given(
    n_steps=st.integers(1, 300),
    warmup=st.floats(0, 0.99),
    schedule=st.sampled_from(SCHEDULES),
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
        ({"clip_norm": 0.0}, "clip_norm must be above 0, or null, got 0.0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"sub_centres": 0}, "sub_centres must be at least 1, got 0"),
        ({"sample_rate": 0.0}, "sample_rate must be above 0 and at most 1, got 0.0"),
        ({"filter_above": 1.0}, "filter_above must be between -1 and 1, or null, got 1.0"),
        ({"generations": 0}, "generations must be at least 1, got 0"),
        ({"ema": 1.0}, "ema must be between 0 and 1, or null, got 1.0"),
        (
            {"batch_size": 6, "accumulate": 4},
            "accumulate: each part of a batch needs 2 images, and batch_size is 6 for 4 parts",
        ),
        ({"loss": None}, "loss may be null only where training.distil says .*"),
        ({"distil": (Angular(),)}, "distil needs training.teacher, such as sface or a model"),
        (
            {"teacher": TeacherSettings(model="sface")},
            r"teacher: say how it teaches, such as distil: \[angular\]",
        ),
        ({"generations": 2}, "generations: more than one is for distillation"),
    ],
)
def test_impossible_recipes_are_refused(given, rule):
    with pytest.raises(ConfigError, match=f"^training.{rule}$"):
        TrainSettings(**given)


def test_boundary_values_are_taken():
    settings = TrainSettings(epochs=1, batch_size=2, warmup=0.0, weight_decay=0.0)
    assert settings.epochs == 1
