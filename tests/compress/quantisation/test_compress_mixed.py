"""The search for mixed precision, against brute force on landscapes made up."""

from collections.abc import Callable
from itertools import accumulate

import numpy as np
import pytest

from nas_face.compress.quantisation.mixed import Measured, MixedPrecision, search_mixed
from nas_face.compress.quantisation.sensitivity import Sensitivity
from nas_face.errors import CompressionError

Landscape = Callable[[frozenset[str]], Measured]


def row(path: str, *, position: int, madds: int = 100, mean_loss: float = 0.1) -> Sensitivity:
    return Sensitivity(
        path=path,
        kind="conv",
        layers=(path,),
        position=position,
        gates=False,
        madds=madds,
        weights=10,
        mean_loss=mean_loss,
    )


def random_rows(seed: int, n: int) -> list[Sensitivity]:
    rng = np.random.default_rng(seed)
    return [
        row(
            f"l{at}",
            position=at,
            madds=int(rng.integers(10, 1000)),
            mean_loss=float(rng.exponential()),
        )
        for at in range(n)
    ]


def additive(rows: list[Sensitivity], asked: list[frozenset[str]]) -> Landscape:
    """Each row in float wins its loss back and costs its multiply-adds."""
    total = sum(each.mean_loss for each in rows)

    def measure(keep: frozenset[str]) -> Measured:
        asked.append(keep)
        kept = [each for each in rows if each.path in keep]
        return Measured(
            accuracy=100 - total + sum(each.mean_loss for each in kept),
            latency_ms=1 + sum(each.madds for each in kept) / 1000,
        )

    return measure


def by_gain(rows: list[Sensitivity]) -> list[Sensitivity]:
    return sorted(rows, key=lambda each: -each.mean_loss / each.madds)


