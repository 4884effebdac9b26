"""Walls on what is measured before training: refused designs teach what to ask for."""

import itertools
import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.trial import TrialState, create_trial
from search_checks import SCORE, Evaluation, score_of, settings, shipped_space

from nas_face.search import Budget, objective, run_search
from nas_face.search.designs import ParameterDesigns
from nas_face.search.front_gain import FrontGainSampler
from nas_face.search.front_gain.encoded import encoder_of
from nas_face.search.front_gain.history import History
from nas_face.search.front_gain.model import FrontModel
from nas_face.search.front_gain.walls import WallModel, log_between
from nas_face.search.record import REFUSED, TIMED

LABELS = ("a", "b", "c", "d")
DISTRIBUTIONS = {f"p{at}": CategoricalDistribution(LABELS) for at in range(9)}
BOTH = ("minimize", "minimize")
MS = "latency_ms"


def cost_of(params):
    return {"cost": 1.0 + sum(2.0 ** LABELS.index(label) for label in params.values())}


def latency_of(params):
    """Milliseconds: more with the cost, but the second cheapest label is slow in some places."""
    slow = sum(params[f"p{at}"] == "b" for at in range(5)) - (params["p7"] == params["p8"])
    return math.sqrt(cost_of(params)["cost"]) * math.exp(0.3 * slow)


def error_of(params):
    return 30.0 / math.log(2.0 + cost_of(params)["cost"]) - (params["p4"] == "c")


DESIGNS = ParameterDesigns(DISTRIBUTIONS, cost_of)
DRAWN = list(itertools.islice(DESIGNS.draws(99), 2000))
MEASURED = np.array([latency_of(each.params) for each in DRAWN])


def sampler(seed=0, known=(None, "cost"), **options):
    return FrontGainSampler(DESIGNS, known=list(known), seed=seed, **options)


def suggested(trial):
    return {name: trial.suggest_categorical(name, LABELS) for name in DISTRIBUTIONS}


def asked(study):
    return suggested(study.ask())


def refused_of(given, n, low, high):
    """How many of n proposals break the walls."""
    study = optuna.create_study(directions=BOTH, sampler=given)
    for _ in range(n):
        trial = study.ask()
        params = suggested(trial)
        ms = latency_of(params)
        trial.set_user_attr(TIMED, {MS: ms})
        if low <= ms <= high:
            study.tell(trial, [error_of(params), cost_of(params)["cost"]])
        else:
            trial.set_user_attr(REFUSED, "outside")
            study.tell(trial, state=TrialState.PRUNED)
    return sum(REFUSED in trial.user_attrs for trial in study.trials)


def past(params, values=None, state=None, **attributes):
    return create_trial(
        params=params,
        distributions={name: DISTRIBUTIONS[name] for name in params},
        values=values,
        state=state or (TrialState.COMPLETE if values else TrialState.PRUNED),
        user_attrs=attributes,
    )


def study_of(trials, given=None, directions=BOTH):
    study = optuna.create_study(directions=directions, sampler=given)
    study.add_trials(trials)
    return study


def mixed(n_finished=12, n_refused=12, *, timed=True):
    """Trials within and beyond a wall at the middle."""
    middle = float(np.median(MEASURED))
    inside = [each for each in DRAWN if latency_of(each.params) <= middle]
    outside = [each for each in DRAWN if latency_of(each.params) > middle]
    trials = []
    for each in inside[:n_finished]:
        values = [error_of(each.params), each.known["cost"]]
        trials.append(past(each.params, values, **record(each, timed)))
    for each in outside[-n_refused:]:
        trials.append(past(each.params, **record(each, timed), **{REFUSED: "outside"}))
    return trials


def record(candidate, timed):
    return {TIMED: {MS: latency_of(candidate.params)}} if timed else {}


@pytest.mark.parametrize(
    ("low_quantile", "high_quantile", "share"),
    [(None, 0.1, 0.5), (None, 0.25, 0.5), (0.9, None, 0.7)],
)
def test_far_fewer_proposals_break_a_wall_than_by_chance(low_quantile, high_quantile, share):
    low = None if low_quantile is None else float(np.quantile(MEASURED, low_quantile))
    high = None if high_quantile is None else float(np.quantile(MEASURED, high_quantile))

    def n_refused(makers):
        return sum(refused_of(each, 40, low or 0.0, high or math.inf) for each in makers)

    ours = n_refused(sampler(seed, walls={MS: (low, high)}) for seed in range(3))
    assert ours < share * n_refused(RandomSampler(seed=seed) for seed in range(3))
    assert ours < n_refused(sampler(seed) for seed in range(3))


