"""The sampler around any of Optuna's: repairs, the first designs, what is exhausted."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from search_checks import designs_of_tiny, made_up, new_study, shipped_space, tiny_space

from nas_face.errors import SpaceError
from nas_face.search import Budget, BudgetedSampler, SpaceExhausted
from nas_face.search.record import ARCH_ID
from nas_face.shipped import find_file
from nas_face.space import load_space
from nas_face.space.survey import survey

SPACE = shipped_space()
SURVEY = survey(SPACE, lambda cost: True, seed=0, n_samples=200)
# A wall that one random design in five keeps.
WALL = int(SURVEY.quantile(lambda cost: cost.madds, 0.2))


def around(space, budget, seed, *, inner=None, **how):
    return BudgetedSampler(space, budget, inner or RandomSampler(seed=seed), seed, **how)


def objective_of(space):
    """A user's objective for `study.optimize`."""

    def objective(trial):
        spec = space.propose(
            lambda path, choice: trial.suggest_categorical(path, choice.labels)
        ).spec
        trial.set_user_attr(ARCH_ID, spec.arch_id)
        return made_up(spec, 0), spec.cost().madds

    return objective


class Obstinate(BaseSampler):
    """Proposes the same labels always."""

    def __init__(self, labels):
        self.labels = labels
        self.asked = 0

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        self.asked += 1
        return dict(self.labels)

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.choices[0]


def test_plain_optuna_takes_it():
    study = new_study(sampler=around(SPACE, Budget(max_madds=WALL), 3))
    study.optimize(objective_of(SPACE), n_trials=25)
    assert len({trial.user_attrs[ARCH_ID] for trial in study.trials}) == 25
    assert all(trial.values[1] <= WALL for trial in study.trials)


def test_parameters_decode_to_what_was_evaluated():
    study = new_study(sampler=around(SPACE, Budget(max_madds=WALL), 3))
    study.optimize(objective_of(SPACE), n_trials=15)
    for trial in study.trials:
        assert SPACE.decode(trial.params).arch_id == trial.user_attrs[ARCH_ID]