def all_sets(rows: list[Sensitivity]) -> list[frozenset[str]]:
    """The first 0, 1, 2 ... rows in order of gain, all but the last."""
    paths = [frozenset({each.path}) for each in by_gain(rows)]
    return [frozenset(), *accumulate(paths[:-1], lambda some, more: some | more)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("percent", [2, 20, 50, 90])
def test_smallest_set_above_a_floor_is_that_of_brute_force(seed: int, percent: int) -> None:
    rows = random_rows(seed, 3 + 5 * seed)
    asked: list[frozenset[str]] = []
    landscape = additive(rows, [])
    values = [landscape(each).accuracy for each in all_sets(rows)]
    floor = float(np.percentile(values, percent))
    expected = next(
        each for each, value in zip(all_sets(rows), values, strict=True) if value >= floor
    )

    found = search_mixed(rows, additive(rows, asked), accuracy_floor=floor, max_calls=20)

    assert found.satisfied
    assert found.best.keep_float == expected
    assert [each.keep_float for each in found.trials] == asked
    assert len(asked) == len(set(asked)) <= 2 * len(rows).bit_length() + 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("percent", [0, 20, 50, 100])
def test_most_accurate_set_below_a_ceiling_is_that_of_brute_force(seed: int, percent: int) -> None:
    rows = random_rows(seed, 3 + 5 * seed)
    landscape = additive(rows, [])
    values = [landscape(each).latency_ms for each in all_sets(rows)]
    ceiling = float(np.percentile(values, percent))
    expected = [
        each for each, value in zip(all_sets(rows), values, strict=True) if value <= ceiling
    ][-1]

    found = search_mixed(rows, additive(rows, []), latency_ceiling_ms=ceiling, max_calls=20)

    assert found.satisfied
    assert found.best.keep_float == expected


ROWS = [row(f"l{at}", position=at, mean_loss=1 / (1 + at)) for at in range(16)]


def searched(
    accuracies: dict[int, float],
    latencies: dict[int, float] | None = None,
    *,
    floor: float | None = None,
    ceiling: float | None = None,
    max_calls: int = 12,
) -> tuple[MixedPrecision, list[int]]:
    """A search on a landscape by number of rows in float; missing numbers are those of the
    nearest below."""

    def at(values: dict[int, float], n: int) -> float:
        return values[max(each for each in values if each <= n)]

    def measure(keep: frozenset[str]) -> Measured:
        n = len(keep)
        return Measured(accuracy=at(accuracies, n), latency_ms=at(latencies or {0: 1.0}, n))

    found = search_mixed(
        ROWS, measure, accuracy_floor=floor, latency_ceiling_ms=ceiling, max_calls=max_calls
    )
    return found, [each.n_rows for each in found.trials]


def test_one_call_where_nothing_has_to_stay() -> None:
    found, tried = searched({0: 0.9}, floor=0.9)
    assert (found.satisfied, found.best.keep_float, tried) == (True, frozenset(), [0])


def test_tried_sets_grow_and_are_then_halved_between() -> None:
    found, tried = searched({0: 0.0, 6: 1.0}, floor=1.0)
    assert (found.best.n_rows, tried) == (6, [0, 1, 2, 4, 8, 6, 5])


def test_out_of_reach_gives_the_nearest_and_says_so() -> None:
    found, tried = searched({0: 0.5, 4: 0.8, 8: 0.7, 15: 0.6}, floor=0.9)
    assert (found.satisfied, found.best.n_rows) == (False, 4)
    assert tried == [0, 1, 2, 4, 8, 15]


def test_a_ceiling_below_all_gives_the_fastest_and_says_so() -> None:
    found, _ = searched({0: 0.5}, {0: 3.0, 2: 2.5, 4: 4.0}, ceiling=2.0)
    assert (found.satisfied, found.best.n_rows) == (False, 2)


def test_a_ceiling_that_more_float_layers_reach_is_found() -> None:
    """Few quantised layers can be slower than none: each change of type takes time."""
    found, _ = searched({0: 0.5, 4: 0.7, 9: 0.9}, {0: 3.0, 4: 1.5, 9: 1.8, 12: 3.0}, ceiling=2.0)
    assert (found.satisfied, found.best.n_rows) == (True, 11)


def test_accuracy_that_falls_again_below_a_ceiling_is_not_chosen() -> None:
    found, tried = searched({0: 0.5, 2: 0.9, 3: 0.6}, ceiling=2.0)
    assert (found.satisfied, found.best.n_rows) == (True, 2)
    assert max(tried) == 15


def test_accuracy_that_falls_again_above_a_floor_gives_the_smallest_seen() -> None:
    found, tried = searched({0: 0.1, 2: 0.95, 3: 0.2, 8: 0.99}, floor=0.9)
    assert (found.satisfied, found.best.n_rows) == (True, 2)
    assert tried[:3] == [0, 1, 2]


@pytest.mark.parametrize(("ceiling", "satisfied"), [(2.0, True), (1.5, False)])
def test_both_limits(ceiling: float, satisfied: bool) -> None:
    found, _ = searched({0: 0.1, 5: 0.9}, {0: 1.0, 5: 2.0, 6: 3.0}, floor=0.9, ceiling=ceiling)
    assert (found.satisfied, found.best.n_rows) == (satisfied, 5)


@pytest.mark.parametrize("max_calls", [1, 2, 5, 6])
def test_calls_are_bounded_and_the_best_seen_is_kept(max_calls: int) -> None:
    found, tried = searched({0: 0.1, 5: 0.9}, floor=0.9, max_calls=max_calls)
    assert len(tried) == max_calls
    assert found.satisfied is (max_calls >= 5)
    assert found.best.n_rows == {1: 0, 2: 0, 5: 8, 6: 6}[max_calls]


def test_rows_that_stay_in_any_case_are_in_every_set() -> None:
    asked: list[frozenset[str]] = []
    always = frozenset({"l0", "other"})
    search_mixed(ROWS, additive(ROWS, asked), accuracy_floor=1000, always=always)
    assert all(always <= each for each in asked)
    assert max(map(len, asked)) == len(ROWS) + 1 - 1  # all but the last, and the other


def test_order_follows_the_costs_that_are_given() -> None:
    rows = [row("a", position=0, mean_loss=0.2), row("b", position=1, mean_loss=0.1)]
    for costs, first in ((None, "a"), ({"a": 3.0, "b": 1.0}, "b")):
        asked: list[frozenset[str]] = []
        search_mixed(rows, additive(rows, asked), accuracy_floor=1000, costs=costs)
        assert asked == [frozenset(), {first}]


def test_blocks_stay_with_all_their_layers() -> None:
    block = Sensitivity(
        path="s",
        kind="block",
        layers=("s.0", "s.1"),
        position=0,
        gates=False,
        madds=9,
        weights=1,
        mean_loss=9.0,
    )
    asked: list[frozenset[str]] = []
    rows = [block, row("t", position=1)]
    search_mixed(rows, additive(rows, asked), accuracy_floor=1000)
    assert asked == [frozenset(), {"s.0", "s.1"}]


def test_what_the_quantiser_raises_passes() -> None:
    def fails(keep: frozenset[str]) -> Measured:
        raise CompressionError("no layer could be quantised")

    with pytest.raises(CompressionError, match="no layer could be quantised"):
        search_mixed(ROWS, fails, accuracy_floor=0.9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs accuracy_floor or latency_ceiling_ms"),
        ({"accuracy_floor": 0.9, "max_calls": 0}, "max_calls must be at least 1, got 0"),
        ({"accuracy_floor": 0.9, "always": frozenset(f"l{n}" for n in range(16))}, "every row"),
        ({"accuracy_floor": 0.9, "costs": {"l0": 1.0}}, r"costs\['l1'\] must be above 0"),
    ],
)
def test_misuse_is_refused(arguments, message) -> None:
    with pytest.raises(CompressionError, match=message):
        search_mixed(ROWS, additive(ROWS, []), **arguments)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_measured_numbers_are_finite(value: float) -> None:
    with pytest.raises(CompressionError, match="numbers that are finite"):
        Measured(accuracy=value, latency_ms=1.0)
    with pytest.raises(CompressionError, match="numbers that are finite"):
        Measured(accuracy=1.0, latency_ms=value)
