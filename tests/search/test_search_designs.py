"""Designs: what is proposed is legal, within the walls, encoded and costed as the space says."""

import itertools

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from search_checks import shipped_space, tiny_space

from nas_face.errors import ConfigError
from nas_face.search import Budget
from nas_face.search.designs import ParameterDesigns, SpaceDesigns, key_of

SPACE = shipped_space()
DISTRIBUTIONS = {
    "kind": CategoricalDistribution(["a", "b", "c"]),
    "width": CategoricalDistribution([8, 16, 64]),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "depth": IntDistribution(1, 5),
    "units": IntDistribution(100, 1000, step=10),
    "share": FloatDistribution(0.0, 1.0, step=0.25),
}


def drawn(designs, n=30, seed=0):
    return list(itertools.islice(designs.draws(seed), n))


def offspring(designs, n=30):
    rng = np.random.default_rng(0)
    parents = drawn(designs)
    made = [designs.mutate(parents[at % 30], rng) for at in range(n)]
    made += [designs.crossover(parents[at % 30], parents[(at + 1) % 30], rng) for at in range(n)]
    return [each for each in made if each is not None]


def test_candidates_of_a_space_are_encoded_and_costed_as_the_space_does():
    designs = SpaceDesigns(SPACE, Budget())
    for candidate in [*drawn(designs), *offspring(designs)]:
        design = SPACE.design(candidate.params)
        assert np.array_equal(candidate.vector, SPACE.encode(design))
        assert candidate.known["madds"] == design.spec.cost().madds
        assert candidate.known["params"] == design.spec.cost().params
        assert dict(candidate.params) == design.choices
        assert designs.identity(candidate) == design.spec.arch_id


def test_draws_and_offspring_of_a_space_are_within_the_walls():
    madds = sorted(each.known["madds"] for each in drawn(SpaceDesigns(SPACE, Budget())))
    for wall in (int(madds[5]), int(madds[0] * 0.7)):  # common, and rarely met by a draw
        designs = SpaceDesigns(SPACE, Budget(max_madds=wall))
        found = [*drawn(designs), *offspring(designs)]
        assert len(found) > 30
        assert max(each.known["madds"] for each in found) <= wall
        assert all(designs.fits(each) for each in found)
        outside = max(drawn(SpaceDesigns(SPACE, Budget())), key=lambda each: each.known["madds"])
        assert not designs.fits(outside)


def test_nothing_fits_ends_the_draws():
    assert drawn(SpaceDesigns(tiny_space(), Budget(max_params=1))) == []
    assert SpaceDesigns(tiny_space(), Budget(max_params=1)).everything(100) == []
    nothing = ParameterDesigns({"a": CategoricalDistribution([1, 2])}, fits=lambda known: False)
    assert drawn(nothing) == []
    assert nothing.everything(100) == []


def test_everything_of_a_small_space_is_all_there_is():
    designs = SpaceDesigns(tiny_space(), Budget())
    found = designs.everything(100)
    assert found is not None
    assert len({each.key for each in found}) == len(found) == tiny_space().size == 24
    assert len({designs.identity(each) for each in found}) == 12
    assert designs.everything(23) is None


def test_labels_that_make_no_design_make_no_candidate():
    designs = SpaceDesigns(SPACE, Budget())
    whole = dict(drawn(designs, 1)[0].params)
    found = designs.of({**whole, "elsewhere": 3})
    assert found is not None
    assert found.key == key_of(whole)
    assert designs.of({}) is None
    assert designs.of(dict(list(whole.items())[1:])) is None
    assert designs.of({**whole, next(iter(whole)): "no such label"}) is None


def test_equal_spaces_and_budgets_are_equal_designs():
    assert SpaceDesigns(SPACE, Budget(max_madds=5)) == SpaceDesigns(SPACE, Budget(max_madds=5))
    assert len({SpaceDesigns(SPACE, Budget()), SpaceDesigns(SPACE, Budget())}) == 1
    assert SpaceDesigns(SPACE, Budget(max_madds=5)) != SpaceDesigns(SPACE, Budget())


def test_choices_that_stages_offer_alike_are_of_one_kind():
    designs = SpaceDesigns(SPACE, Budget())
    names = SPACE.encoding_names()
    by_name = dict(zip(names, designs.kinds, strict=True))
    repeats = [by_name[name] for name in names if name.endswith(".repeats")]
    assert len(repeats) > 1
    assert len(set(repeats)) == 1
    assert len(designs.knobs) == len(designs.kinds) == len(names)


@pytest.mark.parametrize("log", [False, True])
def test_parameters_keep_to_their_distributions(log):
    designs = ParameterDesigns({**DISTRIBUTIONS, "steps": IntDistribution(1, 1000, log=log)})
    for candidate in [*drawn(designs), *offspring(designs)]:
        for name, distribution in designs.distributions.items():
            value = candidate.params[name]
            assert distribution._contains(distribution.to_internal_repr(value))
        assert candidate.vector.min() >= 0.0
        assert candidate.vector.max() <= 1.0
        assert designs.of(candidate.params).key == candidate.key


def test_mutating_parameters_changes_one_at_most():
    designs = ParameterDesigns(DISTRIBUTIONS)
    rng = np.random.default_rng(0)
    for parent in drawn(designs):
        child = designs.mutate(parent, rng)
        changed = [name for name in DISTRIBUTIONS if child.params[name] != parent.params[name]]
        assert len(changed) <= 1


def test_walls_on_parameters_hold():
    designs = ParameterDesigns(
        DISTRIBUTIONS,
        lambda params: {"cost": float(params["width"] * params["depth"])},
        lambda known: known["cost"] <= 32,
    )
    found = [*drawn(designs), *offspring(designs)]
    assert max(each.known["cost"] for each in found) == 32
    over = designs.of({**drawn(designs)[0].params, "width": 64})
    assert over is not None
    assert not designs.fits(over)


def test_parameters_given_as_another_number_are_the_same_design():
    designs = ParameterDesigns(DISTRIBUTIONS)
    params = dict(drawn(designs, 1)[0].params)
    other = designs.of(
        {**params, "width": float(params["width"]), "depth": float(params["depth"])}
    )
    assert other.key == key_of(params)


def test_everything_of_parameters_is_their_product():
    designs = ParameterDesigns({name: DISTRIBUTIONS[name] for name in ("kind", "width", "depth")})
    assert len({each.key for each in designs.everything(45)}) == 45
    assert designs.everything(44) is None
    assert ParameterDesigns(DISTRIBUTIONS).everything(10**9) is None


def test_parameters_with_equal_lists_are_offered_alike():
    options = CategoricalDistribution(["x", "y"])
    designs = ParameterDesigns({"a": options, "b": DISTRIBUTIONS["kind"], "c": options})
    assert designs.knobs.tolist() == [0, 0, 1, 1, 1, 2, 2]
    first, second, *own, third, fourth = designs.kinds.tolist()
    assert (first, second) == (third, fourth)
    assert len({first, second, *own}) == 5


def test_no_parameters_are_refused():
    with pytest.raises(ConfigError, match="at least one parameter"):
        ParameterDesigns({})
