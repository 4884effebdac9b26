"""Where a run keeps its trials: a SQLite file in its folder, or a database of the user's."""

import contextlib
import functools
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import RDBStorage
from optuna.study import Study
from sqlalchemy import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from nas_face.errors import ConfigError
from nas_face.search import objective
from nas_face.search.workers import METADATA, database_time
from nas_face.study.config import StudyConfig
from nas_face.study.layout import STORAGE_FILE, STORAGE_URL_FILE
from nas_face.study.same_study import record_of, require_same_record

STUDY_RECORD = "study"
"""User attribute of the study: what `record_of` says of the study file."""

BUSY_S = 120
"""How long a process waits for another one that writes to a SQLite file."""

CONNECT_S = 10
N_ATTEMPTS = 10
RECORD_S = 10.0


def url_of(folder: Path, given: str | None) -> URL:
    """Where the trials of a run folder are.

    Args:
        folder: of the run.
        given: what the user gave; what the folder says by default.

    Raises:
        ConfigError: it cannot be, or is not the folder's.
    """
    file = (folder / STORAGE_FILE).absolute()
    own = URL.create("sqlite", database=str(file))
    kept = _kept(folder) or (own if file.exists() else None)
    if given is None:
        return kept or own
    url = _parsed(given)
    if kept is not None and without_password(url) != kept:
        raise ConfigError(
            f"{folder}: its trials are in {shown(kept)}, not in {shown(url)}; "
            "leave --storage out, or choose another folder with --out"
        )
    return url


def without_password(url: URL) -> URL:
    """The part of an URL that may be kept."""
    return url._replace(password=None).difference_update_query(["password"])


def shown(url: URL) -> str:
    """An URL as it may be printed and kept."""
    return without_password(url).render_as_string(hide_password=False)


def open_storage(url: URL) -> RDBStorage:
    """Optuna's storage at an URL, the same one for the same URL.

    Raises:
        ConfigError: the driver is missing.
        SQLAlchemyError, StorageInternalError: the database cannot be reached; see `naming`.
    """
    return _open(url.render_as_string(hide_password=False))


def open_study(url: URL, config: StudyConfig) -> Study:
    """The Optuna study of a run, made if it is not there yet.

    Raises:
        ConfigError: another study has its name there.
    """
    name = config.name
    try:
        # First, because `create_study` writes, and a finished run may lie on a read-only disk.
        return _load(url, name)
    except KeyError:
        directions = [objective(each).direction for each in config.objectives]
        try:
            study = optuna.create_study(
                study_name=name, storage=open_storage(url), directions=directions
            )
        except DuplicatedStudyError:  # another process was quicker
            return _load(url, name)
    study.set_user_attr(STUDY_RECORD, record_of(config))
    return _load(url, name)


def join_study(url: URL, config: StudyConfig) -> Study:
    """The Optuna study of a run, to search in.

    Raises:
        ConfigError: another study has its name there.
    """
    study = open_study(url, config)
    end = time.monotonic() + RECORD_S
    while STUDY_RECORD not in study.user_attrs and time.monotonic() < end:
        time.sleep(0.1)  # whoever made it is about to say what it is
    where = f"{shown(url)}: study {config.name}"
    directions = [objective(each).direction for each in config.objectives]
    if [each.name.lower() for each in study.directions] != directions:
        raise ConfigError(
            f"{where} has other objectives there; give this study another name, or another storage"
        )
    record = study.user_attrs.get(STUDY_RECORD)
    if record is None:
        study.set_user_attr(STUDY_RECORD, record_of(config))
    else:
        require_same_record(where, record, record_of(config))
    with warnings.catch_warnings():
        # Naming the axes, for the dashboard, is marked experimental since Optuna 3.2.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if study.metric_names is None:
            study.set_metric_names(list(config.objectives))
    _make_tables(open_storage(url).engine)
    return study


def now_of(url: URL) -> float:
    """Seconds by the clock of the database."""
    with open_storage(url).engine.connect() as connection:
        return database_time(connection)


@contextlib.contextmanager
def naming(url: URL) -> Iterator[None]:
    """Failures of the storage as one line that names it."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as failure:
        cause = failure if isinstance(failure, SQLAlchemyError) else failure.__cause__
        reason = cause.orig if isinstance(cause, DBAPIError) else failure
        line = " ".join(str(reason).split())
        if url.password:
            line = line.replace(str(url.password), "***")
        sqlite = url.get_backend_name() == "sqlite"
        name = url.database if sqlite else shown(url)
        remedy = (
            "put back a copy of the file, or choose another folder with --out"
            if sqlite
            else "when the database can be reached, the same command goes on"
        )
        raise ConfigError(f"{name}: cannot be read or written ({line}); {remedy}") from failure


def _parsed(given: str) -> URL:
    try:
        url = make_url(given)
        url.get_dialect()
    except (SQLAlchemyError, ValueError) as failure:
        raise ConfigError(
            f"--storage: expected an URL such as postgresql+psycopg://user@host/database, got "
            f"{_masked(given)!r}"
        ) from failure
    if url.get_backend_name() == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise ConfigError("--storage: a SQLite storage must be a file, got none")
        return url.set(database=str(Path(str(url.database)).absolute()))
    return url


def _masked(given: str) -> str:
    """What was given, without what may be a password."""
    head, at, tail = given.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else given


def _driver_missing(url: URL) -> ConfigError:
    extra = (
        ": install it with pip install 'nas-face[postgresql]'"
        if url.get_backend_name() == "postgresql"
        else ""
    )
    return ConfigError(f"{shown(url)}: the driver of this database is not installed{extra}")


def _kept(folder: Path) -> URL | None:
    path = folder / STORAGE_URL_FILE
    try:
        return make_url(path.read_text(encoding="utf-8").strip())
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ArgumentError) as failure:
        raise ConfigError(f"{path}: holds no URL of a storage") from failure


@functools.cache
def _load(url: URL, name: str) -> Study:
    return optuna.load_study(study_name=name, storage=open_storage(url))


@functools.cache
def _open(text: str) -> RDBStorage:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = make_url(text)
    backend = url.get_backend_name()
    options: dict[str, object] = {"pool_pre_ping": True}
    if backend == "sqlite":
        options = {"connect_args": {"timeout": BUSY_S}}
    elif backend == "postgresql":
        options["connect_args"] = {"connect_timeout": CONNECT_S}
    template = text.replace("{", "{{").replace("}", "}}")  # braces are Optuna's own
    for attempt in range(N_ATTEMPTS):
        try:
            return RDBStorage(template, engine_kwargs=options)
        except ImportError as failure:
            raise _driver_missing(url) from failure
        except (SQLAlchemyError, StorageInternalError) as failure:
            if attempt == N_ATTEMPTS - 1 or not _is_race(failure):
                raise
        time.sleep(0.3)
    raise AssertionError("not reached")


def _make_tables(engine: Engine) -> None:
    """Tables of the workers and their claims, beside Optuna's."""
    for attempt in range(N_ATTEMPTS):
        try:
            METADATA.create_all(engine)
            return
        except SQLAlchemyError as failure:
            if attempt == N_ATTEMPTS - 1 or not _is_race(failure):
                raise
        time.sleep(0.3)


def _is_race(failure: Exception) -> bool:
    """Whether another process was making the same tables just then."""
    causes = (failure, failure.__cause__, failure.__context__)
    return any(
        isinstance(each, IntegrityError)
        or (isinstance(each, DBAPIError) and "exist" in str(each.orig).lower())
        for each in causes
    )
