"""The loop: seeds, failures, rungs, and ending as if nothing had interrupted it."""

import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import Trial, TrialState
from search_checks import (
    SAMPLERS,
    Evaluation,
    designs_of_tiny,
    evaluate,
    history,
    made_up,
    new_study,
    score_of,
    search,
    seed_of,
    settings,
    shipped_space,
    tiny_space,
)

from nas_face.errors import SearchFailed
from nas_face.search import Budget, Rungs, TrialStopped, loop, run_search
from nas_face.search.ledger import Ledger
from nas_face.search.record import ARCH_ID, FAILURE, LEDGER, METRICS, REFUSED, STOPPED, TIMED
from nas_face.space.survey import survey

SPACE = shipped_space()
WALL = int(
    survey(SPACE, lambda cost: True, seed=0, n_samples=100).quantile(lambda cost: cost.madds, 0.3)
)
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


BOOM = ValueError("boom")


def failing_at(numbers, error=BOOM):
    """An evaluation that raises at some of its calls, counted from 0."""
    calls = []

    def run(spec, seed, report):
        calls.append(spec)
        if len(calls) - 1 in numbers:
            raise error
        return score_of(spec, seed, report)

    failing = Evaluation(run)
    failing.calls = calls
    return failing


def test_values_metrics_and_seeds():
    seeds = {}

    def run(spec, seed, report):
        seeds[spec.arch_id] = seed
        return {"score": 0.25, "beside": 3.0}

    study = search(SPACE, settings(n_trials=4), Evaluation(run))
    for trial in study.trials:
        spec = SPACE.decode(trial.params)
        cost = spec.cost()
        assert trial.state == TrialState.COMPLETE
        assert trial.values == [0.25, cost.madds]
        assert seeds[spec.arch_id] == seed_of(spec)
        metrics = trial.user_attrs[METRICS]
        assert metrics.pop("wall_s") >= 0
        assert metrics == {
            "score": 0.25,
            "beside": 3.0,
            "madds": cost.madds,
            "params": cost.params,
            "peak_activations": cost.peak_activations,
            "size_bytes": 4 * cost.folded_params,
        }


def test_nothing_is_evaluated_twice_once_complete():
    study = search(SPACE, settings(n_trials=6))
    before = history(study)

    def forbidden(spec, seed, report):
        raise AssertionError("evaluated again")

    told = []
    run_search(study, SPACE, Evaluation(forbidden), settings(n_trials=6), on_trial=told.append)
    run_search(study, SPACE, Evaluation(forbidden), settings(n_trials=3))
    assert history(study) == before
    assert told == []


@every_sampler
def test_more_trials_later_are_those_of_one_long_run(name):
    whole = search(SPACE, settings(n_trials=20, sampler=name))
    parts = search(SPACE, settings(n_trials=8, sampler=name))
    run_search(parts, SPACE, evaluate, settings(n_trials=20, sampler=name))
    assert history(parts) == history(whole)


def test_on_trial_is_told_of_every_trial_in_order():
    told = []
    run = failing_at({1})
    study = search(SPACE, settings(n_trials=4), run, on_trial=told.append)
    assert [trial.number for trial in told] == [0, 1, 2, 3]
    assert [trial.state for trial in told] == [trial.state for trial in study.trials]


@every_sampler
@pytest.mark.parametrize("at", [0, 7, 14])
def test_an_interrupted_search_ends_as_an_uninterrupted_one(name, at):
    how = settings(n_trials=15, sampler=name, budget=Budget(max_madds=WALL))
    study = new_study()
    with pytest.raises(KeyboardInterrupt):
        run_search(study, SPACE, failing_at({at}, KeyboardInterrupt()), how)
    assert study.trials[-1].state == TrialState.RUNNING
    run_search(study, SPACE, evaluate, how)
    assert history(study) == history(search(SPACE, how))
    assert [trial.number for trial in study.trials] == list(range(15))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


@every_sampler
def test_an_interruption_while_proposing_changes_nothing(name, monkeypatch):
    """The process dies in the midst of a proposal; nothing of it is left behind."""
    how = settings(n_trials=15, sampler=name, budget=Budget(max_madds=WALL))
    study = new_study()
    suggest = Trial.suggest_categorical
    calls = []

    def dying(self, path, labels):
        calls.append(path)
        if self.number == 9 and len(calls) % 5 == 0:
            raise KeyboardInterrupt
        return suggest(self, path, labels)

    with monkeypatch.context() as patch:
        patch.setattr(Trial, "suggest_categorical", dying)
        with pytest.raises(KeyboardInterrupt):
            run_search(study, SPACE, evaluate, how)
    assert len(study.trials) == 9
    run_search(study, SPACE, evaluate, how)
    assert history(study) == history(search(SPACE, how))
    assert len(study.trials) == 15


