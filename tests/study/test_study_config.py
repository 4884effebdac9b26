"""Study files: what is refused, with file and path in one line, and what overrides do."""

from pathlib import Path

import pytest
from tiny_study import STUDY, TRAINING, write_study

from nas_face.errors import ConfigError
from nas_face.search import Budget
from nas_face.shipped import find_file
from nas_face.study.config import StudyConfig, load_run_study, load_study, study_of

REFUSED = {
    "unknown key": ({"tirals": 4}, r"tirals is not a known key"),
    "unknown inner key": ({"training": {"epoch": 4}}, r"training\.epoch is not a known key"),
    "missing key": ({"space": None}, r"space: field required"),
    "wrong type": ({"trials": "many"}, r"trials: .*valid integer, got 'many'"),
    "fraction of a trial": ({"trials": 4.5}, r"trials: .*got 4\.5"),
    "truth for a number": ({"trials": True}, r"trials: .*got True"),
    "no trial": ({"trials": 0}, r"trials must be at least 1, got 0"),
    "negative trials": ({"trials": -3}, r"trials must be at least 1, got -3"),
    "negative seed": ({"seed": -1}, r"seed must be at least 0, got -1"),
    "no thread": ({"threads": 0}, r"threads must be at least 1, got 0"),
    "budget in words": (
        {"budget": {"max_madds": "12 apples"}},
        r"budget\.max_madds: expected a figure such as 150M.*got '12 apples'",
    ),
    "budget of nothing": ({"budget": {"max_madds": 0}}, r"budget\.max_madds must be at least 1"),
    "budget is a number": ({"budget": 5}, r"budget: .*got 5"),
    "unknown budget": ({"budget": {"max_flops": 5}}, r"budget\.max_flops is not a known key"),
    "late rung": ({"rungs": {"epochs": [2]}}, r"rungs\.epochs must lie below .*epochs=2, got 2"),
    "falling rungs": ({"rungs": {"epochs": [3, 1]}}, r"rungs\.epochs must rise from 1"),
    "unknown objective": (
        {"objectives": ["log_tr", "madds"]},
        r"unknown objective 'log_tr'; did you mean 'log_tar'\?",
    ),
    "objective twice": ({"objectives": ["auc", "auc"]}, r"objectives must differ, got auc, auc"),
    "nothing trained": ({"objectives": ["madds"]}, r"objectives: at least one .* training"),
    "no objective": ({"objectives": []}, r"objectives: at least one"),
    "objective no list": ({"objectives": "auc"}, r"objectives: .*array, got 'auc'"),
    "unknown sampler": ({"sampler": "nsga9"}, r"unknown sampler 'nsga9'; did you mean 'nsga"),
    "sampler is no name": ({"sampler": ["tpe"]}, r"sampler: .*valid string, got \['tpe'\]"),
    "unknown tuner": (
        {"sampler": "nni:tpee", "objectives": ["auc"]},
        r"sampler 'nni:tpee': no such tuner; did you mean 'tpe'\?",
    ),
    "tuner of one objective": ({"sampler": "nni:tpe"}, r"take one objective, got 2"),
    "start is a name": ({"start_with": "mobilefacenet_128"}, r"start_with: .*array, got 'mob"),
    "start twice": (
        {"start_with": ["a", "b", "a"]},
        r"start_with: names must differ, got a, b, a",
    ),
    "unknown proxy": (
        {"proxies": {"names": ["zic"]}},
        r"unknown proxy 'zic'; did you mean 'zico'",
    ),
    "audit above all": ({"rungs": {"audit": 1.5}}, r"rungs\.audit must be from 0 to 1, got 1\.5"),
    "lower wall above the upper": (
        {"budget": {"max_madds": "1M", "min_madds": "2M"}},
        r"budget\.min_madds must not be above budget\.max_madds, which is 1,000,000",
    ),
    "bytes in words": (
        {"budget": {"max_size_bytes": "2 apples"}},
        r"budget\.max_size_bytes: expected a figure such as 2MB.*got '2 apples'",
    ),
    "latency of nothing": (
        {"budget": {"max_latency_ms": 0}},
        r"budget\.max_latency_ms must be above 0, got 0",
    ),
    "no space file": ({"space": "nope.yaml"}, r"space: no file 'nope\.yaml'"),
    "space is a folder": ({"space": "."}, r"space: no file '\.'"),
    "tiny images": ({"input_size": 3}, r"input_size must be from 16 to 1024, got 3"),
    "fractions": (
        {"data": {"search_fraction": 0.9, "test_fraction": 0.2}},
        r"data: search_fraction and test_fraction must leave faces",
    ),
    "no share": ({"data": {"test_fraction": 0.0}}, r"data\.test_fraction must be between 0 and 1"),
    "learning rate no number": (
        {"training": {**TRAINING, "learning_rate": float("nan")}},
        r"learning_rate must be above 0, got nan",
    ),
    "name is no text": ({"name": 5}, r"name: .*valid string, got 5"),
    "no name": ({"name": ""}, r"name must do as the name of a folder, got ''"),
    "name goes up": ({"name": ".."}, r"name must do as the name of a folder, got '\.\.'"),
    "name is a path": ({"name": "a/b"}, r"name must do as the name of a folder, got 'a/b'"),
    "name of two lines": ({"name": "a\nb"}, r"name must do as .*, got 'a\\nb'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_broken_rule_is_named_with_file_and_path(case, tmp_path):
    changes, message = REFUSED[case]
    path = write_study(tmp_path, changes)
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected a mapping of keys, got NoneType"),
        ("- a\n", r"expected a mapping of keys, got list"),
        ("just words\n", r"expected a mapping of keys, got str"),
        ("name: a\n\ttrials: 4\n", r"not valid YAML .*line 2"),
        ("name: [\n", r"not valid YAML"),
        ("? [a, b]\n: 1\n", r"not valid YAML .*unhashable"),
    ],
)
def test_what_is_no_study_at_all(text, message, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)


