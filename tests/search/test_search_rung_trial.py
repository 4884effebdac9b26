"""Rungs inside `study.optimize`: what is filed, what is stopped, with threads and a database."""

import math

import optuna
import pytest
from optuna.trial import TrialState

from nas_face.search.record import AUDITED, PROMOTED, RUNG, STOPPED
from nas_face.search.rung_trial import RungTrial
from nas_face.search.rungs import Rungs

RUNGS = Rungs(epochs=(1, 3), keep=0.5, n_warmup=3, audit=0.0)
N_EPOCHS = 4


def training(rungs=RUNGS, seen=None, **kwargs):
    """An accuracy that grows with the epochs, and a cost known beforehand."""

    def objective(trial):
        width, skill = trial.suggest_int("width", 1, 64), trial.suggest_float("skill", 0, 1)
        watched = RungTrial(trial, rungs, ["maximize", "minimize"], **kwargs)
        for epoch in range(1, N_EPOCHS + 1):
            accuracy = skill * (1 - 0.5**epoch)
            watched.report([accuracy, width], step=epoch)
            if seen is not None:
                seen.append((trial.number, epoch))
            if watched.should_prune():
                raise optuna.TrialPruned
        return accuracy, width

    return objective


def new_study(storage=None):
    sampler = optuna.samplers.RandomSampler(seed=0)
    return optuna.create_study(
        directions=["maximize", "minimize"], sampler=sampler, storage=storage
    )


def test_trials_are_stopped_as_the_rule_says_of_those_before():
    study, seen = new_study(), []
    study.optimize(training(seen=seen), n_trials=40)
    reached = {1: [], 3: []}
    states = []
    for trial in study.trials:
        stopped = None
        for epoch in RUNGS.epochs:
            accuracy = trial.params["skill"] * (1 - 0.5**epoch)
            values = [-accuracy, float(trial.params["width"])]
            goes_on = RUNGS.promotes(values, reached[epoch])
            reached[epoch].append(values)
            assert trial.user_attrs[f"{RUNG}{epoch}"] == values
            if not goes_on:
                stopped = epoch
                break
        assert trial.user_attrs.get(STOPPED) == stopped
        expected = TrialState.COMPLETE if stopped is None else TrialState.PRUNED
        states.append(trial.state is expected)
        assert (
            max(epoch for number, epoch in seen if number == trial.number) == stopped or N_EPOCHS
        )
    assert all(states)
    assert {TrialState.COMPLETE, TrialState.PRUNED} == {trial.state for trial in study.trials}


def test_threads_and_a_database(tmp_path):
    """Two workers; every trial is settled once at each rung that it reached, and some stopped."""
    study = new_study(f"sqlite:///{tmp_path}/study.db")
    study.optimize(training(), n_trials=14, n_jobs=2)
    again = optuna.load_study(
        study_name=study.study_name, storage=f"sqlite:///{tmp_path}/study.db"
    )
    for trial in again.trials:
        noted = trial.user_attrs
        if trial.state == TrialState.PRUNED:
            assert noted[STOPPED] in RUNGS.epochs
            assert f"{RUNG}{noted[STOPPED]}" in noted
            assert f"{RUNG}3" not in noted or noted[STOPPED] == 3
        else:
            assert trial.state == TrialState.COMPLETE
            assert noted[PROMOTED] == 3
            assert STOPPED not in noted
    n_pruned = sum(trial.state == TrialState.PRUNED for trial in again.trials)
    assert 0 < n_pruned < 14


def test_running_trials_are_compared_with():
    study = new_study()
    rungs = Rungs(epochs=(1,), keep=0.25, n_warmup=1, audit=0.0)
    for number in range(4):
        better = RungTrial(study.ask(), rungs)
        better.report([0.9, 10 - number], step=1)
    last = RungTrial(study.ask(), rungs)
    last.report([0.5, 20], step=1)
    assert last.should_prune()
    assert {trial.state for trial in study.trials} == {TrialState.RUNNING}


def test_failed_trials_are_not_compared_with():
    study = new_study()
    rungs = Rungs(epochs=(1,), keep=0.25, n_warmup=1, audit=0.0)
    for _ in range(4):
        trial = study.ask()
        RungTrial(trial, rungs).report([0.9, 1], step=1)
        study.tell(trial, state=TrialState.FAIL)
    alone = RungTrial(study.ask(), rungs)
    alone.report([0.5, 20], step=1)
    assert not alone.should_prune()


