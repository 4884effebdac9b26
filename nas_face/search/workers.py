"""One process at work in a study, and how the others tell whether it still is.

On one machine by a lock on a file, which the kernel releases with the process, however that ends.
From other machines by the time of its last sign of life, which it writes to the database every few
seconds.
"""

import contextlib
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import filelock
from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    MetaData,
    String,
    Table,
    Text,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

GRACE_S = 180.0
BEAT_S = 10.0

METADATA = MetaData()
WORKERS = Table(
    "nas_face_workers",
    METADATA,
    Column("study", String(512), primary_key=True),
    Column("worker", String(128), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("lock", Text, nullable=False),
    Column("seen", Double, nullable=False),
    Column("ended", Boolean, nullable=False),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A worker that no longer is.

    Attributes:
        lost: whether it died, and after the sitting of the one who asks had begun.
    """

    lost: bool


@final
class Worker:
    """This process, as a worker of a study. To be entered before its claims are used.

    Args:
        engine: of the study's database, in which the tables of `METADATA` exist.
        study: name of the study.
        folder: for the lock file; every worker of a run folder uses the same one.
        sitting: when the sitting began to which this worker belongs, by `database_time`; now, by
            default. Workers that one supervisor started, and restarts, share a sitting.
        grace_s: seconds without a sign of life after which a worker on another machine counts as
            dead.
    """

    def __init__(
        self,
        engine: Engine,
        study: str,
        folder: Path,
        *,
        sitting: float | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self._engine = engine
        self._study = study
        self._folder = folder.absolute()
        self._sitting = sitting
        self._grace_s = grace_s
        self._host = socket.gethostname()
        self.name = f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._lock = filelock.FileLock(self._folder / f"{self.name}.lock")
        self._stop = threading.Event()
        self._beat = threading.Thread(target=self._live, name="signs of life", daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire(timeout=0)
        with self._engine.begin() as connection:
            now = database_time(connection)
            self._sitting = now if self._sitting is None else self._sitting
            row = {
                "study": self._study,
                "worker": self.name,
                "host": self._host,
                "lock": str(self._folder / f"{self.name}.lock"),
                "seen": now,
                "ended": False,
            }
            connection.execute(insert(WORKERS).values(row))
        self._beat.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._beat.join()
        with contextlib.suppress(SQLAlchemyError):  # a database out of reach: others will see
            self._sign(ended=True)
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    @property
    def sitting(self) -> float | None:
        """When its sitting began; none before it has entered."""
        return self._sitting

    def give_sign(self) -> None:
        """A sign of life, out of turn."""
        self._sign(ended=False)

    def gone(self, name: str) -> Gone | None:
        """What became of another worker; none if it lives."""
        asked = select(WORKERS).where(WORKERS.c.study == self._study, WORKERS.c.worker == name)
        with self._engine.connect() as connection:
            row = connection.execute(asked).mappings().first()
            now = database_time(connection)
        if row is None or row["ended"]:
            return Gone(lost=False)
        if self._lives(Path(row["lock"]), row["host"], now - row["seen"]):
            return None
        assert self._sitting is not None
        return Gone(lost=row["seen"] >= self._sitting)

    def _lives(self, lock: Path, host: str, silent_s: float) -> bool:
        one_machine = self._engine.dialect.name == "sqlite"
        if one_machine and not lock.parent.is_dir():
            lock = self._folder / lock.name  # the run folder was moved
        if one_machine or (host == self._host and lock.parent.is_dir()):
            return _is_held(lock)
        return silent_s < self._grace_s

    def _live(self) -> None:
        while not self._stop.wait(min(BEAT_S, self._grace_s / 6)):
            with contextlib.suppress(SQLAlchemyError):  # the worker itself will notice
                self.give_sign()

    def _sign(self, *, ended: bool) -> None:
        mine = (WORKERS.c.study == self._study) & (WORKERS.c.worker == self.name)
        with self._engine.begin() as connection:
            signs: dict[str, Any] = {"seen": database_time(connection), "ended": ended}
            connection.execute(update(WORKERS).where(mine).values(signs))


def database_time(connection: Connection) -> float:
    """Seconds by the clock of the database, which all its workers share."""
    if connection.dialect.name == "postgresql":
        return float(connection.scalar(text("select extract(epoch from clock_timestamp())")) or 0)
    if connection.dialect.name in ("mysql", "mariadb"):
        return float(connection.scalar(text("select unix_timestamp(now(6))")) or 0)
    return time.time()  # SQLite: one machine


def _is_held(path: Path) -> bool:
    """Whether a process that lives holds a lock file."""
    if not path.exists():
        return False
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return True
    lock.release()
    return False