KILLED = """
import os, signal, sys
import optuna
from search_checks import Evaluation, new_study, score_of, settings, shipped_space
from nas_face.search import run_search

def run(spec, seed, report):
    run.calls += 1
    if run.calls == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return score_of(spec, seed, report)

run.calls = 0
study = new_study(storage=sys.argv[1], study_name="s")
run_search(study, shipped_space(), Evaluation(run), settings(sampler="nsga2"))
"""


def test_a_killed_process_loses_nothing(tmp_path):
    storage = f"sqlite:///{tmp_path / 'journal.db'}"
    result = subprocess.run(
        [sys.executable, "-c", KILLED, storage],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    study = optuna.load_study(study_name="s", storage=storage)
    assert [trial.state for trial in study.trials[4:]] == [TrialState.RUNNING]
    run_search(study, SPACE, evaluate, settings(sampler="nsga2"))
    assert history(study) == history(search(SPACE, settings(sampler="nsga2")))


def test_a_failure_is_recorded_and_the_search_goes_on():
    study = search(SPACE, settings(n_trials=5), failing_at({2}, ValueError("two\nlines")))
    states = [trial.state for trial in study.trials]
    assert states.count(TrialState.COMPLETE) == 4
    failed = study.trials[2]
    assert failed.state == TrialState.FAIL
    assert failed.user_attrs[FAILURE] == "ValueError: two lines"
    assert METRICS not in failed.user_attrs


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError(), "RuntimeError: RuntimeError"),
        (KeyError("k"), "KeyError: 'k'"),
        (MemoryError("x" * 900), "MemoryError: " + "x" * 487),
    ],
)
def test_the_reason_is_one_short_line(error, reason):
    study = search(SPACE, settings(n_trials=2), failing_at({0}, error))
    assert study.trials[0].user_attrs[FAILURE] == reason


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ({}, "MetricError: no value for the objective score"),
        ({"score": float("nan")}, "MetricError: the objective score is not a number"),
    ],
)
def test_a_value_that_is_missing_or_no_number_is_a_failure(measured, reason):
    calls = []

    def run(spec, seed, report):
        calls.append(spec)
        return measured if len(calls) == 1 else score_of(spec, seed, report)

    study = search(SPACE, settings(n_trials=2), Evaluation(run))
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert study.trials[0].user_attrs[FAILURE] == reason


def test_five_failures_in_a_row_end_the_search():
    run = failing_at(range(3, 100))
    with pytest.raises(SearchFailed, match="5 trials in a row failed; the last: ValueError: boom"):
        search(SPACE, settings(n_trials=50), run)
    assert len(run.calls) == 8


