"""What goes wrong in a user's hands: exit code 2, one line that says what, no traceback."""

import errno
import shutil
from pathlib import Path

import pytest

from nas_face.errors import DeployError, NasFaceError, TrainingDiverged
from nas_face.study.config import StudyConfig


@pytest.fixture
def place(tmp_path, monkeypatch, study, searched, model):
    """The current folder, with one of each thing that a user may take for another."""
    monkeypatch.chdir(tmp_path)
    for name in ("space.yaml", "study.yaml"):
        shutil.copy(study.with_name(name), tmp_path)
    shutil.copytree(searched[0], tmp_path / "run")
    shutil.copytree(model, tmp_path / "model")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "one" / "ann").mkdir(parents=True)
    (tmp_path / "one" / "ann" / "1.png").write_bytes(b"no picture")
    (tmp_path / "file").write_text("text", encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text("name: r\nsteps: [{kind: prun}]", encoding="utf-8")
    return tmp_path


MISUSE = {
    "search nope.yaml": r"nope.yaml: no such study file",
    "search studies/nope.yaml": r"studies/nope.yaml: no such study file",
    "search full": r"full: no such study file",
    "search file": r"file: expected a mapping of keys, got str",
    "search model/weights.safetensors": r"weights.safetensors: not valid YAML",
    "search study.yaml --max-madds lots": r"--max-madds: expected a figure such as 150M",
    "search study.yaml --max-madds -5": r"--max-madds: expected a figure such as 150M",
    "search study.yaml --max-madds 0": r"--max-madds: must be at least 1",
    "search study.yaml --max-params 1e6": r"--max-params: expected a figure",
    "search study.yaml --max-madds 1M --max-flops 2M": r"one budget: give one of them",
    "search study.yaml --max-flops 1": r"budget.max_madds must be at least 1, got 0",
    "search study.yaml --max-madds 10": r"nothing in space.yaml fits 10; the smallest design",
    "search study.yaml --max-params 10": r"fits max_params 10; the nearest miss has",
    "search study.yaml --min-madds 1M --min-flops 2M": r"--min-flops and --min-madds are one",
    "search study.yaml --max-size 2ms": r"--max-size: expected a figure such as 2MB, 2MiB",
    "search study.yaml --min-params 2M --max-params 1M": r"min_params must not be above",
    "search study.yaml --min-madds 400k": r"min_madds must not be above budget.max_madds",
    "search study.yaml --max-latency 10M": r"--max-latency: expected a figure such as 10ms",
    "search study.yaml --max-latency 0": r"--max-latency: must be above 0, got '0'",
    "search study.yaml --min-activations 1G": r"fits min_peak_activations 1,000,000,000; the near",
    "search study.yaml --trials 0": r"trials must be at least 1, got 0",
    "search study.yaml --trials -4": r"trials must be at least 1, got -4",
    "search study.yaml --seed -1": r"seed must be at least 0, got -1",
    "search study.yaml --data nope": r"nope: there is no such file or folder",
    "search study.yaml --data empty": r"empty: the folder is empty",
    "search study.yaml --data file": r"file: this has pairs, not identities",
    "search study.yaml --data one": r"one: 1 of 1 images are broken",
    "search study.yaml --exclude nope": r"nope: the list of identities to exclude cannot be read",
    "search study.yaml --out full": r"full: not empty and not a run folder",
    "search study.yaml --out file": r"file: File exists",
    "search study.yaml --out file/run": r"file/run: Not a directory",
    "search study.yaml --out run --seed 3": r"run: holds a run of another study: seed was not set",
    "pareto nope": r"nope: not a run folder",
    "pareto full": r"full: not a run folder",
    "pareto file": r"file: not a run folder",
    "pareto run --csv full": r"full: Is a directory",
    "pareto run --csv file/x.csv": r"file: File exists",
    "pareto run --plot front.gif": r"front.gif: the name of a picture must end in .png, .svg",
    "pareto run --plot full": r"full: the name of a picture must end in",
    "dashboard nope": r"nope: not a run folder",
    "train nope": r"'nope' is no zoo network",
    "train mobilefacenet_12": r"did you mean 'mobilefacenet_512'",
    "train file": r"file: not a readable JSON file",
    "train run": r"run is a run: say which trial with --trial N",
    "train run --trial 9": r"run: no trial 9; there are 0 to 2",
    "train run --trial -1": r"run: no trial -1; there are 0 to 2",
    "train mobilefacenet_128 --trial 1": r"--trial goes with a run folder; mobilefacenet_128 is",
    "train mobilefacenet_128 --study nope": r"nope: no such study file or run folder",
    "train mobilefacenet_128 --epochs 0": r"epochs must be at least 1, got 0",
    "train mobilefacenet_128 --input-size 8": r"input_size must be from 16 to 1024, got 8",
    "train mobilefacenet_128 --threads 0": r"threads must be at least 1, got 0",
    "train run --trial 0 --out file": r"file: File exists",
    "train run --trial 0 --images empty": r"--images goes with --pairs",
    "train run --trial 0 --protocol FF": r"--protocol goes with --pairs",
    "train run --trial 0 --pairs nope": r"nope: there is no such file or folder",
    "train run --trial 0 --pairs orl": r"orl: nobody is left to train on, since orl has all 40",
    "train run --trial 0 --data orl --data orl": r"data.source names orl twice",
    "train run --trial 0 --same-names maybe": r"data.same_names: input should be 'refuse', 'join'",
    "train run --trial 0 --set epochs": r"--set takes KEY=VALUE, such as loss.margin=0.3",
    "train run --trial 0 --set epoch=3": r"full_training.epoch is not a known key",
    "train run --trial 0 --set loss.kind=face": r"loss: there is no margin loss 'face'; did you",
    "train run --trial 0 --set epochs=[": r"--set epochs: not valid YAML",
    "train run --trial 0 --set distil=[angular]": r"training.distil needs training.teacher",
    "train run --trial 0 --device gpu": r"--device: there is no 'gpu'; did you mean",
    "train run --trial 0 --init nope": r"nope: not a model folder, model.json cannot be read",
    "train mobilefacenet_128 --init model": r"of its weights do not fit the network, first stem.0",
    "train run --trial 0 --teacher nope": r"nope",
    "verify nope --pairs orl": r"nope: no such model folder, ONNX file, OpenVINO file or run",
    "verify full --pairs orl": r"full: not a model folder, model.json cannot be read",
    "verify run --pairs orl": r"run is a run: say which trial",
    "verify model --trial 0 --pairs orl": r"--trial goes with a run folder; model is none",
    "verify model --pairs nope.txt": r"nope.txt: there is no such file or folder",
    "verify model --pairs full": r"full: this has identities, not pairs; pairs are",
    "verify model --pairs file": r"file:1: a line is 'NAME i j'",
    "verify model --pairs model/weights.safetensors": r"safetensors: of no known format",
    "compress nope": r"nope: not a model folder",
    "compress run": r"run is a run: say which trial",
    "compress model --trial 0": r"--trial goes with a run folder; model is none",
    "compress model --recipe nope": r"nope: no such recipe; give a YAML file",
    "compress model --recipe recipe.yaml": r"steps.0: input tag 'prun'",
    "compress model --data nope": r"nope: there is no such file or folder",
    "compress model --pairs nope": r"nope: there is no such file or folder",
    "compress model --out full": r"full: not empty and not of a compression",
    "compress model --out file": r"file: Not a directory",
    "cost nope": r"'nope' is no zoo network, spec file or model folder; 55 are known, among them ",
    "cost full": r"'full' is no zoo network",
    "cost study.yaml": r"study.yaml: not a readable JSON file",
}


@pytest.mark.parametrize("command", MISUSE)
def test_one_line_says_what_is_wrong(command, nas_face, place):
    answer = nas_face(*command.split())
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert [line.startswith("nas-face: ") for line in lines].count(True) == 1
    assert lines[-1].startswith("nas-face: ")
    assert MISUSE[command] in lines[-1]
    assert "Traceback" not in answer.err
    assert answer.out == ""


@pytest.mark.parametrize(
    "command",
    [
        "",
        "frob",
        "--frob",
        "search",
        "search study.yaml --trials x",
        "search study.yaml --frob",
        "zoo more",
        "verify model",
        "pareto",
        "dashboard run --port 70000",
    ],
)
def test_usage_errors_exit_alike(command, nas_face, place):
    answer = nas_face(*command.split())
    assert answer.code == 2
    assert "Traceback" not in answer.err


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda at: (at / "model.json").write_text("{"), "model.json: not valid JSON"),
        (lambda at: (at / "model.json").write_text("[]"), "model.json: the file: "),
        (lambda at: (at / "model.json").unlink(), "not a model folder"),
        (lambda at: (at / "weights.safetensors").unlink(), "weights.safetensors: not a readable"),
        (lambda at: (at / "weights.safetensors").write_bytes(b"x"), "not a readable safetensors"),
    ],
)
@pytest.mark.parametrize("command", ["verify model --pairs orl", "compress model"])
def test_broken_model_folder(damage, message, command, nas_face, place):
    damage(place / "model")
    answer = nas_face(*command.split())
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda at: (at / "study.db").write_bytes(b"x" * 5000), "study.db: cannot be read or"),
        (lambda at: (at / "study.json").write_text("{"), "study.json cannot be read"),
        (lambda at: (at / "study.json").write_text("[]"), "study.json: expected a mapping"),
        (lambda at: (at / "space.yaml").unlink(), "space: no file"),
        (lambda at: (at / "space.yaml").write_text("name: x"), "space.yaml: input_shape is miss"),
    ],
)
@pytest.mark.parametrize(
    "command",
    ["pareto run", "verify run --trial 0 --pairs orl", "search study.yaml --out run --trials 9"],
)
def test_broken_run_folder(damage, message, command, nas_face, place):
    damage(place / "run")
    answer = nas_face(*command.split())
    assert answer.code == 2
    assert message in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("command", ["compress run --trial 0", "verify run --trial 0 --pairs orl"])
