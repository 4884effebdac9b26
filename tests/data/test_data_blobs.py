"""Encoded images wherever they lie."""

from pathlib import Path

import numpy as np
import pytest

from nas_face.data.blobs import ChosenBlobs, FileBlobs, MemoryBlobs, SpanBlobs
from nas_face.errors import DataError


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 300_000])
def test_a_file_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    path = tmp_path / "a"
    path.write_bytes(content)
    assert FileBlobs((path,)).read(0) == content


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    blobs = FileBlobs((tmp_path / "none", tmp_path))
    for row, reason in enumerate(["there is no such file", "cannot be read: Is a directory"]):
        with pytest.raises(DataError) as caught:
            blobs.read(row)
        assert str(caught.value) == f"{blobs.where(row)}: {reason}"


def test_spans_are_read_from_their_files(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(name.encode() + b"0123456789")
    blobs = SpanBlobs(
        paths=(tmp_path / "a", tmp_path / "b"),
        files=np.array([1, 0, 1, 0]),
        offsets=np.array([0, 3, 8, 8]),
        lengths=np.array([2, 0, 3, 4]),
    )
    assert len(blobs) == 4
    assert [blobs.read(row) for row in range(3)] == [b"b0", b"", b"789"]
    with pytest.raises(DataError, match="a at byte 8: the file ends before its 4 bytes do"):
        blobs.read(3)


def test_a_span_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0")
    blobs = SpanBlobs(
        paths=(tmp_path / "a",),
        files=np.array([0]),
        offsets=np.array([0]),
        lengths=np.array([2**40]),
    )
    with pytest.raises(DataError, match="a at byte 0: 1099511627776 bytes are taken for no image"):
        blobs.read(0)


def test_chosen_ones_are_those_of_the_others() -> None:
    blobs = ChosenBlobs(MemoryBlobs([b"a", b"b", b"c"], source="list"), np.array([2, 0]))
    assert len(blobs) == 2
    assert [blobs.read(0), blobs.read(1)] == [b"c", b"a"]
    assert blobs.where(0) == "list, image 2"
