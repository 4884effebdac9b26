"""Every sampler by name, on a shipped space with constraints and conditional choices."""

import functools

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import BaseSampler, GPSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial
from search_checks import AXES, SCORE, made_up

from nas_face.errors import ConfigError
from nas_face.search import Budget, BudgetedSampler
from nas_face.search.record import ARCH_ID
from nas_face.search.samplers import SAMPLERS, make_sampler, require_sampler
from nas_face.search.stock.children import MixedChildren
from nas_face.search.stock.rectangular import RectangularSampler
from nas_face.shipped import find_file
from nas_face.space import load_space

N_TRIALS = 16  # four of them after the first designs
N_DEAR = 13  # of a sampler that takes a second a proposal
BUDGET = Budget(max_madds=24_000_000, max_params=1_200_000)
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


@functools.cache
def mobile():
    path = find_file("search_spaces/mobile.yaml")
    assert path is not None
    return load_space(path).with_input_size(48)


def length(name):
    return N_DEAR if name in ("gp", "front_gain") else N_TRIALS


def run(name, *, seed=3, n_trials=None, start=(), budget=BUDGET, gap=None):
    """A study whose every trial has a sampler of its own; `gap`: that trial stays open."""
    n_trials = length(name) if n_trials is None else n_trials
    study = optuna.create_study(directions=[axis.direction for axis in AXES])
    for number in range(n_trials):
        study.sampler = make_sampler(name, mobile(), budget, AXES, seed + number, start=start)
        trial = study.ask()
        spec = (
            mobile()
            .propose(
                lambda path, choice, trial=trial: trial.suggest_categorical(path, choice.labels)
            )
            .spec
        )
        trial.set_user_attr(ARCH_ID, spec.arch_id)
        if number != gap:
            study.tell(trial, [made_up(spec, 0), spec.cost().madds])
    return study


@functools.cache
def finished(name):
    return run(name)


@every_sampler
def test_designs_are_legal_within_every_wall_and_new(name):
    trials = finished(name).trials
    specs = [mobile().decode(trial.params) for trial in trials]  # checks every rule
    assert [spec.arch_id for spec in specs] == [trial.user_attrs[ARCH_ID] for trial in trials]
    assert len({spec.arch_id for spec in specs}) == length(name)
    assert max(spec.cost().madds for spec in specs) <= 24_000_000
    assert max(spec.cost().params for spec in specs) <= 1_200_000


def test_the_walls_of_these_tests_keep_most_designs_out():
    rng = np.random.default_rng(0)
    costs = [mobile().sample(rng).spec.cost() for _ in range(200)]
    assert sum(BUDGET.fits(cost) for cost in costs) < 50


@every_sampler
def test_same_seed_same_trials(name):
    again = run(name)
    assert [t.params for t in again.trials] == [t.params for t in finished(name).trials]


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_another_seed_other_trials(name):
    other = run(name, seed=40, n_trials=6)
    assert [t.params for t in other.trials] != [t.params for t in finished(name).trials[:6]]


@every_sampler
def test_what_the_search_starts_with_comes_first(name):
    rng = np.random.default_rng(1)
    drawn = (mobile().sample(rng) for _ in range(1000))
    start = [next(each for each in drawn if BUDGET.fits(each.spec.cost())) for _ in range(2)]
    labels = [each.choices for each in start]
    trials = run(name, n_trials=3, start=labels).trials
    assert [trial.params for trial in trials[:2]] == labels


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe", "gp", "random"])
def test_a_trial_that_is_under_way_is_no_obstacle(name):
    study = run(name, gap=5)
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.RUNNING) == 1
    assert len({trial.user_attrs[ARCH_ID] for trial in study.trials}) == length(name)


@pytest.mark.parametrize("name", ["nsga2", "nsga3", "tpe", "gp", "random"])
def test_stock_samplers_are_kept_within_the_budget(name):
    sampler = make_sampler(name, mobile(), BUDGET, AXES, 0)
    assert isinstance(sampler, BudgetedSampler)


@pytest.mark.parametrize(
    ("name", "n_objectives", "message"),
    [
        ("nsga9", 2, r"unknown sampler 'nsga9'; did you mean 'nsga"),
        ("Front", 2, r"unknown sampler 'Front'; "),
        ("zzz", 2, r"unknown sampler 'zzz'; known: front_gain, gp, nsga2, nsga3, random, tpe"),
        ("nni:evolutoin", 1, r"sampler 'nni:evolutoin': no such tuner; did you mean 'evolution'"),
        ("nni:tpe", 2, r"NNI's tuners take one objective, got 2"),
    ],
)
def test_what_is_no_sampler_is_refused(name, n_objectives, message):
    with pytest.raises(ConfigError, match=message):
        require_sampler(name, n_objectives)
    with pytest.raises(ConfigError, match=message):
        make_sampler(name, mobile(), BUDGET, [SCORE] * n_objectives, 0)


