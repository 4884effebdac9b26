"""Optuna's dashboard opens the storage of a run as it is."""

import json
from io import BytesIO
from wsgiref.util import setup_testing_defaults

import pytest

from nas_face.study.report import front_of

optuna_dashboard = pytest.importorskip(
    "optuna_dashboard", reason="the dashboard is an extra: pip install nas-face[ui]"
)


def get(app, path):
    """Status and body of one request."""
    environ = {}
    setup_testing_defaults(environ)
    environ.update(PATH_INFO=path, REQUEST_METHOD="GET")
    environ["wsgi.errors"] = BytesIO()
    seen = []
    parts = app(environ, lambda status, headers, exc_info=None: seen.append(status))
    return seen[0], b"".join(parts)


def test_studies_and_trials_are_served(copied):
    app = optuna_dashboard.wsgi(copied.storage_url)
    status, body = get(app, "/api/studies")
    assert status.startswith("200")
    (study,) = json.loads(body)["study_summaries"]
    assert study["study_name"] == "tiny"
    assert study["directions"] == ["maximize", "minimize"]
    status, body = get(app, f"/api/studies/{study['study_id']}")
    assert status.startswith("200")
    detail = json.loads(body)
    assert detail["objective_names"] == ["log_tar", "madds"]
    states = {trial["number"]: trial["state"].upper() for trial in detail["trials"]}
    assert states == {trial.number: trial.state.name for trial in copied.trials()}
    best = sorted(trial["number"] for trial in detail["best_trials"])
    assert best == sorted(front_of(copied).members["trial"])


def test_page_is_served(copied):
    status, _ = get(optuna_dashboard.wsgi(copied.storage_url), "/dashboard")
    assert status.startswith("200")
