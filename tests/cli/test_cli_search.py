"""`search`, `pareto` and `dashboard` as a user types them."""

import csv
import json
import os
import shlex
import shutil
import signal
import time
from pathlib import Path

import pytest
from PIL import Image
from real_program import Program

from nas_face.study.run import Run


def test_search_says_what_it_does(searched):
    folder, answer = searched
    assert answer.code == 0
    for text in (
        "study tiny: space ",
        "budget 300,000 MAdds (600,000 FLOPs)",
        "space tiny: 24 designs of ",
        "faces: 20 identities to train on (200 images), 10 to search by (4950 pairs), "
        "10 to report on (900 pairs)",
        f"written: {folder}/report/front.csv, {folder}/report/front.png",
    ):
        assert text in answer.err
    assert [line.split(":")[0][:8] for line in answer.err.splitlines() if "log_tar 0" in line] == [
        "trial 0 ",
        "trial 1 ",
        "trial 2 ",
    ]
    assert "Pareto front" in answer.out
    assert "3 trials: 3 complete, 0 stopped at a rung, 0 failed" in answer.out


def test_last_line_can_be_typed(searched, nas_face):
    folder, answer = searched
    words = shlex.split(answer.out.splitlines()[-1])
    assert words[-4:] == ["compress", str(folder), "--trial", words[-1]]
    assert Run.open(folder).trial(int(words[-1]))


def test_search_again_goes_on(nas_face, study, run):
    answer = nas_face("search", study, "--out", run, "--trials", 4)
    assert answer.code == 0
    assert "trial 3 " in answer.err
    assert "trial 2 " not in answer.err
    assert "4 trials: 4 complete" in answer.out


def test_flops_are_twice_the_multiply_adds(nas_face, study, tmp_path):
    answer = nas_face(
        "search", study, "--max-flops", "24M", "--trials", 1, "--out", tmp_path / "r"
    )
    assert answer.code == 0
    assert "budget 12,000,000 MAdds (24,000,000 FLOPs)" in answer.err
    assert Run.open(tmp_path / "r").config.budget.max_madds == 12_000_000


