"""OpenVINO's pair of files: what torch gives, written whole or not at all."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from export_checks import agree, of_layers
from settled_weights import settle_

from nas_face.arch.blocks.conv_unit import ConvUnit
from nas_face.arch.heads import PooledLinearHead
from nas_face.arch.layers import BatchNorm, Conv, Flatten, PReLU
from nas_face.arch.spec import ArchSpec
from nas_face.deploy import (
    OnnxSession,
    OpenVinoSession,
    export_onnx,
    export_openvino,
    openvino_missing,
    size_bytes_of,
)
from nas_face.deploy.openvino import files, library
from nas_face.deploy.openvino.files import read_ir
from nas_face.errors import ConfigError, DeployError
from nas_face.nn import FaceModel, Preprocessing


@pytest.mark.parametrize("order", ["RGB", "BGR", "grey"])
def test_preprocessing_is_inside_and_exact_at_a_padded_border(order, small, tmp_path):
    model = of_layers(
        Conv(out_channels=4, kernel=(3, 3), padding=(1, 1)),
        BatchNorm(),
        PReLU(),
        Flatten(),
        preprocessing=Preprocessing(mean=100.0, scale=50.0, channel_order=order),
        input_shape=(1 if order == "grey" else 3, 10, 8),
        images=small,
    )
    agree(model, tmp_path / "m.xml", small)


@pytest.fixture(scope="module")
def tiny(faces):
    spec = ArchSpec(
        input_shape=(3, 56, 56),
        stem=(ConvUnit(out_channels=16, stride=2), ConvUnit(out_channels=16, depthwise=True)),
        stages=(),
        head=PooledLinearHead(embedding_size=64, tail_channels=64),
    )
    return settle_(FaceModel.fresh(spec, seed=0), faces[:8])


@pytest.fixture(scope="module")
def other(faces, tiny):
    """Of the same shapes as `tiny`, with other weights."""
    weights = {key: value.clone() for key, value in tiny.module.state_dict().items()}
    for key, value in weights.items():
        if key.endswith("conv.weight"):
            value.mul_(1.5)
    return FaceModel.of(tiny.description, weights)


def test_graph_has_no_chains_of_shapes(tiny, tmp_path):
    """NNCF finds no bias, and the wrong axes, among them."""
    export_openvino(tiny, tmp_path / "m.xml")
    kinds = {each.get_type_name() for each in read_ir(tmp_path / "m.xml").get_ops()}
    assert kinds.isdisjoint({"ShapeOf", "Broadcast", "Concat", "VariadicSplit"})
    assert "PRelu" in kinds


def test_properties_are_those_of_the_onnx_file(tiny, tmp_path):
    model = tiny.noting('first <step> "é"').noting("second")
    export_onnx(model, tmp_path / "m.onnx")
    export_openvino(model, tmp_path / "m.xml")
    expected = OnnxSession(tmp_path / "m.onnx").properties
    assert "\n" in expected["nas_face.lineage"]
    assert OpenVinoSession(tmp_path / "m.xml").properties == expected


def test_equal_models_give_equal_bytes(tiny, tmp_path):
    for name in ("a", "b"):
        export_openvino(tiny, tmp_path / f"{name}.xml")
    for suffix in (".xml", ".bin"):
        contents = {(tmp_path / name).with_suffix(suffix).read_bytes() for name in ("a", "b")}
        assert len(contents) == 1


def test_half_weights_are_half_as_large_and_close(tiny, faces, tmp_path):
    export_openvino(tiny, tmp_path / "whole.xml")
    agree_loosely = tmp_path / "half.xml"
    export_openvino(tiny, agree_loosely, weights="fp16")
    whole, half = ((tmp_path / f"{name}.bin").stat().st_size for name in ("whole", "half"))
    assert half < 0.52 * whole
    expected, got = tiny.embed(faces[:4]), OpenVinoSession(agree_loosely).embed(faces[:4])
    assert 0 < np.abs(got - expected).max() < 0.01 * np.abs(expected).max()


def test_size_is_that_of_both_files(tiny, tmp_path):
    export_openvino(tiny, tmp_path / "m.xml")
    parts = [each.stat().st_size for each in tmp_path.iterdir()]
    assert len(parts) == 2
    assert size_bytes_of(tmp_path / "m.xml") == sum(parts)


def test_a_graph_leaves_out_what_its_reader_finds_out(tiny, tmp_path, monkeypatch):
    def values(path):
        return [
            (node.get_type_name(), [(str(o.partial_shape), str(o.element_type)) for o in outputs])
            for node in read_ir(path).get_ordered_ops()
            for outputs in [node.outputs()]
        ]

    terse, verbose = tmp_path / "terse.xml", tmp_path / "verbose.xml"
    export_openvino(tiny, terse)
    monkeypatch.setattr("nas_face.deploy.openvino.files._terse", lambda graph: graph)
    export_openvino(tiny, verbose)
    assert values(terse) == values(verbose)
    assert terse.stat().st_size < 0.65 * verbose.stat().st_size


def test_a_name_without_xml_is_refused(tiny, tmp_path):
    with pytest.raises(DeployError, match=r"m\.onnx: the name .* must end in \.xml"):
        export_openvino(tiny, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_network_that_cannot_be_exported_is_named(small, tmp_path):
    model = of_layers(Conv(out_channels=4), images=small)
    with pytest.raises(DeployError, match=r"m\.xml: the network ends in a feature map"):
        export_openvino(model, tmp_path / "m.xml")


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from nas_face.deploy import export_openvino
from nas_face.errors import DeployError
from nas_face.nn import FaceModel

model = FaceModel.load(Path(sys.argv[1]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond the limit fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    export_openvino(model, Path(sys.argv[2]))
except DeployError as failure:
    print(failure)
"""


