"""What is said before a search: shares against brute force, nearest misses, what to relax."""

import itertools
import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tiny_study import write_study

from nas_face.arch.cost import Cost
from nas_face.arch.spec import ArchSpec
from nas_face.errors import ConfigError
from nas_face.search import Budget
from nas_face.shipped import shipped_files
from nas_face.space import SearchSpace, load_space, screener_of
from nas_face.study.config import load_study
from nas_face.study.preflight.budget import Preflight, check_budget, preflight
from nas_face.study.preflight.latency import LatencySurvey, preflight_latency

SHIPPED = {path.stem: path for path in shipped_files("search_spaces", ".yaml")}
MEASURES: dict[str, Callable[[Cost], int]] = {
    "madds": lambda cost: cost.madds,
    "params": lambda cost: cost.params,
    "size_bytes": lambda cost: 4 * cost.folded_params,
    "peak_activations": lambda cost: cost.peak_activations,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> SearchSpace:
    """96 designs, each as likely as any other."""
    path = write_study(tmp_path_factory.mktemp("tiny"))
    return load_space(path.with_name("space.yaml")).with_input_size(32)


@pytest.fixture(scope="module")
def specs(tiny) -> list[ArchSpec]:
    return [tiny.design(choices).spec for choices in tiny.ways()]


@pytest.fixture(scope="module")
def costs(specs) -> list[Cost]:
    return [spec.cost() for spec in specs]


def checked(space: SearchSpace, **limits: Any) -> Preflight:
    return preflight(space, Budget(**limits), seed=0, name="tiny.yaml")


def refusal(space: SearchSpace, **limits: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        checked(space, **limits)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_shares_are_those_of_the_space(tiny, costs):
    madds, params = (sorted(map(MEASURES[name], costs)) for name in ("madds", "params"))
    limits = {"max_madds": madds[60], "min_madds": madds[10], "max_params": params[40]}
    found = checked(tiny, **limits).survey
    low, high = found.interval
    assert high - low < 0.05
    assert low <= sum(Budget(**limits).fits(cost) for cost in costs) / len(costs) <= high
    for name, limit in limits.items():
        share = sum(Budget(**{name: limit}).fits(cost) for cost in costs) / len(costs)
        assert found.n_fitting_alone[name] / len(found.costs) == pytest.approx(share, abs=0.04)


def test_lines_say_how_much_fits(tiny, costs):
    madds = sorted(map(MEASURES["madds"], costs))
    [size, share] = checked(tiny, max_madds=madds[30], min_params=1).lines()
    assert size.startswith("space tiny: 96 designs of ")
    found = re.fullmatch(
        r"budget: (\S+) % of designs fit \((\d+) of 2,000 drawn; 95 %: (\S+) % to (\S+) %\); "
        r"each wall alone: max_madds (\S+) %, min_params 100 %",
        share,
    )
    assert found is not None
    percent, hits, low, high, alone = map(float, found.groups())
    assert percent == pytest.approx(hits / 20, rel=0.02)
    assert low < percent < high
    assert alone == percent


def test_without_a_budget_only_the_size_is_said(tiny):
    assert len(checked(tiny).lines()) == 1
    assert len(checked(tiny, max_latency_ms=3.0).lines()) == 1


def test_what_no_draw_meets_is_found_by_walking():
    space = load_space(SHIPPED["all_families"])
    found = checked(space, max_madds=4_000_000)
    assert found.survey.n_fitting == 0
    assert found.walked is not None
    assert found.walked.spec.cost().madds <= 4_000_000
    share, rare = found.lines()[1:]
    assert share.startswith("budget: fewer than 0.06")
    assert " of designs fit (0 of 6,000 drawn)" in share
    assert rare.startswith("rare: a design that fits was found by walking; it has ")
    assert f"{found.walked.madds:,} MAdds" in rare


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_within_one_upper_wall(name, tiny, costs):
    least = min(map(MEASURES[name], costs))
    text = refusal(tiny, **{f"max_{name}": least // 2})
    assert text.startswith(f"budget.max_{name}: nothing in tiny.yaml fits {least // 2:,}; ")
    assert (
        f"the smallest design has {least:,} {name} ({least / (least // 2):.2f} times the" in text
    )
    assert f": raise max_{name} to {least:,}" in text
    assert re.search(r" or offer smaller options in (stem|stages\.0|head)$", text)
    assert checked(tiny, **{f"max_{name}": least})


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_above_one_lower_wall(name, tiny, costs):
    most = max(map(MEASURES[name], costs))
    text = refusal(tiny, **{f"min_{name}": 10 * most})
    assert text.startswith(f"budget.min_{name}: nothing in tiny.yaml fits {10 * most:,}; ")
    assert f"the largest design has {most:,} {name} (0.10 times the limit)" in text
    assert f": lower min_{name} to {most:,}" in text
    assert re.search(r" or offer larger options in (stem|stages\.0|head)$", text)
    assert checked(tiny, **{f"min_{name}": most})


def test_the_part_that_costs_most_is_named(tiny, specs):
    smallest = min(specs, key=lambda spec: spec.cost().madds)
    shares = dict(parts_of(smallest))
    part = max(shares, key=lambda name: shares[name])
    share = shares[part] / smallest.cost().madds
    assert f"{share:.0%} of its madds in {part}: " in refusal(tiny, max_madds=1000)


def parts_of(spec):
    """Multiply-adds of stem, stages and head, by walking the blocks."""
    x = spec.input
    for name, blocks in (
        ("stem", spec.stem),
        *((f"stages.{at}", blocks) for at, blocks in enumerate(spec.stages)),
        ("head", (spec.head,)),
    ):
        madds = 0
        for block in blocks:
            layer = block.lower(x)
            madds += layer.cost(x).madds
            x = layer.output_shape(x)
        yield name, madds


def test_the_input_size_that_would_fit_is_the_largest_one(tiny):
    at_64 = tiny.with_input_size(64)
    least = {side: least_madds(tiny.with_input_size(side)) for side in (48, 64)}
    text = refusal(at_64, max_madds=least[48])
    assert "lower input_size from 64 to 48 or offer" in text
    assert "input_size" not in refusal(at_64, max_params=10)
    most = max(spec.cost().madds for spec in map(lambda c: tiny.design(c).spec, tiny.ways()))
    assert "raise input_size from 32 to 48 or" in refusal(tiny, min_madds=most + 1)
    assert least[64] > least[48]


def least_madds(space: SearchSpace) -> int:
    return min(space.design(choices).spec.cost().madds for choices in space.ways())


def test_two_walls_that_contradict_each_other_are_named_as_a_pair(tiny, costs):
    madds, params = (sorted(map(MEASURES[name], costs)) for name in ("madds", "params"))
    low, high = madds[3], params[-4]
    text = refusal(tiny, max_madds=low, min_params=high, max_peak_activations=10**9)
    assert text.startswith(
        f"budget: nothing in tiny.yaml fits max_madds {low:,} and min_params {high:,} together, "
        "though each alone fits; the nearest miss has "
    )
    # What each wall alone would have to be, by brute force.
    needed = min(cost.madds for cost in costs if cost.params >= high)
    reached = max(cost.params for cost in costs if cost.madds <= low)
    assert f": raise max_madds to {needed:,}, lower min_params to {reached:,} or offer" in text
    found = re.search(
        r"the nearest miss has ([\d,]+) madds \((\S+) times max_madds\) and ([\d,]+) params "
        r"\((\S+) times min_params\)",
        text,
    )
    assert found is not None
    values = [float(each.replace(",", "")) for each in found.groups()]
    assert (values[0], values[2]) in {(cost.madds, cost.params) for cost in costs}
    assert values[1] == pytest.approx(values[0] / low, abs=0.006)
    assert values[3] == pytest.approx(values[2] / high, abs=0.006)


def test_a_wall_that_nothing_keeps_is_named_beside_others(tiny, costs):
    madds = sorted(map(MEASURES["madds"], costs))
    text = refusal(tiny, max_madds=madds[50], max_params=10)
    least = min(cost.params for cost in costs if cost.madds <= madds[50])
    assert text.startswith("budget.max_params: nothing in tiny.yaml fits max_params 10; ")
    assert f"raise max_params to {least:,} or" in text
    both = refusal(tiny, max_madds=10, max_params=10)
    assert "nothing in tiny.yaml fits max_madds 10 or max_params 10; " in both
    found = re.search(r"raise max_madds to ([\d,]+) and raise max_params to ([\d,]+) or", both)
    assert found is not None
    limits = [int(each.replace(",", "")) for each in found.groups()]
    assert checked(tiny, max_madds=limits[0], max_params=limits[1])


def test_the_budget_of_a_study_is_checked(tmp_path, tiny, costs):
    least = min(map(MEASURES["madds"], costs))
    config = load_study(write_study(tmp_path, {"budget": {"max_madds": least - 1}}))
    with pytest.raises(ConfigError, match=r"budget\.max_madds: nothing in .*space\.yaml fits"):
        check_budget(tiny, config)


def test_a_seed_gives_the_same_survey(tiny):
    limits = {"max_madds": 200_000}
    assert checked(tiny, **limits).survey.costs == checked(tiny, **limits).survey.costs


# Latency.


def exact_ms(spec: ArchSpec) -> float:
    """A latency that is a power of the multiply-adds, which a straight line meets."""
    return spec.cost().madds ** 0.5 / 100


def surveyed(space: SearchSpace, budget: Budget, time_spec=exact_ms) -> LatencySurvey:
    return preflight_latency(space, budget, time_spec, seed=0, name="tiny.yaml")


def test_share_of_what_keeps_a_latency_is_that_of_the_space(tiny, specs):
    times = sorted(map(exact_ms, specs))
    budget = Budget(max_latency_ms=(times[40] + times[41]) / 2)
    found = surveyed(tiny, budget)
    assert found.error < 0.05
    assert found.low <= found.share <= found.high
    share = sum(map(budget.fits_latency, times)) / len(times)
    assert found.share == pytest.approx(share, abs=0.1)
    assert found.low - 0.05 <= share <= found.high + 0.05


def test_designs_that_are_timed_are_a_dozen_from_end_to_end(tiny, specs):
    found = surveyed(tiny, Budget(max_latency_ms=100.0))
    by_id = {spec.arch_id: spec for spec in specs}
    assert 8 <= len(found.timed) <= 12
    assert found.measured == {arch_id: exact_ms(by_id[arch_id]) for arch_id in found.measured}
    madds = [each.madds for each in found.timed]
    assert madds == sorted(madds)
    assert madds[0] == min(spec.cost().madds for spec in specs)
    assert madds[-1] == max(spec.cost().madds for spec in specs)
    for each in found.timed:
        assert tiny.design(each.choices).spec.arch_id == each.arch_id


def test_only_designs_within_the_other_walls_are_timed(tiny, specs):
    madds = sorted(spec.cost().madds for spec in specs)
    budget = Budget(max_madds=madds[30], max_latency_ms=100.0)
    found = surveyed(tiny, budget)
    assert all(each.madds <= madds[30] for each in found.timed)
    assert found.share == pytest.approx(1.0, abs=1e-6)


def test_walls_that_no_draw_keeps_leave_designs_to_time():
    space = load_space(SHIPPED["seesaw"])
    drawn = itertools.islice(screener_of(space).draws(0), 4000)
    wall = int(0.95 * min(each.madds for each in drawn))
    found = surveyed(space, Budget(max_madds=wall, max_latency_ms=100.0))
    assert len(found.timed) >= 8
    assert all(each.madds <= wall for each in found.timed)


def test_noise_of_the_timings_is_the_error_of_the_model(tiny):
    rng = np.random.default_rng(0)

    def noisy_ms(spec: ArchSpec) -> float:
        return exact_ms(spec) * math.exp(0.3 * rng.standard_normal())

    found = surveyed(tiny, Budget(max_latency_ms=100.0), noisy_ms)
    assert 0.15 < found.error < 0.6


def test_a_latency_survey_survives_json(tiny):
    found = surveyed(tiny, Budget(max_latency_ms=5.0))
    assert LatencySurvey.of(json.loads(json.dumps(found.to_data()))) == found
    assert str(found).startswith(f"latency: {len(found.timed)} designs timed, ")


def test_nothing_within_a_latency(tiny, specs):
    least = min(map(exact_ms, specs))
    with pytest.raises(ConfigError) as caught:
        surveyed(tiny, Budget(max_latency_ms=least / 2))
    text = str(caught.value)
    assert text.startswith("budget.max_latency_ms: nothing in tiny.yaml is expected to fit ")
    assert f"designs timed takes {least:.3g} ms (2.00 times the limit)" in text
    raised = re.search(r"raise max_latency_ms to (\S+)[, ]", text)
    assert raised is not None
    assert surveyed(tiny, Budget(max_latency_ms=float(raised[1].rstrip(","))))


def test_nothing_above_a_least_latency(tiny, specs):
    most = max(map(exact_ms, specs))
    found = r"min_latency_ms: .* the slowest of .*\(0\.50 times the limit\).*lower min_latency_ms"
    with pytest.raises(ConfigError, match=found):
        surveyed(tiny, Budget(min_latency_ms=2 * most))


def test_an_input_size_that_should_keep_the_latency_is_named(tiny):
    at_64 = tiny.with_input_size(64)
    least = {side: math.sqrt(least_madds(tiny.with_input_size(side))) / 100 for side in (48, 64)}
    wall = 1.05 * least[48]
    assert wall < least[64]
    with pytest.raises(ConfigError, match="lower input_size from 64 to about 48 or offer"):
        surveyed(at_64, Budget(max_latency_ms=wall))


def test_where_the_first_dozen_misses_what_should_fit_is_timed():
    """Depth costs all the time, so the fastest design is far from the smallest one."""
    space = load_space(SHIPPED["all_families"])
    timed = []

    def depth_ms(spec: ArchSpec) -> float:
        timed.append(spec)
        return float(sum(len(blocks) for blocks in spec.stages) ** 2) / spec.cost().madds ** 0.25

    drawn = list(itertools.islice(screener_of(space).draws(0), 200))
    spread = sorted(depth_ms(each.spec) for each in drawn)
    timed.clear()
    found = surveyed(space, Budget(max_latency_ms=spread[0] * 0.6), depth_ms)
    assert len(timed) > 12
    assert min(found.measured.values()) <= spread[0] * 0.6
