"""NNI's tuners as samplers; what they propose is held against Optuna's and NNI's own rules."""

import importlib.util
import logging
import random

import optuna
import pytest
from search_checks import designs_of_tiny, tiny_space

from nas_face.errors import ConfigError
from nas_face.search import Budget, objective
from nas_face.search.designs import SpaceExhausted
from nas_face.search.nni.sampler import TUNERS, NniSampler, nni_sampler
from nas_face.search.nni.space import parse_nni
from nas_face.search.record import ARCH_ID
from nas_face.search.samplers import make_sampler

HAS_NNI = importlib.util.find_spec("nni") is not None
with_nni = pytest.mark.skipif(not HAS_NNI, reason="the extra nni is not installed")

MIXED = parse_nni(
    {
        "rate": {"_type": "loguniform", "_value": [1e-3, 1.0]},
        "x": {"_type": "uniform", "_value": [-1, 1]},
        "step": {"_type": "quniform", "_value": [0, 0.9, 0.3]},
        "whole": {"_type": "randint", "_value": [2, 6]},
        "layer": {
            "_type": "choice",
            "_value": [
                {"_name": "conv", "size": {"_type": "choice", "_value": [3, 5, None]}},
                {"_name": True, "size": {"_type": "choice", "_value": ["a", "b"]}},
                {"_name": None},
            ],
        },
    }
)
CHOICES = parse_nni(
    {f"x{i}": {"_type": "choice", "_value": ["a", "b", "c", "d", "e"]} for i in range(6)}
)
TWO = parse_nni(
    {
        "layer": {
            "_type": "choice",
            "_value": [
                {"_name": "conv", "size": {"_type": "choice", "_value": [3, 5]}},
                {"_name": "none"},
            ],
        },
        "act": {"_type": "choice", "_value": ["relu", None]},
    }
)


def loss_of(trial):
    """Least, 0, where each choice is `c`."""
    params = {name: trial.suggest_categorical(name, "abcde") for name in CHOICES.distributions}
    return sum(abs("abcde".index(label) - 2) for label in params.values())


def mixed_loss(trial):
    drawn = MIXED.suggest(trial)
    return abs(drawn["x"]) + drawn["rate"] + drawn["step"] + (drawn["layer"]["_name"] != "conv")


def study_of(name, space, seed=0, direction="minimize", **storage):
    sampler = NniSampler(name, space, seed)
    return optuna.create_study(
        sampler=sampler, direction=direction, load_if_exists=True, study_name="one", **storage
    )


def test_without_nni_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nni", None)
    with pytest.raises(ConfigError, match=r"are an extra: pip install 'nas-face\[nni\]'"):
        NniSampler("tpe", CHOICES, 0)


def test_an_unknown_tuner_is_refused_whether_nni_is_there_or_not():
    with pytest.raises(ConfigError, match="no tuner 'evolutoin' here; did you mean 'evolution'"):
        NniSampler("evolutoin", CHOICES, 0)


def test_several_objectives_are_refused_whether_nni_is_there_or_not():
    axes = (objective("log_tar"), objective("madds"))
    with pytest.raises(ConfigError, match=r"know one objective.*\(log_tar, madds\)"):
        nni_sampler("tpe", tiny_space(), axes, 0)


@with_nni
def test_several_objectives_of_a_study_are_refused():
    study = optuna.create_study(
        directions=["minimize", "maximize"], sampler=NniSampler("tpe", CHOICES, 0)
    )
    with pytest.raises(ConfigError, match="know one objective"):
        study.ask().suggest_categorical("x0", "abcde")


@with_nni
@pytest.mark.parametrize("name", TUNERS)
def test_every_draw_is_in_the_space(name):
    study = study_of(name, MIXED)
    study.optimize(mixed_loss, n_trials=40)
    assert len(study.get_trials()) == 40
    layers = {str(trial.params["layer"]) for trial in study.trials}
    assert layers == {"conv", "True", "None"}
    assert len({tuple(sorted(t.params.items(), key=str)) for t in study.trials}) > 30


@with_nni
@pytest.mark.parametrize("name", TUNERS)
def test_a_study_that_is_resumed_draws_as_one_that_never_stopped(name):
    whole = study_of(name, MIXED)
    whole.optimize(mixed_loss, n_trials=45)
    storage = optuna.storages.InMemoryStorage()
    for n_trials in (7, 20, 18):
        resumed = study_of(name, MIXED, storage=storage)
        resumed.optimize(mixed_loss, n_trials=n_trials)
    assert [t.params for t in resumed.trials] == [t.params for t in whole.trials]