@pytest.mark.parametrize("limit", [2_000, 20_000])  # in the graph, and in the weights
def test_a_full_disk_leaves_the_old_pair(limit, tiny, other, tmp_path):
    tiny.save(tmp_path / "model")
    path = tmp_path / "out" / "m.xml"
    export_openvino(other, path)
    before = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    assert len(before["m.bin"]) > 20_000
    arguments = [sys.executable, "-c", FULL_DISK, tmp_path / "model", path, str(limit)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path}: cannot be written (")
    assert len(done.stdout.splitlines()) == 1
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from nas_face.deploy import export_openvino
from nas_face.nn import FaceModel

move = Path.replace
moves = []

def dying(self, target):
    if len(moves) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
    moves.append(target)
    return move(self, target)

Path.replace = dying
export_openvino(FaceModel.load(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.parametrize(("moved", "left"), [(0, "old"), (1, "new")])
def test_a_kill_leaves_the_old_pair_or_the_new_one(moved, left, tiny, other, faces, tmp_path):
    path = tmp_path / "m.xml"
    export_openvino(other, path)
    tiny.save(tmp_path / "model")
    arguments = [sys.executable, "-c", KILLED, tmp_path / "model", path, str(moved)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    expected = {"old": other, "new": tiny}[left].embed(faces[:2])
    np.testing.assert_allclose(OpenVinoSession(path).embed(faces[:2]), expected, atol=1e-3)
    export_openvino(tiny, path)  # and the next export clears up
    left_files = {each.name for each in tmp_path.iterdir() if each.is_file()}
    assert left_files == {"m.xml", "m.bin"}


def test_a_folder_that_cannot_be_written_is_one_line(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match=r"m\.xml: cannot be written \(") as raised:
        export_openvino(tiny, tmp_path / "file" / "m.xml")
    assert "\n" not in str(raised.value)


def test_a_missing_extra_is_named(tiny, tmp_path, monkeypatch):
    library.core.cache_clear()
    monkeypatch.setitem(sys.modules, "openvino", None)
    for call in (
        lambda: export_openvino(tiny, tmp_path / "m.xml"),
        lambda: OpenVinoSession(tmp_path / "m.xml"),
    ):
        with pytest.raises(ConfigError, match=r"pip install 'nas-face\[openvino\]'") as raised:
            call()
        assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_told_without_importing_it(monkeypatch):
    assert openvino_missing() is None
    monkeypatch.setattr(library, "find_spec", lambda name: None if name == "nncf" else name)
    assert openvino_missing() == f"{library.MISSING} (there is no nncf)"


TELEMETRY = """
import socket, sys

def refuse(*args, **kwargs):
    print("a connection was tried:", args)
    raise OSError("no")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
import numpy as np
from pathlib import Path
from nas_face.deploy import OpenVinoSession, export_openvino, quantise_openvino
assert not {"openvino", "nncf"} & set(sys.modules), "imported before it is needed"
from nas_face.nn import FaceModel

folder = Path(sys.argv[1])
export_openvino(FaceModel.load(folder), folder / "m.xml")
images = np.random.default_rng(0).integers(0, 256, (8, 56, 56, 3), dtype=np.uint8)
quantise_openvino(folder / "m.xml", folder / "q.xml", images, bias_correction="none")
OpenVinoSession(folder / "q.xml").embed(images[:1])
from nncf.telemetry.wrapper import telemetry, NNCFTelemetry
from openvino.tools.ovc import telemetry_utils
print(isinstance(telemetry, NNCFTelemetry), telemetry_utils.tm.__name__)
"""


def test_nothing_is_told_to_anybody(tiny, tmp_path):
    """In a process of its own: the libraries decide at import, and otherwise when pytest is
    there."""
    assert version("openvino-telemetry")  # there to be told
    tiny.save(tmp_path / "model")
    home = tmp_path / "home"
    home.mkdir()
    automatic = {"CI", "NNCF_CI", "NNCF_DEV", "TF_BUILD", "JENKINS_URL"}
    environment = {key: value for key, value in os.environ.items() if key not in automatic}
    done = subprocess.run(
        [sys.executable, "-c", TELEMETRY, tmp_path / "model"],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"HOME": str(home), "USERPROFILE": str(home)},
    )
    assert done.stdout == "False openvino.tools.ovc.telemetry_stub\n"
    assert done.stderr == ""
    assert not list(home.rglob("*"))


def test_partial_files_are_named_so_that_openvino_takes_them():
    assert files._waiting(Path("a/m.int8.xml")) == Path("a/m.int8.partial.xml")
