import io
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.formats.folders import list_folder
from nas_face.data.listing import FaceListing
from nas_face.data.near_duplicates import (
    HashedImages,
    NearPair,
    equal_images,
    hash_images,
    near_duplicates,
)
from nas_face.data.overlap import find_overlap


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def made_up(seed: int) -> Image.Image:
    """A smooth picture of 112x112."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
    return coarse.resize((112, 112), Image.Resampling.BICUBIC)


def hashed(*images: Image.Image | bytes) -> HashedImages:
    data = [each if isinstance(each, bytes) else encoded(each) for each in images]
    return hash_images(MemoryBlobs(data))


def random_hashes(n: int, seed: int) -> HashedImages:
    rng = np.random.default_rng(seed)
    # From few bits of freedom, so that there are pairs of every distance.
    hashes = rng.integers(0, 2**63, (4, 4), dtype=np.uint64)[rng.integers(0, 4, n)]
    hashes ^= np.uint64(1) << rng.integers(0, 64, (n, 4), dtype=np.uint64)
    digests = np.array([f"{seed}{row:015d}" for row in range(n)], dtype="S16")
    return HashedImages(rows=np.arange(n) * 3, digests=digests, hashes=hashes, skipped={})


def bits_of(hashes: np.ndarray) -> np.ndarray:
    return np.unpackbits(np.ascontiguousarray(hashes).view(np.uint8))


def test_the_hash_is_the_librarys() -> None:
    image = made_up(0)
    expected = imagehash.phash(image, hash_size=16).hash.ravel()
    assert np.array_equal(bits_of(hashed(image).hashes[0]).astype(bool), expected)


@pytest.mark.parametrize("block_pairs", [1, 100, 1 << 21])
@pytest.mark.parametrize("distance", [0, 7, 120])
def test_near_pairs_are_those_of_brute_force(
    monkeypatch: pytest.MonkeyPatch, block_pairs: int, distance: int
) -> None:
    monkeypatch.setattr("nas_face.data.near_duplicates._BLOCK_PAIRS", block_pairs)
    a, b = random_hashes(23, 1), random_hashes(17, 1)
    b.digests[:] = [f"b{row:015d}" for row in range(17)]
    odd = np.tile(np.arange(16) % 2 == 1, 16)
    expected = {}
    for i in range(23):
        for j in range(17):
            differ = bits_of(a.hashes[i]) != bits_of(b.hashes[j])
            straight, mirrored = int(differ.sum()), int((differ != odd).sum())
            if min(straight, mirrored) <= distance:
                found = min(straight, mirrored), mirrored < straight
                expected[3 * i, 3 * j] = found
    found = near_duplicates(a, b, distance=distance)
    assert {(p.row_a, p.row_b): (p.distance, p.mirrored) for p in found} == expected
    assert [p.distance for p in found] == sorted(p.distance for p in found)


EDITS = {
    "recompressed": lambda image: Image.open(io.BytesIO(encoded(image, "JPEG", quality=50))),
    "smaller": lambda image: image.resize((56, 56), Image.Resampling.BICUBIC),
    "larger": lambda image: image.resize((300, 300), Image.Resampling.BICUBIC),
    "cropped": lambda image: image.resize((112, 112), box=(1, 1, 111, 111)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "grey": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_is_found_and_nothing_else(edit: str) -> None:
    originals = hashed(*(made_up(seed) for seed in range(12)))
    found = near_duplicates(originals, hashed(made_up(99), EDITS[edit](made_up(5))))
    assert [(pair.row_a, pair.row_b, pair.mirrored) for pair in found] == [(5, 1, False)]


def test_a_mirrored_copy_is_found_and_said_to_be_one() -> None:
    originals = hashed(*(made_up(seed) for seed in range(12)))
    found = near_duplicates(originals, hashed(ImageOps.mirror(made_up(5))))
    assert [(pair.row_a, pair.row_b, pair.mirrored) for pair in found] == [(5, 0, True)]
    assert found[0].kind == f"{found[0].distance} bits, mirrored"


def test_equal_files_are_equal_and_not_near() -> None:
    same = encoded(made_up(1))
    a, b = hashed(made_up(0), same, same), hashed(same, made_up(2))
    assert equal_images(a, b) == [
        NearPair(row_a=1, row_b=0, distance=-1),
        NearPair(row_a=2, row_b=0, distance=-1),
    ]
    assert near_duplicates(a, b) == []
    assert near_duplicates(a, hashed(encoded(made_up(1), "JPEG", quality=95))) != []


def test_broken_and_single_coloured_images_are_skipped_with_the_reason() -> None:
    black = Image.new("RGB", (112, 112))
    images = hashed(b"", made_up(0), black, b"<html>")
    assert images.rows.tolist() == [1]
    assert images.skipped[0] == "the file is empty (0 bytes)"
    assert images.skipped[2] == "all of one colour"
    assert "not an image" in images.skipped[3]
    nothing = hashed(b"", black)
    assert nothing.hashes.shape == (0, 4)
    assert near_duplicates(nothing, images) == near_duplicates(images, nothing) == []


@pytest.mark.parametrize("distance", [-1, 256])
def test_a_distance_out_of_range_is_refused(distance: int) -> None:
    images = hashed(made_up(0))
    with pytest.raises(ValueError, match=f"0 to 255, got {distance}"):
        near_duplicates(images, images, distance=distance)


def test_progress_counts_every_image() -> None:
    steps: list[int] = []
    blobs = MemoryBlobs([encoded(made_up(0))] * 40)
    hash_images(blobs, np.arange(35), on_progress=steps.append)
    assert sum(steps) == 35


def listing(**people: list[bytes]) -> FaceListing:
    names = [f"{who}/{row}" for who, images in people.items() for row in range(len(images))]
    return FaceListing(
        root=Path("made-up"),
        blobs=MemoryBlobs([image for images in people.values() for image in images]),
        names=tuple(names),
        identities=tuple(name.partition("/")[0] for name in names),
    )


def test_an_overlap_names_whom_to_leave_out_and_why() -> None:
    images = [encoded(made_up(seed)) for seed in range(9)]
    copy = encoded(made_up(3), "JPEG", quality=60)
    a = listing(
        ann=images[:1], bob=images[1:2], Carl=images[2:3], dan=images[3:4], eve=images[4:5]
    )
    b = listing(ann=images[5:6], xx=[images[1], images[6]], carl=[images[7], b""], yy=[copy])
    found = find_overlap(a, b)
    assert found.shared.equal == ("ann",)
    assert found.shared.probable == (("Carl", "carl"),)
    assert [(pair.row_a, pair.row_b) for pair in found.equal] == [(1, 1)]
    assert [(pair.row_a, pair.row_b) for pair in found.near] == [(3, 5)]
    assert list(found.left_out) == ["Carl", "ann", "bob", "dan"]
    assert found.left_out["Carl"] == "probably carl"
    assert found.left_out["bob"] == "bob/0 and xx/0: equal files"
    assert found.left_out["dan"].startswith("dan/0 and yy/0: ")
    assert found.skipped_b == {"carl/1": "the file is empty (0 bytes)"}
    assert (found.n_images_a, found.n_images_b, found.n_identities_b) == (5, 5, 4)
    cured = find_overlap(a, b, exclude=found.left_out)
    assert (cured.left_out, cured.n_images_a, cured.n_identities_a) == ({}, 1, 1)


def test_names_of_a_set_that_does_not_tell_who_is_shown_are_not_compared() -> None:
    images = [encoded(made_up(seed)) for seed in range(2)]
    anonymous = FaceListing(
        root=Path("made-up"), blobs=MemoryBlobs(images[:1]), names=("ann",), identities=("ann",)
    )
    found = find_overlap(anonymous, listing(ann=images[1:]))
    assert (len(found.shared), found.n_identities_a, found.n_identities_b) == (0, 0, 1)


@pytest.mark.faces
def test_real_photos_of_different_sets_raise_no_alarm_and_copies_do(faces_data: Path) -> None:
    train, lfw = list_folder(faces_data / "train"), list_folder(faces_data / "lfw")
    some = hash_images(train.blobs, np.arange(0, len(train.names), 12))
    rows = np.arange(0, len(lfw.names), 12)
    others = hash_images(lfw.blobs, rows)
    assert near_duplicates(some, others) == []
    small = [
        encoded(Image.open(io.BytesIO(lfw.blobs.read(row))).resize((80, 80)), "JPEG", quality=70)
        for row in rows[:100].tolist()
    ]
    found = near_duplicates(others, hash_images(MemoryBlobs(small)))
    assert {(pair.row_a // 12, pair.row_b) for pair in found} >= {(n, n) for n in range(100)}
