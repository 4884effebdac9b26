"""A recipe carried out: files, costs, parity by ONNX Runtime itself, and taking it up again."""

import contextlib
import json
import shutil
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny_study import TRAINING

from nas_face.arch.codec import from_data
from nas_face.arch.spec import ArchSpec
from nas_face.compress.pruning import lacks_statistics
from nas_face.data import all_pairs, load_orl
from nas_face.data.formats.attributes import read_attributes
from nas_face.errors import CompressionError, ConfigError
from nas_face.nn import FaceModel
from nas_face.study.compression.recipe import Recipe
from nas_face.study.compression.record import CompressionFaces
from nas_face.study.compression.step_settings import (
    DistilStep,
    PruneStep,
    QuantiseStep,
)
from nas_face.study.compression.steps import compress
from nas_face.study.verification.groups import find_groups
from nas_face.train import TrainSettings

ANYTHING = -100.0  # a floor that nothing breaks


def recipe_of(*steps, **settings):
    """For ONNX Runtime alone, which compiles nothing."""
    given = {"name": "r", "runtime": "onnxruntime", "deliver": ("onnxruntime",), **settings}
    return Recipe(steps=steps, **given)


RECIPE = recipe_of(
    PruneStep(share=0.6, round_to=4),
    DistilStep(epochs=1, learning_rate=0.05, floor=ANYTHING),
    QuantiseStep(n_images=16),
    name="small",
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
    """The widest candidate of the run."""
    complete = [trial for trial in finished.trials() if trial.values]
    return finished.model(max(complete, key=lambda trial: trial.values[1]))


@pytest.fixture(scope="module")
def carry_out(faces):
    def carry_out(model, out, recipe=RECIPE, faces=faces, seed=0, **training):
        settings = from_data(
            TrainSettings, {**TRAINING, **training}, where="recipe", error=ConfigError
        )
        return compress(model, recipe, faces, out, training=settings, seed=seed, epochs=no_bar)

    return carry_out


@pytest.fixture(scope="module")
def done(carry_out, model, tmp_path_factory):
    """Folder and rows of the recipe; not to be changed."""
    out = tmp_path_factory.mktemp("compressed") / "out"
    return out, carry_out(model, out)


@pytest.fixture
def again(done, tmp_path):
    shutil.copytree(done[0], tmp_path / "out")
    return tmp_path / "out"


def onnx_embeddings(path, images):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = images.transpose(0, 3, 1, 2).astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def torch_embeddings(model, images):
    x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.inference_mode():
        return model.module.eval()(x).numpy()


def cosines(a, b):
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture
def in_groups(faces, tmp_path):
    """The faces with groups of people: by a rule on their number, such as its parity."""

    def in_groups(rule=lambda number: "odd" if number % 2 else "even", far=0.05):
        path = tmp_path / "people.csv"
        lines = [f"s{number},{rule(number)}" for number in range(1, 41)]
        path.write_text("identity,kind\n" + "\n".join(lines) + "\n", encoding="utf-8")
        groups = find_groups(read_attributes(path), faces.pairs, far=far, of="pairs")
        return replace(faces, groups=groups)

    return in_groups


def naive_rates(embeddings, pairs, far, chosen):
    """TAR and FMR of the pairs within a group, at the threshold of all pairs."""
    e = embeddings / np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
    scores = (e[pairs.first] * e[pairs.second]).sum(axis=1)
    impostors = np.sort(scores[~pairs.same])[::-1]
    accepted = scores > impostors[int(far * len(impostors))]
    number = np.array([int(pairs.images.identities[each][1:]) for each in pairs.images.labels])
    inside = chosen(number)[pairs.first] & chosen(number)[pairs.second]
    return accepted[inside & pairs.same].mean(), accepted[inside & ~pairs.same].mean()


def stamps(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def accuracies(compression):
    return [(row.first.accuracy, row.first.judged) for row in compression.results]


def test_files_that_ship(done):
    out, _ = done
    names = {path.name for path in out.iterdir()} - {"lock"}
    assert names >= {
        "model.json",
        "weights.safetensors",
        "spec.json",
        "model.onnx",
        "model.int8.onnx",
        "manifest.json",
        "lineage.json",
        "report.html",
        "compression.json",
        "recipe.json",
        "steps",
        "trained_on.json",
    }
    assert not {name for name in names if name.startswith("model") and name.endswith(".xml")}
    steps = {path.name for path in (out / "steps").iterdir()}
    assert steps == {"0-original", "1-prune", "2-distil", "3-quantise", "4-deliver"}
    left = [path.name for path in out.rglob("*") if path.name in ("tries", "teachers", "source")]
    assert left == []
    assert not list(out.rglob("*.partial"))


def test_costs_and_sizes(done, model):
    out, compression = done
    rows = compression.results
    before = model.description.cost
    assert rows[0].madds == before.madds
    assert rows[1].madds <= 0.6 * before.madds
    shipped = FaceModel.load(out).description
    for row in rows[1:]:
        assert row.madds == shipped.cost.madds
        assert row.params == shipped.cost.params < before.params
    assert rows[3].first.size_bytes == (out / "model.int8.onnx").stat().st_size
    assert shipped.embedding_size == model.description.embedding_size
    assert ArchSpec.load(out / "spec.json").lower() == shipped.network


def test_table_is_what_was_returned(done):
    out, compression = done
    table = json.loads((out / "compression.json").read_text(encoding="utf-8"))
    assert table == json.loads(json.dumps(compression.as_dict()))
    assert [row["step"] for row in table["steps"]] == [
        "original",
        "1 prune",
        "2 distil",
        "3 quantise",
        "delivered",
    ]
    assert {(file["runtime"], file["precision"]) for file in table["delivered"]} == {
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),
    }


def test_plain_original_is_the_reference_in_time(done):
    out, compression = done
    original = compression.results[0]
    assert [each.file for each in original.files] == ["model.onnx", "plain.onnx"]
    assert original.files[1].speedup == 1.0
    plain = onnx.load(out / "steps" / "0-original" / "plain.onnx")
    rewritten = onnx.load(out / "steps" / "0-original" / "model.onnx")
    assert "PRelu" in {node.op_type for node in plain.graph.node}
    assert "PRelu" not in {node.op_type for node in rewritten.graph.node}


def test_judged_is_the_mean_of_both_rates_at_the_best_threshold(done, faces):
    """By trying every score as the threshold."""
    out, compression = done
    pairs = faces.judge
    images = pairs.images.batch(np.arange(len(pairs.images)))
    for file, row in (("model.int8.onnx", 3), ("model.onnx", 2)):
        e = sum(onnx_embeddings(out / file, x) for x in (images, images[:, :, ::-1]))
        scores = cosines(e[pairs.first].astype(np.float64), e[pairs.second].astype(np.float64))
        same, different = np.sort(scores[pairs.same]), np.sort(scores[~pairs.same])
        best = max(
            (same >= cut).mean() / 2 + (different < cut).mean() / 2 for cut in np.unique(scores)
        )
        assert compression.results[row].first.judged == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("folder", ["steps/0-original", "steps/1-prune", "steps/2-distil", "."])
def test_onnx_agrees_with_torch_on_real_faces(folder, done, model):
    images = load_orl(32, 32).batch(np.arange(0, 400, 7))
    place = done[0] / folder
    source = model if folder.endswith("original") else FaceModel.load(place)
    agreement = cosines(
        onnx_embeddings(place / "model.onnx", images), torch_embeddings(source, images)
    )
    assert agreement.min() > 0.9999


def test_int8_file_is_near_the_float_one_and_as_near_as_said(done):
    out, compression = done
    images = load_orl(32, 32).batch(np.arange(0, 400, 7))
    agreement = cosines(
        onnx_embeddings(out / "model.int8.onnx", images),
        onnx_embeddings(out / "model.onnx", images),
    )
    assert agreement.mean() > 0.9
    file = compression.results[3].first
    assert file.min_cosine <= file.p01_cosine <= file.mean_cosine <= 1
    assert file.mean_cosine == pytest.approx(agreement.mean(), abs=0.01)


def test_pruning_alone_and_distillation_are_on_record(done):
    lineage = FaceModel.load(done[0]).description.lineage
    assert "compressed by recipe small" in lineage[-1]
    assert any(line.startswith("distilled 1 epochs") for line in lineage)


def test_finished_steps_are_taken_as_they_are(again, done, carry_out, model):
    before = stamps(again / "steps")
    assert carry_out(model, again) == done[1]
    assert stamps(again / "steps") == before


@pytest.mark.parametrize(
    "lost", [["3-quantise"], ["2-distil", "3-quantise", "4-deliver"], ["4-deliver"]]
)
def test_lost_steps_are_done_again_to_the_same_weights(lost, again, done, carry_out, model):
    for name in lost:
        shutil.rmtree(again / "steps" / name)
    kept = stamps(again / "steps")
    compression = carry_out(model, again)
    assert accuracies(compression) == accuracies(done[1])
    assert kept.items() <= stamps(again / "steps").items()
    for name in ("weights.safetensors", "model.onnx", "model.int8.onnx"):
        assert (again / name).read_bytes() == (done[0] / name).read_bytes()


def test_step_cut_off_before_its_result_is_finished(again, done, carry_out, model):
    (again / "steps" / "2-distil" / "result.json").unlink()
    shutil.rmtree(again / "steps" / "3-quantise")
    compression = carry_out(model, again)
    assert accuracies(compression) == accuracies(done[1])
    assert (again / "weights.safetensors").read_bytes() == (
        done[0] / "weights.safetensors"
    ).read_bytes()


def test_folder_of_another_compression_is_refused(again, carry_out, model, faces):
    other_recipe = replace(RECIPE, steps=(PruneStep(share=0.7), *RECIPE.steps[1:]))
    other_model = model.noting("changed")
    other_pairs = replace(faces, pairs=all_pairs(faces.train, max_impostors_per_genuine=1, seed=0))
    other_judge = replace(faces, judge=all_pairs(faces.train, max_impostors_per_genuine=1, seed=0))
    refused = (
        ("model", {"model": other_model}),
        ("recipe", {"recipe": other_recipe}),
        ("training", {"loss": {**TRAINING["loss"], "scale": 8.0}}),
        ("faces", {"faces": other_pairs}),
        ("faces", {"faces": other_judge}),
        ("seed", {"seed": 1}),
    )
    before = stamps(again)
    for what, change in refused:
        with pytest.raises(ConfigError, match=rf"another compression \({what} changed\)"):
            carry_out(**{"model": model, "out": again, **change})
    assert stamps(again) == before


def test_folder_of_something_else_is_refused(carry_out, model, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="not empty and not of a compression"):
        carry_out(model, tmp_path)


def test_start_that_was_cut_off_is_begun_again(carry_out, model, tmp_path):
    (tmp_path / "recipe.json.partial").touch()
    compression = carry_out(model, tmp_path, recipe=recipe_of(PruneStep(share=0.9)))
    assert [row.step for row in compression.results] == ["original", "1 prune", "delivered"]


@pytest.mark.parametrize("text", ["{", "[]", '{"step": "x"}'])
def test_broken_result_is_named(text, again, carry_out, model):
    (again / "steps" / "1-prune" / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"1-prune/result\.json: "):
        carry_out(model, again)


@pytest.mark.parametrize(
    "before",
    [(), (PruneStep(share=0.8, min_keep=0.0),), (DistilStep(epochs=1),)],
    ids=["first", "behind_pruning", "behind_distillation"],
)
def test_target_out_of_reach_is_named_and_nothing_is_left_behind(
    before, carry_out, model, tmp_path
):
    recipe = recipe_of(*before, PruneStep(madds=10))
    with pytest.raises(
        CompressionError, match=r"target_madds=10 cannot be reached: .* has [\d,]+"
    ):
        carry_out(model, tmp_path / "new" / "out", recipe=recipe)
    assert list(tmp_path.iterdir()) == []


def test_stages_are_pruned_to_their_shares_and_one_can_stay_in_float(
    done, carry_out, model, tmp_path
):
    recipe = recipe_of(
        PruneStep(stages={"stages.0": 0.5, "head": 1.0}, round_to=1, scope="local"),
        QuantiseStep(n_images=16, keep_float=("head",)),
    )
    result = carry_out(model, tmp_path / "out", recipe)
    assert [each.verdict for each in result.results[1:]] == ["kept", "kept", "kept"]
    assert result.tries[0].setting == "to 50.0% of stages.0, 100.0% of head"
    before = model.module.state_dict()
    after = FaceModel.load(tmp_path / "out").module.state_dict()
    rows = {
        name: (len(before[name]), len(after[name]))
        for name in before
        if name.endswith("conv.weight") and before[name].shape[1] > 1  # not depthwise
    }
    for name, (wide, narrow) in rows.items():
        assert narrow == (wide // 2 if name.startswith("stages.0") else wide)
    assert linear_weights_in_float(tmp_path / "out" / "model.int8.onnx")
    assert not linear_weights_in_float(done[0] / "model.int8.onnx")


def linear_weights_in_float(path):
    graph = onnx.load(path).graph
    floats = {each.name for each in graph.initializer if each.data_type == onnx.TensorProto.FLOAT}
    linear = [each for each in graph.node if each.op_type in ("Gemm", "MatMul")]
    assert linear
    return all(each.input[1] in floats for each in linear)


def test_stage_that_is_not_there_is_named_before_anything_is_written(carry_out, model, tmp_path):
    recipe = recipe_of(PruneStep(stages={"stages.3": 0.5}))
    with pytest.raises(CompressionError, match=r"stages: 'stages\.3' is no stage .*stages\.0"):
        carry_out(model, tmp_path / "out", recipe)
    assert not (tmp_path / "out").exists()


def test_recipe_without_quantisation_ships_float_only(carry_out, model, tmp_path):
    out = tmp_path / "out"
    carry_out(model, out, recipe=recipe_of(PruneStep(share=0.8)))
    assert (out / "model.onnx").exists()
    assert not (out / "model.int8.onnx").exists()
    assert FaceModel.load(out).description.cost.madds <= 0.8 * model.description.cost.madds


def test_groups_are_measured_on_the_files_that_ship(again, done, carry_out, model, in_groups):
    """Asked for later on, too: then the files are measured, and nothing else is done again."""
    before = stamps(again / "steps")
    faces = in_groups()
    rows = carry_out(model, again, faces=faces).results
    assert tuple(replace(row, groups=()) for row in rows) == done[1].results
    added = stamps(again / "steps").keys() - before.keys()
    assert {path.name for path in added} == {"groups.json"}
    assert before.items() <= stamps(again / "steps").items()
    images = faces.pairs.images.batch(np.arange(len(faces.pairs.images)))
    files = [f"steps/{name}/model.onnx" for name in ("0-original", "1-prune", "2-distil")]
    files += ["model.int8.onnx", rows[-1].first.file]
    for row, file in zip(rows, files, strict=True):
        embeddings = sum(onnx_embeddings(again / file, x) for x in (images, images[:, :, ::-1]))
        odd = naive_rates(embeddings, faces.pairs, 0.05, lambda number: number % 2 == 1)
        even = naive_rates(embeddings, faces.pairs, 0.05, lambda number: number % 2 == 0)
        [report] = row.groups
        assert [each.name for each in report.groups] == ["even", "odd"]
        found = [(each.tar, each.fmr) for each in report.groups]
        assert found == [pytest.approx(even), pytest.approx(odd)]
        assert row.worst_group_tar == pytest.approx(min(even[0], odd[0]))
    table = json.loads((again / "compression.json").read_text(encoding="utf-8"))
    steps = table["steps"]
    assert [each["worst_group_tar"] for each in steps] == [row.worst_group_tar for row in rows]
    assert steps[0]["groups"][0]["groups"][0]["tar"] == rows[0].groups[0].groups[0].tar


def test_groups_are_kept_and_found_anew_when_they_change(again, done, carry_out, model, in_groups):
    first = carry_out(model, again, faces=in_groups())
    kept = stamps(again / "steps")
    assert carry_out(model, again, faces=in_groups()) == first
    assert stamps(again / "steps") == kept
    other = carry_out(model, again, faces=in_groups(lambda number: "all"))
    assert [each.name for each in other.results[0].groups[0].groups] == ["all"]
    looser = carry_out(model, again, faces=in_groups(far=0.1))
    assert looser.results[0].groups[0].far == 0.1
    assert looser.results[0].worst_group_tar >= first.results[0].worst_group_tar
    assert carry_out(model, again) == done[1]
    assert (again / "compression.json").read_bytes() == (done[0] / "compression.json").read_bytes()


def test_without_groups_the_files_say_nothing_of_them(done):
    out, _ = done
    assert not list(out.rglob("groups.json"))
    for path in [out / "compression.json", *out.rglob("result.json")]:
        assert "group" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["{", "[]", '{"digest": "x"}', '{"digest": "x", "reports": [1]}'])
def test_broken_groups_are_named(text, again, carry_out, model, in_groups):
    (again / "steps" / "1-prune" / "groups.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"1-prune/groups\.json: "):
        carry_out(model, again, faces=in_groups())


def test_network_without_statistics_gets_them_before_it_is_trained(carry_out, model, tmp_path):
    blank = FaceModel.of(model.description, model.module.state_dict())
    with torch.no_grad():
        for each in blank.module.modules():
            if isinstance(each, torch.nn.modules.batchnorm._BatchNorm):
                each.weight.copy_(each.weight / (each.running_var + each.eps).sqrt())
                each.bias.sub_(each.weight * each.running_mean)
                each.running_mean.zero_()
                each.running_var.fill_(1 - each.eps)
    assert lacks_statistics(blank)
    assert not lacks_statistics(model)
    step = DistilStep(epochs=1, learning_rate=1e-9, loss="none", floor=ANYTHING)
    before, after = carry_out(blank, tmp_path / "out", recipe_of(step)).results[:2]
    assert after.files[0].judged == pytest.approx(before.files[0].judged, abs=0.02)
