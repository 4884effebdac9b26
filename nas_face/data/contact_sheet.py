"""Pictures that show images of data sets side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nas_face.data.blobs import Blobs
from nas_face.data.images import decode_bytes
from nas_face.data.listing import FaceListing, PairListing
from nas_face.data.near_duplicates import NearPair
from nas_face.data.statistics import tells_people
from nas_face.errors import DataError

DEFAULT_ROWS = 12
DEFAULT_COLUMNS = 8

_SIDE = 112  # of an image on the sheet, in pixels
_GAP = 6
_MARGIN = 18
_LINE_HEIGHT = 18
_FONT_SIZE = 13
_PAPER = (250, 250, 248)
_INK = (40, 40, 44)
_PALE_INK = (120, 120, 126)
_PALE = (226, 226, 222)

Listing = FaceListing | PairListing


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """Images in a row with text under them.

    Args:
        images: the blobs that each lies in, and its row there.
        lines: of text, written dark.
        note: written pale behind the last line.
    """

    images: tuple[tuple[Blobs, int], ...]
    lines: tuple[str, ...]
    note: str = ""


def identity_strips(
    listing: Listing, *, n_rows: int = DEFAULT_ROWS, n_columns: int = DEFAULT_COLUMNS, seed: int
) -> list[Strip]:
    """Draw identities and, of each, images.

    Args:
        listing: a data set.
        n_rows: identities, at least 1; all where there are fewer.
        n_columns: images of each, at least 1; all where there are fewer.
        seed: which ones.

    Returns:
        A strip an identity, by name, its images in the data set's order. Where the set does not
        tell who is shown, `n_rows` strips of any images.

    Raises:
        ValueError: a number is below 1.
    """
    if n_rows < 1 or n_columns < 1:
        raise ValueError(f"a sheet needs rows and columns of at least 1, got {n_rows}x{n_columns}")
    rng = np.random.default_rng(seed)
    if not tells_people(listing.names, listing.identities):
        n_images = len(listing.names)
        some = rng.choice(n_images, size=min(n_rows * n_columns, n_images), replace=False)
        rows = sorted(some.tolist())
        lines = (rows[start : start + n_columns] for start in range(0, len(rows), n_columns))
        return [_unnamed_strip(listing, line) for line in lines]
    rows_of: dict[str, list[int]] = {}
    for row, who in enumerate(listing.identities):
        rows_of.setdefault(who, []).append(row)
    people = sorted(rows_of)
    chosen = rng.choice(len(people), size=min(n_rows, len(people)), replace=False)
    strips = []
    for index in sorted(chosen.tolist()):
        rows = rows_of[people[index]]
        shown = rng.choice(len(rows), size=min(n_columns, len(rows)), replace=False)
        count = f"{len(rows)} image{'s' if len(rows) > 1 else ''}"
        strips.append(
            Strip(
                images=tuple((listing.blobs, rows[each]) for each in sorted(shown.tolist())),
                lines=(people[index],),
                note=count,
            )
        )
    return strips


def _unnamed_strip(listing: Listing, rows: list[int]) -> Strip:
    first, last = listing.names[rows[0]], listing.names[rows[-1]]
    return Strip(
        images=tuple((listing.blobs, row) for row in rows),
        lines=(first if first == last else f"{first} ... {last}",),
    )


def pair_strips(a: Listing, b: Listing, pairs: Sequence[NearPair]) -> list[Strip]:
    """A strip for each pair of images of two data sets, the first one's on the left."""
    return [
        Strip(
            images=((a.blobs, pair.row_a), (b.blobs, pair.row_b)),
            lines=(a.names[pair.row_a], b.names[pair.row_b], ""),
            note=pair.kind,
        )
        for pair in pairs
    ]


def write_sheet(path: Path, strips: Sequence[Strip], *, n_abreast: int = 1) -> None:
    """Draw strips under each other, or several abreast, into a PNG file.

    Images are brought to 112x112, their centred square; one that cannot be read is crossed out.

    Args:
        path: written; its folder is made where it is missing.
        strips: at least one.
        n_abreast: how many are drawn beside each other, at least 1.

    Raises:
        DataError: the path does not end in `.png`, or cannot be written.
        ValueError: there is no strip, or `n_abreast` is below 1.
    """
    if path.suffix.lower() != ".png":
        raise DataError(f"{path}: a contact sheet is a PNG file, and its name must end in .png")
    sheet = draw_sheet(strips, n_abreast=n_abreast)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from error


def draw_sheet(strips: Sequence[Strip], *, n_abreast: int = 1) -> Image.Image:
    """The picture that `write_sheet` writes.

    Raises:
        ValueError: there is no strip, or `n_abreast` is below 1.
    """
    if not strips or n_abreast < 1:
        raise ValueError(f"nothing to draw: {len(strips)} strips, {n_abreast} abreast")
    n_abreast = min(n_abreast, len(strips))
    widest = max(len(strip.images) for strip in strips)
    strip_width = widest * (_SIDE + _GAP) - _GAP
    text_height = max(len(strip.lines) for strip in strips) * _LINE_HEIGHT
    strip_height = _SIDE + text_height + 3 * _GAP
    n_down = -(-len(strips) // n_abreast)
    width = n_abreast * (strip_width + 2 * _MARGIN)
    sheet = Image.new("RGB", (width, 2 * _MARGIN + n_down * strip_height - 2 * _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, strip in enumerate(strips):
        down, across = divmod(number, n_abreast)
        left = _MARGIN + across * (strip_width + 2 * _MARGIN)
        top = _MARGIN + down * strip_height
        for place, (blobs, row) in enumerate(strip.images):
            sheet.paste(_thumbnail(blobs, row), (left + place * (_SIDE + _GAP), top))
        _write(draw, (left, top + _SIDE + _GAP // 2), strip_width, strip)
    return sheet


def _thumbnail(blobs: Blobs, row: int) -> Image.Image:
    try:
        return Image.fromarray(decode_bytes(blobs.read(row), _SIDE, _SIDE))
    except DataError:
        crossed = Image.new("RGB", (_SIDE, _SIDE), _PALE)
        draw = ImageDraw.Draw(crossed)
        draw.line((0, 0, _SIDE, _SIDE), fill=_PALE_INK)
        draw.line((0, _SIDE, _SIDE, 0), fill=_PALE_INK)
        return crossed


def _write(draw: ImageDraw.ImageDraw, corner: tuple[int, int], width: int, strip: Strip) -> None:
    font = ImageFont.load_default(_FONT_SIZE)
    left, top = corner
    for number, line in enumerate(strip.lines):
        note = strip.note if number == len(strip.lines) - 1 else ""
        space = 2 * _GAP if line and note else 0
        room = width - space - draw.textlength(note, font=font)
        shown = line
        while shown and draw.textlength(shown, font=font) > room:
            shown = shown.removesuffix("...")[:-1]
            shown = f"{shown}..." if shown else ""
        draw.text((left, top), shown, fill=_INK, font=font)
        after = left + draw.textlength(shown, font=font) + space
        draw.text((after, top), note, fill=_PALE_INK, font=font)
        top += _LINE_HEIGHT
