"""`cost`, `diff` and `zoo` as a user types them."""

import json
import re
import subprocess
import sys

import pytest
from PIL import Image

from nas_face.arch.conventions import CONVENTIONS, operations
from nas_face.arch.zoo import NETWORKS, network
from nas_face.nn import FaceModel


def words_of(text: str) -> str:
    """Without the lines of tables, and with one space between words."""
    return " ".join(re.sub(r"[^\x00-\x7f]", " ", text).split())


@pytest.mark.parametrize("name", ["B", "c", "D", "thop"])
def test_a_convention_comes_with_all_the_others_and_the_published_figure(nas_face, name):
    spec = network("vargfacenet").spec
    answer = nas_face("cost", "vargfacenet", "--convention", name)
    assert (answer.code, answer.err) == (0, "")
    for each in CONVENTIONS.values():
        assert f"{operations(spec.lower(), spec.input, each):,}" in answer.out
    assert "published: 1022 M FLOPs" in answer.out
    data = json.loads(nas_face("cost", "vargfacenet", "--convention", name, "--json").out)
    total = data.pop("total")
    assert total["conventions"]["B"] == 1_022_864_152
    assert sum(row["operations"] for row in data.values()) == total["operations"]
    named = {key.casefold(): count for key, count in total["conventions"].items()}
    assert total["operations"] == named[name.casefold()]


def test_another_size_has_no_published_figure(nas_face):
    answer = nas_face("cost", "vargfacenet", "--convention", "B", "--input-size", "128")
    assert "published:" not in answer.out


@pytest.mark.parametrize("depth", [None, 1, 2, 4])
def test_a_listing_says_what_its_json_says(nas_face, depth):
    flags = ["--tree"] if depth is None else ["--depth", str(depth)]
    shown = words_of(nas_face("cost", "seesaw_shuffle", *flags).out)
    data = json.loads(nas_face("cost", "seesaw_shuffle", *flags, "--json").out)
    assert [part["name"] for part in data["tree"]] == [
        "stem",
        "stages.0",
        "stages.1",
        "stages.2",
        "head",
    ]
    assert sum(part["madds"] for part in data["tree"]) == data["total"]["madds"]

    def check(part: dict[str, object]) -> None:
        times = int(str(part["repeats"]))
        named = f"{part['name']} x{times}" if times > 1 else part["name"]
        assert f"{named} {str(part['what'])[:20]}" in shown
        assert f" {int(str(part['madds'])) * times:,} " in shown
        for below in part["parts"]:
            check(below)

    for part in data["tree"]:
        check(part)


@pytest.mark.parametrize("name", ["mixfacenet_xs", "edgeface_xs_06", "lightcnn_29"])
def test_a_listing_fits_the_width_of_a_pipe_and_cuts_nothing(nas_face, name):
    out = nas_face("cost", name, "--tree").out
    assert max(map(len, out.splitlines())) <= 140
    assert "…" not in out


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_picture_is_written_beside_the_table(nas_face, tmp_path, suffix):
    path = tmp_path / "new" / f"cost.{suffix}"
    answer = nas_face("cost", "mobilefacenet_128", "--plot", path)
    assert (answer.code, answer.err) == (0, f"written: {path}\n")
    assert answer.out == nas_face("cost", "mobilefacenet_128").out
    head = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(head)


def test_a_picture_has_bars_of_every_stage(nas_face, tmp_path):
    path = tmp_path / "cost.svg"
    assert nas_face("cost", "mobilefacenet_128", "--plot", path, "--convention", "B").code == 0
    text = path.read_text(encoding="utf-8")
    # matplotlib writes each text of a picture as a comment too.
    for said in ("stem", "stages.2", "head", "operations (convention B)", "peak activations"):
        assert f"<!-- {said} -->" in text
    other = tmp_path / "cost.png"
    assert nas_face("cost", "mobilefacenet_128", "--plot", other).code == 0
    with Image.open(other) as image:
        assert min(image.size) >= 600


