"""The search for a recipe: few trials on a tiny network, in ONNX Runtime."""

import contextlib
import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import onnxruntime
import optuna
import pytest
from optuna.trial import TrialState
from tiny_study import TRAINING

from nas_face.arch.codec import from_data
from nas_face.compress.pruning import prune_stages, restore_norms
from nas_face.compress.quantisation.layers import weighted_layers
from nas_face.errors import CompressionError, ConfigError
from nas_face.search import Budget, derive_seed
from nas_face.search.record import METRICS
from nas_face.study.compression.pruning_step import N_CROPS
from nas_face.study.compression.recipe import load_recipe
from nas_face.study.compression.recipe_search.designs import RecipeDesigns
from nas_face.study.compression.recipe_search.reach import nearest_recipe, plain_recipes
from nas_face.study.compression.recipe_search.search import (
    STORAGE_FILE,
    STUDY_NAME,
    search_recipe,
)
from nas_face.study.compression.recipe_search.shared_steps import SharedSteps
from nas_face.study.compression.recipe_search.space import RecipeSpace
from nas_face.study.compression.record import CompressionFaces
from nas_face.study.compression.step_settings import QuantiseStep
from nas_face.study.compression.steps import compress
from nas_face.study.faces import sample_images
from nas_face.train import TrainSettings

SPACE = RecipeSpace(
    name="tiny",
    runtime="onnxruntime",
    deliver=("onnxruntime",),
    trials=4,
    shares=(1.0, 0.75, 0.5),
    importance=("l2", "fpgm"),
    scope=("local", "global"),
    round_to=(2,),
    precision=("fp32", "int8", "w4"),
    quantise=QuantiseStep(n_images=16),
)


@contextlib.contextmanager
def no_bar(n_epochs):
    yield lambda report: None


@pytest.fixture(scope="module")
def faces(finished):
    found = finished.faces()
    return CompressionFaces(
        train=found.split.train, judge=found.search_pairs, pairs=found.test_pairs
    )


@pytest.fixture(scope="module")
def model(finished):
    complete = [trial for trial in finished.trials() if trial.values]
    return finished.model(max(complete, key=lambda trial: trial.values[1]))


@pytest.fixture(scope="module")
def training():
    return from_data(TrainSettings, TRAINING, where="recipe", error=ConfigError)


@pytest.fixture(scope="module")
def search(model, faces, training):
    def search(out, space=SPACE, seed=0, **given):
        return search_recipe(
            model, space, faces, out, training=training, seed=seed, epochs=no_bar, **given
        )

    return search


@pytest.fixture(scope="module")
def done(search, tmp_path_factory):
    """Folder and outcome of a search; not to be changed."""
    out = tmp_path_factory.mktemp("searched") / "out"
    return out, search(out)


def trials_of(out):
    study = optuna.load_study(
        study_name=STUDY_NAME,
        storage=f"sqlite:///{out / STORAGE_FILE}",
    )
    return study.get_trials()


def losses(each):
    return (-each["judged"], each["latency_ms"], each["size_bytes"])


def test_every_trial_is_another_recipe_and_the_front_is_what_nothing_beats(done):
    out, found = done
    data = json.loads((out / "front.json").read_text(encoding="utf-8"))
    rows = data["trials"]
    assert [each["trial"] for each in rows] == list(range(SPACE.trials))
    assert len({json.dumps(each["steps"]) for each in rows}) == SPACE.trials
    beaten = {
        each["trial"]
        for each, other in itertools.permutations(rows, 2)
        if all(a <= b for a, b in zip(losses(other), losses(each), strict=True))
        and losses(other) != losses(each)
    }
    assert set(data["front"]) == {each["trial"] for each in rows} - beaten
    assert {each["trial"] for each in rows if each["on_front"]} == set(data["front"])
    assert data["best"] in data["front"]
    assert found.as_dict()["front"] == data["front"]
    assert 0 <= data["hypervolume"] <= 1


