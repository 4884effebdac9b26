"""The command `data check`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas_face.cli.console import JsonFlag, console, print_json, results
from nas_face.cli.data_sets import image_bar, open_listing
from nas_face.errors import ConfigError, DataError

if TYPE_CHECKING:
    from rich.table import Table

    from nas_face.data.listing import FaceListing, PairListing
    from nas_face.data.near_duplicates import NearPair
    from nas_face.data.overlap import Overlap

N_LISTED = 10  # rows of each sort in the table; --json has all
N_NAMED = 3
N_DRAWN = 60  # pairs on the sheet


def check(
    a: Annotated[Path, typer.Argument(metavar="A", help="Faces or pairs that are trained on.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Faces or pairs that judge.")],
    images: Annotated[
        Path | None, typer.Option(help="Root of the images, where B is a list of pairs.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="FF or FP, where B is CFP's folder; both by default.")
    ] = None,
    exclude: Annotated[
        Path | None, typer.Option(help="File of identities that A is used without.")
    ] = None,
    write_exclude: Annotated[
        Path | None,
        typer.Option(help="File to write: with identities of A that B has, --exclude included."),
    ] = None,
    distance: Annotated[
        int,
        typer.Option(
            min=0, max=255, help="Near-duplicates differ in at most so many of 256 bits."
        ),
    ] = 48,
    numbers_differ: Annotated[
        bool,
        typer.Option("--numbers-differ", help="Plain numbers name other people in A than in B."),
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw the shared images too: PNG file to write.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check that nobody is trained on who judges: by name, by file, by the look of images.

    Exit code 2 where an identity or a file is shared; near-duplicates alone are a warning.
    """
    from nas_face.data.overlap import find_overlap
    from nas_face.study.faces import read_exclusions

    excluded = read_exclusions(exclude) if exclude is not None else ()
    _, first = open_listing(a, None, None)
    _, second = open_listing(b, images, protocol)
    with image_bar(console(), len(first.names) + len(second.names)) as advance:
        found = find_overlap(
            first,
            second,
            exclude=excluded,
            distance=distance,
            numbers_differ=numbers_differ,
            on_progress=advance,
        )
    if as_json:
        print_json(_data(first, second, found))
    else:
        results().print(_counts(found))
        if found.left_out:
            results().print(_table(first, second, found))
    if sheet is not None:
        _draw(sheet, first, second, found)
    if write_exclude is not None:
        _write_exclusions(write_exclude, a, b, excluded, found)
    _judge(a, b, found)


def _judge(a: Path, b: Path, found: "Overlap") -> None:
    """
    Raises:
        DataError: identities or files are shared.
    """
    shared = found.shared
    people = [*shared.equal, *(f"{name} (probably {other})" for name, other in shared.probable)]
    if people or found.equal:
        named = people or [name for name, why in found.left_out.items() if "equal files" in why]
        first = ", ".join(named[:N_NAMED]) + (", ..." if len(named) > N_NAMED else "")
        raise DataError(
            f"{a} and {b} share {_shared(found)}, and {_pairs(len(found.equal))} of equal files: "
            f"{first}; leave them out of training (--write-exclude FILE)"
        )
    if found.near:
        console().print(
            f"warning: {_pairs(len(found.near))} of near-duplicate images; look at them (--sheet "
            "FILE.png): the same photo means the same person"
        )


def _shared(found: "Overlap") -> str:
    equal, probable = len(found.shared.equal), len(found.shared.probable)
    more = f", probably {probable:,} more" if probable else ""
    return f"{equal:,} {'identity' if equal == 1 else 'identities'}{more}"


def _pairs(count: int) -> str:
    return f"{count:,} pair{'' if count == 1 else 's'}"


def _counts(found: "Overlap") -> "Table":
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("", "A", "B", "shared")
    table.add_row(
        "identities",
        f"{found.n_identities_a:,}" if found.n_identities_a else "not told",
        f"{found.n_identities_b:,}" if found.n_identities_b else "not told",
        _shared(found),
    )
    table.add_row(
        "images",
        f"{found.n_images_a:,}",
        f"{found.n_images_b:,}",
        f"{len(found.equal):,} equal files, {len(found.near):,} near-duplicates",
    )
    table.add_row("not compared", f"{len(found.skipped_a):,}", f"{len(found.skipped_b):,}", "")
    return table


def _table(
    a: "FaceListing | PairListing", b: "FaceListing | PairListing", found: "Overlap"
) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for name in ("what", "in A", "in B"):
        table.add_column(name, overflow="fold")
    sorts = (
        [("same name", name, name) for name in found.shared.equal],
        [("probably the same name", *names) for names in found.shared.probable],
        [(pair.kind, a.names[pair.row_a], b.names[pair.row_b]) for pair in found.equal],
        [(pair.kind, a.names[pair.row_a], b.names[pair.row_b]) for pair in found.near],
    )
    for rows in sorts:
        for row in rows[:N_LISTED]:
            table.add_row(*row)
        if len(rows) > N_LISTED:
            table.add_row(f"... and {len(rows) - N_LISTED:,} more", "", "")
    return table


def _draw(
    path: Path,
    a: "FaceListing | PairListing",
    b: "FaceListing | PairListing",
    found: "Overlap",
) -> None:
    from nas_face.data.contact_sheet import pair_strips, write_sheet

    pairs = [*found.near, *found.equal]
    if not pairs:
        console().print(f"not written: {path}: no images are shared")
        return
    write_sheet(path, pair_strips(a, b, pairs[:N_DRAWN]), n_abreast=4)
    more = f", the nearest {N_DRAWN} of {len(pairs)} pairs" if len(pairs) > N_DRAWN else ""
    console().print(f"written: {path}{more}")


def _write_exclusions(
    path: Path, a: Path, b: Path, excluded: tuple[str, ...], found: "Overlap"
) -> None:
    """
    Raises:
        ConfigError: a name does not fit into the format.
    """
    reasons = {**dict.fromkeys(excluded, "left out before"), **found.left_out}
    unfit = [name for name in reasons if "#" in name or name.split() != [name]]
    if unfit:
        raise ConfigError(
            f"{path}: {len(unfit)} name{'s hold' if len(unfit) > 1 else ' holds'} spaces or '#' "
            "and cannot be listed, for one "
            f"{unfit[0]!r}; rename the folders"
        )
    lines = [f"# identities of {a} to leave out where {b} judges"]
    lines += [f"{name}  # {' '.join(why.split())}" for name, why in sorted(reasons.items())]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    console().print(f"written: {path}, {len(reasons)} identities")


def _data(
    a: "FaceListing | PairListing", b: "FaceListing | PairListing", found: "Overlap"
) -> dict[str, Any]:
    def pairs(near: "tuple[NearPair, ...]") -> list[dict[str, Any]]:
        return [
            {
                "a": a.names[pair.row_a],
                "b": b.names[pair.row_b],
                "identity_a": a.identities[pair.row_a],
                "identity_b": b.identities[pair.row_b],
                "distance": max(0, pair.distance),
                "mirrored": pair.mirrored,
            }
            for pair in near
        ]

    return {
        "identities": {"a": found.n_identities_a or None, "b": found.n_identities_b or None},
        "images": {"a": found.n_images_a, "b": found.n_images_b},
        "shared_identities": list(found.shared.equal),
        "probably_shared_identities": [list(names) for names in found.shared.probable],
        "equal_files": pairs(found.equal),
        "near_duplicates": pairs(found.near),
        "not_compared": {"a": found.skipped_a, "b": found.skipped_b},
        "to_exclude": found.left_out,
    }
