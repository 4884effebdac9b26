"""Samplers by name on plain parameters: everything that fits, each once, and then no more."""

import itertools

import optuna
import pytest
from optuna.distributions import CategoricalDistribution

from nas_face.errors import ConfigError
from nas_face.search import ParameterDesigns, SpaceExhausted
from nas_face.search.proposal import opened, propose_labels
from nas_face.search.samplers import make_parameter_sampler

WIDTHS = (1, 2, 3, 4)
NAMES = ("a", "b")


def designs_of(most):
    return ParameterDesigns(
        {name: CategoricalDistribution(WIDTHS) for name in NAMES},
        analytic=lambda labels: {"product": labels["a"] * labels["b"]},
        fits=lambda known: known["product"] <= most,
        identity=lambda labels: str(sorted(labels.values())),  # (a, b) is the same as (b, a)
    )


@pytest.mark.parametrize("name", ["front_gain", "nsga2", "nsga3", "tpe", "gp", "random"])
def test_each_design_that_fits_is_proposed_once(name):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    designs = designs_of(most=6)
    fitting = {
        tuple(sorted(pair)) for pair in itertools.product(WIDTHS, WIDTHS) if pair[0] * pair[1] <= 6
    }
    study = optuna.create_study(directions=["maximize", "minimize"])
    found = []
    for number in range(len(fitting)):
        sampler = make_parameter_sampler(name, designs, [None, "product"], number)
        asked = propose_labels(study, designs.distributions, sampler)
        study._storage.create_new_trial(study._study_id, opened(asked, {}))
        a, b = (asked.params[each] for each in NAMES)
        study.tell(number, [float(a - b), float(a * b)])
        found.append(tuple(sorted((a, b))))
    assert sorted(found) == sorted(fitting)
    sampler = make_parameter_sampler(name, designs, [None, "product"], 99)
    with pytest.raises(SpaceExhausted, match="no design is left"):
        propose_labels(study, designs.distributions, sampler)
    assert len(study.trials) == len(fitting)


def test_samplers_of_one_objective_or_of_search_spaces_are_refused():
    with pytest.raises(ConfigError, match="take one objective"):
        make_parameter_sampler("nni:tpe", designs_of(6), [None, None], 0)
    with pytest.raises(ConfigError, match="take the choices of a search space"):
        make_parameter_sampler("nni:tpe", designs_of(6), [None], 0)
