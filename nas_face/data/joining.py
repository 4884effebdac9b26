"""Several sets of faces as one: who is whom where a name occurs in two of them."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from nas_face.data.blobs import ChainedBlobs
from nas_face.data.leakage import name_key
from nas_face.data.listing import FaceListing
from nas_face.errors import DataError

SameNames = Literal["refuse", "join", "apart"]
"""What a name that occurs in two sets means: nothing until somebody says, one person, or two."""

_APART = re.compile(r" \(\d+\)\Z")


def join_listings(
    listings: Sequence[FaceListing],
    *,
    same_names: SameNames = "refuse",
    exclude: Collection[str] = (),
) -> FaceListing:
    """Put sets one behind the other.

    Names are the same where they differ in nothing but case, accents and separators, see
    `name_key`; two spellings in one set stay two people. An image whose name an earlier set has
    taken gets the number of its set behind it, `ann/1.jpg (2)`, and so does a person who is kept
    apart: `ann (2)`.

    Args:
        listings: the sets, at least one.
        same_names: `refuse` a person who is in two of them, `join` the images of both under the
            earlier spelling, or keep the two `apart`.
        exclude: identities that will be left out, and so may be in any of them.

    Returns:
        All images in their order; excluded ones, too.

    Raises:
        DataError: somebody is in two sets, and `same_names` says that this is to be refused.
    """
    excluded = set(exclude)
    known: dict[str, _Person] = {}  # by key
    used: set[str] = set()
    taken = {name for listing in listings for name in listing.identities}
    identities: list[str] = []
    clashes: list[tuple[_Person, _Person]] = []
    for number, listing in enumerate(listings, start=1):
        called: dict[str, str] = {}
        new: dict[str, _Person] = {}
        for name in dict.fromkeys(listing.identities):
            called[name] = name
            if name in excluded:
                continue
            earlier = known.get(name_key(name))
            if earlier is None:
                new.setdefault(name_key(name), _Person(name, listing.root))
            elif same_names == "join":
                called[name] = earlier.name
            elif same_names == "refuse":
                clashes.append((earlier, _Person(name, listing.root)))
            elif name in used:
                called[name] = _numbered(name, number, taken)
        known |= new
        used.update(called.values())
        identities += [called[name] for name in listing.identities]
    if clashes:
        raise DataError(_clash(clashes))
    return FaceListing(
        root=Path(" + ".join(str(each.root) for each in listings)),
        blobs=ChainedBlobs.of([each.blobs for each in listings]),
        names=_image_names(listings),
        identities=tuple(identities),
        skipped=tuple(one for each in listings for one in each.skipped),
    )


def name_in_its_set(identity: str) -> str:
    """What a person of a joined set is called in the set that the images come from.

    >>> name_in_its_set("ann (2)")
    'ann'
    """
    return _APART.sub("", identity)


@final
@dataclass(frozen=True, slots=True)
class _Person:
    name: str
    where: Path


def _numbered(name: str, number: int, taken: set[str]) -> str:
    """A name that is not taken yet; takes it."""
    while f"{name} ({number})" in taken:
        number += 1
    taken.add(f"{name} ({number})")
    return f"{name} ({number})"


def _image_names(listings: Sequence[FaceListing]) -> tuple[str, ...]:
    names: list[str] = []
    taken: set[str] = set()
    for number, listing in enumerate(listings, start=1):
        own = [_numbered(name, number, taken) if name in taken else name for name in listing.names]
        taken.update(own)
        names += own
    return tuple(names)


def _clash(clashes: list[tuple[_Person, _Person]]) -> str:
    earlier, person = clashes[0]
    here = repr(person.name)
    if person.name != earlier.name:
        here += f" ({earlier.name!r} in {earlier.where})"
    others = f" and {len(clashes) - 1} more" if len(clashes) > 1 else ""
    numbers = all(each.name.isdecimal() for _, each in clashes)
    usual = "; plain numbers are mostly other people in each set" if numbers else ""
    return (
        f"{earlier.where} and {person.where}: {here}{others} would be in both; say "
        "data.same_names: join if these are the same people, apart if they are others, or leave "
        f"them out with data.exclude{usual}"
    )
