"""The command `data show`."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, console, print_json, results
from nas_face.cli.data_sets import image_bar, open_listing

if TYPE_CHECKING:
    from rich.table import Table

    from nas_face.data.statistics import (
        IdentityStatistics,
        ImageStatistics,
        PairStatistics,
        Spread,
    )

N_NAMED = 3  # of what there may be thousands of; --json has all
N_SIZES = 5
BAR_WIDTH = 40


def show(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Faces or pairs of any format that is read.")
    ],
    images: Annotated[
        Path | None, typer.Option(help="Root of the images, where PATH is a list of pairs.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="FF or FP: the pairs of CFP's folder, not its faces.")
    ] = None,
    few: Annotated[
        int, typer.Option(min=1, help="Name the identities with fewer images than this.")
    ] = 2,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Look at only so many images, evenly spread.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw a contact sheet too: PNG file to write.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Identities on the sheet.")] = 12,
    columns: Annotated[int, typer.Option(min=1, help="Images of each on the sheet.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Which identities the sheet shows.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Show what a data set holds: identities, images, sizes, and what is wrong with them."""
    import numpy as np

    from nas_face.data.contact_sheet import identity_strips, write_sheet
    from nas_face.data.inspection import inspect_images
    from nas_face.data.listing import FaceListing
    from nas_face.data.statistics import (
        identity_statistics,
        image_statistics,
        pair_statistics,
        tells_people,
    )

    format_, listing = open_listing(path, images, protocol)
    n_images = len(listing.names)
    n_seen = n_images if limit is None else min(limit, n_images)
    chosen = np.arange(n_seen, dtype=np.int64) * n_images // n_seen
    with image_bar(console(), n_seen) as advance:
        seen = inspect_images(listing.blobs, chosen, on_progress=advance)
    looks = image_statistics(seen, listing.names, listing.identities)
    if sheet is not None:
        write_sheet(sheet, identity_strips(listing, n_rows=rows, n_columns=columns, seed=seed))
        console().print(f"written: {sheet}")
    data: dict[str, Any] = {"path": str(path), "format": format_}
    if isinstance(listing, FaceListing):
        identities = identity_statistics(listing, few=few)
        data["faces"], table = _plain(identities), _identity_table(identities, few)
    else:
        pairs = pair_statistics(listing)
        data["pairs"], table = _plain(pairs), _pair_table(pairs)
    if as_json:
        print_json({**data, "images": _plain(looks)})
        return
    results().print(f"{path}: {format_}")
    results().print(table)
    people = tells_people(listing.names, listing.identities)
    results().print(_image_table(looks, n_images, people))


def _plain(value: Any) -> Any:
    """For JSON: dataclasses as dictionaries, and null for what no number stands for."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: _plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _identity_table(held: "IdentityStatistics", few: int) -> "Table":
    table = _table()
    table.add_row("identities", f"{held.n_identities:,}")
    table.add_row("images", f"{held.n_images:,}")
    table.add_row("images per identity", _spread(held.images_per_identity))
    most = max((bar.count for bar in held.bars), default=0)
    for bar in held.bars:
        label = f"{bar.first:,}" if bar.first == bar.last else f"{bar.first:,}-{bar.last:,}"
        length = math.ceil(BAR_WIDTH * bar.count / most)
        table.add_row(f"  {label}", f"{bar.count:>7,}  {'█' * length}")
    names = [f"{name} ({count})" for name, count in held.few]
    table.add_row(f"fewer than {few}", _counted(names))
    skipped = [f"{each.name} ({each.reason})" for each in held.skipped]
    table.add_row("left out", _counted(skipped))
    return table


def _pair_table(held: "PairStatistics") -> "Table":
    table = _table()
    table.add_row("pairs", f"{held.n_same:,} same, {held.n_different:,} different")
    table.add_row("folds", _folds(held.folds))
    table.add_row("images used", f"{held.n_images:,}, of them {held.n_in_both:,} in both kinds")
    table.add_row("pairs per image", _spread(held.uses_per_image))
    most = [f"{name} ({count})" for name, count in held.most_used[:N_NAMED]]
    table.add_row("  most", ", ".join(most))
    if held.names_people:
        table.add_row("identities used", f"{held.n_identities:,}")
        table.add_row("pairs per identity", _spread(held.uses_per_identity))
        wrong = [f"{first} and {second}" for first, second in held.contradictory]
        table.add_row("against identities", _counted(wrong))
    else:
        table.add_row("identities used", "the set does not tell who is shown")
    table.add_row("repeated pairs", f"{held.n_repeated:,}")
    return table


def _image_table(looks: "ImageStatistics", n_images: int, people: bool) -> "Table":
    table = _table()
    seen = f"{looks.n_images:,}"
    if looks.n_images < n_images:
        seen += f" of {n_images:,}, evenly spread"
    table.add_row("looked at", seen)
    broken = [f"{each.name} ({each.reason})" for each in looks.broken]
    table.add_row("broken", _counted(broken))
    per_image = looks.bytes_per_image
    table.add_row("bytes", f"{looks.size_bytes:,}; of an image {_spread(per_image, decimals=0)}")
    sizes = [f"{height}x{width} ({count:,})" for (height, width), count in looks.sizes[:N_SIZES]]
    if len(looks.sizes) > N_SIZES:
        sizes.append(f"and {len(looks.sizes) - N_SIZES:,} other sizes")
    table.add_row("height x width", ", ".join(sizes))
    table.add_row("not square", f"{_not_square(looks):,}")
    table.add_row("encoding", _counts(looks.encodings))
    table.add_row("pixels", _counts(looks.kinds))
    table.add_row("turned by EXIF", f"{looks.n_turned:,}")
    table.add_row("mean luma, of 255", _spread(looks.brightness))
    table.add_row("contrast", _spread(looks.contrast))
    for label, names in (
        ("  constant", looks.constant),
        ("  flat", looks.flat),
        ("  dark", looks.dark),
        ("  bright", looks.bright),
    ):
        table.add_row(label, _counted(names))
    one = [group for group in looks.equal if not people or group.n_identities == 1]
    more = [group for group in looks.equal if people and group.n_identities > 1]
    table.add_row("equal files", _counted([" = ".join(group.names) for group in one]))
    if people:
        across = [" = ".join(group.names) for group in more]
        table.add_row("  across identities", _counted(across))
    return table


def _table() -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _spread(spread: "Spread", decimals: int = 1) -> str:
    """Whole numbers without decimals."""
    if math.isnan(spread.mean):
        return "-"
    values = {
        "min": spread.minimum,
        "median": spread.median,
        "mean": spread.mean,
        "max": spread.maximum,
    }
    return ", ".join(
        f"{name} {value:,.{0 if value == int(value) else decimals}f}"
        for name, value in values.items()
    )


def _counted(names: Sequence[str]) -> str:
    if not names:
        return "0"
    listed = ", ".join(names[:N_NAMED])
    return f"{len(names):,}: {listed}{', ...' if len(names) > N_NAMED else ''}"


def _counts(counts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def _folds(folds: Sequence[tuple[int, int]]) -> str:
    if not folds:
        return "none of its own"
    if len(set(folds)) == 1:
        same, different = folds[0]
        return f"{len(folds)}, each of {same:,} same and {different:,} different"
    listed = ", ".join(f"{same}+{different}" for same, different in folds)
    return f"{len(folds)}, same+different: {listed}"


def _not_square(looks: "ImageStatistics") -> int:
    return sum(count for (height, width), count in looks.sizes if height != width)
