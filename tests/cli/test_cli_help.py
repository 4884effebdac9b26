"""Help, version, and what must answer quickly."""

import csv
import json
import os
import subprocess
import sys

import pytest

import nas_face as package
from nas_face.arch.zoo import NETWORKS

COMMANDS = (
    *("search", "pareto", "proxies", "dashboard", "train", "verify", "compress", "cost", "zoo"),
    *("data", "space"),
)
OF_DATA = ("data show", "data check", "data convert", "data align")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(flag, nas_face):
    answer = nas_face(flag)
    assert answer.code == 0
    assert answer.err == ""
    for command in COMMANDS:
        assert f" {command} " in answer.out


@pytest.mark.parametrize("command", (*COMMANDS, *OF_DATA))
def test_help_of_a_command(command, nas_face):
    answer = nas_face(*command.split(), "--help")
    assert answer.code == 0
    assert f" {command} [OPTIONS]" in answer.out


def test_version(nas_face):
    assert nas_face("--version").out == package.__version__ + "\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["search", "--help"],
        ["zoo"],
        ["zoo", "--json"],
        ["cost", "mobilefacenet_128"],
        ["search", "nope.yaml"],
        ["cost", "nope"],
    ],
    ids=" ".join,
)
def test_light_commands_load_no_torch(arguments):
    program = (
        "import sys; from nas_face.cli import main\n"
        "try: main()\n"
        "finally: heavy = {'torch', 'matplotlib', 'onnxruntime', 'plotly'} & set(sys.modules); "
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_terminal_that_cannot_show_everything(encoding, searched):
    folder = str(searched[0])
    program = "from nas_face.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "pareto", folder],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert b"3 trials: 3 complete" in done.stdout


def test_zoo_lists_every_network(nas_face):
    listed = nas_face("zoo").out
    data = json.loads(nas_face("zoo", "--json").out)
    assert [entry["name"] for entry in data] == list(NETWORKS)
    for entry in data:
        assert entry["name"] in listed
        cost = NETWORKS[entry["name"]].spec.cost()
        assert (entry["madds"], entry["params"]) == (cost.madds, cost.params)


@pytest.mark.parametrize("flags", [[], ["--blocks"]])
def test_cost_adds_up(flags, nas_face):
    rows = json.loads(nas_face("cost", "seesaw_shuffle", "--json", *flags).out)
    total = rows.pop("total")
    for name in ("madds", "params"):
        assert sum(row[name] for row in rows.values()) == total[name]
    assert total["flops"] == 2 * total["madds"]
    shown = nas_face("cost", "seesaw_shuffle", *flags).out
    assert f"{total['madds']:,} MAdds ({total['flops']:,} FLOPs)" in shown
    for name in rows:
        assert f"│ {name} " in shown


def test_cost_of_a_model_folder_is_that_of_its_trial(nas_face, searched, model):
    with (searched[0] / "report" / "front.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["arch_id"]: row for row in csv.DictReader(file)}
    total = json.loads(nas_face("cost", model, "--json").out)["total"]
    assert str(total["madds"]) == rows[model.name]["madds"]
    assert str(total["params"]) == rows[model.name]["params"]
