"""What the report says of rungs, against trials whose fate is known."""

import json
import math

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState, create_trial
from scipy.stats import binomtest, kendalltau

from nas_face.search import Rungs, objective
from nas_face.search.record import AUDITED, RUNG, STOPPED
from nas_face.search.rung_trial import RungTrial
from nas_face.study.report.rungs import report_of_trials, rung_report, rung_table

EPOCHS = 8
AXES = [objective("auc"), objective("madds")]


def made_up_study(rungs, n_trials):
    """Accuracies that grow unevenly; every decision is the real one."""
    study = optuna.create_study(directions=[each.direction for each in AXES])
    rng = np.random.default_rng(0)
    for number in range(n_trials):
        skill, cost = rng.random(2)
        trial = study.ask()
        watched = RungTrial(trial, rungs, audit_key=str(number))
        for epoch in range(1, EPOCHS + 1):
            noise = 0.3 * rng.standard_normal() / epoch
            accuracy = (cost + 0.3 * skill) * (1 - 0.6**epoch) + noise
            watched.report([accuracy, cost], step=epoch)
            if watched.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, [accuracy, cost])
    return study.trials


RUNGS = Rungs(epochs=(1, 3), keep=0.5, n_warmup=4, audit=0.4)


@pytest.fixture(scope="module")
def trials():
    return made_up_study(RUNGS, 60)


@pytest.fixture(scope="module")
def report(trials):
    return report_of_trials(trials, RUNGS, AXES, epochs=EPOCHS)


def at_end(trials):
    return [trial for trial in trials if trial.state == TrialState.COMPLETE]


def beats(one, other):
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def front(values):
    return [each for each in values if not any(beats(other, each) for other in values)]


def share_of_box(values, low, high, n=400):
    """Dominated share of the box, by counting cells' middles."""
    middles = (np.arange(n) + 0.5) / n
    auc = high[0] - middles * (high[0] - low[0])
    cost = low[1] + middles * (high[1] - low[1])
    hit = np.zeros((n, n), dtype=bool)
    for value in values:
        hit |= (auc[:, None] <= value[0]) & (cost[None, :] >= value[1])
    return hit.mean()


def test_epochs_spent_and_saved(trials, report):
    spent = [EPOCHS if t.state == TrialState.COMPLETE else t.user_attrs[STOPPED] for t in trials]
    assert report.epochs_spent == sum(spent)
    assert report.epochs_full == 60 * EPOCHS
    assert report.saving == pytest.approx(1 - sum(spent) / (60 * EPOCHS))
    assert 0.1 < report.saving < 0.9


def test_every_trial_that_reached_a_rung_went_somewhere(trials, report):
    first, second = report.figures
    assert (first.epoch, second.epoch) == (1, 3)
    assert first.n_reached == 60
    assert second.n_reached == 60 - first.n_stopped - first.n_audited
    assert second.n_reached - second.n_stopped - second.n_audited == len(
        [t for t in at_end(trials) if AUDITED not in t.user_attrs]
    )
    assert first.n_stopped + second.n_stopped == report.n_stopped
    assert first.n_audited + second.n_audited == report.n_audited
    assert report.n_stopped == sum(t.state == TrialState.PRUNED for t in trials)


def test_tau_is_scipys(trials, report):
    for figures in report.figures:
        early = [-t.user_attrs[f"{RUNG}{figures.epoch}"][0] for t in at_end(trials)]
        late = [t.values[0] for t in at_end(trials)]
        assert list(figures.taus) == ["auc"]  # what MAdds do needs no training
        assert figures.taus["auc"] == pytest.approx(kendalltau(early, late).statistic)
        assert figures.n_compared == len(late)


def test_audited_on_the_front_and_what_they_add(trials, report):
    values = [tuple(t.values) for t in at_end(trials)]
    audited = {tuple(t.values) for t in at_end(trials) if AUDITED in t.user_attrs}
    assert report.n_audited == len(audited) >= 10
    assert report.n_audited_on_front == len(audited & set(front(values))) > 0
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    others = [each for each in values if each not in audited]
    gain = share_of_box(values, low, high) - share_of_box(others, low, high)
    assert report.volume_audited == pytest.approx(gain, abs=0.01)


def test_members_lost_are_wilsons(report):
    test = binomtest(report.n_audited_on_front, report.n_audited)
    interval = test.proportion_ci(confidence_level=0.95, method="wilson")
    lost = report.members_lost
    assert lost.value == pytest.approx(test.statistic * report.n_stopped)
    assert lost.low == pytest.approx(interval.low * report.n_stopped)
    assert lost.high == pytest.approx(interval.high * report.n_stopped)


def test_volume_lost_is_that_of_members_like_the_audited(trials, report):
    values = [tuple(t.values) for t in at_end(trials)]
    low, high = np.min(values, axis=0), np.max(values, axis=0)
    hits = {tuple(t.values) for t in at_end(trials) if AUDITED in t.user_attrs}
    whole = share_of_box(values, low, high)
    gains = [
        whole - share_of_box([other for other in values if other != each], low, high)
        for each in front(values)
        if each in hits
    ]
    assert report.volume_lost.value == pytest.approx(
        report.members_lost.value * np.mean(gains), abs=0.01
    )
    assert report.volume_lost.low < report.volume_lost.value < report.volume_lost.high