@with_nni
@pytest.mark.parametrize("name", ["tpe", "random", "evolution"])
def test_another_seed_draws_otherwise(name):
    first, second = (study_of(name, CHOICES, seed) for seed in (0, 1))
    for study in (first, second):
        study.optimize(loss_of, n_trials=3)
    assert [t.params for t in first.trials] != [t.params for t in second.trials]


@with_nni
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", ["tpe", "evolution"])
def test_tuners_learn_from_what_they_are_told(name, direction):
    """Half of 100 trials that come last are better on average than draws by chance (7.2)."""
    sign = 1 if direction == "minimize" else -1
    study = study_of(name, CHOICES, direction=direction)
    study.optimize(lambda trial: sign * loss_of(trial), n_trials=100)
    values = [sign * trial.value for trial in study.trials]
    assert sum(values[50:]) / 50 < 5.5


@with_nni
def test_grid_search_goes_through_everything_once_and_then_says_so():
    study = study_of("gridsearch", TWO)
    study.optimize(lambda trial: len(TWO.suggest(trial)), n_trials=6)
    seen = {tuple(sorted(trial.params.items(), key=str)) for trial in study.trials}
    assert len(seen) == 6
    with pytest.raises(SpaceExhausted, match="proposed all that there is"):
        TWO.suggest(study.ask())


@with_nni
@pytest.mark.parametrize("name", TUNERS)
def test_asked_again_for_one_trial_it_proposes_something_else(name):
    study = study_of(name, CHOICES)
    study.optimize(loss_of, n_trials=25)
    trial = study.get_trials(deepcopy=False)[-1]
    sampler = study.sampler
    space = sampler.infer_relative_search_space(study, trial)
    proposals = [sampler.sample_relative(study, trial, space) for _ in range(12)]
    assert len({tuple(each.values()) for each in proposals}) > 6


@with_nni
@pytest.mark.parametrize("name", TUNERS)
def test_a_space_of_networks_gives_labels_of_its_designs(name):
    space = tiny_space()
    sampler = nni_sampler(name.upper(), space, [objective("log_tar")], 3)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(12):
        trial = study.ask()
        design = space.propose(
            lambda path, choice, trial=trial: trial.suggest_categorical(path, choice.labels)
        )
        study.tell(trial, 1.0 / design.spec.cost().madds)
    assert len(study.best_trial.params) == len(space.choices())


@with_nni
@pytest.mark.parametrize("name", TUNERS)
def test_under_a_budget_every_design_that_fits_is_proposed_once_before_the_search_ends(name):
    space = tiny_space()
    costs = {design.spec.arch_id: design.spec.cost() for design in designs_of_tiny()}
    budget = Budget(max_madds=sorted(cost.madds for cost in costs.values())[8])
    axes = [objective("log_tar")]
    study = optuna.create_study(direction="maximize")
    found = []
    with pytest.raises(SpaceExhausted):
        for number in range(30):
            study.sampler = make_sampler(f"nni:{name}", space, budget, axes, number)
            trial = study.ask()
            spec = space.propose(
                lambda path, choice, trial=trial: trial.suggest_categorical(path, choice.labels)
            ).spec
            trial.set_user_attr(ARCH_ID, spec.arch_id)
            found.append(spec.arch_id)
            study.tell(trial, float(number))
    assert sorted(found) == sorted(arch_id for arch_id, cost in costs.items() if budget.fits(cost))


@with_nni
def test_failed_trials_and_trials_of_others_do_no_harm():
    study = study_of("tpe", MIXED)
    study.enqueue_trial({"layer": None, "x": 0.5})
    study.optimize(mixed_loss, n_trials=2)
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    study.tell(study.ask(MIXED.distributions), 3.0)
    study.optimize(mixed_loss, n_trials=2)
    assert len(study.trials) == 6


@with_nni
def test_nothing_of_the_process_is_left_changed(capsys):
    random.seed(5)
    wanted = [random.random(), random.random()]
    random.seed(5)
    found = [random.random()]
    handlers = list(logging.getLogger().handlers)
    study_of("evolution", CHOICES).optimize(loss_of, n_trials=40)
    found.append(random.random())
    assert found == wanted
    assert logging.getLogger().handlers == handlers
    assert capsys.readouterr().out == ""
    assert not logging.getLogger("nni.tuner.tpe").isEnabledFor(logging.INFO)