@pytest.mark.parametrize("n_startup", [0, 12])
def test_every_design_of_a_tiny_space_is_found(n_startup):
    designs = designs_of_tiny()
    madds = sorted({design.spec.cost().madds for design in designs})
    wall = madds[len(madds) // 2]
    fitting = {each.spec.arch_id for each in designs if each.spec.cost().madds <= wall}
    assert 1 < len(fitting) < len({each.spec.arch_id for each in designs}) == 12
    sampler = around(tiny_space(), Budget(max_madds=wall), 0, n_startup=n_startup)
    study = new_study(sampler=sampler)
    with pytest.raises(SpaceExhausted, match=r"tiny: no design is left that fits .* MAdds .*were"):
        study.optimize(objective_of(tiny_space()), n_trials=30, catch=())
    assert {trial.user_attrs[ARCH_ID] for trial in study.trials[:-1]} == fitting


def test_nothing_fits():
    sampler = around(tiny_space(), Budget(max_madds=1), 0)
    with pytest.raises(SpaceExhausted, match=r"\(0 were\); widen the space or the budget"):
        new_study(sampler=sampler).optimize(objective_of(tiny_space()), n_trials=1)
    assert issubclass(SpaceExhausted, SpaceError)


def test_a_budget_that_few_keep_is_reached_by_repair():
    """A wall just above the smallest design, which no random draw of many meets."""
    wall = int(SURVEY.smallest.spec.cost().madds * 1.3)
    rng = np.random.default_rng(5)
    assert not any(SPACE.sample(rng).spec.cost().madds <= wall for _ in range(300))
    study = new_study(sampler=around(SPACE, Budget(max_madds=wall), 1, n_startup=2))
    study.optimize(objective_of(SPACE), n_trials=5)
    assert all(trial.values[1] <= wall for trial in study.trials)


def test_an_illegal_proposal_is_repaired_and_not_asked_for_again():
    """Labels against a rule of the space: few change, and the inner sampler is asked once."""
    path = find_file("search_spaces/mobile.yaml")
    assert path is not None
    space = load_space(path).with_input_size(48)
    labels = illegal_labels(space)
    inner = Obstinate(labels)
    study = new_study(sampler=around(space, Budget(), 1, inner=inner, n_startup=0))
    trial = study.ask(study.sampler.infer_relative_search_space(study, None))
    design = space.design(trial.params)
    changed = [name for name, label in design.choices.items() if labels.get(name) != label]
    assert 1 <= len(changed) <= 3
    assert inner.asked == 1


def illegal_labels(space):
    """Labels of every choice of a design that breaks a rule."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        labels = {
            name: choice.labels[int(rng.integers(len(choice.labels)))]
            for name, choice in space.choices().items()
        }
        active = next(iter(space.ways(labels)))
        if not all(rule.holds(active) for rule in space.constraints):
            return labels
    raise AssertionError("every design of the space is legal")


def test_a_proposal_that_was_tried_is_changed_until_it_is_new():
    labels = SPACE.sample(np.random.default_rng(2)).choices
    inner = Obstinate(labels)
    study = new_study(sampler=around(SPACE, Budget(), 1, inner=inner, n_startup=0))
    study.optimize(objective_of(SPACE), n_trials=6)
    assert study.trials[0].params == labels
    assert len({trial.user_attrs[ARCH_ID] for trial in study.trials}) == 6
    near = [
        sum(trial.params.get(name) != label for name, label in labels.items())
        for trial in study.trials[1:]
    ]
    assert max(near) <= 4


def test_what_comes_first_is_proposed_in_order_where_it_fits_and_is_new():
    rng = np.random.default_rng(9)
    drawn = sorted((SPACE.sample(rng) for _ in range(30)), key=lambda each: each.spec.cost().madds)
    inside = [each for each in drawn if each.spec.cost().madds <= WALL]
    outside = [each for each in drawn if each.spec.cost().madds > WALL]
    assert len(inside) >= 2
    start = [outside[0], inside[1], inside[0], inside[1], outside[1]]
    sampler = around(SPACE, Budget(max_madds=WALL), 4, start=[each.choices for each in start])
    study = new_study(sampler=sampler)
    study.optimize(objective_of(SPACE), n_trials=4)
    ids = [trial.user_attrs[ARCH_ID] for trial in study.trials]
    assert ids[:2] == [inside[1].spec.arch_id, inside[0].spec.arch_id]
    assert len(set(ids)) == 4


def test_a_users_own_parameter_goes_to_the_inner_sampler():
    study = new_study(sampler=around(SPACE, Budget(), 3))
    trial = study.ask()
    value = trial.suggest_float("dropout", 0.0, 0.5)
    assert 0 <= value <= 0.5
    assert trial.distributions["dropout"] == FloatDistribution(0.0, 0.5)


def test_reseeding_keeps_it_working():
    sampler = around(SPACE, Budget(max_madds=WALL), 3)
    sampler.reseed_rng()
    study = new_study(sampler=sampler)
    study.optimize(objective_of(SPACE), n_trials=3)
    assert all(trial.values[1] <= WALL for trial in study.trials)


@pytest.mark.parametrize(
    "inner", [NSGAIISampler(population_size=12, seed=1), TPESampler(multivariate=True, seed=1)]
)
def test_the_inner_sampler_learns(inner):
    """With a plain aim, few multiply-adds, late trials are cheaper than designs drawn evenly."""
    study = optuna.create_study(direction="minimize")
    study.sampler = around(SPACE, Budget(), 1, inner=inner)
    study.optimize(lambda trial: objective_of(SPACE)(trial)[1], n_trials=120)
    madds = [trial.value for trial in study.trials]
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng).spec.cost().madds for _ in range(200)]
    assert np.median(madds[-20:]) < 0.7 * np.median(drawn)


def test_the_first_designs_spread_over_the_logarithm_of_madds():
    """Twelve designs leave no gap as wide as a third of the range; drawn evenly, they crowd."""
    study = new_study(sampler=around(SPACE, Budget(max_madds=WALL), 5))
    study.optimize(objective_of(SPACE), n_trials=12)
    logs = np.sort(np.log([trial.values[1] for trial in study.trials]))
    assert np.diff(logs).max() < (logs[-1] - logs[0]) / 3
    assert logs[-1] <= math.log(WALL)
    assert math.exp(logs[0]) < WALL / 2


def test_the_first_designs_differ_by_seed_and_not_by_sampler_object():
    def first(seeds):
        study = new_study()
        for seed in seeds:
            study.sampler = around(SPACE, Budget(max_madds=WALL), seed)
            study.optimize(objective_of(SPACE), n_trials=1)
        return [trial.user_attrs[ARCH_ID] for trial in study.trials]

    assert first(range(6)) == first(range(6))
    assert first(range(6)) != first(range(6, 12))


def test_the_first_designs_are_parents_of_the_next_generation():
    """Optuna's genetic samplers count trials that they were asked for: ours among them."""
    parents = []

    def children(study, search_space, population):
        parents.append({trial.number for trial in population})
        return {}

    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        inner = NSGAIISampler(population_size=6, seed=1, child_generation_strategy=children)
    study = new_study(sampler=around(SPACE, Budget(), 1, inner=inner, n_startup=6))
    study.optimize(objective_of(SPACE), n_trials=8)
    assert parents == [set(range(6)), set(range(6))]