def test_winning_recipe_gives_the_same_figures_when_it_is_carried_out_again(
    done, model, faces, training, tmp_path
):
    out, found = done
    best = found.front.best
    recipe = load_recipe(str(out / "best_recipe.yaml"))
    assert recipe == found.recipe
    again = compress(
        model, recipe, faces, tmp_path / "again", training=training, seed=0, epochs=no_bar
    )
    assert (found.folder / "manifest.json").exists()
    for done_again in (again, found.compression):
        last = done_again.results[-2]
        assert (last.madds, last.params) == (best.madds, best.params)
        assert last.first.precision == best.precision
        assert last.first.judged == pytest.approx(best.judged, abs=1e-12)
        assert last.first.size_bytes == best.size_bytes
    name = {"fp32": "model.onnx"}.get(best.precision, f"model.{best.precision}.onnx")
    onnxruntime.InferenceSession(found.folder / name, providers=["CPUExecutionProvider"])


def test_search_goes_on_where_it_stopped_and_does_nothing_twice(done, search, tmp_path):
    out = shutil.copytree(done[0], tmp_path / "out")
    before = [(each.params, each.values, each.datetime_complete) for each in trials_of(out)]
    written = {path: path.stat().st_mtime_ns for path in (out / "steps").rglob("*.onnx")}
    more = search(out, replace(SPACE, trials=SPACE.trials + 2))
    after = [(each.params, each.values, each.datetime_complete) for each in trials_of(out)]
    assert after[: SPACE.trials] == before
    assert len(after) == SPACE.trials + 2
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len({json.dumps(each.steps) for each in more.front.tried}) == SPACE.trials + 2


