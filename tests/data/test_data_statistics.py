import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.faces import SkippedImage
from nas_face.data.inspection import inspect_images
from nas_face.data.listing import FaceListing, PairListing
from nas_face.data.statistics import (
    Bar,
    Spread,
    bars_of,
    identity_statistics,
    image_statistics,
    pair_statistics,
)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(height: int = 20, width: int = 20, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def faces(*identities: str, skipped: tuple[SkippedImage, ...] = ()) -> FaceListing:
    return FaceListing(
        root=Path("made-up"),
        blobs=MemoryBlobs([b""] * len(identities)),
        names=tuple(f"{who}/{row}" for row, who in enumerate(identities)),
        identities=identities,
        skipped=skipped,
    )


def test_images_are_counted_by_identity() -> None:
    left_out = (SkippedImage(name="empty", reason="identity without an image"),)
    held = identity_statistics(faces(*"abbccccd", skipped=left_out), few=3)
    assert (held.n_identities, held.n_images) == (4, 8)
    assert held.images_per_identity == Spread(minimum=1, median=1.5, mean=2, maximum=4)
    assert held.few == (("a", 1), ("b", 2), ("d", 1))
    assert held.bars == (Bar(first=1, last=1, count=2), Bar(first=2, last=4, count=2))
    assert held.skipped == left_out


def test_few_must_be_at_least_one() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        identity_statistics(faces("a"), few=0)


@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=40))
def test_bars_hold_every_number_once(numbers: list[int]) -> None:
    bars = bars_of(np.array(numbers, dtype=np.int64))
    for bar in bars:
        assert bar.count == sum(bar.first <= number <= bar.last for number in numbers)
        assert str(bar.first).rstrip("0") in ("1", "2", "5")
    assert sum(bar.count for bar in bars) == len(numbers)
    assert [bar.first for bar in bars[1:]] == [bar.last + 1 for bar in bars[:-1]]
    assert bars[0].count and bars[-1].count


