"""Embeddings of a teacher on disk: made once, read back, never of something else."""

import json
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import filelock
import numpy as np
import pytest
from numpy.typing import NDArray

from nas_face.data import FaceImages
from nas_face.errors import ConfigError, TrainingDiverged
from nas_face.train.teachers import CachedTargets, SteppedTargets, TeacherModel, images_digest

N, SIZE, D = 30, 6, 12
PLAIN, MIRRORED = np.zeros(N, bool), np.ones(N, bool)
ALL = np.arange(N)


def faces(seed: int = 0, n: int = N) -> FaceImages:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)
    return FaceImages.from_array(pixels, np.arange(n) % 5)


def left_columns(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    return pixels[:, :4, 0].reshape(len(pixels), D).astype(np.float32) - 100.5


def unit(x: NDArray[np.float32]) -> NDArray[np.float64]:
    x = x.astype(np.float64)
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True))


@dataclass
class Columns:
    """A teacher that sees the left column of an image; it may fail at some image."""

    calls: list[int] = field(default_factory=list)
    dies_after: int | None = None
    spoils: float | None = None
    wait_s: float = 0.0

    def embed(self, images: NDArray[np.uint8], /, *, flip: bool = True) -> NDArray[np.float32]:
        assert not flip
        if self.dies_after is not None and sum(self.calls) > self.dies_after:
            raise KeyboardInterrupt
        time.sleep(self.wait_s)
        self.calls.append(len(images))
        y = left_columns(images)
        if self.spoils is not None and len(images) > 3:
            y[3] = self.spoils
        return y


def targets(
    cache: Path,
    teacher: Columns,
    images: FaceImages | None = None,
    *,
    digest: str = "t",
    said: list[str] | None = None,
) -> CachedTargets:
    images = faces() if images is None else images
    model = TeacherModel(
        name="columns", digest=digest, height=SIZE, width=SIZE, load=lambda: teacher
    )
    note = (said if said is not None else []).append
    return CachedTargets(model, images, images_digest(images), cache, note=note)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr("nas_face.train.teachers.cache._BLOCK", 8)


def test_rows_are_the_unit_embeddings_of_images_and_mirror_images(tmp_path):
    found = targets(tmp_path, Columns())
    indices = np.array([7, 0, 29, 7, 13])
    mirrored = np.array([True, False, True, False, False])
    pixels = faces().batch(indices)
    pixels[mirrored] = pixels[mirrored, :, ::-1]
    got = found.rows(indices, mirrored, epoch=3)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, unit(left_columns(pixels)), atol=5e-4)  # 11 bits
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-6)


def test_each_view_is_embedded_once_and_only_if_it_is_asked_for(tmp_path):
    teacher = Columns()
    first = targets(tmp_path, teacher)
    assert first.embedding_size == D
    assert teacher.calls == [1]
    first.rows(ALL, PLAIN)
    assert teacher.calls == [1, 8, 8, 8, 6]
    first.rows(ALL, MIRRORED)
    first.rows(ALL, ALL % 2 == 0)
    assert sum(teacher.calls) == 1 + 2 * N
    again = Columns()
    second = targets(tmp_path, again)
    np.testing.assert_array_equal(second.rows(ALL, MIRRORED), first.rows(ALL, MIRRORED))
    np.testing.assert_array_equal(second.rows(ALL, PLAIN), first.rows(ALL, PLAIN))
    assert again.calls == []
    assert second.identity == first.identity


def test_prepared_targets_ask_the_teacher_no_more(tmp_path):
    teacher = Columns()
    found = targets(tmp_path, teacher)
    found.prepare(mirrored=False)
    assert sum(teacher.calls) == 1 + N
    found.prepare(mirrored=True)
    n_calls = len(teacher.calls)
    found.rows(ALL, ALL % 3 == 0)
    assert len(teacher.calls) == n_calls
    assert sum(teacher.calls) == 1 + 2 * N


def test_a_sample_is_spread_evenly_over_the_set(tmp_path):
    found = targets(tmp_path, Columns())
    whole = found.rows(ALL, PLAIN)
    np.testing.assert_array_equal(found.sample(1000), whole)
    np.testing.assert_array_equal(found.sample(3), whole[[0, 14, 29]])


def test_an_interrupted_pass_goes_on_and_ends_alike(tmp_path):
    whole = targets(tmp_path / "whole", Columns()).rows(ALL, PLAIN)
    with pytest.raises(KeyboardInterrupt):
        targets(tmp_path / "cut", Columns(dies_after=10)).rows(ALL, PLAIN)
    teacher, said = Columns(), []
    found = targets(tmp_path / "cut", teacher, said=said)
    np.testing.assert_array_equal(found.rows(ALL, PLAIN), whole)
    assert sum(teacher.calls) == N - 16  # two blocks of 8 were there
    assert said == ["teacher columns: embedding 30 images once, 16 of them found"]


