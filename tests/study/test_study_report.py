"""The report against brute force, and its files against what reads them."""

import csv
import re
import shutil
from dataclasses import replace

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from PIL import Image
from tiny_study import STUDY, write_study

from nas_face.errors import ConfigError
from nas_face.study.config import load_study
from nas_face.study.report import front_of, plot_front, write_report
from nas_face.study.run import Run
from nas_face.study.tables import trial_line


@pytest.fixture(scope="module")
def front(finished):
    return front_of(finished)


@pytest.fixture(scope="module")
def files(finished, front, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(finished.folder, folder)
    run = Run.open(folder)
    return write_report(run, front)


def beats(one, other):
    """Whether one trial is nowhere worse and somewhere better: accuracy up, cost down."""
    (a, b), (c, d) = one.values, other.values
    return a >= c and b <= d and (a > c or b < d)


def test_front_is_what_nothing_beats(finished, front):
    complete = [each for each in finished.trials() if each.state == TrialState.COMPLETE]
    expected = [
        trial.number
        for trial in sorted(complete, key=lambda each: each.values[1])
        if not any(beats(other, trial) for other in complete)
    ]
    assert front.members["trial"].tolist() == expected
    assert sorted(front.trials["trial"]) == [trial.number for trial in complete]


def test_counts(finished, front):
    states = [trial.state for trial in finished.trials()]
    assert front.n_trials == len(states)
    assert front.n_stopped == states.count(TrialState.PRUNED) > 0
    assert front.n_failed == 0


def test_knee_is_nearest_to_the_best_of_each_axis(finished, front):
    members = [trial for trial in finished.trials() if trial.number in set(front.members["trial"])]
    values = np.array([trial.values for trial in members]) * [-1, 1]
    low, high = values.min(axis=0), values.max(axis=0)
    scaled = (values - low) / np.where(high > low, high - low, 1)
    distances = dict(
        zip((trial.number for trial in members), np.linalg.norm(scaled, axis=1), strict=True)
    )
    assert distances[front.knee] == pytest.approx(min(distances.values()))


def test_csv_has_every_complete_trial(finished, files):
    with files[0].open(encoding="utf-8", newline="") as file:
        rows = {int(row["trial"]): row for row in csv.DictReader(file)}
    complete = [each for each in finished.trials() if each.state == TrialState.COMPLETE]
    assert rows.keys() == {trial.number for trial in complete}
    for trial in complete:
        row = rows[trial.number]
        assert row["arch_id"] == trial.user_attrs["arch_id"]
        assert float(row["log_tar"]) == trial.values[0]
        assert row["madds"] == str(int(trial.values[1]))
        assert float(row["test_auc"]) == trial.user_attrs["metrics"]["test_auc"]


def test_picture_opens(files):
    with Image.open(files[1]) as image:
        assert image.format == "PNG"
        assert image.width > image.height > 300
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 2


def test_page_shows_every_trial_and_needs_nothing_else(finished, files):
    page = files[2].read_text(encoding="utf-8")
    complete = [each for each in finished.trials() if each.state == TrialState.COMPLETE]
    for trial in complete:
        assert trial.user_attrs["arch_id"] in page
        for path in trial.params:
            assert path in page
    assert not re.findall(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)\s*=""", page)
    assert "@import" not in page
    assert page.count("<html") == 1


def test_title_is_text_and_not_markup(copied, tmp_path):
    config = load_study(write_study(tmp_path / "s", {"name": "<b>&amp;"}))
    run = replace(copied, config=config)
    page = write_report(run, front_of(copied))[2].read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;&amp;amp;" in page


def test_report_of_a_run_without_trials(tiny, tmp_path):
    run = Run.start(tmp_path / "run", tiny)
    front = front_of(run)
    assert front.knee is None
    assert front.members.empty
    files = write_report(run, front)
    assert all(path.stat().st_size for path in files)


@pytest.mark.parametrize(
    "objectives", [["auc"], ["eer", "params"], ["auc", "madds", "params"], ["madds", "log_tar"]]
)
def test_report_for_any_choice_of_objectives(objectives, tmp_path):
    changes = {
        "objectives": objectives,
        "training": {**STUDY["training"], "epochs": 1},
        "rungs": None,
        "trials": 2,
    }
    run = Run.start(tmp_path / "run", load_study(write_study(tmp_path / "study", changes)))
    run.search(run.faces())
    front = front_of(run)
    assert front.trials.columns[2 : 2 + len(objectives)].tolist() == objectives
    assert front.knee in (0, 1)
    assert all(path.stat().st_size for path in write_report(run, front))


def test_trial_that_is_under_way_is_not_counted(copied, finished):
    trial = copied.study().ask()
    trial.set_user_attr("arch_id", "0" * 12)
    assert front_of(copied).n_trials == front_of(finished).n_trials


def test_picture_of_another_kind_is_refused(front, tmp_path):
    for name in ("front.gif", "front"):
        with pytest.raises(ConfigError, match=rf"{name}: .* must end in \.png, \.svg, \.pdf"):
            plot_front(front, tmp_path / name, title="")
    for name in ("front.svg", "front.PDF"):
        plot_front(front, tmp_path / name, title="")
        assert (tmp_path / name).stat().st_size


def test_a_refused_trial_says_why():
    trial = optuna.trial.create_trial(
        state=TrialState.PRUNED, user_attrs={"arch_id": "abc", "refused": "7 ms is over 5 ms"}
    )
    assert trial_line(trial, ["log_tar"]) == "trial -1 abc not trained: 7 ms is over 5 ms"