IMAGES = {
    "a/0": encoded(noise(), "JPEG", quality=90),
    "a/1": encoded(noise().convert("L"), "JPEG"),
    "a/2": encoded(noise().convert("CMYK"), "JPEG"),
    "a/3": encoded(noise(30, 20)),
    "b/0": encoded(Image.fromarray(np.arange(400, dtype=np.uint16).reshape(20, 20) * 100)),
    "b/1": encoded(noise().convert("P")),
    "b/2": encoded(noise().convert("RGBA")),
    "b/3": encoded(noise().convert("1"), "BMP"),
    "c/0": encoded(Image.new("RGB", (20, 20), (0, 0, 0)), "JPEG"),
    "c/1": encoded(Image.fromarray(np.asarray(noise()) // 16)),
    "c/2": encoded(Image.fromarray(255 - np.asarray(noise()) // 8)),
    "c/3": encoded(Image.fromarray(100 + np.asarray(noise()) // 16)),
    "d/0": b"",
    "d/1": encoded(noise(), "JPEG", quality=90)[:-300],
    "d/2": b"<html>",
    "d/3": b"",
}


def look(images: dict[str, bytes], rows: list[int] | None = None):
    names = tuple(images)
    identities = [name.partition("/")[0] for name in names]
    chosen = None if rows is None else np.array(rows)
    seen = inspect_images(MemoryBlobs(list(images.values())), chosen)
    return image_statistics(seen, names, identities)


def test_encodings_kinds_and_sizes_are_counted() -> None:
    looks = look(IMAGES)
    assert looks.n_images == 16
    assert looks.size_bytes == sum(map(len, IMAGES.values()))
    assert dict(looks.encodings) == {"JPEG": 4, "PNG": 7, "BMP": 1}
    assert dict(looks.kinds) == {
        "colour": 6,
        "grey": 2,
        "CMYK": 1,
        "16-bit": 1,
        "palette": 1,
        "transparent": 1,
    }
    assert looks.sizes == (((20, 20), 11), ((30, 20), 1))


def test_broken_images_are_named_with_the_reason_and_are_not_called_equal() -> None:
    looks = look(IMAGES)
    assert [each.name for each in looks.broken] == ["d/0", "d/1", "d/2", "d/3"]
    assert looks.broken[0].reason == "the file is empty (0 bytes)"
    assert looks.equal == ()


def test_constant_flat_dark_and_bright_images_are_named() -> None:
    looks = look(IMAGES)
    assert looks.constant == ("c/0",)
    assert looks.dark == ("c/1",)
    assert looks.bright == ("c/2",)
    assert looks.flat == ("c/1", "c/2", "c/3")


def test_brightness_and_contrast_are_those_of_luma() -> None:
    looks = look({"a/0": IMAGES["a/3"]})
    luma = np.asarray(noise(30, 20).convert("L"), dtype=np.float64)
    assert looks.brightness.mean == pytest.approx(luma.mean())
    assert looks.contrast.mean == pytest.approx(luma.std())


def test_a_large_image_is_judged_by_its_middle() -> None:
    pixels = np.full((300, 500, 3), 255, dtype=np.uint8)
    pixels[:, 100:400] = np.asarray(noise(300, 300)) // 2
    looks = look({"a/0": encoded(Image.fromarray(pixels))})
    assert looks.sizes == (((300, 500), 1),)
    assert looks.brightness.mean == pytest.approx(63.5, abs=2)


@pytest.mark.parametrize(("orientation", "size"), [(3, (30, 20)), (6, (20, 30))])
def test_a_turned_photo_counts_upright(orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    looks = look({"a/0": encoded(noise(30, 20), "JPEG", exif=exif)})
    assert looks.n_turned == 1
    assert looks.sizes == ((size, 1),)


def test_equal_files_are_grouped_within_and_across_identities() -> None:
    one, two = encoded(noise(seed=1)), encoded(noise(seed=2))
    looks = look({"a/0": one, "a/1": two, "a/2": one, "b/0": two, "c/0": two})
    assert [(group.names, group.n_identities) for group in looks.equal] == [
        (("a/0", "a/2"), 1),
        (("a/1", "b/0", "c/0"), 3),
    ]


def test_only_some_images_can_be_looked_at() -> None:
    looks = look(IMAGES, [1, 12])
    assert looks.n_images == 2
    assert [each.name for each in looks.broken] == ["d/0"]
    nothing = look(IMAGES, [12])
    assert np.isnan(nothing.brightness.mean)


def pairs(
    identities: list[str], stated: list[tuple[int, int, bool]], n_folds: int | None = None
) -> PairListing:
    first, second, same = zip(*stated, strict=True)
    anonymous = not identities[0]
    names = tuple(f"{who}/{row}" for row, who in enumerate(identities))
    return PairListing(
        path=Path("pairs.txt"),
        blobs=MemoryBlobs([b""] * len(names)),
        names=names,
        identities=names if anonymous else tuple(identities),
        first=np.array(first),
        second=np.array(second),
        same=np.array(same),
        n_folds=n_folds,
    )


STATED = [(0, 1, True), (1, 2, False), (1, 0, True), (0, 4, False), (2, 3, False), (4, 2, True)]


def test_uses_of_images_and_identities_are_counted() -> None:
    held = pair_statistics(pairs(["a", "a", "b", "b", "c", "unused"], STATED, n_folds=2))
    assert (held.n_same, held.n_different) == (3, 3)
    assert held.folds == ((2, 1), (1, 2))
    assert (held.n_images, held.n_identities) == (5, 3)
    # Image 0 is in 3 pairs, 1 in 3, 2 in 3, 3 in 1, 4 in 2.
    assert held.uses_per_image == Spread(minimum=1, median=3, mean=2.4, maximum=3)
    assert held.most_used[:2] == (("a/0", 3), ("a/1", 3))
    # a is in pairs 0, 1, 2, 3; b in 1, 4, 5; c in 3, 5.
    assert held.uses_per_identity == Spread(minimum=2, median=3, mean=3, maximum=4)
    assert held.n_in_both == 4
    assert held.n_repeated == 1
    assert held.contradictory == (("b/2", "b/3"), ("c/4", "b/2"))


def test_a_set_that_does_not_tell_who_is_shown_contradicts_nothing() -> None:
    held = pair_statistics(pairs([""] * 5, STATED))
    assert not held.names_people
    assert held.contradictory == ()
    assert held.folds == ()
