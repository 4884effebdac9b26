"""A search by the worst group: its figures, what it refuses, and studies without groups."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from optuna.trial import TrialState
from rich.console import Console
from tiny_study import TRAINING, write_study

from nas_face.errors import ConfigError, DataError
from nas_face.study.config import load_study
from nas_face.study.report import front_of, write_report
from nas_face.study.run import Run
from nas_face.study.tables import front_table

ORL = tuple(f"s{number}" for number in range(1, 41))


def write_people(folder, who=ORL):
    """Two groups of the built-in people by the parity of their number, two by its size."""
    lines = ["identity,parity,size"]
    for name in who:
        number = int(name[1:])
        lines.append(f"{name},{'odd' if number % 2 else 'even'},{'small' if number < 21 else ''}")
    path = folder / "people.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def study_by_groups(folder, data=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    write_people(folder)
    whole = {
        "objectives": ["worst_group_tar", "log_tar", "madds"],
        "trials": 4,
        "data": {"source": "orl", "attributes": "people.csv", "group_far": 0.05, **(data or {})},
        **changes,
    }
    return load_study(write_study(folder, whole))


@pytest.fixture(scope="module")
def by_groups(tmp_path_factory):
    """A finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("groups")
    run = Run.start(folder / "run", study_by_groups(folder / "study"))
    run.search(run.faces())
    return run


def naive_worst_tar(model, pairs, far):
    """Pair by pair, from the people's numbers."""
    embeddings = model.embed(pairs.images.batch(np.arange(len(pairs.images)))).astype(np.float64)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    scores = (embeddings[pairs.first] * embeddings[pairs.second]).sum(axis=1)
    impostors = np.sort(scores[~pairs.same])[::-1]
    refused = impostors[int(far * len(impostors))]
    images = pairs.images
    number = np.array([int(images.identities[label][1:]) for label in images.labels])
    number = number[pairs.first[pairs.same]]
    accepted = scores[pairs.same] > refused
    chosen = (number % 2 == 1, number % 2 == 0, number < 21)
    return min(accepted[each].mean() for each in chosen if each.sum() >= 30)


def test_figures_are_those_of_the_trained_network(by_groups):
    faces = by_groups.faces()
    complete = [trial for trial in by_groups.trials() if trial.state == TrialState.COMPLETE]
    assert complete
    for trial in complete:
        metrics = trial.user_attrs["metrics"]
        model = by_groups.model(trial)
        for pairs, prefix in ((faces.search_pairs, ""), (faces.test_pairs, "test_")):
            expected = naive_worst_tar(model, pairs, 0.05)
            assert metrics[f"{prefix}worst_group_tar"] == pytest.approx(expected, abs=1e-9)
        assert trial.values[:2] == [metrics["worst_group_tar"], metrics["log_tar"]]


def test_stopped_trials_have_the_figure_of_their_rung(by_groups):
    for trial in by_groups.trials():
        assert 0 <= trial.user_attrs["metrics"]["worst_group_tar"] <= 1
    rung = json.dumps([dict(trial.user_attrs) for trial in by_groups.trials()])
    assert rung.count("worst_group_tar") > len(by_groups.trials())


def test_taken_up_it_ends_as_in_one_go(by_groups, tmp_path):
    config = study_by_groups(tmp_path / "study", trials=2)
    run = Run.start(tmp_path / "run", config)
    run.search(run.faces())
    again = Run.start(run.folder, study_by_groups(tmp_path / "study"))
    again.search(again.faces())
    assert [trial.values for trial in again.trials()] == [
        trial.values for trial in by_groups.trials()
    ]


def test_the_front_shows_the_groups(by_groups):
    front = front_of(by_groups)
    names = list(pd.read_csv(write_report(by_groups, front)[0]).columns)
    assert names[:5] == ["trial", "arch_id", "worst_group_tar", "log_tar", "madds"]
    assert "test_worst_group_tar" in names
    shown = shown_of(front_table(front))
    assert shown.count("worst_group_tar") >= 1
    assert "test worst" in shown


def shown_of(table):
    text = io.StringIO()
    Console(file=text, width=200).print(table)
    return text.getvalue()


def test_without_attributes_nothing_is_said_of_groups(finished):
    for trial in finished.trials():
        assert not any("group" in name for name in trial.user_attrs["metrics"])
    front = front_of(finished)
    assert "group" not in shown_of(front_table(front))
    assert not any("group" in name for name in front.trials)
    assert "group" not in (finished.folder / "study.json").read_text(encoding="utf-8")
    faces = finished.faces()
    assert faces.search_groups is None and faces.test_groups is None


def test_the_objective_needs_attributes(tmp_path):
    path = write_study(tmp_path, {"objectives": ["worst_group_tar", "madds"]})
    with pytest.raises(ConfigError, match=r"worst_group_tar needs data\.attributes"):
        load_study(path)


@pytest.mark.parametrize(
    ("people", "data", "message"),
    [
        (None, {}, r"people\.csv: there is no such "),
        ("identity\n", {}, r"people\.csv:1: the first line must be"),
        ("identity,age\nAnn,40\n", {}, "search pairs: .* none of 100 images has a value of 'age'"),
        ("alone", {}, "search pairs: .* at least 30 pairs .* got at most 0"),
        ("all", {"group_far": 0.0001}, "search pairs: a FAR of 0.0001 .* at least 10,000 pairs"),
    ],
)
def test_groups_that_cannot_be_measured_are_refused_before_any_training(
    people, data, message, tmp_path
):
    config = study_by_groups(tmp_path / "study", data)
    path = tmp_path / "study" / "people.csv"
    if people is None:
        path.unlink()
    elif people == "alone":  # one image of each person
        lines = [f"{name}/1.pgm,old" for name in ORL]
        path.write_text("image,age\n" + "\n".join(lines), encoding="utf-8")
    elif people != "all":
        path.write_text(people, encoding="utf-8")
    run = Run.start(tmp_path / "run", config)
    with pytest.raises(DataError, match=message):
        run.faces()


def test_test_pairs_that_are_too_few_are_left_out_and_said(tmp_path, caplog):
    changes = {"trials": 1, "rungs": None, "training": {**TRAINING, "epochs": 1}}
    config = study_by_groups(tmp_path / "study", {"group_far": 0.001}, **changes)
    run = Run.start(tmp_path / "run", config)
    faces = run.faces()
    assert faces.search_groups is not None and faces.test_groups is None
    assert caplog.messages == [
        "without test_worst_group_tar; test pairs: a FAR of 0.001 over all pairs takes at least "
        "1,000 pairs of different identities, got 450; raise the group FAR, or take more pairs"
    ]
    run.search(faces)
    [trial] = run.trials()
    assert "worst_group_tar" in trial.user_attrs["metrics"]
    assert "test_worst_group_tar" not in trial.user_attrs["metrics"]
    assert "worst" in shown_of(front_table(front_of(run)))


def test_people_who_are_not_listed_are_counted_once(tmp_path, caplog):
    config = study_by_groups(tmp_path / "study")
    known = write_people(tmp_path / "study", ORL[:30])
    run = Run.start(tmp_path / "run", config)
    faces = run.faces()
    run.faces((40, 24))
    expected = []
    for what, part in (("search", faces.split.search), ("test", faces.split.test)):
        n_unlisted = sum(int(name[1:]) > 30 for name in part.identities)
        assert n_unlisted
        expected.append(
            f"{what} pairs: {n_unlisted} of 10 identities are not in {known}: in no group"
        )
    assert caplog.messages == expected
