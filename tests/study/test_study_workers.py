"""Several workers in one run: joined, killed, replaced, interrupted; on SQLite and PostgreSQL."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import datetime

import postgres_server
import pytest
from optuna.trial import TrialState
from real_program import Program
from sqlalchemy import update
from tiny_study import TRAINING, write_study

from nas_face.errors import BuildError, ConfigError
from nas_face.search.claims import Claim, SqlClaims
from nas_face.search.record import ARCH_ID, RETRIED, SLOT, WORKER
from nas_face.search.workers import WORKERS, Worker
from nas_face.study import storage
from nas_face.study.config import load_study
from nas_face.study.run import Run

TIMEOUT_S = 180
LONG = {"training": {**TRAINING, "epochs": 6}, "rungs": None, "trials": 5}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    reason = postgres_server.why_not()
    if reason is not None:
        pytest.skip(reason)
    with postgres_server.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    """Of a storage, or none for the run folder's own."""
    if request.param == "sqlite":
        return None
    return request.getfixturevalue("server").url


@pytest.fixture
def study(request, tmp_path):
    """A study of a name of its own, since a server serves several tests."""
    name = request.node.name.translate(str.maketrans("[]", "--"))
    return write_study(tmp_path / "study", {**LONG, "name": name, **getattr(request, "param", {})})


@pytest.fixture
def search(study, tmp_path):
    """Starts searches; whatever is left of them ends with the test."""
    started = []

    def search(folder, url=None, *words):
        place = [] if url is None else ["--storage", url]
        err = tmp_path / f"{len(started)}.err"
        started.append(Program(["search", study, "--out", folder, *place, *words], err))
        return started[-1]

    yield search
    for process in started:
        process.send(signal.SIGKILL)
        process.ended(TIMEOUT_S)


def wait_for(what, *processes):
    end = time.monotonic() + TIMEOUT_S
    while not (found := what()):
        for process in processes:
            assert process.runs, process.errors
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def under_way(study, folders, url=None):
    """Trials that are being trained, with at least one epoch behind them."""
    for folder in folders:
        if not (folder / "study.json").exists() or not (folder / "workers").exists():
            continue
        run = Run.start(folder, load_study(study), url)
        trained = {
            path.parent.parent.name
            for path in folder.glob("candidates/*/checkpoints/*.safetensors")
        }
        found = [
            trial
            for trial in run.trials()
            if trial.state == TrialState.RUNNING and trial.user_attrs[ARCH_ID] in trained
        ]
        if found:
            return found
    return []


def pid_of(worker):
    return int(worker.split("-")[-2])


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with contextlib.suppress(FileNotFoundError):
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    return True


def require_whole(trials, n_trials=LONG["trials"]):
    assert sorted(trial.user_attrs[SLOT] for trial in trials) == list(range(n_trials))
    assert len({trial.user_attrs[ARCH_ID] for trial in trials}) == n_trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("study", [{"trials": 16}], indirect=True, ids=["sixteen"])
def test_a_killed_worker_s_trial_is_finished_by_another(study, url, search, tmp_path):
    """On PostgreSQL as on three machines: each with a folder of its own."""
    folders = [tmp_path / ("run" if url is None else f"run{number}") for number in range(3)]
    processes = [search(folder, url) for folder in folders]
    pids = {process.pid for process in processes}
    joined_at = []

    def begun_last():
        """A trial under way that was begun when all had joined: the others see it die."""
        trials = under_way(study, folders, url)
        locks = [path.stem for folder in folders for path in folder.glob("workers/*.lock")]
        if {pid_of(lock) for lock in locks} == pids:
            joined_at.append(datetime.now())
        return next(
            (each for each in trials if joined_at and each.datetime_start > joined_at[0]), None
        )

    cut = wait_for(begun_last, *processes)
    killed = cut.user_attrs[WORKER]
    (victim,) = (each for each in processes if each.pid == pid_of(killed))
    victim.send(signal.SIGKILL)
    for process in processes:
        code, err = process.ended(TIMEOUT_S), process.errors
        assert code == (-signal.SIGKILL if process is victim else 0), err
        assert "locked" not in err
        assert "Traceback" not in err
    run = Run.open(folders[0], url)
    trials = run.trials()
    require_whole(trials, 16)
    assert {trial.number for trial in trials if RETRIED in trial.user_attrs} == {cut.number}
    again = trials[cut.number]
    assert (again.params, again.user_attrs[RETRIED]) == (cut.params, killed)
    assert again.user_attrs[WORKER] != killed
    assert len({trial.user_attrs[WORKER] for trial in trials}) > 1
    models = {path.name for folder in folders for path in folder.glob("candidates/*")}
    assert models >= {trial.user_attrs[ARCH_ID] for trial in trials}
    elsewhere = [
        trial
        for trial in trials
        if not (folders[0] / "candidates" / trial.user_attrs[ARCH_ID]).exists()
    ]
    for trial in elsewhere:
        with pytest.raises(BuildError, match=f"was trained by worker {trial.user_attrs[WORKER]}"):
            run.model(trial)