def test_a_full_disk_ends_the_sitting_and_loses_no_trial():
    """It is not the design's fault, so the trial stays open and the next sitting finishes it."""
    whole = search(SPACE, settings(n_trials=5))
    study = new_study()
    full = failing_at({2}, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        run_search(study, SPACE, full, settings(n_trials=5))
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    run_search(study, SPACE, evaluate, settings(n_trials=5))
    assert [trial.values for trial in study.trials] == [trial.values for trial in whole.trials]
    assert [trial.params for trial in study.trials] == [trial.params for trial in whole.trials]


def test_failures_that_are_not_in_a_row_do_not():
    run = failing_at({0, 1, 2, 3, 5, 6, 7, 8, 10})
    study = search(SPACE, settings(n_trials=12), run)
    assert len(study.trials) == 12


def test_an_architecture_that_failed_is_not_tried_again():
    run = failing_at({0, 4, 6})
    search(tiny_space(), settings(n_trials=12), run)
    assert len({spec.arch_id for spec in run.calls}) == len(run.calls) == 12


def test_a_space_that_is_used_up_ends_the_search(caplog):
    with caplog.at_level(logging.WARNING, logger="nas_face.search.loop"):
        study = search(tiny_space(), settings(n_trials=50))
    found = [trial.user_attrs[ARCH_ID] for trial in study.trials if trial.values]
    assert len(found) == 12
    assert set(found) == {design.spec.arch_id for design in designs_of_tiny()}
    assert "no design is left" in caplog.text
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    run_search(study, tiny_space(), failing_at(range(100)), settings(n_trials=50))
    assert sum(trial.state == TrialState.COMPLETE for trial in study.trials) == 12


def three_epochs(spec, seed, report):
    """Three epochs; the score grows, and the ranking may stop it."""
    for epoch in (1, 2, 3):
        if not report(epoch, {"score": made_up(spec, seed) * epoch, "loss": 1 / epoch}):
            raise TrialStopped
    return {"score": made_up(spec, seed) * 3}


in_rungs = Evaluation(three_epochs)
RUNGS = Rungs(epochs=(1, 2), keep=0.5, n_warmup=3)


def test_trials_are_stopped_as_the_ranking_says():
    study = search(SPACE, settings(n_trials=25, rungs=RUNGS), in_rungs)
    states = [trial.state for trial in study.trials]
    assert {TrialState.COMPLETE, TrialState.PRUNED} == set(states)
    reached = {1: [], 2: []}
    for trial in study.trials:
        spec = SPACE.decode(trial.params)
        score, madds = made_up(spec, seed_of(spec)), spec.cost().madds
        stopped = None
        for epoch in (1, 2):
            values = [-score * epoch, madds]
            goes_on = RUNGS.promotes(values, reached[epoch])
            reached[epoch].append(values)
            assert trial.user_attrs[f"rung{epoch}"] == values
            if not goes_on:
                stopped = epoch
                break
        assert trial.user_attrs.get(STOPPED) == stopped
        assert (trial.state == TrialState.PRUNED) is (stopped is not None)


def test_a_stopped_trial_keeps_what_was_measured_and_has_no_values():
    study = search(SPACE, settings(n_trials=25, rungs=RUNGS), in_rungs)
    stopped = next(trial for trial in study.trials if trial.state == TrialState.PRUNED)
    epoch = stopped.user_attrs[STOPPED]
    spec = SPACE.decode(stopped.params)
    metrics = stopped.user_attrs[METRICS]
    assert metrics["score"] == made_up(spec, seed_of(spec)) * epoch
    assert metrics["loss"] == 1 / epoch
    assert metrics["madds"] == spec.cost().madds


def test_reports_between_rungs_change_nothing():
    def chatty(spec, seed, report):
        assert report(7, {})  # no rung there, so nothing is asked for
        return score_of(spec, seed, report)

    study = search(SPACE, settings(n_trials=6, rungs=RUNGS), Evaluation(chatty))
    assert history(study) == history(search(SPACE, settings(n_trials=6)))


def dying_at(arch_id, rung):
    """Three epochs in rungs; the process ends right after one report of one architecture."""

    def run(spec, seed, report):
        def report_and_die(epoch, values):
            answer = report(epoch, values)
            if (spec.arch_id, epoch) == (arch_id, rung):
                raise KeyboardInterrupt
            return answer

        return three_epochs(spec, seed, report_and_die)

    return Evaluation(run)


@every_sampler
@pytest.mark.parametrize("rung", [1, 2])
def test_an_interruption_in_a_rung_changes_nothing(name, rung):
    """Rungs compare a trial with those before it, not with what it reported itself before."""
    how = settings(n_trials=18, sampler=name, rungs=RUNGS)
    whole = search(SPACE, how, in_rungs)
    reached = [trial for trial in whole.trials[3:] if f"rung{rung}" in trial.user_attrs]
    for trial in reached[:5]:
        study = new_study()
        with pytest.raises(KeyboardInterrupt):
            run_search(study, SPACE, dying_at(trial.user_attrs[ARCH_ID], rung), how)
        run_search(study, SPACE, in_rungs, how)
        assert history(study) == history(whole)


def test_a_rung_without_a_value_is_a_failure():
    def silent(spec, seed, report):
        report(1, {})
        return score_of(spec, seed, report)

    with pytest.raises(SearchFailed, match="MetricError: no value for the objective score"):
        search(SPACE, settings(rungs=RUNGS), Evaluation(silent))


def latency(spec):
    """Made up, and no function of the multiply-adds alone."""
    return {"latency_ms": 1.0 + made_up(spec, 0)}


@every_sampler
def test_what_is_over_a_wall_of_latency_is_timed_and_not_trained(name):
    trained = []

    def run(spec, seed, report):
        trained.append(spec.arch_id)
        return score_of(spec, seed, report)

    how = settings(n_trials=10, sampler=name, budget=Budget(max_latency_ms=1.4))
    study = search(SPACE, how, Evaluation(run, latency))
    states = {TrialState.COMPLETE: [], TrialState.PRUNED: []}
    for trial in study.trials:
        spec = SPACE.decode(trial.params)
        states[trial.state].append(spec)
        assert trial.user_attrs[TIMED] == latency(spec)
        assert trial.user_attrs[METRICS]["latency_ms"] == latency(spec)["latency_ms"]
        assert (REFUSED in trial.user_attrs) is (trial.state == TrialState.PRUNED)
    assert [spec.arch_id for spec in states[TrialState.COMPLETE]] == trained
    assert len(trained) == 10
    assert all(latency(spec)["latency_ms"] <= 1.4 for spec in states[TrialState.COMPLETE])
    assert states[TrialState.PRUNED]
    assert all(latency(spec)["latency_ms"] > 1.4 for spec in states[TrialState.PRUNED])
    assert len({trial.user_attrs[ARCH_ID] for trial in study.trials}) == len(study.trials)


def test_a_search_that_is_interrupted_under_a_wall_of_latency_times_nothing_twice():
    how = settings(n_trials=8, budget=Budget(max_latency_ms=1.4))
    whole = search(SPACE, how, Evaluation(score_of, latency))
    for at in range(1, 8):
        timed, calls = [], []

        def time(spec, timed=timed):
            timed.append(spec.arch_id)
            return latency(spec)

        def run(spec, seed, report, calls=calls, at=at):
            calls.append(spec)
            if len(calls) == at:
                raise KeyboardInterrupt
            return score_of(spec, seed, report)

        study = new_study()
        with pytest.raises(KeyboardInterrupt):
            run_search(study, SPACE, Evaluation(run, time), how)
        run_search(study, SPACE, Evaluation(run, time), how)
        assert history(study) == history(whole)
        assert len(timed) == len(set(timed)) == len(whole.trials)


def test_a_wall_that_refuses_design_after_design_ends_the_search_with_the_nearest_miss():
    with pytest.raises(SearchFailed, match="50 designs in a row were refused") as caught:
        search(
            SPACE,
            settings(n_trials=3, budget=Budget(max_latency_ms=0.5)),
            Evaluation(score_of, latency),
        )
    number, ms = re.search(
        r"nearest miss is trial (\d+) at ([0-9.]+) ms", str(caught.value)
    ).groups()
    again = new_study()
    with pytest.raises(SearchFailed):
        run_search(
            again,
            SPACE,
            Evaluation(score_of, latency),
            settings(n_trials=3, budget=Budget(max_latency_ms=0.5)),
        )
    refused = {each.number: each.user_attrs[TIMED]["latency_ms"] for each in again.trials}
    assert len(refused) == 50
    assert int(number) == min(refused, key=refused.get)
    assert float(ms) == pytest.approx(min(refused.values()), rel=1e-3)


def test_a_wall_of_latency_that_nothing_measures_is_a_failure():
    with pytest.raises(SearchFailed, match="the budget limits latency_ms, but nothing measures"):
        search(SPACE, settings(budget=Budget(max_latency_ms=1.0)))


def test_a_sampler_that_repeats_itself_is_asked_again(monkeypatch):
    """As two workers' samplers may, which know nothing of each other's proposals."""

    asked = []

    def stubborn(name, space, budget, objectives, seed, **given):
        asked.append(seed)
        return RandomSampler(seed=len(asked) % 4)  # four different proposals in all

    monkeypatch.setattr(loop, "make_sampler", stubborn)
    study = search(SPACE, settings(n_trials=4))
    assert len({trial.user_attrs[ARCH_ID] for trial in study.trials}) == len(study.trials) == 4
    ledgers = [Ledger.of(trial.user_attrs[LEDGER]).counts for trial in study.trials]
    assert sum(each["proposed"] for each in ledgers) == len(asked)
    assert len(set(asked)) == len(asked)
    repeated = sum(each.get("repeated", 0) for each in ledgers)
    assert repeated == len(asked) - 4


def test_a_sampler_that_knows_no_budget_trains_nothing_over_it(monkeypatch):
    def careless(name, space, budget, objectives, seed, **given):
        return RandomSampler(seed=seed)

    monkeypatch.setattr(loop, "make_sampler", careless)
    how = settings(n_trials=6, budget=Budget(max_madds=WALL))
    study = search(SPACE, how)
    assert len(study.trials) == 6
    assert all(trial.values[1] <= WALL for trial in study.trials)
    counts = [Ledger.of(trial.user_attrs[LEDGER]).counts for trial in study.trials]
    assert sum(each.get("refused", 0) for each in counts) > 0


def test_a_trial_of_which_all_is_on_record_is_only_told(monkeypatch):
    """The process dies between the figures and the end of the trial."""
    study = new_study()

    def dying(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", dying)
        with pytest.raises(KeyboardInterrupt):
            run_search(study, SPACE, evaluate, settings(n_trials=1))
    assert METRICS in study.trials[0].user_attrs
    run_search(study, SPACE, failing_at(range(9)), settings(n_trials=1))
    assert history(study) == history(search(SPACE, settings(n_trials=1)))


def test_the_history_and_the_sampler_of_the_study_stay_as_they_are():
    study = new_study(sampler=(mine := RandomSampler(seed=0)))
    study.add_trial(optuna.create_trial(values=[0.5, 1.0]))
    study.enqueue_trial({"x": 1})
    run_search(study, SPACE, evaluate, settings(n_trials=2))
    assert study.sampler is mine
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.COMPLETE, TrialState.WAITING] + [TrialState.COMPLETE] * 2