def test_trial_in_flight_when_killed_is_taken_up_under_its_number(
    done, search, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    carry_out = SharedSteps.carry_out

    def killed(self, recipe):
        found = carry_out(self, recipe)
        if sum(METRICS in each.user_attrs for each in trials_of(out)) == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(SharedSteps, "carry_out", killed)
    with pytest.raises(KeyboardInterrupt):
        search(out)
    assert json.loads((out / "front.json").read_text(encoding="utf-8"))["n_trials"] == 2
    states = [each.state for each in trials_of(out)]
    assert states == [TrialState.COMPLETE, TrialState.COMPLETE, TrialState.RUNNING]
    monkeypatch.undo()
    steps = {path: path.stat().st_mtime_ns for path in (out / "steps").rglob("result.json")}
    search(out)
    assert {path: path.stat().st_mtime_ns for path in steps} == steps
    trials = trials_of(out)
    assert [each.number for each in trials] == list(range(SPACE.trials))
    whole = trials_of(done[0])
    assert [each.params for each in trials[:3]] == [each.params for each in whole[:3]]


def test_walls_that_are_known_before_let_nothing_over_them_be_tried(done, search, model, tmp_path):
    whole = model.description.cost.madds
    space = replace(SPACE, trials=3, budget=Budget(max_madds=whole * 3 // 4))
    found = search(tmp_path / "out", space)
    assert len(found.front.tried) == 3
    assert all(each.madds <= whole * 3 // 4 for each in found.front.tried)
    assert not any(each.over for each in found.front.tried)


def test_measured_walls_keep_recipes_off_the_front_and_the_nearest_miss_ships(search, tmp_path):
    space = replace(SPACE, trials=2, budget=Budget(max_latency_ms=1e-6))
    found = search(tmp_path / "out", space)
    assert all(each.state == TrialState.COMPLETE for each in trials_of(tmp_path / "out"))
    assert all(each.constraints["max_latency_ms"] > 1 for each in trials_of(tmp_path / "out"))
    assert "nothing keeps the walls; the nearest is trial" in found.front.shortfall
    assert "Not as asked: nothing keeps the walls" in found.report.read_text(encoding="utf-8")
    assert found.front.members == ()
    assert not found.front.within_walls
    assert found.front.best.latency_ms == min(each.latency_ms for each in found.front.tried)
    assert all("latency_ms" in each.over for each in found.front.tried)
    assert (found.folder / "manifest.json").exists()


def test_floor_is_a_wall_on_what_is_judged(search, tmp_path):
    space = replace(SPACE, trials=3, precision=("w4",), shares=(1.0, 0.5), floor=0.0)
    found = search(tmp_path / "out", space)
    least = found.front.original["judged"]
    for each in found.front.tried:
        assert bool(each.over) == (each.judged < least)


@pytest.mark.parametrize(
    ("budget", "line"),
    [
        (Budget(max_madds=10), "budget.max_madds of 10 cannot be reached: the smallest network"),
        (Budget(max_size_bytes=10), "budget.max_size_bytes of 10 cannot be reached"),
        (Budget(max_params=3, min_madds=10**12), "budget.max_params of 3 cannot be reached"),
        (Budget(min_madds=10**12), "nothing is within the budget"),
    ],
)
def test_what_cannot_be_reached_ends_with_the_nearest(search, tmp_path, budget, line):
    notes = []
    found = search(tmp_path / "out", replace(SPACE, budget=budget), note=notes.append)
    assert [each.startswith(line) for each in notes].count(True) == 1
    [tried] = found.front.tried
    assert tried == found.front.best
    assert not found.front.within_walls
    assert (found.folder / "manifest.json").exists()


def test_stage_that_is_not_there_is_refused_before_anything_is_written(search, tmp_path):
    with pytest.raises(ConfigError, match="stages: 'stages.7' is no stage .*stages.0"):
        search(tmp_path / "out", replace(SPACE, stages={"stages.7": (0.5,)}))
    assert not (tmp_path / "out").exists()


def test_folder_of_another_search_is_refused(done, search):
    with pytest.raises(ConfigError, match="another compression .space.shares changed."):
        search(done[0], replace(SPACE, shares=(1.0, 0.5)))
    with pytest.raises(ConfigError, match="another compression .seed changed."):
        search(done[0], seed=1)


@pytest.fixture(scope="module")
def drafts(model, faces):
    return RecipeDesigns(model, SPACE, faces.train.batch(np.arange(16)))


def labels_of(drafts, **given):
    plain = {name: each.choices[0] for name, each in drafts.distributions.items()}
    return {**plain, **given}


def test_costs_before_a_trial_are_those_of_the_pruned_network(drafts, model, faces):
    restored = restore_norms(model, faces.train.batch(np.arange(16)))
    for seed in range(6):
        rng = np.random.default_rng(seed)
        labels = {
            name: each.choices[rng.integers(len(each.choices))]
            for name, each in drafts.distributions.items()
        }
        shares = {
            name.removeprefix("share."): share
            for name, share in labels.items()
            if name.startswith("share.") and share < 1
        }
        pruned = restored
        if shares:
            pruned = prune_stages(
                restored,
                shares,
                importance=labels["importance"],
                scope=labels["scope"],
                round_to=labels["round_to"],
                min_keep=SPACE.min_keep,
            )
        known, cost = drafts.known(labels), pruned.description.cost
        assert (known["madds"], known["params"]) == (cost.madds, cost.params)
        size = 4.0 * cost.params
        bits = {"fp32": 32, "int8": 8, "w4": 4}[labels["precision"]]
        for layer in weighted_layers(pruned.description):
            stage = "stages.0" if layer.path.startswith("stages.0") else layer.path.split(".")[0]
            if labels[f"weights.{stage}"] == "few":
                size -= layer.weights * (32 - bits) / 8
        assert known["size_bytes"] == pytest.approx(size)


def test_costs_before_a_trial_are_those_that_it_ends_with(search, model, faces, tmp_path):
    space = replace(
        SPACE,
        trials=2,
        shares=(0.75, 0.5),
        importance=("fisher",),
        scope=("global",),
        precision=("fp32",),
    )
    found = search(tmp_path / "out", space)
    crops = sample_images(faces.train, N_CROPS, seed=derive_seed(0, "prune"))
    drafts = RecipeDesigns(model, space, crops)
    for trial, tried in zip(trials_of(tmp_path / "out"), found.front.tried, strict=True):
        known = drafts.known(trial.params)
        assert (known["madds"], known["params"]) == (tried.madds, tried.params)


def test_labels_without_effect_make_the_same_recipe(drafts):
    a = labels_of(drafts, precision="int8", importance="l2")
    b = {**a, "importance": "fpgm", "scope": "global"}  # nothing is pruned
    assert drafts.identity(a) == drafts.identity(b)
    assert drafts.recipe(a).steps == drafts.recipe(b).steps
    c = {**a, "share.head": 0.5}
    assert drafts.identity(a) != drafts.identity(c)
    d = {**c, "precision": "fp32"}
    e = {**d, **{name: "float" for name in d if name.startswith("weights.")}}
    assert drafts.identity(d) == drafts.identity(e)
    assert drafts.identity(c) != drafts.identity(d)


def test_nearest_recipe_is_the_one_that_a_look_at_all_of_them_finds(model, faces):
    space = replace(
        SPACE,
        shares=(1.0, 0.5),
        importance=("l2",),
        scope=("local",),
        precision=("fp32",),
        budget=Budget(max_madds=10),
    )
    drafts = RecipeDesigns(model, space, faces.train.batch(np.arange(16)))
    every = drafts.designs(within_walls=False).everything(10_000)
    least = min(each.known["madds"] for each in every)
    assert drafts.known(nearest_recipe(drafts, 10**6))["madds"] == least
    odd = model.description.cost.madds - 1  # nothing has just so many
    space = replace(space, budget=Budget(min_madds=odd, max_madds=odd))
    drafts = RecipeDesigns(model, space, faces.train.batch(np.arange(16)))
    nearest = max(each.known["madds"] for each in every)
    assert drafts.known(nearest_recipe(drafts, 10**6))["madds"] == nearest


def test_first_recipes_are_each_precision_with_nothing_pruned(drafts):
    words = [[step.kind for step in drafts.recipe(each).steps] for each in plain_recipes(drafts)]
    assert words == [["quantise"], ["low_bits"]]


def test_stages_in_float_are_those_of_the_recipe(drafts):
    labels = labels_of(drafts, precision="int8", **{"weights.stem": "float"})
    [step] = drafts.recipe(labels).steps
    assert step.keep_float == ("stem",)


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe", "random"])
def test_other_samplers_propose_what_fits_and_is_new(search, sampler, tmp_path, monkeypatch):
    carried_out = []

    def made_up(self, recipe):
        rng = np.random.default_rng(len(carried_out))
        state, file = self.original, self.original.file.result
        carried_out.append(recipe)
        file = replace(file, judged=float(rng.random()), size_bytes=int(rng.integers(1000)))
        return state, replace(file, speedup=float(rng.uniform(1, 2)))

    monkeypatch.setattr(SharedSteps, "carry_out", made_up)
    found = search(tmp_path / "out", replace(SPACE, sampler=sampler, trials=20))
    assert len(found.front.tried) == 20
    assert len({json.dumps(each.steps) for each in found.front.tried}) == 20


def test_recipe_that_fails_is_on_record_and_the_search_goes_on(search, tmp_path, monkeypatch):
    carry_out, begun = SharedSteps.carry_out, []

    def failing(self, recipe):
        begun.append(recipe)
        if len(begun) == 1:
            raise CompressionError("out of luck")
        return carry_out(self, recipe)

    monkeypatch.setattr(SharedSteps, "carry_out", failing)
    notes = []
    found = search(tmp_path / "out", replace(SPACE, trials=2), note=notes.append)
    assert found.front.n_failed == 1
    assert [each.trial for each in found.front.tried] == [1]
    assert sum("failed: CompressionError: out of luck" in each for each in notes) == 1


def test_full_disk_ends_the_sitting_and_leaves_the_recipe_to_the_next(
    search, tmp_path, monkeypatch
):
    def full(self, recipe):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SharedSteps, "carry_out", full)
    with pytest.raises(OSError, match="No space left"):
        search(tmp_path / "out", replace(SPACE, trials=1))
    assert [each.state for each in trials_of(tmp_path / "out")] == [TrialState.RUNNING]
    monkeypatch.undo()
    assert search(tmp_path / "out", replace(SPACE, trials=1)).front.best.trial == 0


def test_small_space_is_tried_as_a_whole_and_no_further(search, tmp_path):
    space = replace(
        SPACE,
        trials=20,
        shares=(1.0,),
        precision=("fp32", "int8"),
        stage_precision=("few",),
        importance=("l2",),
        scope=("global",),
    )
    notes = []
    found = search(tmp_path / "out", space, note=notes.append)
    assert [each.precision for each in found.front.tried] == ["int8"]
    assert any("no design is left" in each for each in notes)