def test_default_folder_is_named_after_the_study(nas_face, study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert nas_face("search", study, "--trials", 1).code == 0
    assert (tmp_path / "runs" / "tiny" / "report" / "front.html").exists()
    assert nas_face("pareto", "runs/tiny").code == 0


def test_own_faces_with_a_broken_image_and_an_excluded_person(
    nas_face, study, made_up_faces, tmp_path, monkeypatch
):
    (made_up_faces / "p3" / "p3_0002.png").write_bytes(b"no picture")
    (made_up_faces / "p4" / "[red] copy.png").write_bytes(b"")
    (tmp_path / "out.txt").write_text("p7 # blurred\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    command = ["search", study, "--data", "faces", "--exclude", "out.txt", "--out", "run"]
    answer = nas_face(*command, "--trials", 1)
    assert answer.code == 0
    assert "skipped p3/p3_0002.png: " in answer.err
    assert "skipped p4/[red] copy.png: " in answer.err
    assert "; 2 images or folders skipped" in answer.err
    split = Run.open(Path("run")).faces().split
    people = {*split.train.identities, *split.search.identities, *split.test.identities}
    assert people == {f"p{who}" for who in range(12)} - {"p7"}
    assert len(split.train) + len(split.search) + len(split.test) == 11 * 3 - 1

    # From another folder: the faces are still found, and a path that means others is refused.
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    moved = shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "run")
    assert nas_face("verify", moved, "--trial", 0, "--pairs", moved).code == 0
    assert (
        nas_face(*command, "--trials", 1)
        .err.splitlines()[-1]
        .startswith("nas-face: run: holds a run of another study: data.exclude was ")
    )
    absolute = ["--data", made_up_faces, "--exclude", tmp_path / "out.txt", "--out", "run"]
    assert nas_face("search", study, *absolute, "--trials", 2).code == 0


def test_mistake_in_the_budget_or_the_faces_can_be_corrected(nas_face, study, tmp_path):
    folder = tmp_path / "run"
    for mistake in (["--max-madds", "10"], ["--data", tmp_path / "nope"]):
        assert nas_face("search", study, "--out", folder, *mistake).code == 2
    assert nas_face("search", study, "--out", folder, "--trials", 1).code == 0


@pytest.mark.parametrize("name", ["what?no", "50%25", "[bold]x", "'quoted' name", "脸"])
def test_run_folder_of_any_name(name, nas_face, searched, tmp_path):
    folder = Path(shutil.copytree(searched[0], tmp_path / name))
    assert nas_face("pareto", folder).out == nas_face("pareto", searched[0]).out
    written = tmp_path / name / "all.csv"
    assert nas_face("pareto", folder, "--csv", written).code == 0
    assert sorted(os.listdir(tmp_path)) == [name]


def test_front_as_json_and_csv(nas_face, searched, tmp_path):
    answer = nas_face("pareto", searched[0], "--json", "--csv", tmp_path / "new" / "all.csv")
    data = json.loads(answer.out)
    assert data["objectives"] == {"log_tar": "maximize", "madds": "minimize"}
    assert data["trials"] == 3
    with (tmp_path / "new" / "all.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    on_front = {row["arch_id"] for row in rows if row["on_front"] == "True"}
    assert {row["arch_id"] for row in data["front"]} == on_front
    madds = [row["madds"] for row in data["front"]]
    assert madds == sorted(madds)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_front_as_a_picture(suffix, nas_face, searched, tmp_path):
    path = tmp_path / "new" / f"front.{suffix}"
    assert nas_face("pareto", searched[0], "--plot", path).code == 0
    assert path.stat().st_size > 1000


def test_picture_is_a_picture(searched):
    with Image.open(searched[0] / "report" / "front.png") as image:
        assert image.format == "PNG"


def test_run_on_a_disk_that_cannot_be_written_can_still_be_read(nas_face, run):
    (run / "study.db").chmod(0o444)
    run.chmod(0o555)
    try:
        assert nas_face("pareto", run).code == 0
    finally:
        run.chmod(0o755)


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interruption(sign, study, tmp_path):
    command = ["search", study, "--trials", 24, "--max-madds", "9M", "--out", tmp_path / "run"]
    first = Program(command, tmp_path / "err")
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "run" / "study.db").exists():
            assert first.runs, first.errors
            assert time.monotonic() < end
            time.sleep(0.01)
        first.send(sign)
        code, err = first.ended(60), first.errors
    finally:
        first.send(signal.SIGKILL)
    assert code == 130
    assert err.splitlines()[-1] == "nas-face: interrupted; run the same command to go on"
    assert "Traceback" not in err
    workers = tmp_path / "run" / "workers"
    assert not workers.exists() or list(workers.iterdir()) == []


def test_the_same_command_joins_a_search_that_runs(nas_face, study, run, tmp_path):
    command = ["search", study, "--out", run, "--trials", "5"]
    beside = Program(command, tmp_path / "err")
    answer = nas_face(*command)
    code, err = beside.ended(120), beside.errors
    assert (answer.code, code) == (0, 0), (answer.err, err)
    assert "5 trials: 5 complete" in answer.out
    ended = [line.split()[1] for line in (answer.err + err).splitlines() if "log_tar 0" in line]
    assert sorted(ended) == ["3", "4"]


def test_another_study_is_refused_beside_a_search_that_runs(nas_face, study, run):
    answer = nas_face("search", study, "--out", run, "--seed", "99")
    assert answer.code == 2
    assert "holds a run of another study: seed was" in answer.err.splitlines()[-1]


@pytest.mark.parametrize(
    "url", ["nonsense", "postgresql+psycopg://me:secret@/x?host=/nowhere", "sqlite:////nowhere/x"]
)
def test_a_storage_that_cannot_be_is_one_line(url, nas_face, study, tmp_path):
    answer = nas_face("search", study, "--out", tmp_path / "run", "--storage", url)
    assert answer.code == 2
    assert answer.err.splitlines()[-1].startswith("nas-face: ")
    assert "secret" not in answer.err
    assert "Traceback" not in answer.err


def test_dashboard_refuses_a_port_that_cannot_be(nas_face, searched):
    for port in ("0", "65536", "x"):
        assert nas_face("dashboard", searched[0], "--port", port).code == 2