def test_a_search_with_a_wall_refuses_less_than_chance():
    def time(spec):
        cost = spec.cost()
        return {MS: math.sqrt(cost.madds) * (1.0 + cost.peak_activations / 30_000)}

    space = shipped_space()
    rng = np.random.default_rng(0)
    limit = float(np.quantile([time(space.sample(rng).spec)[MS] for _ in range(150)], 0.15))

    def n_refused(name):
        axes = (SCORE, objective("params"))
        how = settings(
            n_trials=12, objectives=axes, sampler=name, budget=Budget(max_latency_ms=limit)
        )
        study = optuna.create_study(directions=[axis.direction for axis in axes])
        run_search(study, space, Evaluation(score_of, time), how)
        return sum(REFUSED in trial.user_attrs for trial in study.trials)

    assert n_refused("front_gain") < 0.5 * n_refused("random")


def test_without_walls_nothing_that_was_measured_changes_a_proposal():
    trials = {timed: mixed(timed=timed) for timed in (True, False)}
    plain, with_times = (asked(study_of(trials[timed], sampler())) for timed in (False, True))
    assert plain == with_times
    assert plain == asked(study_of(trials[False], sampler(walls={MS: (None, 1.0)})))
    assert plain == asked(study_of(trials[True], sampler(walls={"other": (None, 1.0)})))


def test_too_few_measurements_leave_the_first_designs_as_they_are():
    trials = mixed(1, 2)
    walls = {MS: (None, 1.0)}
    assert asked(study_of(trials, sampler(walls=walls))) == asked(study_of(trials, sampler()))


def test_same_seed_and_history_same_proposal():
    walls = {MS: (None, float(np.quantile(MEASURED, 0.2)))}
    for trials in (mixed(2, 8), mixed(12, 12)):
        one, two = (asked(study_of(trials, sampler(walls=walls))) for _ in range(2))
        assert one == two


@pytest.mark.parametrize(
    "walls", [(None, 0.01), (1e6, None), (5.0, 5.0)], ids=["below all", "above all", "one point"]
)
def test_if_all_are_refused_new_designs_keep_coming(walls):
    low, high = walls[0] or 0.0, walls[1] or math.inf
    assert refused_of(sampler(walls={MS: walls}), 30, low, high) == 30


def test_all_refused_so_far_the_next_lie_nearer_to_the_wall():
    wall = float(np.quantile(MEASURED, 0.02))
    slow = [each for each in DRAWN if latency_of(each.params) > wall][:25]
    trials = [past(each.params, **record(each, True), **{REFUSED: "slow"}) for each in slow]
    proposals = [
        latency_of(asked(study_of(trials, sampler(seed, walls={MS: (None, wall)}))))
        for seed in range(6)
    ]
    assert np.median(proposals) < min(latency_of(each.params) for each in slow)


@pytest.mark.parametrize(
    "timed", [None, [], "no", {}, {MS: None}, {MS: math.nan}, {MS: math.inf}, {MS: 0.0}, {MS: -1}]
)
def test_figures_of_no_use_do_no_harm(timed):
    trials = mixed(8, 6)
    trials += [past(each.params, **{TIMED: timed, REFUSED: "odd"}) for each in DRAWN[500:506]]
    proposal = asked(study_of(trials, sampler(walls={MS: (None, 5.0)}, timed=[MS, None])))
    assert proposal.keys() == DISTRIBUTIONS.keys()


def test_trials_in_any_state_teach():
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING]
    study = study_of(
        past(
            each.params, [1.0, 1.0] if state == TrialState.COMPLETE else None, state, **attributes
        )
        for state, each in zip(states, DRAWN, strict=False)
        for attributes in [record(each, True)]
    )
    found = History.of(study, DESIGNS, -1, {}).timed
    assert [each.timed for each in found] == [
        {MS: latency_of(each.params)} for each in DRAWN[: len(states)]
    ]


