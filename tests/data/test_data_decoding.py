"""Pairs out of a listing; faces are in test_data_folders.py and test_data_bad_images.py."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.decoding import decode_pairs
from nas_face.data.listing import PairListing
from nas_face.errors import DataError


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (4, 4), value).save(file, "PNG")
    return file.getvalue()


def listing(same: list[bool], **changes: object) -> PairListing:
    """Pairs (0, 1), (1, 2), ... of images that are as bright as their row."""
    images = [png(value) for value in range(len(same) + 1)]
    parts: dict[str, object] = {
        "path": Path("list.txt"),
        "blobs": MemoryBlobs(images, source="list.txt"),
        "names": tuple(f"image {row}" for row in range(len(images))),
        "identities": tuple("ba"[row % 2] for row in range(len(images))),
        "first": np.arange(len(same)),
        "second": np.arange(len(same)) + 1,
        "same": np.array(same, dtype=np.bool_),
        "n_folds": 2,
        "lines": tuple(range(11, 11 + len(same))),
    }
    return PairListing(**(parts | changes))


SAME = [True, False, True, False]


@pytest.mark.parametrize("cache_bytes", [0, 10**9])
def test_pairs_keep_their_order_and_folds(cache_bytes: int) -> None:
    pairs = decode_pairs(listing(SAME), height=4, width=4, cache_bytes=cache_bytes)
    assert pairs.n_folds == 2
    assert pairs.same.tolist() == SAME
    assert pairs.images.batch(pairs.second)[:, 0, 0, 0].tolist() == [1, 2, 3, 4]
    assert pairs.images.identities == ("a", "b")
    assert pairs.images.labels.tolist() == [1, 0, 1, 0, 1]


def test_pairs_without_folds_are_dealt_to_ten() -> None:
    same = [True] * 10 + [False] * 10
    pairs = decode_pairs(listing(same, n_folds=None), height=4, width=4)
    assert pairs.n_folds == 10
    assert pairs.same.reshape(10, 2).sum(axis=1).tolist() == [1] * 10
    assert sorted(pairs.first.tolist()) == list(range(20))


@pytest.mark.parametrize(("lines", "where"), [((11, 12, 13, 14), "list.txt:12"), ((), "list.txt")])
def test_a_broken_image_is_refused_with_its_line(lines: tuple[int, ...], where: str) -> None:
    images = [png(0), png(1), b"", png(3), b"x"]
    broken = listing(SAME, blobs=MemoryBlobs(images, source="list.txt"), lines=lines)
    with pytest.raises(DataError) as caught:
        decode_pairs(broken, height=4, width=4)
    assert str(caught.value) == (
        f"{where}: image list.txt, image 2 is broken: the file is empty (0 bytes) (2 of 5 images "
        "are); replace it, or remove its pairs"
    )


@pytest.mark.parametrize(
    ("same", "message"),
    [([], "the list of pairs is empty"), ([True], "got 1 same and 0 different")],
)
def test_lists_without_both_kinds_are_refused(same: list[bool], message: str) -> None:
    with pytest.raises(DataError, match=f"^list.txt: .*{message}"):
        decode_pairs(listing(same), height=4, width=4)