def test_file_that_is_missing_or_no_text(tmp_path):
    with pytest.raises(ConfigError, match=r"nope\.yaml: cannot be read"):
        load_study(tmp_path / "nope.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: not valid YAML"):
        load_study(binary)


def test_overrides_replace_and_add(tmp_path):
    path = write_study(tmp_path, {"budget": None, "data": None})
    overrides = {
        "trials": 9,
        "budget.max_madds": 150_000_000,
        "full_training.epochs": 7,
        "data.test_fraction": 0.1,
    }
    config = load_study(path, overrides)
    assert config.trials == 9
    assert config.budget == Budget(max_madds=150_000_000)
    assert config.full_training.epochs == 7
    assert config.full_training.batch_size == TRAINING["batch_size"]
    assert config.data.test_fraction == 0.1
    assert config.training == load_study(path).training


def test_overrides_are_checked_like_the_file(tmp_path):
    path = write_study(tmp_path)
    with pytest.raises(ConfigError, match=r"study\.yaml: trials must be at least 1, got 0"):
        load_study(path, {"trials": 0})


@pytest.mark.parametrize("value", [5, [1]])
def test_override_does_not_hide_a_part_that_is_no_mapping(value, tmp_path):
    path = write_study(tmp_path, {"budget": value})
    with pytest.raises(ConfigError, match=r"study\.yaml: budget: expected a mapping of keys, got"):
        load_study(path, {"budget.max_madds": 1000})


def test_part_left_empty_is_refused_with_and_without_an_override(tmp_path):
    path = write_study(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "data:\n", encoding="utf-8")
    for overrides in ({}, {"data.source": "orl"}):
        with pytest.raises(ConfigError, match=r"data: .*, got None"):
            load_study(path, overrides)