def test_a_killed_child_is_replaced(study, search, tmp_path):
    folder = tmp_path / "run"
    supervisor = search(folder, None, "--workers", 2)
    (cut, *_) = wait_for(lambda: under_way(study, [folder]), supervisor)
    os.kill(pid_of(cut.user_attrs[WORKER]), signal.SIGKILL)
    code, err = supervisor.ended(TIMEOUT_S), supervisor.errors
    assert code == 0, err
    assert "was killed by signal 9; it is replaced" in err
    trials = Run.open(folder).trials()
    require_whole(trials)
    assert trials[cut.number].params == cut.params
    assert trials[cut.number].user_attrs[RETRIED] == cut.user_attrs[WORKER]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_children_end_with_their_supervisor(sign, study, search, tmp_path):
    folder = tmp_path / "run"
    supervisor = search(folder, None, "--workers", 2)
    cut = wait_for(lambda: under_way(study, [folder]), supervisor)
    pids = [pid_of(lock.stem) for lock in (folder / "workers").iterdir()]
    assert pids
    supervisor.send(sign)
    code, err = supervisor.ended(TIMEOUT_S), supervisor.errors
    assert "Traceback" not in err
    if sign != signal.SIGKILL:
        assert code == 130
        assert err.splitlines()[-1] == "nas-face: interrupted; run the same command to go on"
    wait_for(lambda: not any(map(is_alive, pids)))
    run = Run.open(folder)
    assert run.trials()[cut[0].number].state == TrialState.RUNNING
    taken_up = Run.start(folder, load_study(study))
    taken_up.search(taken_up.faces())
    require_whole(run.trials())
    assert not [trial for trial in run.trials() if RETRIED in trial.user_attrs]


def test_a_server_that_goes_away_loses_nothing(study, search, tmp_path):
    reason = postgres_server.why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path / "run"
    with postgres_server.server() as mine:
        process = search(folder, mine.url)
        (cut, *_) = wait_for(lambda: under_way(study, [folder], mine.url), process)
        mine.stop()
        code, err = process.ended(TIMEOUT_S), process.errors
        assert code == 2
        assert "Traceback" not in err
        last = err.splitlines()[-1]
        assert last.startswith("nas-face: postgresql+psycopg://search@/postgres?host=")
        assert "when the database can be reached, the same command goes on" in last
        mine.start()
        process = search(folder)  # where the trials are is kept with the run
        code, err = process.ended(TIMEOUT_S), process.errors
        assert code == 0, err
        trials = Run.open(folder).trials()
        require_whole(trials)
        assert trials[cut.number].params == cut.params


def test_another_study_of_the_same_name_is_refused(study, server, tmp_path):
    run = Run.start(tmp_path / "run", load_study(study, {"trials": 1}), server.url)
    run.search(run.faces())
    other = Run.start(tmp_path / "other", load_study(study, {"seed": 5}), server.url)
    with pytest.raises(ConfigError, match="is another study there: seed was not set, now 5"):
        other.search(other.faces())
    Run.start(tmp_path / "other", load_study(study), server.url)
    assert Run.open(tmp_path / "other").config.seed == run.config.seed


def test_other_faces_are_refused(study, server, tmp_path):
    run = Run.start(tmp_path / "run", load_study(study, {"trials": 1}), server.url)
    run.search(run.faces())
    (tmp_path / "out.txt").write_text("s1\n", encoding="utf-8")
    other = load_study(study, {"data.exclude": str(tmp_path / "out.txt")})
    fewer = Run.start(tmp_path / "other", other, server.url)
    with pytest.raises(ConfigError, match="not the faces with which the run .* began"):
        fewer.search(fewer.faces())


def test_workers_elsewhere_live_as_long_as_they_give_signs(server, study, tmp_path):
    """What cannot be seen by a lock, because it is on another machine."""
    config = load_study(study)
    with storage.naming(url := Run.start(tmp_path / "run", config, server.url).url):
        storage.join_study(url, config)
    engine = storage.open_storage(url).engine

    def enter(name, grace_s):
        worker = Worker(engine, config.name, tmp_path / name, grace_s=grace_s)
        return worker, SqlClaims(engine, config.name, worker)

    here, claims = enter("here", 3.0)
    there, others = enter("there", 3.0)
    with here:
        there.__enter__()
        assert others.take("slot", "0")
        with engine.begin() as connection:
            mine = WORKERS.c.worker == there.name
            connection.execute(update(WORKERS).where(mine).values(host="elsewhere"))
        time.sleep(4)  # it gives signs meanwhile
        assert claims.take("slot", "0") is None
        there._stop.set()  # as if its machine had stopped
        wait_for(lambda: claims.take("slot", "0") == Claim(lost=True))
        assert not others.holds("slot", "0")
        there.__exit__(None, None, None)


def test_an_interrupt_that_a_destructor_swallows_is_sent_again(tmp_path):
    """What is raised in a destructor is lost: a worker would go on, and print a traceback."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, signal, sys, time\n"
        "from nas_face.study.supervisor import _insist\n"
        "class Gone:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        for _ in range(1000): pass\n"
        "sys.unraisablehook = _insist\n"
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "try:\n"
        "    it = Gone()\n"
        "    del it\n"
        "    print('swallowed', flush=True)\n"
        "    time.sleep(60)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    found = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=50)
    assert found.stdout.split() == ["swallowed", "interrupted"]
    assert found.stderr == ""