@pytest.mark.parametrize("damage", ["a torn row", "zeros", "another header"])
def test_only_sound_rows_of_an_interrupted_pass_are_kept(damage, tmp_path):
    whole = targets(tmp_path / "whole", Columns()).rows(ALL, PLAIN)
    cut = targets(tmp_path / "cut", Columns(dies_after=10))
    with pytest.raises(KeyboardInterrupt):
        cut.rows(ALL, PLAIN)
    partial = cut.folder / "plain.npy.partial"
    data = partial.read_bytes()
    changed, n_kept = {
        "a torn row": (data + b"abc", 16),
        "zeros": (data[: -3 * 2 * D] + bytes(3 * 2 * D), 13),
        "another header": (b"x" + data[1:], 0),
    }[damage]
    partial.write_bytes(changed)
    teacher = Columns()
    np.testing.assert_array_equal(targets(tmp_path / "cut", teacher).rows(ALL, PLAIN), whole)
    assert sum(teacher.calls) == N - n_kept


def test_other_teachers_images_and_pixels_have_other_embeddings(tmp_path):
    base = targets(tmp_path, Columns())
    images = faces()
    pixels = images.batch(ALL)
    pixels[17, 3, 3, 1] ^= 1
    others = [
        targets(tmp_path, Columns(), digest="u"),
        targets(tmp_path, Columns(), FaceImages.from_array(pixels, images.labels)),
        targets(tmp_path, Columns(), faces(n=N - 1)),
        targets(tmp_path, Columns(), images.subset(set(images.identities[1:]))),
    ]
    assert len({base.folder, *(each.folder for each in others)}) == 5
    assert len({base.identity, *(each.identity for each in others)}) == 5
    assert targets(tmp_path, Columns()).folder == base.folder


@pytest.mark.parametrize("content", [b"", b"no array", None])
def test_a_broken_file_is_made_again_and_that_is_said(content, tmp_path):
    first = targets(tmp_path, Columns())
    before = first.rows(ALL, PLAIN)
    path = first.folder / "plain.npy"
    path.write_bytes(path.read_bytes()[:-5] if content is None else content)
    teacher, said = Columns(), []
    after = targets(tmp_path, teacher, said=said).rows(ALL, PLAIN)
    np.testing.assert_array_equal(after, before)
    assert sum(teacher.calls) == N
    assert said[0] == f"{path}: broken or of something else; it is made again"


@pytest.mark.parametrize("key", ["identity", "n_images", "embedding_size", None])
def test_a_folder_of_something_else_is_made_again_and_that_is_said(key, tmp_path):
    first = targets(tmp_path, Columns())
    before = first.rows(ALL, PLAIN)
    path = first.folder / "about.json"
    about = json.loads(path.read_text())
    path.write_text("{" if key is None else json.dumps({**about, key: "other"}))
    said: list[str] = []
    after = targets(tmp_path, Columns(), said=said).rows(ALL, PLAIN)
    np.testing.assert_array_equal(after, before)
    assert said[0] == f"{first.folder}: broken or of something else; it is made again"
    assert json.loads(path.read_text()) == about


def test_a_damaged_row_is_refused_with_the_name_of_its_image(tmp_path):
    first = targets(tmp_path, Columns())
    first.rows(ALL, PLAIN)
    path = first.folder / "plain.npy"
    data = path.read_bytes()
    path.write_bytes(data[: -2 * D] + bytes(2 * D))
    found = targets(tmp_path, Columns())
    assert len(found.rows(ALL[:-1], PLAIN[:-1])) == N - 1
    with pytest.raises(ConfigError, match=r"the embedding of id4/29 is 0 long and not 1; delete"):
        found.rows(ALL, PLAIN)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_an_unusable_embedding_names_its_image(value, tmp_path):
    with pytest.raises(TrainingDiverged, match=r"teacher columns: its embedding of id3/3 "):
        targets(tmp_path, Columns(spoils=value)).rows(ALL, PLAIN)
    good = targets(tmp_path, Columns()).rows(ALL, PLAIN)  # nothing of it was kept
    assert np.isfinite(good).all()


