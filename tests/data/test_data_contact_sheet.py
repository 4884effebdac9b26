import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas_face.data.blobs import MemoryBlobs
from nas_face.data.contact_sheet import (
    Strip,
    draw_sheet,
    identity_strips,
    pair_strips,
    write_sheet,
)
from nas_face.data.listing import FaceListing
from nas_face.data.near_duplicates import NearPair
from nas_face.errors import DataError


def plain(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def faces(*identities: str) -> FaceListing:
    """Red images, whose red is their row."""
    return FaceListing(
        root=Path("made-up"),
        blobs=MemoryBlobs([plain(row) for row in range(len(identities))]),
        names=tuple(f"{who}/{row}" for row, who in enumerate(identities)),
        identities=identities,
    )


PEOPLE = faces(*("ab" * 5), *"cdefgh")


def shown(strips: list[Strip]) -> list[tuple[str, tuple[int, ...]]]:
    return [(strip.lines[0], tuple(row for _, row in strip.images)) for strip in strips]


def test_identities_and_images_are_drawn_by_the_seed_in_order() -> None:
    strips = identity_strips(PEOPLE, n_rows=4, n_columns=3, seed=1)
    again = identity_strips(PEOPLE, n_rows=4, n_columns=3, seed=1)
    assert shown(strips) == shown(again)
    assert shown(strips) != shown(identity_strips(PEOPLE, n_rows=4, n_columns=3, seed=2))
    names = [name for name, _ in shown(strips)]
    assert len(names) == 4 and names == sorted(names)
    for name, rows in shown(strips):
        own = [row for row, who in enumerate(PEOPLE.identities) if who == name]
        assert set(rows) <= set(own)
        assert list(rows) == sorted(set(rows))
        assert len(rows) == min(3, len(own))


def test_everybody_is_shown_where_there_is_room() -> None:
    strips = identity_strips(PEOPLE, n_rows=99, n_columns=99, seed=0)
    assert [name for name, _ in shown(strips)] == list("abcdefgh")
    assert (strips[0].note, strips[2].note) == ("5 images", "1 image")


def test_images_of_nobody_known_fill_the_rows() -> None:
    unknown = dataclasses.replace(PEOPLE, identities=PEOPLE.names)
    strips = identity_strips(unknown, n_rows=2, n_columns=3, seed=0)
    rows = [row for _, line in shown(strips) for row in line]
    assert [len(line) for _, line in shown(strips)] == [3, 3]
    assert rows == sorted(set(rows))
    assert strips[0].lines == (f"{PEOPLE.names[rows[0]]} ... {PEOPLE.names[rows[2]]}",)
    every = identity_strips(unknown, n_rows=9, n_columns=3, seed=0)
    assert sum(len(strip.images) for strip in every) == len(PEOPLE.names)


@pytest.mark.parametrize("size", [(0, 3), (3, 0)])
def test_a_sheet_needs_rows_and_columns(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}"):
        identity_strips(PEOPLE, n_rows=size[0], n_columns=size[1], seed=0)


def test_images_and_text_are_on_the_sheet() -> None:
    blobs = MemoryBlobs([plain(200), plain(100)])
    strip = Strip(images=((blobs, 0), (blobs, 1)), lines=("name",), note="2 images")
    pixels = np.asarray(draw_sheet([strip]))
    for red in (200, 100):
        rows, columns = np.nonzero((pixels == (red, 0, 0)).all(axis=2))
        assert len(rows) == 112 * 112
        assert np.ptp(rows) == np.ptp(columns) == 111
    text = np.argwhere(pixels.max(axis=2) < 60)
    assert len(text) > 20
    assert text[:, 0].min() > rows.max()  # under the images
    unnamed = Strip(images=strip.images, lines=("",))
    assert not (np.asarray(draw_sheet([unnamed])).max(axis=2) < 60).any()


def test_strips_lie_abreast() -> None:
    blobs = MemoryBlobs([plain(200)])
    strips = [Strip(images=((blobs, 0),), lines=(str(number),)) for number in range(5)]
    one, three = draw_sheet(strips), draw_sheet(strips, n_abreast=3)
    assert three.width == 3 * one.width
    assert three.height < one.height / 2
    red = (np.asarray(three) == (200, 0, 0)).all(axis=2)
    assert red.sum() == 5 * 112 * 112


def test_text_that_is_too_long_stays_under_its_strip() -> None:
    blobs = MemoryBlobs([plain(200)])
    long = Strip(images=((blobs, 0),), lines=("Maximilian" * 9,), note="7 images")
    other = Strip(images=((blobs, 0),), lines=("",))
    sheet = np.asarray(draw_sheet([long, other], n_abreast=2))
    assert (sheet[-30:, sheet.shape[1] // 2 :] == sheet[0, 0]).all()
    assert not (sheet[-30:, : sheet.shape[1] // 2] == sheet[0, 0]).all()


def test_a_broken_image_is_crossed_out_and_stops_nothing() -> None:
    blobs = MemoryBlobs([b"", plain(200)])
    sheet = draw_sheet([Strip(images=((blobs, 0), (blobs, 1)), lines=("a",))])
    assert (np.asarray(sheet) == (200, 0, 0)).all(axis=2).sum() == 112 * 112


def test_shared_images_are_put_side_by_side() -> None:
    strips = pair_strips(PEOPLE, faces(*"xyz"), [NearPair(row_a=3, row_b=1, distance=7)])
    assert strips[0].lines[:2] == ("b/3", "y/1")
    assert strips[0].note == "7 bits"
    red = np.asarray(draw_sheet(strips))
    assert [(red == (row, 0, 0)).all(axis=2).sum() for row in (3, 1)] == [112 * 112] * 2


def test_a_sheet_is_written_as_png(tmp_path: Path) -> None:
    strips = identity_strips(PEOPLE, seed=0)
    path = tmp_path / "new" / "sheet.png"
    write_sheet(path, strips)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), np.asarray(draw_sheet(strips)))


def test_another_ending_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sheet.gif"
    with pytest.raises(DataError, match=re.escape(f"{path}: ") + r".* must end in \.png$"):
        write_sheet(path, identity_strips(PEOPLE, seed=0))
    assert not path.exists()


@pytest.mark.parametrize("n_abreast", [0, 1])
def test_nothing_cannot_be_drawn(n_abreast: int) -> None:
    strips = identity_strips(PEOPLE, seed=0) if n_abreast == 0 else []
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_sheet(strips, n_abreast=n_abreast)