def resumed(study, trial):
    """The same trial as a new process finds it."""
    return optuna.trial.Trial(study, trial._trial_id)


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_rung_is_decided_once(goes_on, tmp_path):
    """A trial that is resumed reports again, after others came that would turn the decision."""
    study = new_study(f"sqlite:///{tmp_path}/study.db")
    rungs = Rungs(epochs=(1,), keep=0.5, n_warmup=1, audit=0.0)

    def report(values):
        trial = study.ask()
        RungTrial(trial, rungs).report(values, step=1)
        return trial

    report([0.5, 5])
    trial = report([0.6, 4] if goes_on else [0.4, 6])
    for _ in range(6):
        report([0.9, 1] if goes_on else [0.1, 9])
    again = RungTrial(resumed(study, trial), rungs)
    before = study.trials[trial.number].user_attrs
    again.report([0.123, 4], step=1)
    assert again.should_prune() is not goes_on
    assert study.trials[trial.number].user_attrs == before
    assert RungTrial(study.ask(), rungs).should_prune() is False


def test_a_crash_between_filing_and_deciding_leaves_it_to_the_resumed_trial():
    study = new_study()
    rungs = Rungs(epochs=(1,), keep=0.5, n_warmup=1, audit=0.0)
    RungTrial(study.ask(), rungs).report([0.5, 5], step=1)
    trial = study.ask()
    trial.set_user_attr(f"{RUNG}1", [-0.4, 6.0])
    again = RungTrial(resumed(study, trial), rungs)
    again.report([0.4, 6], step=1)
    assert again.should_prune()
    assert study.trials[1].user_attrs == {f"{RUNG}1": [-0.4, 6.0], STOPPED: 1}


def test_audited_trials_go_to_the_end_and_later_rungs_do_not_count_them():
    study = new_study()
    rungs = Rungs(epochs=(1, 2), keep=0.5, n_warmup=2, audit=1.0)

    def run(values):
        trial = study.ask()
        watched = RungTrial(trial, rungs)
        for epoch in (1, 2):
            watched.report(values, step=epoch)
            assert not watched.should_prune()
        return study.trials[trial.number].user_attrs

    assert run([0.9, 1])[PROMOTED] == 2
    assert run([0.8, 2])[PROMOTED] == 2
    for cost in range(9, 14):
        noted = run([0.1, cost])
        assert noted[AUDITED] == 1
        assert noted[f"{RUNG}2"] == [-0.1, cost]
    # Third of eight at the first rung; at the second it is the last of three, as the audited ones
    # would not have come so far.
    assert run([0.7, 3]) == {
        f"{RUNG}1": [-0.7, 3],
        f"{RUNG}2": [-0.7, 3],
        PROMOTED: 1,
        AUDITED: 2,
    }


def test_the_same_design_is_audited_again():
    """By its parameters, where no key is given."""
    rungs = Rungs(epochs=(1,), keep=0.1, n_warmup=1, audit=0.5)

    def answers(key_of):
        study = new_study()
        RungTrial(study.ask(), rungs).report([0.9, 1], step=1)
        found = []
        for number in range(30):
            study.enqueue_trial({"width": number})
            trial = study.ask()
            trial.suggest_int("width", 0, 100)
            watched = RungTrial(trial, rungs, audit_key=key_of(number))
            watched.report([0.1, 9 + number], step=1)
            found.append(watched.should_prune())
        return found

    assert answers(lambda number: None) == answers(lambda number: None)
    assert answers(str) == [not rungs.audits(str(number)) for number in range(30)]
    assert 0 < sum(answers(lambda number: None)) < 30


def test_steps_between_rungs_change_nothing():
    study = new_study()
    trial = study.ask()
    watched = RungTrial(trial, RUNGS)
    watched.report([0.5, 1], step=2)
    assert not watched.should_prune()
    assert study.trials[0].user_attrs == {}


def test_directions_are_the_studys_by_default():
    study = optuna.create_study(directions=["minimize", "maximize", "minimize"])
    watched = RungTrial(study.ask(), RUNGS)
    watched.report([1, 2, 3], step=1)
    assert study.trials[0].user_attrs[f"{RUNG}1"] == [1, -2, 3]


def test_one_objective_is_welcome():
    study = optuna.create_study(direction="maximize")
    rungs = Rungs(epochs=(1,), keep=0.5, n_warmup=1, audit=0.0)
    answers = []
    for value in (3, 2, 4):
        watched = RungTrial(study.ask(), rungs)
        watched.report([value], step=1)
        answers.append(watched.should_prune())
    assert answers == [False, True, False]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_stopped_at_once(bad):
    study = optuna.create_study(directions=["minimize", "minimize"])
    watched = RungTrial(study.ask(), RUNGS)
    watched.report([bad, 1], step=1)
    assert watched.should_prune()


def test_a_missing_value_is_refused():
    with pytest.raises(ValueError, match="one value for each of 2 objectives, got 1"):
        RungTrial(new_study().ask(), RUNGS).report([1], step=1)
