"""Who does what: claims that workers of one search stake out, so that none does another's work.

Optuna's storages know no unique values, so the claims lie beside its tables in the same database.
Trials are the record of what was done; a claim only settles who does what next. It holds for as
long as its holder lives: what a worker that is gone had claimed can be claimed by the next.
"""

from dataclasses import dataclass
from typing import Protocol, final

from sqlalchemy import Column, ColumnElement, Engine, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError

from nas_face.search.workers import METADATA, Worker

CLAIMS = Table(
    "nas_face_claims",
    METADATA,
    Column("study", String(512), primary_key=True),
    Column("what", String(16), primary_key=True),
    Column("key", String(128), primary_key=True),
    Column("worker", String(128), nullable=False),
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that is this worker's from now on.

    Attributes:
        lost: whether it was taken from a worker that died while this sitting watched, and not
            from one that ended in order or in an earlier sitting.
    """

    lost: bool = False


class Claims(Protocol):
    """What a search asks before it does something that only one worker may do."""

    @property
    def worker(self) -> str:
        """Who asks."""

    def take(self, what: str, key: str) -> Claim | None:
        """Claim something, in one step: none where a worker that lives holds it.

        Args:
            what: kind of the thing, such as ``"slot"``.
            key: which one of its kind.
        """

    def holds(self, what: str, key: str) -> bool:
        """Whether the claim is still this worker's: one that was out of reach for long loses its
        claims."""


@final
@dataclass(frozen=True, slots=True)
class Alone:
    """Claims of a worker that has the study to itself: it gets everything it asks for."""

    worker: str = "alone"

    def take(self, what: str, key: str) -> Claim | None:
        """Always granted."""
        return Claim()

    def holds(self, what: str, key: str) -> bool:
        """Always."""
        return True


@final
class SqlClaims:
    """Claims in the database of an `optuna.storages.RDBStorage`.

    Args:
        engine: of the database.
        study: name of the study.
        me: the worker that asks; it has entered.
    """

    def __init__(self, engine: Engine, study: str, me: Worker) -> None:
        self._engine = engine
        self._study = study
        self._me = me

    @property
    def worker(self) -> str:
        """Who asks."""
        return self._me.name

    def take(self, what: str, key: str) -> Claim | None:
        """See `Claims.take`; the primary key and the condition of the update make it one step."""
        holder = self._holder(what, key)
        if holder == self.worker:
            return Claim()
        if holder is None:
            return Claim() if self._insert(what, key) else None
        gone = self._me.gone(holder)
        if gone is None or not self._replace(what, key, holder):
            return None
        return Claim(lost=gone.lost)

    def holds(self, what: str, key: str) -> bool:
        """See `Claims.holds`."""
        return self._holder(what, key) == self.worker

    def _insert(self, what: str, key: str) -> bool:
        self._me.give_sign()  # so that whoever watches from now on knows that this worker lived
        row = {"study": self._study, "what": what, "key": key, "worker": self.worker}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(CLAIMS).values(row))
        except IntegrityError:  # somebody was quicker
            return False
        return True

    def _replace(self, what: str, key: str, holder: str) -> bool:
        self._me.give_sign()
        change = (
            update(CLAIMS)
            .where(self._is(what, key) & (CLAIMS.c.worker == holder))
            .values(worker=self.worker)
        )
        with self._engine.begin() as connection:
            return connection.execute(change).rowcount == 1

    def _holder(self, what: str, key: str) -> str | None:
        asked = select(CLAIMS.c.worker).where(self._is(what, key))
        with self._engine.connect() as connection:
            holder: str | None = connection.execute(asked).scalar()
        return holder

    def _is(self, what: str, key: str) -> ColumnElement[bool]:
        return (CLAIMS.c.study == self._study) & (CLAIMS.c.what == what) & (CLAIMS.c.key == key)