def test_sizes_of_a_zoo_network(nas_face):
    flags = ["--input-size", "112x96", "--embedding-size", "512", "--json"]
    total = json.loads(nas_face("cost", "mobilefacenet_128", *flags).out)["total"]
    spec = network("mobilefacenet_128").variant(input_size=(112, 96), embedding_size=512)
    assert total["input"] == [3, 112, 96]
    assert total["output"] == [512, 1, 1]
    assert total["madds"] == spec.cost().madds
    square = json.loads(nas_face("cost", "mobilefacenet_128", "--input-size", "96", "--json").out)
    assert square["total"]["madds"] == network("mobilefacenet_96x96").spec.cost().madds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cost", "mobilefacenet_128", "--convention", "E"], "no convention 'E'; known: A, B"),
        (["cost", "mobilefacenet_128", "--plot", "cost.jpg"], "cost.jpg: the name of a picture"),
        (["cost", "mobilefacenet_128", "--input-size", "0"], "an image size is N or HEIGHTxWIDTH"),
        (
            ["cost", "edgeface_xxs", "--input-size", "8"],
            "edgeface_xxs for 3x8x8 images: stages.3.0",
        ),
        (["cost", "nope", "--input-size", "96"], "go with a zoo network; nope is none"),
        (["cost", "mobilefacenet_m", "--embedding-size", "64"], "mobilefacenet_m: its embedding"),
        (["cost", "mobilefacenet_128", "--trial", "1"], "--trial goes with a run folder"),
        (["diff", "mobilefacenet_128", "mobilefacenet_12"], "did you mean 'mobilefacenet_512'"),
        (["diff", "mobilefacenet_128", "vargfacenet", "--trial-b", "1"], "vargfacenet is none"),
        (["zoo", "--family", "mobil"], "no family 'mobil' in the zoo; did you mean 'mobile'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said_in_one_line(nas_face, arguments, message):
    answer = nas_face(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert message in answer.err


def test_networks_that_are_equal_say_so(nas_face, tmp_path):
    spec = network("mobilefacenet_128").spec
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec.to_data()), encoding="utf-8")
    answer = nas_face("diff", "mobilefacenet_128", path)
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == "equal: all 18 blocks, 220,965,376 MAdds, 1,003,136 parameters\n"
    data = json.loads(nas_face("diff", "mobilefacenet_128", path, "--json").out)
    assert (data["equal"], data["blocks"], data["equal_blocks"]) == (True, [], 18)


def test_networks_that_differ_say_where(nas_face):
    answer = nas_face("diff", "mobilefacenet_128", "insightface_y2")
    assert (answer.code, answer.err) == (0, "")
    shown = words_of(answer.out)
    assert "stages.1.7-16 inverted_residual only in insightface_y2" in shown
    assert "head head embedding_size 128 -> 256" in shown
    assert "MAdds 220,965,376 468,825,088 +247,859,712 (+112.2%)" in shown
    data = json.loads(nas_face("diff", "mobilefacenet_128", "insightface_y2", "--json").out)
    assert data["equal"] is False
    assert data["cost"][1]["madds"] - data["cost"][0]["madds"] == 247_859_712
    (head,) = [block for block in data["blocks"] if block["a"] == "head"]
    assert head["settings"] == {"embedding_size": [128, 256]}


def test_a_model_folder_is_compared_by_its_layers(nas_face, tmp_path):
    FaceModel.fresh(network("shufflefacenet_0_5x").spec, seed=0).save(tmp_path / "model")
    assert nas_face("diff", tmp_path / "model", "shufflefacenet_0_5x").out.startswith("equal: ")
    data = json.loads(nas_face("diff", tmp_path / "model", "shufflefacenet_1x", "--json").out)
    settings = data["blocks"][0]["settings"]
    assert settings["units.branches.1.expand.conv.out_channels"] == [24, 58]


def test_trials_of_a_run_are_compared(nas_face, searched, model):
    folder = searched[0]
    same = nas_face("diff", folder, folder, "--trial-a", "0", "--trial-b", "0")
    assert same.out.startswith("equal: ")
    assert nas_face("diff", folder, "mobilefacenet_128").code == 2
    other = nas_face("diff", folder, "mobilefacenet_128", "--trial-a", "0")
    assert other.code == 0
    assert "input 3x32x32 -> 3x112x112" in words_of(other.out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["cost", "edgeface_xs", "--depth", "3", "--convention", "C"],
        ["cost", "mobilefacenet_128", "--plot", "cost.png"],
        ["diff", "mobilefacenet_128", "seesaw_share"],
    ],
    ids=" ".join,
)
def test_looking_at_a_network_loads_no_torch(arguments, tmp_path):
    program = (
        "import sys; from nas_face.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'pandas', 'optuna'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_family_of_the_zoo_comes_with_its_sources(nas_face):
    shown = words_of(nas_face("zoo", "--family", "seesaw").out)
    assert "mobilefacenet_128" not in shown
    assert "SeesawFaceNets, arXiv 1908.09124" in shown
    data = json.loads(nas_face("zoo", "--family", "seesaw", "--json").out)
    families = {entry.name for entry in NETWORKS.values() if entry.family == "seesaw"}
    assert {entry["name"] for entry in data} == families


def test_the_zoo_has_a_line_for_each_network_under_its_family(nas_face):
    lines = nas_face("zoo").out.splitlines()
    assert max(map(len, lines)) <= 140
    firsts = [words_of(line).split(" ")[0] for line in lines]
    for entry in NETWORKS.values():
        assert firsts.index(entry.family) < firsts.index(entry.name)
