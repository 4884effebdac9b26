"""Budgets, objectives and seeds."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas_face.arch.cost import Cost
from nas_face.arch.zoo import network
from nas_face.errors import ConfigError
from nas_face.search import OBJECTIVES, Budget, derive_seed, objective, parse_quantity

COST = Cost(madds=1000, params=500, folded_params=400, peak_activations=300)
LIMITS = {
    "max_madds": 1000,
    "max_params": 500,
    "max_size_bytes": 1600,
    "max_peak_activations": 300,
}


def test_no_limit_fits_everything():
    assert Budget().fits(COST)
    assert Budget().excess(COST) == 0
    assert Budget().checks(COST) == []
    assert str(Budget()) == "no limit"


@pytest.mark.parametrize(("name", "value"), LIMITS.items())
def test_limits_are_inclusive(name, value):
    assert Budget(**{name: value}).fits(COST)
    assert Budget(**{name: value + 1}).fits(COST)
    tight = Budget(**{name: value - 1})
    assert not tight.fits(COST)
    assert tight.checks(COST) == [(name.removeprefix("max_"), value, value - 1)]
    assert tight.excess(COST) == pytest.approx(value / (value - 1) - 1)


def test_excess_is_that_of_the_limit_missed_most():
    budget = Budget(max_madds=800, max_params=250, max_peak_activations=300)
    assert budget.excess(COST) == pytest.approx(1.0)
    assert [name for name, _, _ in budget.checks(COST)] == ["madds", "params"]


@given(
    limits=st.fixed_dictionaries({name: st.none() | st.integers(1, 2000) for name in LIMITS}),
)
def test_fits_is_every_limit(limits):
    values = {"max_madds": 1000, "max_params": 500, "max_size_bytes": 1600}
    values["max_peak_activations"] = 300
    within = all(limit is None or values[name] <= limit for name, limit in limits.items())
    assert Budget(**limits).fits(COST) is within
    assert (Budget(**limits).excess(COST) == 0) is within


def test_text_says_multiply_adds_and_flops():
    text = str(
        Budget(max_madds=150_000_000, max_params=10, max_size_bytes=20, max_peak_activations=30)
    )
    assert text == (
        "150,000,000 MAdds (300,000,000 FLOPs), 10 parameters, 20 bytes, 30 activations"
    )


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("limit", [0, -5])
def test_limits_below_one_are_refused(name, limit):
    with pytest.raises(ConfigError, match=f"budget.{name} must be at least 1, got {limit}"):
        Budget(**{name: limit})


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


def test_every_limit_is_checked():
    assert {field.name for field in dataclasses.fields(Budget)} == set(LIMITS)


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
