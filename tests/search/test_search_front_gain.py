"""Our sampler: new, within the walls, deterministic, and better than chance."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial
from search_checks import made_up, shipped_space, tiny_space

from nas_face.search import Budget
from nas_face.search.designs import ParameterDesigns, SpaceDesigns, SpaceExhausted
from nas_face.search.front_gain import FrontGainSampler
from nas_face.search.front_gain.history import History
from nas_face.search.front_gain.model import FrontModel
from nas_face.search.pareto import hypervolume
from nas_face.search.record import ARCH_ID, RUNG

LABELS = ("a", "b", "c", "d")
DISTRIBUTIONS = {f"p{at}": CategoricalDistribution(LABELS) for at in range(9)}
SPACE = shipped_space()
BOTH = ["minimize", "minimize"]


def cost_of(params):
    return {"cost": 1.0 + sum(2.0 ** LABELS.index(label) for label in params.values())}


def error_of(params):
    """Large designs are good, some labels are bad, and a few belong together."""
    error = 30.0 / math.log(2.0 + cost_of(params)["cost"])
    error += 2.0 * sum(params[f"p{at}"] == "b" for at in range(4))
    error -= 3.0 * (params["p4"] == params["p5"] == "c")
    return error


def designs(limit=math.inf):
    return ParameterDesigns(DISTRIBUTIONS, cost_of, lambda known: known["cost"] <= limit)


def sampler(given=None, known=(None, "cost"), seed=0, **options):
    return FrontGainSampler(given or designs(), known=list(known), seed=seed, **options)


def suggested(trial):
    return {name: trial.suggest_categorical(name, LABELS) for name in DISTRIBUTIONS}


def measured(trial):
    params = suggested(trial)
    return error_of(params), cost_of(params)["cost"]


def study_of(given, n=0, directions=BOTH, objective=measured, **options):
    study = optuna.create_study(directions=directions, sampler=given, **options)
    study.optimize(objective, n_trials=n)
    return study


def history(study):
    return [(trial.params, trial.values) for trial in study.trials]


def finished(params, values, state=TrialState.COMPLETE, **attributes):
    return create_trial(
        params=params,
        distributions={name: DISTRIBUTIONS[name] for name in params if name in DISTRIBUTIONS},
        values=values,
        state=state,
        user_attrs=attributes,
    )


def share(study):
    values = np.array([trial.values for trial in study.trials])
    return hypervolume(values, [60.0, 80.0])


def test_it_finds_more_than_random_draws():
    for seed in range(3):
        ours = study_of(sampler(seed=seed), 40)
        chance = study_of(optuna.samplers.RandomSampler(seed=seed), 120)
        assert share(ours) > share(chance)


def test_no_design_twice_and_none_outside_the_walls():
    study = study_of(sampler(designs(limit=25.0)), 45)
    assert len({str(sorted(trial.params.items())) for trial in study.trials}) == 45
    assert max(trial.values[1] for trial in study.trials) <= 25.0


def test_same_seed_and_history_same_proposal_from_a_sampler_made_anew():
    one = study_of(sampler(), 18)
    many = optuna.create_study(directions=BOTH)
    for _ in range(18):
        many.sampler = sampler()
        many.optimize(measured, n_trials=1)
    assert history(one) == history(many)
    assert history(one) != history(study_of(sampler(seed=1), 18))


def test_workers_that_ask_at_once_get_different_designs():
    study = study_of(sampler(), 12)
    asked = [study.ask() for _ in range(6)]  # none has filed a label yet
    params = [suggested(trial) for trial in asked]
    assert len({str(each) for each in params}) == 6


def test_a_running_trial_counts_as_it_is_predicted():
    """What it is expected to bring is not there to be gained a second time."""
    study = study_of(sampler(), 14)
    params = suggested(study.ask())
    given = designs()
    asked, like_it = (given.of(each) for each in (params, {**params, "p0": "c"}))
    pool = [asked, like_it, *itertools.islice(given.draws(0), 50)]

    def gains(current):
        past = History.of(study, given, current, {})
        return FrontModel(given, (None, "cost"), past, pool).gains([asked, like_it])

    alone, beside = gains(current=14), gains(current=15)
    assert beside[0] < 0.3 * alone[0]
    assert beside[1] < alone[1]


def test_threads_get_different_designs():
    study = study_of(sampler(), 12)
    with ThreadPoolExecutor(4) as pool:
        params = list(pool.map(lambda _: str(suggested(study.ask())), range(8)))
    assert len(set(params)) == 8


@pytest.mark.parametrize("state", [TrialState.FAIL, TrialState.PRUNED, TrialState.RUNNING])
def test_trials_in_any_state_are_not_repeated(state):
    small = ParameterDesigns({"p0": CategoricalDistribution(LABELS)}, cost_of)
    study = study_of(sampler(small))
    for label in "acd":
        study.add_trial(finished({"p0": label}, None, state))
    trial = study.ask()
    assert trial.suggest_categorical("p0", LABELS) == "b"


def test_a_small_space_is_gone_through_and_then_exhausted():
    space = tiny_space()
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = FrontGainSampler(
        SpaceDesigns(space, Budget()), known=[None, "madds"], seed=0, n_startup=4
    )
    seen = []

    def objective(trial):
        spec = space.propose(
            lambda path, choice: trial.suggest_categorical(path, choice.labels)
        ).spec
        seen.append(spec.arch_id)
        return made_up(spec, 0), spec.cost().madds

    study.optimize(objective, n_trials=12)
    assert len(set(seen)) == 12
    with pytest.raises(SpaceExhausted, match="no design is left"):
        study.optimize(objective, n_trials=1)


def test_conditional_spaces_get_their_active_choices():
    wall = 4_000_000
    given = SpaceDesigns(SPACE, Budget(max_madds=wall))
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = FrontGainSampler(given, known=[None, "madds"], seed=0, n_startup=6)
    ids = []
    for _ in range(14):
        trial = study.ask()
        spec = SPACE.decode(trial.relative_params)  # refuses labels that are missing or inactive
        for path, label in trial.relative_params.items():
            assert trial.suggest_categorical(path, SPACE.choices()[path].labels) == label
        trial.set_user_attr(ARCH_ID, spec.arch_id)
        ids.append(spec.arch_id)
        assert spec.cost().madds <= wall
        study.tell(trial, [made_up(spec, 0), spec.cost().madds])
    assert len(set(ids)) == 14


def test_a_single_objective():
    study = study_of(sampler(known=[None]), 40, ["minimize"], lambda t: error_of(suggested(t)))
    chance = np.random.default_rng(0)
    drawn = [
        error_of({name: LABELS[chance.integers(4)] for name in DISTRIBUTIONS}) for _ in range(400)
    ]
    assert study.best_value < min(drawn)


def test_three_objectives_of_which_two_are_measured():
    def objective(trial):
        params = suggested(trial)
        return -error_of(params), cost_of(params)["cost"], sum(map("a".__eq__, params.values()))

    study = study_of(
        sampler(known=[None, "cost", None]), 20, ["maximize", "minimize", "minimize"], objective
    )
    assert len({str(trial.params) for trial in study.trials}) == 20


def test_only_known_objectives_need_no_model():
    study = study_of(
        sampler(known=["cost"]), 12, ["minimize"], lambda t: cost_of(suggested(t))["cost"]
    )
    assert study.best_value == 1.0 + len(DISTRIBUTIONS)  # the least there is


def test_if_all_fail_the_first_designs_go_on():
    study = optuna.create_study(directions=BOTH, sampler=sampler())
    params = set()
    for _ in range(20):
        trial = study.ask()
        params.add(str(suggested(trial)))
        study.tell(trial, state=TrialState.FAIL)
    assert len(params) == 20


def test_infinite_values_do_no_harm():
    study = study_of(sampler(), 10)
    extra = {name: "a" for name in DISTRIBUTIONS}
    for label, values in zip(
        "bcd", ([math.inf, 9.0], [-math.inf, 8.0], [math.inf, math.inf]), strict=True
    ):
        study.add_trial(finished({**extra, "p8": label}, values))
    study.optimize(measured, n_trials=3)
    assert len(study.trials) == 16


def test_trials_from_elsewhere_are_passed_over():
    study = optuna.create_study(directions=BOTH, sampler=sampler())
    study.add_trial(create_trial(values=[1.0, 2.0]))
    study.add_trial(
        create_trial(
            values=[1.0, 2.0],
            params={"p0": 0.5},
            distributions={"p0": FloatDistribution(0.0, 1.0)},
        )
    )
    study.optimize(measured, n_trials=13)
    assert len(study.trials) == 15


def test_start_comes_first_where_it_is_within_the_walls():
    cheap, dear = ({name: label for name in DISTRIBUTIONS} for label in "ad")
    given = sampler(designs(limit=40.0), start=[dear, cheap, {"p0": "a"}])
    study = study_of(given, 3)
    assert study.trials[0].params == cheap
    assert all(trial.params not in (cheap, dear) for trial in study.trials[1:])


def test_stopped_trials_teach():
    """With what they showed at the rung, the next proposal is another one; without, it is not."""

    def proposal(with_rungs):
        study = optuna.create_study(directions=BOTH, sampler=sampler())
        rng = np.random.default_rng(0)
        for number in range(30):
            params = {name: LABELS[rng.integers(4)] for name in DISTRIBUTIONS}
            final = [error_of(params), cost_of(params)["cost"]]
            rung = {f"{RUNG}2": [final[0] + 5.0, final[1]]} if with_rungs else {}
            stopped = number % 2
            state = TrialState.PRUNED if stopped else TrialState.COMPLETE
            study.add_trial(finished(params, None if stopped else final, state, **rung))
        return error_of(suggested(study.ask()))

    assert proposal(with_rungs=True) != proposal(with_rungs=False)


def test_features_that_tell_all_help():
    def feature(candidate):
        return np.array([error_of(candidate.params)], dtype=np.float32)

    def missing(candidate):
        return None

    shares = [
        np.mean([share(study_of(sampler(seed=seed, features=each), 25)) for seed in range(2)])
        for each in (feature, None, missing)
    ]
    assert shares[0] > shares[1] == shares[2]


def test_maximised_and_minimised_are_mirror_images():
    mirrored = study_of(
        sampler(),
        16,
        ["maximize", "minimize"],
        lambda trial: (-(values := measured(trial))[0], values[1]),
    )
    plain = study_of(sampler(), 16)
    assert [trial.params for trial in mirrored.trials] == [trial.params for trial in plain.trials]


def test_other_parameters_are_drawn_at_random():
    def objective(trial):
        return measured(trial)[0] + trial.suggest_float("other", 0.0, 1.0), 1.0

    study = study_of(sampler(known=[None, None]), 12, BOTH, objective)
    assert len({trial.params["other"] for trial in study.trials}) == 12


def test_objectives_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="for each objective of the study, 2, got 1"):
        study_of(sampler(known=[None]), 1)
