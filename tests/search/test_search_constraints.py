"""Optuna's samplers on plain parameters: infeasible trials steer them."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from nas_face.search import ParameterDesigns
from nas_face.search.proposal import opened, propose_labels
from nas_face.search.record import REFUSED, TIMED
from nas_face.search.samplers import make_parameter_sampler
from nas_face.search.stock.children import MixedChildren

WIDTHS = tuple(range(8))
NAMES = ("a", "b", "c", "d")
DESIGNS = ParameterDesigns({name: CategoricalDistribution(WIDTHS) for name in NAMES})
LIMIT = 9.0  # of the sum, which is 14 on average and at most 9 for every tenth design


def n_infeasible(name, n_trials, seed, *, told, designs=DESIGNS, limit=LIMIT):
    """Of the proposals behind the first 16, where the better a design the farther it is out."""
    study = optuna.create_study(directions=["maximize", "maximize"])
    found = []
    for number in range(n_trials):
        sampler = make_parameter_sampler(name, designs, [None, None], 1000 * seed + number)
        asked = propose_labels(study, designs.distributions, sampler)
        kept, study_id = study._storage, study._study_id
        trial = optuna.trial.Trial(study, kept.create_new_trial(study_id, opened(asked, {})))
        total = float(sum(asked.params.values()))
        found.append(total > limit)
        if told:
            trial.set_constraint("total", total / limit - 1)
        study.tell(trial, [total, total - asked.params["a"]])
    return sum(found[16:])


@pytest.mark.parametrize(("name", "n_trials"), [("tpe", 60), ("nsga2", 90), ("nsga3", 90)])
def test_infeasible_trials_steer_the_sampler(name, n_trials):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    told, untold = (
        sum(n_infeasible(name, n_trials, seed, told=each) for seed in range(2))
        for each in (True, False)
    )
    assert told < 0.8 * untold


@pytest.mark.slow
def test_infeasible_trials_steer_the_gaussian_process():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    designs = ParameterDesigns({name: CategoricalDistribution(range(5)) for name in "abc"})
    told, untold = (
        n_infeasible("gp", 30, 0, told=each, designs=designs, limit=3.0) for each in (True, False)
    )
    assert told < 0.7 * untold


def test_parent_is_the_one_that_misses_less_whatever_its_values():
    study = optuna.create_study(directions=["minimize"])

    def past(value, miss):
        trial = create_trial(
            params={"a": value},
            distributions={"a": CategoricalDistribution(WIDTHS)},
            values=[value],
            constraints={"wall": miss},
        )
        trial.number = value
        return trial

    better, worse = past(1, 0.5), past(5, 0.25)  # by value
    children = MixedChildren(0)
    chosen = {children._better([better, worse], study.directions).number for _ in range(50)}
    assert chosen == {1, 5}  # both drawn are the same one, now and then
    mixed = [children._better([better, worse], study.directions).number for _ in range(400)]
    assert mixed.count(5) / 400 == pytest.approx(0.75, abs=0.08)


def test_our_sampler_takes_no_values_of_what_broke_a_wall():
    labels = [{name: (at + shift) % 8 for shift, name in enumerate(NAMES)} for at in range(8)]

    def asked(state_values):
        study = optuna.create_study(directions=["maximize", "maximize"])
        for each in labels:
            total = float(sum(each.values()))
            study.add_trial(
                create_trial(
                    params=each,
                    distributions=DESIGNS.distributions,
                    user_attrs={TIMED: {"total": total}, REFUSED: "over"},
                    **state_values(total),
                )
            )
        sampler = make_parameter_sampler(
            "front_gain", DESIGNS, [None, None], 0, walls={"total": (None, LIMIT)}
        )
        return propose_labels(study, DESIGNS.distributions, sampler).params

    complete = asked(lambda total: {"values": [total, math.sqrt(total)]})
    pruned = asked(lambda total: {"state": optuna.trial.TrialState.PRUNED})
    assert complete == pruned
    assert np.isfinite(list(complete.values())).all()


@pytest.mark.parametrize("name", ["front_gain", "tpe", "nsga2", "gp"])
def test_designs_to_begin_with_come_first_and_once(name):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = [dict.fromkeys(NAMES, 7), dict.fromkeys(NAMES, 3)]
    study = optuna.create_study(directions=["maximize", "maximize"])
    found = []
    for number in range(3):
        sampler = make_parameter_sampler(name, DESIGNS, [None, None], number, start=start)
        asked = propose_labels(study, DESIGNS.distributions, sampler)
        study._storage.create_new_trial(study._study_id, opened(asked, {}))
        study.tell(number, [1.0, 2.0])
        found.append(asked.params)
    assert found[:2] == start
    assert found[2] not in start