@pytest.mark.parametrize("package", ["torch", "scipy"])
def test_gp_says_what_it_lacks(package, monkeypatch):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == package else found(name)
    )
    with pytest.raises(ConfigError, match=f"gp needs {package}: pip install {package}"):
        make_sampler("gp", mobile(), BUDGET, AXES, 0)


LETTERS = CategoricalDistribution(("a", "b", "c"))


def parent(study, params, values):
    distributions = {name: LETTERS for name in params}
    study.add_trial(create_trial(params=params, distributions=distributions, values=values))


def test_children_take_labels_of_either_parent_and_those_that_one_alone_has():
    study = optuna.create_study(directions=["minimize", "minimize"])
    parent(study, {"x": "a", "y": "a", "only_first": "a"}, [0.0, 1.0])
    parent(study, {"x": "b", "y": "b", "only_second": "b"}, [1.0, 0.0])
    children = MixedChildren(0)
    made = [children(study, {"x": LETTERS}, study.trials) for _ in range(400)]
    pairs = {(child["x"], child["y"]) for child in made if {"x", "y"} <= child.keys()}
    assert pairs == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
    assert {child["only_first"] for child in made if "only_first" in child} == {"a"}
    assert {child["only_second"] for child in made if "only_second" in child} == {"b"}
    both = sum({"only_first", "only_second"} <= child.keys() for child in made)
    assert both > 100
    left_out = np.mean([4 - len(child) for child in made if len(child) > 2])
    assert 0.6 < left_out < 1.6


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_better_of_two_is_the_more_frequent_parent(direction):
    """One of four dominates the others; drawn in pairs, it wins 7 of 16 first places."""
    sign = 1.0 if direction == "minimize" else -1.0
    study = optuna.create_study(directions=[direction, direction])
    parent(study, {"x": "a"}, [0.0, 0.0])
    for at in range(3):
        parent(study, {"x": "b"}, [sign * (1.0 + at), sign * (3.0 - at)])
    children = MixedChildren(1)
    assert study.directions[0] == StudyDirection[direction.upper()]
    first = [children._better(study.trials, study.directions).number for _ in range(2000)]
    assert 0.40 < first.count(0) / 2000 < 0.48


class Watcher(BaseSampler):
    """Notes the history that it is shown."""

    def __init__(self):
        self.seen = []

    def infer_relative_search_space(self, study, trial):
        self.seen = [dict(each.params) for each in study.trials if each.number != trial.number]
        self.values = [each.values for each in study.trials if each.state == TrialState.COMPLETE]
        self.directions = study.directions
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.choices[-1]


def test_a_copy_of_the_study_lacks_no_choice():
    rng = np.random.default_rng(3)
    designs = [mobile().sample(rng) for _ in range(4)]
    study = optuna.create_study(directions=["maximize", "minimize"])
    for design in designs:
        choices = mobile().choices()
        distributions = {
            path: CategoricalDistribution(choices[path].labels) for path in design.choices
        }
        values = [0.5, design.spec.cost().madds]
        study.add_trial(
            create_trial(params=design.choices, distributions=distributions, values=values)
        )
    before = [trial.params for trial in study.trials]
    watcher = Watcher()
    study.sampler = RectangularSampler(mobile(), watcher)
    trial = study.ask(study.sampler.infer_relative_search_space(study, None))
    assert trial.params == {path: each.labels[-1] for path, each in mobile().choices().items()}
    assert all(shown.keys() == mobile().choices().keys() for shown in watcher.seen)
    assert all(
        shown[path] == design.choices.get(path, choice.labels[0])
        for shown, design in zip(watcher.seen, designs, strict=True)
        for path, choice in mobile().choices().items()
    )
    assert watcher.values == [trial.values for trial in study.trials[:4]]
    assert watcher.directions == study.directions
    assert [trial.params for trial in study.trials[:4]] == before


def test_the_gaussian_process_models_conditional_choices(monkeypatch):
    """After the first designs every choice of the space is asked of the model at once."""
    asked = []
    relative = GPSampler.sample_relative

    def noting(self, study, trial, search_space):
        found = relative(self, study, trial, search_space)
        asked.append(found)
        return found

    monkeypatch.setattr(GPSampler, "sample_relative", noting)
    run("gp")
    free = {path for path, choice in mobile().choices().items() if len(choice.labels) > 1}
    assert [found.keys() for found in asked] == [free]