def test_images_of_another_size_are_refused(tmp_path):
    model = TeacherModel(name="t", digest="t", height=SIZE, width=SIZE + 1, load=Columns)
    with pytest.raises(ValueError, match="a teacher of 6x7 needs such images, got 30 of 6x6"):
        CachedTargets(model, faces(), "d", tmp_path, note=print)


def _embed_elsewhere(cache: str, results: "multiprocessing.Queue[tuple[int, int]]") -> None:
    teacher = Columns(wait_s=0.05)
    found = targets(Path(cache), teacher).rows(ALL, PLAIN)
    results.put((sum(teacher.calls), hash(found.tobytes())))


@pytest.mark.slow
def test_of_two_processes_one_embeds_and_the_other_waits(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [
        spawn.Process(target=_embed_elsewhere, args=(str(tmp_path), results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert sorted(n for n, _ in found) == [0, 1 + N]


def _be_killed(cache: str) -> None:
    class Deadly(Columns):
        def embed(self, images: NDArray[np.uint8], /, *, flip: bool = True) -> NDArray[np.float32]:
            if sum(self.calls) > 2 * 256:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().embed(images, flip=flip)

    targets(Path(cache), Deadly(), faces(n=700)).prepare(mirrored=False)


@pytest.mark.slow
def test_a_killed_process_leaves_its_blocks_and_no_lock(tmp_path):
    process = multiprocessing.get_context("spawn").Process(
        target=_be_killed, args=(str(tmp_path),)
    )
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    said: list[str] = []
    targets(tmp_path, Columns(), faces(n=700), said=said).prepare(mirrored=False)
    assert said == ["teacher columns: embedding 700 images once, 512 of them found"]


def test_who_waits_says_so(tmp_path):
    first = targets(tmp_path, Columns())
    first.prepare(mirrored=False)
    said: list[str] = []
    second = targets(tmp_path, Columns(), said=said)
    with filelock.FileLock(first.folder / "cache.lock"):
        # What is whole needs no lock.
        assert len(second.rows(ALL, PLAIN)) == N
    assert said == []
    held = threading.Event()

    def hold() -> None:
        with filelock.FileLock(first.folder / "cache.lock"):
            held.set()
            while not said:
                time.sleep(0.01)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    second.rows(ALL, MIRRORED)
    other.join()
    assert said[0] == "teacher columns: waiting for the process that embeds by it"


def test_a_full_disk_is_an_error_that_loses_nothing(tmp_path, monkeypatch):
    found = targets(tmp_path, Columns())

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            found.rows(ALL, PLAIN)
    teacher = Columns()
    assert len(targets(tmp_path, teacher).rows(ALL, PLAIN)) == N
    assert teacher.calls == []


def test_the_steps_of_a_teacher_go_with_the_students_epochs(tmp_path):
    teachers = [Columns() for _ in range(3)]
    images = [faces(seed) for seed in range(3)]  # so that each step says something else
    steps = [
        targets(tmp_path, teacher, each, digest=str(number))
        for number, (teacher, each) in enumerate(zip(teachers, images, strict=True))
    ]
    found = SteppedTargets(steps)
    assert found.embedding_size == D
    for epoch, step in ((0, 0), (1, 1), (2, 2), (3, 2), (40, 2)):
        expected = unit(left_columns(images[step].batch(ALL)))
        np.testing.assert_allclose(found.rows(ALL, PLAIN, epoch=epoch), expected, atol=5e-4)
    np.testing.assert_array_equal(found.sample(N), found.rows(ALL, PLAIN, epoch=2))
    assert [sum(each.calls) for each in teachers] == [1 + N] * 3
    assert SteppedTargets(steps[:2]).identity != found.identity


def test_a_step_is_embedded_when_its_epoch_comes(tmp_path):
    teachers = [Columns() for _ in range(2)]
    steps = [targets(tmp_path, each, digest=str(at)) for at, each in enumerate(teachers)]
    found = SteppedTargets(steps)
    found.prepare(epoch=0, mirrored=True)
    assert [sum(each.calls) for each in teachers] == [1 + 2 * N, 0]
    found.prepare(epoch=1, mirrored=False)
    assert [sum(each.calls) for each in teachers] == [1 + 2 * N, 1 + N]


def test_steps_of_two_lengths_are_refused(tmp_path):
    @dataclass
    class Short(Columns):
        def embed(self, images, /, *, flip=True):
            return left_columns(images)[:, :5]

    steps = [targets(tmp_path, Columns(), digest="a"), targets(tmp_path, Short(), digest="b")]
    with pytest.raises(ConfigError, match="the step of epoch 2 has embeddings of 5 values"):
        SteppedTargets(steps).rows(ALL, PLAIN, epoch=1)