@pytest.mark.parametrize(
    ("text", "madds"), [("300k", 300_000), ("1.2M", 1_200_000), (" 2 g ", 2_000_000_000), (5, 5)]
)
def test_budget_figures(text, madds, tmp_path):
    config = load_study(write_study(tmp_path, {"budget": {"max_madds": text}}))
    assert config.budget.max_madds == madds


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("max_size_bytes", "2MiB", 2 * 2**20),
        ("min_size_bytes", "1.5MB", 1_500_000),
        ("max_latency_ms", "800us", 0.8),
        ("max_latency_ms", "10", 10.0),
        ("min_latency_ms", 2.5, 2.5),
        ("max_peak_activations", "300k", 300_000),
        ("min_params", "0.5M", 500_000),
    ],
)
def test_budget_figures_have_the_units_of_their_wall(key, text, value, tmp_path):
    config = load_study(write_study(tmp_path, {"budget": {key: text}}))
    assert getattr(config.budget, key) == pytest.approx(value)


def test_what_is_not_said():
    """Of a study file that says no more than it must."""
    path = find_file("search_spaces/seesaw.yaml")
    config = study_of({"name": "least", "space": str(path)}, where="test")
    assert config.sampler == "front_gain"
    assert config.start_with == ()
    assert config.proxies.names == ()
    assert config.rungs.epochs == ()


def test_start_is_looked_for_like_the_space(tmp_path, monkeypatch):
    """Networks keep their name, shipped files are found, and paths lose their folder."""
    shipped = "studies/faces_64_best.spec.json"
    names = ["seesaw_share", shipped, "earlier", "gone/run", "no_such_network"]
    path = write_study(tmp_path / "studies", {"start_with": names})
    (tmp_path / "studies" / "earlier").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_study(path).start_with == (
        "seesaw_share",
        str(find_file(shipped)),
        str(tmp_path / "studies" / "earlier"),
        str(tmp_path / "gone" / "run"),
        str(tmp_path / "no_such_network"),
    )


def test_start_of_the_command_line_replaces_that_of_the_file(tmp_path):
    path = write_study(tmp_path, {"start_with": ["mobilefacenet_128"]})
    config = load_study(path, {"start_with": ["seesaw_share", "seesaw_shuffle"]})
    assert config.start_with == ("seesaw_share", "seesaw_shuffle")


def test_space_is_looked_for_beside_the_study(tmp_path, monkeypatch):
    path = write_study(tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    assert Path(load_study(path).space).samefile(tmp_path / "studies" / "space.yaml")


def test_faces_are_looked_for_here_then_beside_the_study(tmp_path, monkeypatch):
    path = write_study(tmp_path / "studies", {"data": {"source": "faces", "exclude": "out.txt"}})
    (tmp_path / "studies" / "faces").mkdir()
    (tmp_path / "out.txt").touch()
    monkeypatch.chdir(tmp_path)
    data = load_study(path).data
    assert data.source == str(tmp_path / "studies" / "faces")
    assert data.exclude == str(tmp_path / "out.txt")
    (tmp_path / "faces").mkdir()
    assert load_study(path).data.source == str(tmp_path / "faces")


def test_teachers_are_looked_for_like_the_faces(tmp_path, monkeypatch):
    recipes = {
        "training": {**TRAINING, "teacher": "sface", "distil": ["angular"]},
        "full_training": {**TRAINING, "teacher": "big.onnx", "distil": ["angular"]},
    }
    path = write_study(tmp_path / "studies", recipes)
    (tmp_path / "studies" / "big.onnx").touch()
    monkeypatch.chdir(tmp_path)
    config = load_study(path)
    assert config.training.teacher.model == "sface"
    assert config.full_training.teacher.model == str(tmp_path / "studies" / "big.onnx")


def test_study_survives_its_record(tiny: StudyConfig):
    assert study_of(tiny.to_data(), where="record") == tiny


def test_input_is_not_changed(tmp_path):
    write_study(tmp_path)
    raw = {**STUDY, "space": str(tmp_path / "space.yaml")}
    study_of(raw, where="test", overrides={"budget.max_madds": 5})
    assert raw["budget"] == {"max_madds": "300k"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"not a run folder, study\.json cannot be read"),
        ("[]", r"study\.json: expected a mapping of keys, got \[\]"),
        ("{}", r"study\.json: name: field required"),
    ],
)
def test_broken_record_of_a_run(text, message, tmp_path):
    (tmp_path / "study.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_run_study(tmp_path)