def test_candidates_that_were_deleted(command, nas_face, place):
    shutil.rmtree(place / "run" / "candidates")
    answer = nas_face(*command.split())
    assert answer.code == 2
    assert "missing; trial 0 was trained by worker" in answer.err
    assert nas_face("pareto", "run").code == 0


def test_file_that_is_no_onnx_is_named(nas_face, place):
    answer = nas_face("verify", "file", "--pairs", "orl")
    assert answer.code == 1
    assert answer.err.startswith("nas-face: file: not an ONNX file that can run here")


@pytest.mark.parametrize(
    ("failure", "code", "line"),
    [
        (NasFaceError("no"), 2, "nas-face: no"),
        (TrainingDiverged("no"), 1, "nas-face: no"),
        (DeployError("no"), 1, "nas-face: no"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "nas-face: No space left on device"),
        (
            PermissionError(errno.EACCES, "Permission denied", "x"),
            2,
            "nas-face: x: Permission den",
        ),
        (OSError(errno.EROFS, "Read-only file system", "x"), 2, "nas-face: x: Read-only file sys"),
        (KeyboardInterrupt(), 130, "nas-face: interrupted; run the same command to go on"),
    ],
)
def test_exit_code_says_whose_fault_it_is(failure, code, line, nas_face, place, monkeypatch):
    def fail(self):
        raise failure

    monkeypatch.setattr(StudyConfig, "to_data", fail)
    answer = nas_face("search", "study.yaml", "--out", "new")
    assert answer.code == code
    assert answer.err.splitlines()[-1].startswith(line)


def test_failure_of_the_program_itself_is_not_hidden(nas_face, place, monkeypatch):
    def fail(self):
        raise ZeroDivisionError

    monkeypatch.setattr(StudyConfig, "to_data", fail)
    with pytest.raises(ZeroDivisionError):
        nas_face("search", "study.yaml", "--out", "new")
    assert Path("new").is_dir()
