"""Run folders: started, taken up, refused; budgets that nothing fits; figures of the
candidates."""

import json
import math
import os
import re
import shutil
from pathlib import Path

import pytest
from optuna.trial import TrialState
from tiny_study import SPACE, STUDY, write_study

from nas_face.data import split_identities
from nas_face.errors import ConfigError, NasFaceError
from nas_face.nn import FaceModel
from nas_face.search import derive_seed
from nas_face.study.config import load_study
from nas_face.study.evaluate import verify_on
from nas_face.study.faces import load_source
from nas_face.study.run import Run


def outcomes(run):
    """What came of each trial, timings apart."""
    return [
        (trial.user_attrs["arch_id"], trial.params, trial.state, trial.values)
        for trial in run.trials()
        if "arch_id" in trial.user_attrs
    ]


def load(folder, changes=None, **overrides):
    return load_study(write_study(folder, changes), overrides)


def test_finished_run_has_its_trials(finished, tiny):
    states = [trial.state for trial in finished.trials()]
    assert len(states) == finished.n_ended() == tiny.trials
    assert set(states) == {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({trial.user_attrs["arch_id"] for trial in finished.trials()}) == tiny.trials


def test_candidates_are_within_the_budget_and_cost_what_is_said(finished):
    for trial in finished.trials():
        cost = finished.spec(trial).cost()
        assert finished.config.budget.fits(cost)
        assert trial.user_attrs["metrics"]["madds"] == cost.madds
        assert trial.user_attrs["metrics"]["params"] == cost.params


def test_input_size_can_be_a_choice(tmp_path):
    """Candidates of different sizes, one of them grey, are each judged at their own."""
    sizes = {"square": [3, 32, 32], "tall": [3, 40, 24], "grey": [1, 32, 32]}
    space = {**SPACE, "input_shape": {"choice": sizes}}
    changes = {"input_size": None, "trials": 6, "rungs": None, "budget": None}
    path = write_study(tmp_path, changes, space)
    run = Run.start(tmp_path / "run", load_study(path))
    run.search(run.faces())
    seen = set()
    for trial in run.trials():
        spec = run.spec(trial)
        seen.add(spec.input_shape)
        model = run.model(trial)
        assert model.description.input_shape == spec.input_shape
        faces = run.faces(spec.input_shape[1:])
        assert faces.search_pairs.images.batch([0]).shape == (1, *spec.input_shape[1:], 3)
        again = verify_on(model, faces.search_pairs)
        assert again.log_tar == trial.user_attrs["metrics"]["log_tar"]
    assert len(seen) > 1


def test_candidates_verify_again_to_the_recorded_figures(finished):
    faces = finished.faces()
    complete = [trial for trial in finished.trials() if trial.state == TrialState.COMPLETE]
    folders = {path.name for path in (finished.folder / "candidates").iterdir()}
    assert folders == {trial.user_attrs["arch_id"] for trial in complete}
    for trial in complete:
        model = finished.model(trial)
        metrics = trial.user_attrs["metrics"]
        assert model.description.cost == finished.spec(trial).cost()
        for pairs, prefix in ((faces.search_pairs, ""), (faces.test_pairs, "test_")):
            result = verify_on(model, pairs)
            assert metrics[prefix + "accuracy"] == pytest.approx(result.accuracy, abs=1e-9)
            assert metrics[prefix + "auc"] == pytest.approx(result.auc, abs=1e-9)
            assert metrics[prefix + "eer"] == pytest.approx(result.eer, abs=1e-9)
        assert trial.values == [metrics["log_tar"], metrics["madds"]]


def test_search_and_test_people_are_strangers_to_the_training(finished):
    split = finished.faces().split
    parts = [set(part.identities) for part in (split.train, split.search, split.test)]
    assert [len(part) for part in parts] == [20, 10, 10]
    assert len(set.union(*parts)) == 40
    images = load_source(finished.config.data, height=32, width=32)
    again = split_identities(
        images, search_fraction=0.25, test_fraction=0.25, seed=derive_seed(0, "split")
    )
    assert set(again.test.identities) == parts[2]


def test_record_holds_the_whole_study(finished, tiny):
    assert json.loads((finished.folder / "study.json").read_text()) == tiny.to_data()
    assert (finished.folder / "space.yaml").read_bytes() == Path(tiny.space).read_bytes()


def test_more_trials_go_on_and_end_as_in_one_go(copied, finished, tiny, tmp_path):
    before = outcomes(finished)
    longer = load(tmp_path / "study", trials=tiny.trials + 2)
    taken_up = Run.start(copied.folder, longer)
    assert taken_up.config.trials == tiny.trials + 2
    seen = []
    taken_up.search(taken_up.faces(), on_trial=lambda trial: seen.append(trial.number))
    assert seen == [tiny.trials, tiny.trials + 1]
    assert outcomes(taken_up)[: len(before)] == before
    in_one_go = Run.start(tmp_path / "one", longer)
    in_one_go.search(in_one_go.faces())
    assert outcomes(in_one_go) == outcomes(taken_up)


def test_fewer_trials_than_there_are_change_nothing(copied, finished, tmp_path):
    run = Run.start(copied.folder, load(tmp_path / "study", trials=1))
    run.search(run.faces())
    assert outcomes(run) == outcomes(finished)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"budget": {"max_madds": "200k"}}, r"budget\.max_madds was 300000, now 200000"),
        ({"seed": 3}, r"seed was not set, now 3"),
        ({"input_size": None}, r"input_size was 32, now not set"),
        ({"seed": 3, "objectives": ["auc"]}, r"objectives was .*log_tar.*, now \['auc'\]"),
        ({"name": "other"}, r"name was tiny, now other"),
        (
            {"data": {"source": "orl", "test_fraction": 0.3}},
            r"data\.test_fraction was .* now 0\.3",
        ),
    ],
)
def test_another_study_is_refused_with_its_first_difference(changes, difference, copied, tmp_path):
    with pytest.raises(ConfigError, match=f"holds a run of another study: {difference}"):
        Run.start(copied.folder, load(tmp_path / "study", changes))


