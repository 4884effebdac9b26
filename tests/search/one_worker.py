"""A worker in a process of its own: `python one_worker.py FOLDER MODE`; trains nothing.

MODE says at which of its evaluations it is killed: ``none``, ``first``, ``slot 3`` (whoever is at
that slot), or ``once 3`` (the first who is at that slot).
"""

import os
import signal
import sys
import time
from pathlib import Path

import optuna
from search_checks import AXES, Evaluation, score_of, settings, shipped_space
from sqlalchemy.pool import NullPool

from nas_face.search import run_search
from nas_face.search.claims import SqlClaims
from nas_face.search.record import ARCH_ID, SLOT
from nas_face.search.workers import METADATA, Worker

N_TRIALS = 8


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


def storage_of(folder: Path) -> optuna.storages.RDBStorage:
    options = {"connect_args": {"timeout": 60}, "poolclass": NullPool}
    return optuna.storages.RDBStorage(url_of(folder), engine_kwargs=options)


def prepare(folder: Path) -> None:
    """Tables and the study, before workers come."""
    storage = storage_of(folder)
    METADATA.create_all(storage.engine)
    optuna.create_study(
        study_name="s", storage=storage, directions=[axis.direction for axis in AXES]
    )


def main(folder: Path, mode: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = storage_of(folder)
    study = optuna.load_study(study_name="s", storage=storage)
    calls = []

    def run(spec, seed, report):
        calls.append(spec)
        (slot,) = (
            trial.user_attrs[SLOT]
            for trial in study.get_trials(deepcopy=False)
            if trial.user_attrs.get(ARCH_ID) == spec.arch_id
        )
        (folder / f"{slot}-{os.getpid()}").touch()
        time.sleep(0.05)
        at_slot = mode.split()[-1] == str(slot)
        first = len(list(folder.glob(f"{slot}-*"))) == 1
        if (
            mode == "first"
            or (at_slot and mode.startswith("slot"))
            or (at_slot and first and mode.startswith("once"))
        ):
            os.kill(os.getpid(), signal.SIGKILL)
        return score_of(spec, seed, report)

    with Worker(storage.engine, "s", folder / "workers") as me:
        (folder / f"ready-{os.getpid()}").touch()
        while len(list(folder.glob("ready-*"))) < int(sys.argv[3]):
            time.sleep(0.01)
        run_search(
            study,
            shipped_space(),
            Evaluation(run),
            settings(n_trials=N_TRIALS),
            claims=SqlClaims(storage.engine, "s", me),
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
