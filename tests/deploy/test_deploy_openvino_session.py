"""OpenVINO files that run, and files that do not."""

import threading
import time

import numpy as np
import openvino as ov
import pytest

from nas_face.deploy import (
    OnnxSession,
    OpenVinoSession,
    export_openvino,
    measure_in_turns,
    open_model_file,
    session,
    size_bytes_of,
)
from nas_face.errors import DeployError


@pytest.fixture(scope="module")
def path(mobile, tmp_path_factory):
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    export_openvino(mobile, path)
    return path


@pytest.fixture(scope="module")
def opened(path):
    return OpenVinoSession(path)


def copied(path, folder):
    for each in (path, path.with_suffix(".bin")):
        (folder / each.name).write_bytes(each.read_bytes())
    return folder / path.name


def test_sizes_are_read_from_the_graph(opened):
    assert (opened.height, opened.width, opened.embedding_size) == (56, 56, 128)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_embed_is_that_of_the_model(flip, batch_size, mobile, opened, faces):
    got = opened.embed(faces[:6], flip=flip, batch_size=batch_size)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, mobile.embed(faces[:6], flip=flip), atol=2e-3)


def test_no_images_give_no_embeddings(opened, faces):
    assert opened.embed(faces[:0]).shape == (0, 128)


def test_more_threads_give_the_same_embeddings(opened, path, faces):
    two = OpenVinoSession(path, threads=2)
    assert two.threads == 2
    np.testing.assert_allclose(two.embed(faces[:4]), opened.embed(faces[:4]), atol=1e-4)


def test_one_thread_is_that_of_the_caller(opened, faces):
    """Else the clock of that thread, which times latency, would stand still."""
    x = np.ascontiguousarray(faces[:1].transpose(0, 3, 1, 2), np.float32)
    opened.run(x)
    spent = []

    def work():
        for _ in range(20):
            opened.run(x)
        spent.append(time.thread_time())

    before = time.process_time()
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert spent[0] > 0.5 * (time.process_time() - before)


def test_an_image_is_not_kept_hold_of(opened, faces):
    x = np.ascontiguousarray(faces[:1].transpose(0, 3, 1, 2), np.float32)
    first = opened.run(x)
    kept = first.copy()
    x[:] = 0
    opened.run(x)
    np.testing.assert_array_equal(first, kept)


def test_either_runtime_is_found_by_name_and_timed(path, mobile_file):
    found = open_model_file(path), open_model_file(mobile_file)
    assert [type(each) for each in found] == [OpenVinoSession, OnnxSession]
    for pair in (found, (path, mobile_file)):
        assert measure_in_turns(*pair, rounds=2, warmup=1).ratio > 0


def test_size_of_a_file_alone_is_its_own(mobile_file):
    assert size_bytes_of(mobile_file) == mobile_file.stat().st_size


def test_precision_is_read_from_the_graph(path, mobile, tmp_path):
    export_openvino(mobile, tmp_path / "half.xml", weights="fp16")
    assert session.precision_of(path) == "fp32"
    assert session.precision_of(tmp_path / "half.xml") == "fp16"
    (tmp_path / "broken.xml").write_text("")
    assert session.precision_of(tmp_path / "broken.xml") == "fp32"


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 56, 56, 3), np.float32),
        np.zeros((2, 112, 112, 3), np.uint8),
        np.zeros((56, 56, 3), np.uint8),
    ],
)
def test_other_images_are_refused(images, opened):
    with pytest.raises(ValueError, match=r"must be uint8 of shape \(N, 56, 56, 3\)"):
        opened.embed(images)


@pytest.mark.parametrize("shape", [(1, 3, 112, 112), (2, 3, 40, 56), (2, 1, 56, 56), (1, 3, 56)])
def test_input_of_another_size_is_one_line(shape, opened):
    with pytest.raises(DeployError, match=r"model\.xml: ") as raised:
        opened.run(np.zeros(shape, np.float32))
    assert "\n" not in str(raised.value)


def test_impossible_settings_are_refused(path, opened, faces):
    with pytest.raises(ValueError, match="threads"):
        OpenVinoSession(path, threads=0)
    with pytest.raises(ValueError, match="batch_size"):
        opened.embed(faces, batch_size=0)


@pytest.mark.parametrize("suffix", [".xml", ".bin"])
def test_missing_file_is_one_line(suffix, path, tmp_path):
    copy = copied(path, tmp_path)
    copy.with_suffix(suffix).unlink()
    with pytest.raises(DeployError, match=rf"model\{suffix}: there is no such file") as raised:
        OpenVinoSession(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"<?xml version='1.0'?><net>", b"\x00\xff" * 50])
def test_broken_graph_is_one_line(content, path, tmp_path, capfd):
    copy = copied(path, tmp_path)
    copy.write_bytes(content)
    with pytest.raises(DeployError, match=r"model\.xml: not an OpenVINO file") as raised:
        OpenVinoSession(copy)
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_graph_that_was_cut_is_one_line(path, tmp_path):
    copy = copied(path, tmp_path)
    copy.write_bytes(copy.read_bytes()[:20_000])
    with pytest.raises(DeployError, match=r"model\.xml: not an OpenVINO file") as raised:
        OpenVinoSession(copy)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_weights_that_are_not_those_of_the_graph_are_refused(damage, path, tmp_path):
    copy = copied(path, tmp_path)
    weights = bytearray(copy.with_suffix(".bin").read_bytes())
    if damage == "cut":
        del weights[1000:]
    else:
        weights[1000] ^= 1
    copy.with_suffix(".bin").write_bytes(weights)
    with pytest.raises(DeployError, match=r"model\.bin: not the weights of model\.xml"):
        OpenVinoSession(copy)


def foreign(path, name="image", channels=3, result="embedding", kind=ov.Type.f32, free=False):
    """An OpenVINO file of our choosing with one Reshape, that says nothing of itself."""
    opset = ov.opset13
    size = -1 if free else 4
    x = opset.parameter(ov.PartialShape([-1, channels, size, 4]), kind, name=name)
    x.output(0).set_names({name})
    y = opset.reshape(x, np.array([-1, 16 * channels]), special_zero=False)
    y.output(0).set_names({result})
    ov.save_model(ov.Model([y], [x]), path, compress_to_fp16=False)


def test_a_file_without_notes_runs_where_it_fits(tmp_path):
    foreign(tmp_path / "f.xml")
    opened = OpenVinoSession(tmp_path / "f.xml")
    assert opened.properties == {}
    images = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    expected = images.transpose(0, 3, 1, 2).reshape(1, -1)
    np.testing.assert_array_equal(opened.embed(images, flip=False), expected)


@pytest.mark.parametrize(
    "different",
    [
        {"name": "data"},
        {"result": "features"},
        {"channels": 1},
        {"kind": ov.Type.f64},
        {"free": True},
    ],
)
def test_other_kinds_of_model_are_refused(different, tmp_path):
    foreign(tmp_path / "f.xml", **different)
    with pytest.raises(DeployError, match=r"f\.xml: not a face model; .*, got '") as raised:
        OpenVinoSession(tmp_path / "f.xml")
    assert "\n" not in str(raised.value)