def test_changed_space_is_refused(copied, tmp_path):
    path = write_study(tmp_path / "study", space={**SPACE, "description": "changed"})
    with pytest.raises(ConfigError, match="the space .* has changed since"):
        Run.start(copied.folder, load_study(path))


def test_folder_of_something_else_is_refused_and_left_alone(tiny, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not empty and not a run folder"):
        Run.start(tmp_path, tiny)
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    "left_behind", [["lock"], ["lock", "space.yaml"], ["lock", "space.yaml", "study.json.partial"]]
)
def test_start_that_was_cut_off_is_begun_again(left_behind, tiny, tmp_path):
    for name in left_behind:
        (tmp_path / name).touch()
    run = Run.start(tmp_path, tiny)
    assert Run.open(tmp_path).config.trials == run.config.trials
    assert (tmp_path / "space.yaml").read_bytes() == Path(tiny.space).read_bytes()


def test_study_may_be_corrected_until_its_search_has_begun(tmp_path):
    folder = tmp_path / "run"
    wrong = Run.start(folder, load(tmp_path / "a", {"budget": {"max_madds": 10}}))
    with pytest.raises(ConfigError, match="nothing in"):
        wrong.survey()
    right = Run.start(folder, load(tmp_path / "b"))
    assert Run.open(folder).config.budget == right.config.budget


def test_other_folders_are_no_runs(tmp_path):
    with pytest.raises(ConfigError, match="not a run folder"):
        Run.open(tmp_path)
    with pytest.raises(ConfigError, match="not a run folder"):
        Run.open(tmp_path / "nope")


def test_run_that_was_moved_goes_on(copied, finished, tiny, tmp_path):
    moved = tmp_path / "new home" / "run"
    moved.parent.mkdir()
    shutil.move(copied.folder, moved)
    run = Run.open(moved)
    assert outcomes(run) == outcomes(finished)
    again = Run.start(moved, load(tmp_path / "study", trials=tiny.trials + 1))
    again.search(again.faces())
    assert again.n_ended() == tiny.trials + 1


@pytest.mark.parametrize("name", ["with space", "çödé 脸", "what?no#50%25", "[red]", "it's"])
def test_run_folder_of_any_name(name, finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / name)
    run = Run.open(tmp_path / name)
    assert outcomes(run) == outcomes(finished)
    assert os.listdir(tmp_path) == [name]
    assert run.study().trials[0].params == finished.trials()[0].params


def test_relative_folder_is_the_same_run_after_a_change_of_folder(copied, finished, monkeypatch):
    monkeypatch.chdir(copied.folder.parent)
    relative = Run.open(Path(copied.folder.name))
    url = relative.storage_url
    assert outcomes(relative) == outcomes(finished)
    monkeypatch.chdir("/")
    assert url == copied.storage_url


