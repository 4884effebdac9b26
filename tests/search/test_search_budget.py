"""Budgets, objectives and seeds."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.arch.cost import Cost
from nas_face.arch.zoo import network
from nas_face.errors import ConfigError
from nas_face.search import OBJECTIVES, Budget, derive_seed, objective, parse_quantity
from nas_face.search.budget import parse_bytes, parse_milliseconds, parse_wall

COST = Cost(madds=1000, params=500, folded_params=400, peak_activations=300)
VALUES = {"madds": 1000, "params": 500, "size_bytes": 1600, "peak_activations": 300}
WALLS = [f"{end}_{name}" for end in ("max", "min") for name in (*VALUES, "latency_ms")]


def test_no_limit_fits_everything():
    assert Budget().fits(COST)
    assert Budget().excess(COST) == 0
    assert Budget().checks(COST) == []
    assert Budget().walls == ()
    assert not Budget().latency_limited
    assert Budget().fits_latency(1e9)
    assert str(Budget()) == "no limit"


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_upper_limits_are_inclusive(name, value):
    assert Budget(**{f"max_{name}": value}).fits(COST)
    assert Budget(**{f"max_{name}": value + 1}).fits(COST)
    tight = Budget(**{f"max_{name}": value - 1})
    assert not tight.fits(COST)
    [miss] = tight.checks(COST)
    assert (miss.wall.name, miss.value, miss.wall.limit) == (f"max_{name}", value, value - 1)
    assert tight.excess(COST) == miss.excess == pytest.approx(value / (value - 1) - 1)
    assert miss.times == value / (value - 1)


@pytest.mark.parametrize(("name", "value"), VALUES.items())
def test_lower_limits_are_inclusive(name, value):
    assert Budget(**{f"min_{name}": value}).fits(COST)
    assert Budget(**{f"min_{name}": value - 1}).fits(COST)
    high = Budget(**{f"min_{name}": 2 * value})
    assert not high.fits(COST)
    [miss] = high.checks(COST)
    assert (miss.wall.name, miss.value, miss.wall.limit) == (f"min_{name}", value, 2 * value)
    assert high.excess(COST) == 1.0
    assert miss.times == 0.5


def test_excess_is_that_of_the_limit_missed_most():
    budget = Budget(max_madds=800, max_params=250, max_peak_activations=300)
    assert budget.excess(COST) == pytest.approx(1.0)
    assert [miss.wall.name for miss in budget.checks(COST)] == ["max_madds", "max_params"]
    both = Budget(max_madds=800, min_params=2000)
    assert both.excess(COST) == pytest.approx(3.0)
    assert [miss.wall.name for miss in both.checks(COST)] == ["max_madds", "min_params"]


def test_excess_of_nothing_is_without_end():
    assert Budget(min_madds=1).excess(Cost()) == math.inf


LIMIT = st.none() | st.integers(1, 2000) | st.integers(1, 10**18)


@st.composite
def budgets(draw) -> dict[str, int]:
    """Analytic limits, a lower one never above its upper one."""
    limits = {}
    for name in VALUES:
        low, high = draw(LIMIT), draw(LIMIT)
        if low is not None and high is not None:
            low, high = min(low, high), max(low, high)
        limits |= {f"min_{name}": low, f"max_{name}": high}
    return {name: limit for name, limit in limits.items() if limit is not None}


COUNT = st.integers(0, 2000) | st.integers(0, 10**18)


@given(budgets(), COUNT, COUNT, COUNT, COUNT)
def test_fits_is_every_limit(limits, madds, params, folded, peak):
    cost = Cost(madds=madds, params=params, folded_params=folded, peak_activations=peak)
    values = {"madds": madds, "params": params, "peak_activations": peak, "size_bytes": 4 * folded}
    missed = {
        name
        for name, limit in limits.items()
        if (values[name[4:]] > limit if name[:3] == "max" else values[name[4:]] < limit)
    }
    budget = Budget(**limits)
    assert {miss.wall.name for miss in budget.checks(cost)} == missed
    assert budget.fits(cost) is (not missed)
    assert (budget.excess(cost) == 0) is (not missed)
    assert budget.excess(cost) == max((miss.excess for miss in budget.checks(cost)), default=0)
    assert {wall.name for wall in budget.walls} == limits.keys()


@given(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6), st.floats(1e-6, 1e9, allow_nan=False))
def test_latency_is_checked_apart(one, other, latency_ms):
    low, high = min(one, other), max(one, other)
    budget = Budget(min_latency_ms=low, max_latency_ms=high)
    assert budget.latency_limited
    assert budget.fits(COST)
    assert budget.checks(COST) == []
    assert budget.fits_latency(latency_ms) is (low <= latency_ms <= high)
    assert (budget.latency_excess(latency_ms) == 0) is (low <= latency_ms <= high)


def test_a_latency_that_is_no_number_does_not_fit():
    assert not Budget(max_latency_ms=10).fits_latency(math.nan)
    assert not Budget(max_latency_ms=10).fits_latency(math.inf)
    assert Budget(max_latency_ms=10).latency_excess(15.0) == 0.5


def test_text_has_every_wall_and_says_flops_beside_multiply_adds():
    text = str(
        Budget(max_madds=150_000_000, max_params=10, max_size_bytes=20, max_peak_activations=30)
    )
    assert text == (
        "150,000,000 MAdds (300,000,000 FLOPs), 10 parameters, 20 bytes, 30 activations"
    )
    text = str(
        Budget(
            min_madds=5, max_madds=7, min_params=1000, max_latency_ms=12.5, min_peak_activations=3
        )
    )
    assert text == (
        "5 to 7 MAdds (10 to 14 FLOPs), 12.5 ms, at least 1,000 parameters, at least 3 activations"
    )


@pytest.mark.parametrize("name", WALLS)
def test_every_wall_is_in_the_text(name):
    assert "4,321" in str(Budget(**{name: 4321}))


@pytest.mark.parametrize("name", [name for name in WALLS if "latency" not in name])
@pytest.mark.parametrize("limit", [0, -5])
def test_limits_below_one_are_refused(name, limit):
    with pytest.raises(ConfigError, match=f"budget.{name} must be at least 1, got {limit}"):
        Budget(**{name: limit})


@pytest.mark.parametrize("name", ["max_latency_ms", "min_latency_ms"])
def test_limits_of_latency_are_above_nothing_and_finite(name):
    with pytest.raises(ConfigError, match=f"budget.{name} must be above 0, got -0.5"):
        Budget(**{name: -0.5})
    with pytest.raises(ConfigError, match=f"budget.{name} must be above 0, got 0"):
        Budget(**{name: 0})
    for limit in (math.inf, math.nan):
        with pytest.raises(ConfigError, match=f"budget.{name} must be a finite number"):
            Budget(**{name: limit})
    assert Budget(**{name: 0.5}).latency_limited


@pytest.mark.parametrize("name", [*VALUES, "latency_ms"])
def test_a_lower_limit_above_the_upper_one_is_refused(name):
    ends = {f"min_{name}": 2000, f"max_{name}": 1000}
    found = f"budget.min_{name} must not be above budget.max_{name}, which is 1,000, got 2,000"
    with pytest.raises(ConfigError, match=found):
        Budget(**ends)
    assert Budget(**{f"min_{name}": 1000, f"max_{name}": 1000}).walls[0].limit == 1000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("150M", 150_000_000),
        ("1.2G", 1_200_000_000),
        ("1.2g", 1_200_000_000),
        ("300k", 300_000),
        ("300 K", 300_000),
        (" 7 ", 7),
        ("150000000", 150_000_000),
        ("150_000_000", 150_000_000),
        ("1,500,000", 1_500_000),
        ("1,500k", 1_500_000),
        ("0.5k", 500),
        ("220.965376M", 220_965_376),
    ],
)
def test_quantities(text, value):
    assert parse_quantity(text, where="x") == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "150MB",
        "-5M",
        "+5M",
        "1e6",
        "1.2.3G",
        ".5M",
        "5.",
        "150 000",
        "0x10",
        "1,5M",
        "1_5M",
        "٣M",
        "inf",
        "nan",
        "15,00M",
    ],
)
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ConfigError, match="^--max-madds: expected a figure such as 150M"):
        parse_quantity(text, where="--max-madds")


@pytest.mark.parametrize("text", ["0", "0M", "0.0001k"])
def test_nothing_is_refused(text):
    with pytest.raises(ConfigError, match=f"^budget: must be at least 1, got '{text}'"):
        parse_quantity(text, where="budget")


@given(value=st.integers(1, 10**12))
def test_plain_digits_are_taken_as_they_are(value):
    assert parse_quantity(str(value), where="x") == value
    assert parse_quantity(f"{value:,}", where="x") == value
    assert parse_quantity(f"{value:_}", where="x") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2MB", 2_000_000),
        ("2M", 2_000_000),
        ("2 mb", 2_000_000),
        ("2MiB", 2_097_152),
        ("1.5 KiB", 1536),
        ("500kB", 500_000),
        ("1GiB", 1_073_741_824),
        ("1,500,000", 1_500_000),
        ("1,500,000 B", 1_500_000),
        ("7", 7),
    ],
)
def test_bytes(text, value):
    assert parse_bytes(text, where="x") == value
    assert parse_wall("max_size_bytes", text, where="x") == value
    assert parse_wall("min_size_bytes", text, where="x") == value


@pytest.mark.parametrize("text", ["", "MB", "2Mb/s", "2 MM", "-2MB", "2e6", "2ms", "2 M B"])
def test_what_is_no_number_of_bytes_is_refused(text):
    with pytest.raises(ConfigError, match="^--max-size: expected a figure such as 2MB"):
        parse_bytes(text, where="--max-size")


@pytest.mark.parametrize(
    ("text", "value"),
    [("10ms", 10), ("10", 10), ("0.5", 0.5), ("800us", 0.8), ("1.5s", 1500), ("7 MS", 7)],
)
def test_milliseconds(text, value):
    assert parse_milliseconds(text, where="x") == pytest.approx(value)
    assert parse_wall("max_latency_ms", text, where="x") == pytest.approx(value)
    assert parse_wall("min_latency_ms", text, where="x") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "ms", "10M", "10 min", "-1ms", "1e3", "nan", "inf"])
def test_what_is_no_latency_is_refused(text):
    with pytest.raises(ConfigError, match="^--max-latency: expected a figure such as 10ms"):
        parse_milliseconds(text, where="--max-latency")


def test_no_latency_and_no_bytes_are_refused():
    with pytest.raises(ConfigError, match="^x: must be above 0, got '0ms'"):
        parse_milliseconds("0ms", where="x")
    with pytest.raises(ConfigError, match="^x: must be at least 1, got '0MB'"):
        parse_bytes("0MB", where="x")
    with pytest.raises(ConfigError, match="^x: too large, got a figure of 40 characters"):
        parse_milliseconds("9" * 40, where="x")


def test_walls_of_counts_take_quantities():
    assert parse_wall("max_madds", "1.5G", where="x") == 1_500_000_000
    with pytest.raises(ConfigError, match="expected a figure such as 150M"):
        parse_wall("min_params", "2MB", where="x")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_are_found_by_name(name):
    found = objective(name)
    assert found.name == name
    assert found.direction in ("maximize", "minimize")
    assert found.title


def test_unknown_objective_lists_near_names():
    with pytest.raises(ConfigError, match=r"unknown objective 'madd'; did you mean 'madds'\?"):
        objective("madd")


def test_analytic_objectives_are_the_cost():
    cost = network("mobilefacenet_128").spec.cost()
    analytic = {name: each for name, each in OBJECTIVES.items() if each.origin == "analytic"}
    values = {name: each.analytic_value(cost) for name, each in analytic.items()}
    assert values == {
        "madds": 220_965_376,
        "params": 1_003_136,
        "size_bytes": 4 * 993_344,
        "peak_activations": cost.peak_activations,
    }
    assert {each.direction for each in analytic.values()} == {"minimize"}


@pytest.mark.parametrize(
    "name", [name for name, each in OBJECTIVES.items() if each.origin != "analytic"]
)
def test_measured_objectives_have_no_analytic_value(name):
    with pytest.raises(ValueError, match=f"{name} is (timed|trained), not analytic"):
        objective(name).analytic_value(COST)


def test_every_limit_is_tested():
    assert {field.name for field in dataclasses.fields(Budget)} == set(WALLS)


@given(seed=st.integers(0, 2**40), purpose=st.text(max_size=20))
def test_derived_seeds_are_stable_and_in_range(seed, purpose):
    derived = derive_seed(seed, purpose)
    assert derived == derive_seed(seed, purpose)
    assert 0 <= derived < 2**31


def test_derived_seeds_differ_by_seed_purpose_and_order():
    seeds = {derive_seed(seed, "a", number) for seed in range(50) for number in range(50)}
    assert len(seeds) > 2495  # of 2500; a few of them may meet by chance
    assert len({derive_seed(0, *each) for each in (("a", "b"), ("b", "a"), ("a",), ())}) == 4
    assert derive_seed(1, "x") != derive_seed(0, "x")


def test_derived_seeds_are_those_of_finished_studies():
    """Computed by hand: SHA-256 of `0:d2dc93ec023e`, first four bytes, top bit cleared."""
    import hashlib

    digest = hashlib.sha256(b"0:d2dc93ec023e").digest()
    expected = ((digest[0] & 0x7F) << 24) | (digest[1] << 16) | (digest[2] << 8) | digest[3]
    assert derive_seed(0, "d2dc93ec023e") == expected
