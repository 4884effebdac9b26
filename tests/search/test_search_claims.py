"""Workers of one study keep apart: claims, dead workers, trials that are taken over."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import one_worker
import optuna
import pytest
from one_worker import N_TRIALS, prepare, storage_of
from optuna.trial import TrialState
from search_checks import evaluate, made_up, new_study, search, seed_of, settings, shipped_space

from nas_face.search import run_search
from nas_face.search.claims import Alone, Claim, SqlClaims
from nas_face.search.record import ARCH_ID, FAILURE, RETRIED, SLOT, WORKER
from nas_face.search.workers import Worker

SPACE = shipped_space()

DYING = """
import os, signal, sys
from pathlib import Path
from one_worker import storage_of
from nas_face.search.claims import SqlClaims
from nas_face.search.workers import Worker

folder = Path(sys.argv[1])
engine = storage_of(folder).engine
with Worker(engine, "s", folder / "workers") as me:
    assert SqlClaims(engine, "s", me).take("slot", "0")
    print(me.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    prepare(tmp_path)
    return tmp_path


@pytest.fixture
def enter(folder):
    """Makes workers of this process, each with its claims."""
    engine, entered = storage_of(folder).engine, []

    def enter(**kwargs):
        worker = Worker(engine, "s", folder / "workers", **kwargs)
        entered.append(worker.__enter__())
        return worker, SqlClaims(engine, "s", worker)

    yield enter
    for worker in entered:
        worker.__exit__(None, None, None)


def start(*words):
    return subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_dying(folder):
    """A process that holds slot 0; and its name as a worker."""
    process = start("-c", DYING, folder)
    return process, process.stdout.readline().strip()


def kill(process):
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_what_one_has_claimed_another_does_not_get(enter):
    (_, one), (_, other) = enter(), enter()
    assert one.take("slot", "0") == Claim(lost=False)
    assert other.take("slot", "0") is None
    assert one.take("slot", "0") == Claim(lost=False)
    assert (one.holds("slot", "0"), other.holds("slot", "0")) == (True, False)
    assert other.take("slot", "1") is not None
    assert other.take("design", "0") is not None


def test_claims_of_another_study_are_others(enter, folder):
    _, one = enter()
    engine = storage_of(folder).engine
    with Worker(engine, "another", folder / "workers") as me:
        assert one.take("slot", "0")
        assert SqlClaims(engine, "another", me).take("slot", "0")


def test_of_many_that_claim_at_once_one_gets_it(enter):
    claims = [enter()[1] for _ in range(6)]
    won = Counter()
    barrier = threading.Barrier(len(claims))

    def race(mine):
        for key in range(15):
            barrier.wait()
            if mine.take("slot", str(key)):
                won[key] += 1

    threads = [threading.Thread(target=race, args=(each,)) for each in claims]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert won == Counter(range(15))


def test_claims_of_a_worker_that_ended_in_order_are_free_and_not_lost(enter, folder):
    _, watching = enter()
    process, _ = start_dying(folder)
    assert watching.take("slot", "0") is None
    process.communicate("")
    assert process.returncode == 0
    assert watching.take("slot", "0") == Claim(lost=False)
    assert len(list((folder / "workers").iterdir())) == 1


def test_claims_of_a_killed_worker_are_lost_to_those_who_watched_at_once(enter, folder):
    _, watching = enter()
    process, _ = start_dying(folder)
    kill(process)
    assert watching.take("slot", "0") == Claim(lost=True)
    assert watching.holds("slot", "0")


def test_a_later_sitting_finds_claims_of_a_killed_worker_free(enter, folder):
    process, _ = start_dying(folder)
    kill(process)
    _, later = enter()
    assert later.take("slot", "0") == Claim(lost=False)


def test_a_replaced_worker_belongs_to_the_sitting_of_its_supervisor(enter, folder):
    supervisor, _ = enter()
    process, _ = start_dying(folder)
    kill(process)
    _, replaced = enter(sitting=supervisor.sitting)
    assert replaced.take("slot", "0") == Claim(lost=True)


def test_only_one_takes_over(enter, folder):
    claims = [enter()[1] for _ in range(5)]
    process, _ = start_dying(folder)
    kill(process)
    barrier, taken = threading.Barrier(len(claims)), []

    def race(mine):
        barrier.wait()
        taken.append(mine.take("slot", "0"))

    threads = [threading.Thread(target=race, args=(each,)) for each in claims]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert taken.count(None) == len(claims) - 1


def test_workers_of_a_run_that_was_moved_are_still_told_apart(folder, tmp_path_factory):
    new = tmp_path_factory.mktemp("new") / "home"
    process, _ = start_dying(folder)
    try:
        folder.rename(new)
        engine = storage_of(new).engine
        with Worker(engine, "s", new / "workers") as me:
            assert SqlClaims(engine, "s", me).take("slot", "0") is None
            kill(process)
            assert SqlClaims(engine, "s", me).take("slot", "0") is not None
    finally:
        process.kill()


def test_a_worker_alone_gets_everything():
    assert Alone().take("slot", "0") == Alone().take("slot", "0") == Claim(lost=False)
    assert Alone().holds("slot", "0")


def search_with(folder, *modes):
    """Workers in processes of their own, started together; their exit codes."""
    script = one_worker.__file__
    processes = [start(script, folder, mode, str(len(modes))) for mode in modes]
    codes = []
    for each in processes:
        _, err = each.communicate(timeout=120)
        assert "locked" not in err
        assert each.returncode in (0, -signal.SIGKILL), err
        codes.append(each.returncode)
    return codes


def evaluated(folder):
    study = optuna.load_study(study_name="s", storage=storage_of(folder))
    assert sorted(trial.user_attrs[SLOT] for trial in study.trials) == list(range(N_TRIALS))
    assert len({trial.user_attrs[ARCH_ID] for trial in study.trials}) == N_TRIALS
    return {trial.user_attrs[SLOT]: trial for trial in study.trials}


def require_own_values(trial):
    """Those that its architecture has whoever evaluates it."""
    spec = SPACE.decode(trial.params)
    assert trial.values == [made_up(spec, seed_of(spec)), spec.cost().madds]


@pytest.mark.slow
def test_four_processes_share_the_trials(folder):
    assert search_with(folder, *["none"] * 4) == [0] * 4
    trials = evaluated(folder)
    for trial in trials.values():
        assert trial.state == TrialState.COMPLETE
        require_own_values(trial)
    assert len(list(folder.glob("*-*"))) == N_TRIALS + 4  # and nothing was evaluated twice
    assert len({trial.user_attrs[WORKER] for trial in trials.values()}) > 1


@pytest.mark.slow
def test_a_killed_worker_costs_nothing_but_time(folder):
    codes = search_with(folder, "once 3", "once 3", "once 3")
    assert sorted(codes) == [-signal.SIGKILL, 0, 0]
    trials = evaluated(folder)
    retried = [slot for slot, trial in trials.items() if RETRIED in trial.user_attrs]
    assert retried == [3]
    assert trials[3].user_attrs[RETRIED] != trials[3].user_attrs[WORKER]
    for trial in trials.values():
        assert trial.state == TrialState.COMPLETE
        require_own_values(trial)


@pytest.mark.slow
def test_a_design_that_kills_two_workers_is_given_up(folder):
    codes = search_with(folder, "slot 3", "slot 3", "slot 3")
    assert sorted(codes) == [-signal.SIGKILL, -signal.SIGKILL, 0]
    trials = evaluated(folder)
    assert trials[3].state == TrialState.FAIL
    assert "its worker died twice, as " in trials[3].user_attrs[FAILURE]
    assert len(list(folder.glob("3-*"))) == 2
    assert [trial.state for trial in trials.values()].count(TrialState.COMPLETE) == N_TRIALS - 1


@pytest.mark.slow
def test_a_trial_may_be_killed_in_any_number_of_sittings(folder):
    for _ in range(3):
        assert search_with(folder, "slot 0") == [-signal.SIGKILL]
    assert search_with(folder, "none") == [0]
    trials = evaluated(folder)
    assert {trial.state for trial in trials.values()} == {TrialState.COMPLETE}
    assert RETRIED not in trials[0].user_attrs
    whole = search(SPACE, settings(n_trials=N_TRIALS))
    assert [trial.params for _, trial in sorted(trials.items())] == [
        trial.params for trial in whole.trials
    ]


def test_a_trial_that_was_taken_over_is_left_alone(caplog):
    """A worker that was out of reach comes back when another one is at its trial."""

    class Slow(Alone):
        def holds(self, what, key):
            return key != "2" or len(asked) == 0

    asked, told = [], []
    study = new_study()

    def time(spec):
        if len(study.trials) == 3:
            asked.append(spec)
        return {}

    evaluate.time, before = time, evaluate.time
    try:
        with pytest.raises(RuntimeError, match="enough"):
            run_search(
                study,
                SPACE,
                evaluate,
                settings(n_trials=3),
                claims=_Counting(Slow()),
                on_trial=told.append,
            )
    finally:
        evaluate.time = before
    assert [trial.number for trial in told] == [0, 1]
    assert study.trials[2].state == TrialState.RUNNING
    assert "trial 2 was taken over by another worker" in caplog.text


class _Counting:
    """Claims that end the test when a slot is asked for a second time."""

    def __init__(self, inner):
        self._inner, self._taken, self.worker = inner, Counter(), "w"
        self.holds = inner.holds

    def take(self, what, key):
        self._taken[what, key] += 1
        if self._taken[what, key] > 1:
            raise RuntimeError("enough")
        return self._inner.take(what, key)
