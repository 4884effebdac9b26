"""Where a run keeps its trials: URLs given, kept, refused."""

import pytest
from sqlalchemy import URL
from tiny_study import write_study

from nas_face.errors import ConfigError
from nas_face.study import storage
from nas_face.study.config import load_study
from nas_face.study.run import Run

SERVER = "postgresql+psycopg://me@host:5433/faces"


def start(folder, url=None, **changes):
    return Run.start(folder / "run", load_study(write_study(folder / "study", changes)), url)


def test_by_default_it_is_a_file_in_the_folder(tmp_path):
    run = start(tmp_path)
    assert run.storage_url == f"sqlite:///{tmp_path / 'run' / 'study.db'}"
    assert not (tmp_path / "run" / "storage.url").exists()


def test_the_url_is_kept_without_its_password(tmp_path):
    given = "postgresql+psycopg://me:secret@host:5433/faces?password=secret&sslmode=require"
    run = start(tmp_path, given)
    assert run.url.password == "secret"
    kept = "postgresql+psycopg://me@host:5433/faces?sslmode=require"
    assert (tmp_path / "run" / "storage.url").read_text() == kept + "\n"
    for path in (tmp_path / "run").iterdir():
        assert b"secret" not in path.read_bytes()
    assert Run.open(tmp_path / "run").storage_url == kept
    assert Run.open(tmp_path / "run", given).url.password == "secret"


def test_a_run_that_has_begun_stays_where_it_is(tmp_path):
    start(tmp_path, SERVER)
    (tmp_path / "run" / "workers").mkdir()
    start(tmp_path)
    start(tmp_path, SERVER.replace("me@", "me:secret@"))
    with pytest.raises(ConfigError, match=r"its trials are in .*host:5433.*, not in .*other"):
        start(tmp_path, SERVER.replace("host", "other"))


def test_a_run_with_a_file_does_not_move_to_a_server(copied):
    with pytest.raises(ConfigError, match=r"its trials are in sqlite:.*study\.db, not in post"):
        Run.open(copied.folder, SERVER)
    assert Run.open(copied.folder, copied.storage_url).trials()


def test_a_file_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = start(tmp_path, "sqlite:///trials.db")
    assert run.storage_url == f"sqlite:///{tmp_path / 'trials.db'}"
    assert run.trials() == []
    assert not (tmp_path / "trials.db").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("trials.db", "expected an URL such as .*, got 'trials.db'"),
        ("post gres://", "expected an URL"),
        ("redis://host", "expected an URL"),
        ("postgresql://me:secret@host:port/x", r"got 'postgresql://\*\*\*@host:port/x'"),
        ("sqlite://", "must be a file"),
        ("sqlite:///:memory:", "must be a file"),
    ],
)
def test_what_is_no_storage_is_refused_in_one_line(given, message, tmp_path):
    with pytest.raises(ConfigError, match=message) as caught:
        start(tmp_path, given)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_database_that_cannot_be_reached_is_named_without_the_password(tmp_path):
    pytest.importorskip("psycopg")
    run = start(tmp_path, f"postgresql+psycopg://me:secret@/faces?host={tmp_path}")
    with pytest.raises(ConfigError, match=r"me@/faces\?host=.*: cannot be read or wr") as caught:
        run.trials()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match="driver of this database is not installed"):
        start(tmp_path, "mysql+pymysql://me@host/faces").trials()


def test_a_broken_note_of_the_storage_is_named(tmp_path):
    start(tmp_path, SERVER)
    (tmp_path / "run" / "storage.url").write_text("nonsense\n")
    with pytest.raises(ConfigError, match=r"storage\.url: holds no URL"):
        Run.open(tmp_path / "run")


def test_braces_in_a_path_are_part_of_it(finished, tmp_path):
    url = URL.create("sqlite", database=str(tmp_path / "{x}.db"))
    study = storage.open_study(url, finished.config)
    assert study.study_name == finished.config.name
    assert (tmp_path / "{x}.db").exists()