def test_reading_a_run_that_never_began_makes_no_storage(tiny, tmp_path):
    run = Run.start(tmp_path / "run", tiny)
    assert run.trials() == []
    assert run.n_ended() == 0
    with pytest.raises(ConfigError, match="no trial 0; there is none yet"):
        run.trial(0)
    assert not (tmp_path / "run" / "study.db").exists()


def test_trial_that_cannot_be_taken(finished):
    stopped = next(each for each in finished.trials() if each.state == TrialState.PRUNED)
    with pytest.raises(ConfigError, match=f"trial {stopped.number} is pruned; choose a complete"):
        finished.trial(stopped.number)
    for number in (-1, 99):
        with pytest.raises(ConfigError, match=f"no trial {number}; there are 0 to 4"):
            finished.trial(number)


@pytest.mark.parametrize("damage", [lambda old: b"x" * len(old), lambda old: old[: len(old) // 2]])
def test_broken_storage_is_named(damage, copied):
    path = copied.folder / "study.db"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        ConfigError, match=r"study\.db: cannot be read or written \(.*\)"
    ) as caught:
        copied.trials()
    assert "\n" not in str(caught.value)


def test_everything_tried_ends_the_search(every_design, tmp_path):
    madds = sorted({spec.arch_id: spec.cost().madds for spec in every_design}.values())
    fitting = sum(each <= madds[1] for each in madds)
    training = {**STUDY["training"], "epochs": 1}
    changes = {"budget": {"max_madds": madds[1]}, "training": training, "rungs": None}
    run = Run.start(tmp_path / "run", load(tmp_path / "study", changes, trials=50))
    run.search(run.faces())
    assert run.n_ended() == fitting
    assert len({arch_id for arch_id, *_ in outcomes(run)}) == fitting


def test_training_that_diverges_fails_its_trial_and_five_end_the_search(tmp_path):
    training = {**STUDY["training"], "learning_rate": 1e30}
    config = load(tmp_path / "study", {"training": training, "rungs": None}, trials=9)
    run = Run.start(tmp_path / "run", config)
    ended = []
    with pytest.raises(NasFaceError, match="5 trials in a row failed; the last: TrainingDiverged"):
        run.search(run.faces(), on_trial=ended.append)
    assert [trial.state for trial in ended] == [TrialState.FAIL] * 5
    for trial in run.trials():
        assert re.match(r"TrainingDiverged: .*learning_rate", trial.user_attrs["failure"])
    assert run.n_ended() == 5


def failing_once(monkeypatch, error):
    """The first candidate that is saved raises."""
    saved = FaceModel.save
    calls = []

    def save(model, folder):
        calls.append(folder)
        if len(calls) == 1:
            raise error
        saved(model, folder)

    monkeypatch.setattr(FaceModel, "save", save)


def test_one_failure_does_not_end_the_search(tiny, tmp_path, monkeypatch):
    run = Run.start(tmp_path / "run", tiny)
    failing_once(monkeypatch, ValueError("boom"))
    run.search(run.faces())
    states = [trial.state for trial in run.trials()]
    assert states[0] == TrialState.FAIL
    assert run.trials()[0].user_attrs["failure"] == "ValueError: boom"
    assert TrialState.COMPLETE in states[1:]
    assert run.n_ended() == tiny.trials


def test_a_full_disk_ends_the_sitting_and_the_next_one_finishes_the_trial(
    tiny, tmp_path, monkeypatch
):
    run = Run.start(tmp_path / "run", tiny)
    failing_once(monkeypatch, OSError(28, "No space left on device"))
    with pytest.raises(OSError, match="No space left"):
        run.search(run.faces())
    assert [trial.state for trial in run.trials()] == [TrialState.RUNNING]
    run.search(run.faces())
    assert run.trials()[0].state == TrialState.COMPLETE
    assert run.n_ended() == tiny.trials


def test_latency_is_measured_where_it_is_asked_for(tmp_path):
    changes = {"objectives": ["auc", "latency_ms"], "rungs": None}
    run = Run.start(tmp_path / "run", load(tmp_path / "study", changes, trials=1))
    study = run.search(run.faces())
    (trial,) = run.trials()
    auc, latency = trial.values
    assert 0 < auc <= 1
    assert latency > 0
    ratio = trial.user_attrs["metrics"]["latency_ratio"]
    assert math.isclose(latency, ratio * study.user_attrs["reference_ms"])
    assert not list(run.folder.glob("latency-*"))