def by_hand(values, early, **noted):
    return create_trial(
        state=TrialState.COMPLETE if values else TrialState.PRUNED,
        values=values,
        user_attrs={f"{RUNG}1": early, **noted},
    )


def test_where_no_audited_one_is_on_the_front_members_stand_in():
    """Two members, 0.25 of the box each alone; ten audited ones behind them; ten were stopped."""
    rungs = Rungs(epochs=(1,), audit=0.5)
    trials = [by_hand([0.5, 0.0], [-0.5, 0.0]), by_hand([1.0, 0.5], [-1.0, 0.5])]
    trials += [by_hand([0.0, 1.0], [0.0, 1.0], **{AUDITED: 1}) for at in range(10)]
    trials += [by_hand(None, [0.0, 1.0], **{STOPPED: 1}) for at in range(10)]
    report = report_of_trials(trials, rungs, AXES, epochs=4)
    assert report.is_known
    assert (report.n_audited_on_front, report.volume_audited) == (0, 0)
    high = binomtest(0, 10).proportion_ci(method="wilson").high
    assert (report.members_lost.value, report.members_lost.low) == (0, 0)
    assert report.members_lost.high == pytest.approx(10 * high)
    assert report.volume_lost.high == pytest.approx(10 * high * 0.25)
    assert report.epochs_spent == 12 * 4 + 10
    assert "(0.0 to 2.8)" in text(report)


def text(report):
    return str(rung_table(report).caption)


def test_too_few_audited_are_said_to_be_too_few():
    trials = [by_hand([0.5, 0.0], [-0.5, 0.0]), by_hand([0.2, 1], [-0.2, 1], audited=1)]
    trials.append(by_hand(None, [0.0, 1.0], stopped=1))
    report = report_of_trials(trials, Rungs(epochs=(1,)), AXES, epochs=4)
    assert not report.is_known
    assert "too few to know what the 1 stopped" in text(report)
    nobody = report_of_trials([trials[0], trials[2]], Rungs(epochs=(1,), audit=0), AXES, epochs=4)
    assert nobody.members_lost is None
    assert nobody.volume_lost is None
    assert "not known: none was audited to the end (rungs.audit is 0)" in text(nobody)
    unstopped = report_of_trials(trials[:1], Rungs(epochs=(1,)), AXES, epochs=4)
    assert "nothing was stopped" in text(unstopped)


def test_table_has_a_row_for_each_rung(report):
    table = rung_table(report)
    columns = {str(column.header): list(column.cells) for column in table.columns}
    assert columns["after epoch"] == ["1", "3"]
    assert columns["reached"] == [str(each.n_reached) for each in report.figures]
    assert columns["tau of auc"] == [f"{each.taus['auc']:.2f}" for each in report.figures]
    assert f"{report.epochs_spent:,} of 480 without rungs" in text(report)


def test_report_is_json(report):
    data = json.loads(json.dumps(report.to_data(), allow_nan=False))
    assert data["saving"] == report.saving
    assert data["figures"][0]["n_reached"] == 60
    assert data["members_lost"]["value"] == report.members_lost.value


def test_tau_of_a_single_trial_is_not_defined():
    trials = [by_hand([0.5, 0.0], [-0.5, 0.0])]
    report = report_of_trials(trials, Rungs(epochs=(1,)), AXES, epochs=4)
    assert math.isnan(report.figures[0].taus["auc"])
    assert json.loads(json.dumps(report.to_data(), allow_nan=False))["figures"][0]["taus"] == {
        "auc": None
    }


def test_running_trials_count_at_rungs_and_not_at_the_end():
    study = optuna.create_study(directions=["maximize", "minimize"])
    RungTrial(study.ask(), RUNGS).report([0.5, 1], step=1)
    report = report_of_trials(study.trials, RUNGS, AXES, epochs=EPOCHS)
    assert report.figures[0].n_reached == 1
    assert (report.epochs_full, report.saving) == (0, 0)
    assert rung_table(report).row_count == 2


def test_no_report_without_rungs():
    trials = [create_trial(values=[0.5, 1])]
    assert report_of_trials(trials, RUNGS, AXES, epochs=EPOCHS) is None
    assert report_of_trials(trials, Rungs(), AXES, epochs=EPOCHS) is None
    assert report_of_trials([], RUNGS, AXES, epochs=EPOCHS) is None


def test_report_of_a_run(finished):
    """Two epochs, one rung after the first."""
    report = rung_report(finished)
    n_stopped = sum(trial.state == TrialState.PRUNED for trial in finished.trials())
    assert report.n_stopped == n_stopped > 0
    assert report.epochs_full - report.epochs_spent == n_stopped