def test_chances_agree_with_how_often_walls_are_kept():
    low, high = (float(np.quantile(MEASURED, each)) for each in (0.2, 0.6))
    trials = [past(each.params, **record(each, True)) for each in DRAWN[:150]]
    history = History.of(study_of(trials), DESIGNS, -1, {})
    model = WallModel({MS: (low, high)}, history, encoder_of(DESIGNS, ("cost",)))
    chances = np.exp(model.log_chances(DRAWN[150:]))
    kept = (low <= MEASURED[150:]) & (MEASURED[150:] <= high)
    assert chances.mean() == pytest.approx(kept.mean(), abs=0.1)
    assert kept[chances > 0.8].mean() > 0.8
    assert kept[chances < 0.2].mean() < 0.2


def test_the_chance_to_lie_between_is_exact_far_out():
    cases = [(-1.0, 2.0), (0.5, 3.0), (-4.0, -3.5), (20.0, 21.0), (-math.inf, 0.3)]
    for low, high in cases:
        area = 0.5 * (math.erfc(low / math.sqrt(2)) - math.erfc(high / math.sqrt(2)))
        found = log_between(np.array([low]), np.array([high]))
        mirrored = log_between(np.array([-high]), np.array([-low]))
        assert found == pytest.approx(math.log(area), rel=1e-9)
        assert mirrored == pytest.approx(math.log(area), rel=1e-9)
    assert log_between(np.array([-math.inf]), np.array([math.inf])) == 0.0
    assert np.isfinite(log_between(np.array([300.0]), np.array([math.inf])))


def test_an_objective_that_is_measured_before_training_learns_from_refused_trials():
    """Few trials with values and many without: those tell where latency is low."""
    values = [past(each.params, [latency_of(each.params)]) for each in DRAWN[:8]]
    refused = [past(each.params, **record(each, True)) for each in DRAWN[8:120]]
    history = History.of(study_of([*values, *refused], None, ["minimize"]), DESIGNS, -1, {})
    others = DRAWN[120:]

    def mean_of_best(timed):
        gains = FrontModel(DESIGNS, [None], history, others, timed=timed).gains(others)
        best = np.argsort(-gains)[:50]
        return np.mean([latency_of(others[at].params) for at in best])

    assert mean_of_best([MS]) < 0.9 * mean_of_best([])


def test_a_measured_objective_that_is_maximised_is_the_mirror_image():
    def proposal(sign, direction):
        trials = [
            past(
                each.params,
                [sign * latency_of(each.params)] if each.values else None,
                **{TIMED: {MS: sign * latency_of(each.params)}},
            )
            for each in mixed(8, 30)
        ]
        return asked(study_of(trials, sampler(known=[None], timed=[MS]), [direction]))

    assert proposal(1.0, "minimize") == proposal(-1.0, "maximize")


def test_every_fourth_turn_asks_for_the_best_of_one_objective_alone():
    """What a study of that objective alone would ask for; two measured ones take turns."""
    small = ParameterDesigns({f"p{at}": DISTRIBUTIONS[f"p{at}"] for at in range(4)}, lambda of: {})
    drawn = list(itertools.islice(small.draws(5), 60))
    first = {each.key: each for each in drawn}
    tried = list(first.values())[:20]

    def values(params):
        ranks = [LABELS.index(label) for label in params.values()]
        return [math.exp(-0.3 * sum(ranks)) + 0.1 * ranks[0], 1.0 + sum(ranks) + ranks[1] % 2]

    def proposal(turn, columns):
        """At a turn that comes after 20 trials with values: the rest repeat and fail."""
        study = optuna.create_study(directions=["minimize"] * len(columns))
        study.sampler = FrontGainSampler(small, known=[None] * len(columns), seed=0)
        distributions = {name: DISTRIBUTIONS[name] for name in tried[0].params}
        for each in tried:
            kept = [values(each.params)[column] for column in columns]
            study.add_trial(
                create_trial(params=dict(each.params), distributions=distributions, values=kept)
            )
        for _ in range(turn - len(tried)):
            study.add_trial(
                create_trial(
                    params=dict(tried[0].params),
                    distributions=distributions,
                    state=TrialState.FAIL,
                )
            )
        trial = study.ask()
        return {name: trial.suggest_categorical(name, LABELS) for name in distributions}

    alone = [proposal(21, [0]), proposal(21, [1])]
    assert alone[0] != alone[1]
    assert [proposal(turn, [0, 1]) for turn in (20, 24, 28)] == [alone[1], alone[0], alone[1]]
    together = proposal(21, [0, 1])
    assert together not in alone
    assert [proposal(turn, [0, 1]) for turn in (22, 23, 25)] == [together] * 3
