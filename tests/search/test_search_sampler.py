"""What every sampler promises: within the budget, never twice, deterministic, plain Optuna."""

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from search_checks import (
    SAMPLERS,
    designs_of_tiny,
    evaluate,
    history,
    made_up,
    new_study,
    search,
    settings,
    shipped_space,
    tiny_space,
)

from nas_face.errors import SpaceError
from nas_face.search import Budget, BudgetedSampler, SpaceExhausted
from nas_face.search.sampler import ARCH_ID, inner_sampler
from nas_face.space.survey import survey

every_sampler = pytest.mark.parametrize("name", SAMPLERS)
SPACE = shipped_space()
SURVEY = survey(SPACE, lambda cost: True, seed=0, n_samples=200)
# A wall that one random design in five keeps.
WALL = int(SURVEY.quantile(lambda cost: cost.madds, 0.2))


def objective_of(space):
    """A user's objective for `study.optimize`."""

    def objective(trial):
        spec = space.propose(
            lambda path, choice: trial.suggest_categorical(path, choice.labels)
        ).spec
        trial.set_user_attr(ARCH_ID, spec.arch_id)
        return made_up(spec, 0), spec.cost().madds

    return objective


@every_sampler
def test_never_over_the_budget_and_never_twice(name):
    budget = Budget(max_madds=WALL, max_params=400_000)
    seen = []

    def remember(spec, *, seed, report):
        seen.append(spec)
        return evaluate(spec, seed=seed, report=report)

    study = search(SPACE, settings(n_trials=60, sampler=name, budget=budget), remember)
    assert len(seen) == len(study.trials) == 60
    assert [spec.arch_id for spec in seen if not budget.fits(spec.cost())] == []
    assert len({spec.arch_id for spec in seen}) == 60


@every_sampler
def test_parameters_decode_to_what_was_evaluated(name):
    study = search(SPACE, settings(n_trials=15, sampler=name, budget=Budget(max_madds=WALL)))
    for trial in study.trials:
        spec = SPACE.decode(trial.params)
        assert spec.arch_id == trial.user_attrs[ARCH_ID]
        assert trial.values[1] == spec.cost().madds


@every_sampler
def test_same_seed_same_trials(name):
    how = settings(n_trials=20, sampler=name, budget=Budget(max_madds=WALL))
    first = history(search(SPACE, how))
    assert first == history(search(SPACE, how))
    other = settings(n_trials=20, sampler=name, budget=Budget(max_madds=WALL), seed=8)
    assert first != history(search(SPACE, other))


@every_sampler
def test_plain_optuna_takes_it(name):
    budget = Budget(max_madds=WALL)
    sampler = BudgetedSampler(SPACE, budget, inner_sampler(name, 3), seed=3)
    study = new_study(sampler=sampler)
    study.optimize(objective_of(SPACE), n_trials=25)
    assert len({trial.user_attrs[ARCH_ID] for trial in study.trials}) == 25
    assert all(trial.values[1] <= WALL for trial in study.trials)


@every_sampler
def test_every_design_of_a_tiny_space_is_found(name):
    designs = designs_of_tiny()
    madds = sorted({design.spec.cost().madds for design in designs})
    wall = madds[len(madds) // 2]
    fitting = {each.spec.arch_id for each in designs if each.spec.cost().madds <= wall}
    assert 1 < len(fitting) < len({each.spec.arch_id for each in designs}) == 12
    sampler = BudgetedSampler(tiny_space(), Budget(max_madds=wall), inner_sampler(name, 0), seed=0)
    study = new_study(sampler=sampler)
    with pytest.raises(SpaceExhausted, match=r"tiny: no design is left that fits .* MAdds .*were"):
        study.optimize(objective_of(tiny_space()), n_trials=30, catch=())
    assert {trial.user_attrs[ARCH_ID] for trial in study.trials[:-1]} == fitting


def test_nothing_fits():
    sampler = BudgetedSampler(
        tiny_space(), Budget(max_madds=1), inner_sampler("random", 0), seed=0
    )
    with pytest.raises(SpaceExhausted, match=r"\(0 were\); widen the space or the budget"):
        new_study(sampler=sampler).optimize(objective_of(tiny_space()), n_trials=1)
    assert issubclass(SpaceExhausted, SpaceError)


def test_a_budget_that_few_keep_is_reached_by_repair():
    """A wall just above the smallest design, which no random draw of many meets."""
    wall = int(SURVEY.smallest.spec.cost().madds * 1.3)
    rng = np.random.default_rng(5)
    assert not any(SPACE.sample(rng).spec.cost().madds <= wall for _ in range(300))
    study = search(SPACE, settings(n_trials=5, budget=Budget(max_madds=wall)))
    assert all(trial.values[1] <= wall for trial in study.trials)


def test_a_users_own_parameter_goes_to_the_inner_sampler():
    sampler = BudgetedSampler(SPACE, Budget(), inner_sampler("random", 3), seed=3)
    study = new_study(sampler=sampler)
    trial = study.ask()
    value = trial.suggest_float("dropout", 0.0, 0.5)
    assert 0 <= value <= 0.5
    assert trial.distributions["dropout"] == FloatDistribution(0.0, 0.5)


def test_reseeding_keeps_it_working():
    sampler = BudgetedSampler(SPACE, Budget(max_madds=WALL), inner_sampler("random", 3), seed=3)
    sampler.reseed_rng()
    study = new_study(sampler=sampler)
    study.optimize(objective_of(SPACE), n_trials=3)
    assert all(trial.values[1] <= WALL for trial in study.trials)


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_the_inner_sampler_learns(name):
    """With a plain aim, few multiply-adds, late trials are cheaper than designs drawn evenly."""
    study = optuna.create_study(direction="minimize")
    sampler = BudgetedSampler(SPACE, Budget(), inner_sampler(name, 1), seed=1)
    study.sampler = sampler
    study.optimize(lambda trial: objective_of(SPACE)(trial)[1], n_trials=120)
    madds = [trial.value for trial in study.trials]
    rng = np.random.default_rng(0)
    drawn = [SPACE.sample(rng).spec.cost().madds for _ in range(200)]
    assert np.median(madds[-20:]) < 0.7 * np.median(drawn)


def test_the_first_designs_spread_over_the_logarithm_of_madds():
    """Twelve designs leave no gap as wide as a third of the range; drawn evenly, they crowd."""
    study = new_study(
        sampler=BudgetedSampler(SPACE, Budget(max_madds=WALL), inner_sampler("nsga2", 5), seed=5)
    )
    study.optimize(objective_of(SPACE), n_trials=12)
    logs = np.sort(np.log([trial.values[1] for trial in study.trials]))
    assert np.diff(logs).max() < (logs[-1] - logs[0]) / 3
    assert logs[-1] <= np.log(WALL)
    assert np.exp(logs[0]) < WALL / 2
